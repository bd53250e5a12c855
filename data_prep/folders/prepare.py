"""Matched folders -> prepared folder: survey, settings, splits, and what to say about them."""

from collections.abc import Callable, Mapping, Sequence
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
    sources,
)
from data_prep.folders.matching import few, group_cases, one_split_each
from data_prep.folders.plans import Plan
from data_prep.folders.slicing import Recipe, slices_of
from data_prep.folders.survey import Survey, class_table, common_size, common_spacing, survey
from noisyseg.data.views import split_by_case

PREP_VERSION = 1


class Result(NamedTuple):
    """The engine's report, and in words what the files were taken to mean."""

    report: Report
    notes: list[str]


def prepare(
    out: str | Path,
    plan: Plan,
    *,
    cases: str | Path | None = None,
    classes: Sequence[str] | None = None,
    values: Sequence[int] | None = None,
    size: Sequence[int] | str | None = None,
    spacing_mm: float | None = None,
    normalise: str = "zscore",
    slices: str = "all",
    strict: bool = False,
    force: bool = False,
    **meta: Any,
) -> Result:
    """Write the prepared folder `out` from what `plan` matched; options as on the command line.

    Raises ValueError naming file, value and remedy, FileExistsError without `force`.
    """
    out = Path(out).expanduser().resolve()
    if out.exists() and not force:
        raise FileExistsError(f"{out} exists; --force makes it again")
    patients, splits = _patients(plan, cases)
    found = survey(plan.entries, spacing_mm, plan.tree)
    table, names = class_table(found, values, classes) if found.shapes else ({}, ["none", "read"])
    space = common_size(found, size, slices)
    recipe = Recipe(plan.annotators, plan.has_truth, table, space, normalise, slices,
                    spacing_mm, plan.tree)  # fmt: skip
    listed = [Case(e.name, patients[e.name], e.files) for e in plan.entries]
    noted = sources(listed, _input(found, recipe))
    meta = {"sources": noted} | _channels(plan, found) | meta
    unusable: set[str] = set()
    report = prepare_cases(
        out,
        listed,
        _reader(plan, recipe, unusable),
        _settings(plan, recipe),
        split=lambda rows: _splits(plan, rows, splits, unusable),
        strict=strict,
        force=force,
        classes=names,
        annotators=list(plan.annotators) or None,
        spacing_mm=common_spacing(found, space),
        prep_version=PREP_VERSION,
        **meta,
    )
    notes = _notes(plan, found, recipe, names)
    if cases is None and not plan.tree:
        notes.append("patients: each image its own; --cases says which images show the same one")
    return Result(report, notes)


def _patients(plan: Plan, cases: str | Path | None) -> tuple[dict[str, str], dict[str, str]]:
    patients, splits = group_cases([entry.name for entry in plan.entries], cases)
    if cases is None:  # one name in two splits of a tree is one image in two splits
        patients = {name: name.rpartition("/")[2] for name in patients}
    given = [(e.name, patients[e.name], e.split, plan.folders["tree"])
             for e in plan.entries if e.split]  # fmt: skip
    if given and splits:
        raise ValueError(f"--cases {cases} has a column split, and so has the tree; remove it")
    return patients, one_split_each(given) if given else splits


def _channels(plan: Plan, found: Survey) -> dict[str, list[str]]:
    """The folders' names, where each folder is one channel and there are several."""
    names = [Path(f).name for role, f in plan.folders.items() if role.startswith("channel ")]
    count = {shape[0] for shape in found.shapes.values()}
    fits = len(names) > 1 and count == {len(names)} and len(set(names)) == len(names)
    return {"channels": names} if fits else {}


def _input(found: Survey, recipe: Recipe) -> Input:
    reader = FOLDERS if all(found.spacings.values()) else PICTURES
    spacing = recipe.spacing_mm or common_spacing(found, recipe.size)
    return Input(reader, spacing, recipe.normalise)


def _settings(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    bare = sorted(e.name for e in plan.entries if not e.masks and e.split != "test")
    return {**recipe._asdict(), "folders": plan.folders, "bare": bare, "version": PREP_VERSION}


def _reader(plan: Plan, recipe: Recipe, unusable: set[str]) -> Callable[[Case], Slices]:
    entries = {entry.name: entry for entry in plan.entries}

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


def _splits(
    plan: Plan, patients: Sequence[str], splits: Mapping[str, str], unusable: set[str]
) -> list[str]:
    """A split for each row; the engine asks for it last before it writes, so nothing is there
    yet when an annotator turns out to have no usable mask."""
    left = [entry for entry in plan.entries if entry.name not in unusable]
    for who in plan.annotators:
        if not any(who in entry.masks for entry in left):
            raise ValueError(
                f"{plan.folders.get(f'annotator {who}', plan.folders)}: no mask of annotator {who} "
                "is usable; correct one (--strict shows the first reason), or leave them out"
            )
    if splits:
        chosen = [splits[patient] for patient in patients]
        if "train" not in chosen:
            raise ValueError(
                f"{plan.folders}: no usable image is in train ({len(unusable)} are left out; "
                "--strict shows the first reason); correct one, or the splits"
            )
        return chosen
    if len(set(patients)) < 3:
        raise ValueError(
            f"{few(sorted(set(patients)))}: fewer than three patients cannot fill train, val and "
            "test; give --cases a table with a column split"
        )
    return split_by_case(patients)


def _notes(plan: Plan, found: Survey, recipe: Recipe, names: Sequence[str]) -> list[str]:
    meaning = ", ".join(f"{v} = {names[n]}" for v, n in recipe.classes.items())
    notes = [f"mask values: {meaning}", f"size: {' x '.join(map(str, recipe.size))}"]
    if (spacing := common_spacing(found, recipe.size)) is not None:
        notes.append(f"spacing: {' x '.join(f'{mm:g}' for mm in spacing)} mm")
    elif any(found.spacings.values()):
        notes.append("spacing: images differ, so none is stored; --spacing makes them alike")
    spaces = [shape[-len(recipe.size) :] for shape in found.shapes.values()]
    cropped = sum(any(s > w for s, w in zip(sp, recipe.size, strict=True)) for sp in spaces)
    padded = sum(any(s < w for s, w in zip(sp, recipe.size, strict=True)) for sp in spaces)
    if cropped or padded:
        notes.append(f"size: {cropped} images cropped, {padded} padded, about the middle")
    notes += [f"{what}: {len(who)} images" for what, who in found.remarks.items()]
    return [*notes, *plan.remarks]
