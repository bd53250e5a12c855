"""Matched folders -> prepared folder: survey, settings, splits, and what to say about them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.cases import (
    FOLDERS,
    PICTURES,
    Case,
    Input,
    Report,
    Slices,
    Unusable,
    prepare_cases,
    refuse_existing,
    sources,
)
from data_prep.folders.manifest import Manifest, read_manifest, write_manifest
from data_prep.folders.matching import few
from data_prep.folders.plans import Plan
from data_prep.folders.slicing import Recipe, slices_of
from data_prep.folders.survey import (
    NOT_LABELLED,
    Survey,
    class_table,
    common_size,
    common_spacing,
    survey,
)
from noisyseg.data.views import split_by_case
from noisyseg.storage import locked

PREP_VERSION = 2  # 2: padding is not labelled


class Result(NamedTuple):
    """The engine's report, and in words what the files were taken to mean."""

    report: Report
    notes: list[str]


def prepare(
    out: str | Path,
    matched: Plan | Path,
    *,
    cases: str | Path | None = None,
    classes: Sequence[str] | None = None,
    values: Sequence[int] | None = None,
    ignore: Sequence[int] = (),
    size: Sequence[int] | str | None = None,
    spacing_mm: float | None = None,
    normalise: str = "zscore",
    slices: str = "all",
    strict: bool = False,
    force: bool = False,
    padding: int = NOT_LABELLED,
    **meta: Any,
) -> Result:
    """Write the prepared folder `out`; options as on the command line.

    `matched`: a plan, which is written beside `out` as `<name>.manifest.csv` first, or a manifest,
    perhaps corrected by hand. From there on only the manifest says which file is what.
    `padding`: the class of labels around an image that is padded to `size`; −1, not labelled.
    Raises ValueError naming file, value and remedy, FileExistsError without `force`.
    """
    out = Path(out).expanduser().resolve()
    with locked(out):
        refuse_existing(out, force)
        listed, remarks = _listed(matched, out, cases)
        found = survey(listed.entries, spacing_mm, listed.tree)
        table, names = (
            class_table(found, values, classes, ignore) if found.shapes else ({}, ["none", "read"])
        )
        space = common_size(found, size, slices)
        recipe = Recipe(
            listed.annotators,
            listed.has_truth,
            table,
            space,
            normalise,
            slices,
            spacing_mm,
            listed.tree,
            padding,
        )
        scans = [Case(entry.name, entry.case, entry.files) for entry in listed.entries]
        noted = sources(scans, _input(found, recipe))
        meta = {"sources": noted} | _channels(listed, found) | meta
        unusable: set[str] = set()
        report = prepare_cases(
            out,
            scans,
            _reader(listed, recipe, unusable),
            _settings(listed, recipe),
            split=lambda rows: _splits(listed, rows, unusable),
            strict=strict,
            force=force,
            classes=names,
            annotators=list(listed.annotators) or None,
            spacing_mm=common_spacing(found, space),
            prep_version=PREP_VERSION,
            **meta,
        )
        return Result(report, [*_notes(found, recipe, names), *remarks])


def _listed(
    matched: Plan | Path, out: Path, cases: str | Path | None
) -> tuple[Manifest, list[str]]:
    """The manifest, written first where there is none yet; and what to say about the matching."""
    if isinstance(matched, Path):
        return read_manifest(matched), []
    file = write_manifest(out.with_name(f"{out.name}.manifest.csv"), matched, cases)
    remarks = [*matched.remarks, f"files: {file.name} says which are what; correct it there"]
    if cases is None and not matched.tree:
        remarks.append("patients: each image its own; --cases says which show the same one")
    return read_manifest(file), remarks


def _channels(listed: Manifest, found: Survey) -> dict[str, list[str]]:
    """The channels' names, where the manifest names them and each file is one channel."""
    names = list(listed.channels)
    count = {shape[0] for shape in found.shapes.values()}
    named = len(names) > 1 and not all(name.isdigit() for name in names)
    return {"channels": names} if named and count == {len(names)} else {}


def _input(found: Survey, recipe: Recipe) -> Input:
    reader = FOLDERS if all(found.spacings.values()) else PICTURES
    spacing = recipe.spacing_mm or common_spacing(found, recipe.size)
    return Input(reader, spacing, recipe.normalise, recipe.size)


def _settings(listed: Manifest, recipe: Recipe) -> dict[str, Any]:
    bare = sorted(e.name for e in listed.entries if not e.masks and e.split != "test")
    files = {e.name: [e.images, dict(e.masks), e.truth, e.split] for e in listed.entries}
    return {**recipe._asdict(), "files": files, "bare": bare, "version": PREP_VERSION}


def _reader(listed: Manifest, recipe: Recipe, unusable: set[str]) -> Callable[[Case], Slices]:
    entries = {entry.name: entry for entry in listed.entries}

    def read(case: Case) -> Slices:
        try:
            found = slices_of(entries[case.name], recipe)
            if not len(found.ids):
                raise Unusable(f"{case.files[0]}: no slice is labelled; give --slices all")
            return found
        except Unusable:
            unusable.add(case.name)
            raise

    return read


def _splits(listed: Manifest, patients: Sequence[str], unusable: set[str]) -> list[str]:
    """A split for each row; the engine asks for it last before it writes, so nothing is there
    yet when an annotator turns out to have no usable mask."""
    left = [entry for entry in listed.entries if entry.name not in unusable]
    for who in listed.annotators:
        if not any(who in entry.masks for entry in left):
            raise ValueError(
                f"{_folder_of(listed, who)}: no mask of annotator {who} is usable; correct one "
                "(--strict shows the first reason), or leave them out"
            )
    split_of = {entry.case: entry.split for entry in listed.entries if entry.split}
    if split_of:
        chosen = [split_of[patient] for patient in patients]
        if "train" not in chosen:
            raise ValueError(
                f"{listed.file}: no usable image is in train ({len(unusable)} are left out; "
                "--strict shows the first reason); correct one, or the splits"
            )
        return chosen
    if len(set(patients)) < 3:
        raise ValueError(
            f"{few(sorted(set(patients)))}: fewer than three patients cannot fill train, val and "
            "test; give --cases a table with a column split"
        )
    return split_by_case(patients)


def _folder_of(listed: Manifest, who: str) -> Path:
    """Where the masks of an annotator lie; the manifest where there is none."""
    masks = [entry.masks[who] for entry in listed.entries if who in entry.masks]
    return masks[0].parent if masks else listed.file


def _notes(found: Survey, recipe: Recipe, names: Sequence[str]) -> list[str]:
    meaning = ", ".join(
        f"{v} = {names[n] if n >= 0 else 'not labelled'}" for v, n in recipe.classes.items()
    )
    notes = [f"mask values: {meaning}", f"size: {' x '.join(map(str, recipe.size))}"]
    spacing = common_spacing(found, recipe.size)
    if spacing is not None:
        notes.append(f"spacing: {' x '.join(f'{mm:g}' for mm in spacing)} mm")
    elif any(found.spacings.values()):
        notes.append("spacing: images differ, so none is stored; --spacing makes them alike")
    spaces = [shape[-len(recipe.size) :] for shape in found.shapes.values()]
    cropped = sum(any(s > w for s, w in zip(sp, recipe.size, strict=True)) for sp in spaces)
    padded = sum(any(s < w for s, w in zip(sp, recipe.size, strict=True)) for sp in spaces)
    if cropped or padded:
        notes.append(f"size: {cropped} images cropped, {padded} padded, about the middle")
    notes += [f"{what}: {len(who)} images" for what, who in found.remarks.items()]
    return notes
