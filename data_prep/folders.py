"""Your own data: a folder of images, a folder of masks for each annotator -> prepared folder.

NIfTI, PNG and TIFF; masks belong to images by name (case7.png or case7_anna.png), a missing
mask means not labelled. Also reads the tree that the authors' code uses (--tree).

    python -m data_prep.folders --images scans --labels anna=a --labels ben=b --out mine
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep import inputs
from data_prep.cases import Case, Report, Slices, Unusable, prepare_cases
from data_prep.matching import few, group_cases, one_split_each
from data_prep.plans import Plan, plan_folders, plan_tree
from data_prep.slicing import NORMALISE, SLICES, Recipe, agreement, slices_of
from data_prep.survey import (
    Survey,
    class_table,
    common_size,
    common_spacing,
    survey,
)
from noisyseg.data.checks import ORIGINS
from noisyseg.data.dataset import load_dataset
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
    noted = inputs.sources(listed, _input(found, recipe))
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


def _input(found: Survey, recipe: Recipe) -> inputs.Input:
    reader = inputs.FOLDERS if all(found.spacings.values()) else inputs.PICTURES
    spacing = recipe.spacing_mm or common_spacing(found, recipe.size)
    return inputs.Input(reader, spacing, recipe.normalise)


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


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name.strip() and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=FOLDER")
    return name.strip(), Path(folder)


def _annotators(pairs: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    labels = dict(pairs)
    for name, folder in pairs:
        if labels[name] != folder:
            raise ValueError(f"annotator {name} is given {folder} and {labels[name]}; rename one")
    if len(labels) != len(pairs):
        raise ValueError(f"--labels: annotator {few(labels)} is given twice; give each name once")
    return labels


def main(arguments: list[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    args = _parser().parse_args(arguments)
    try:
        plan = _plan(args)
        result = prepare(args.out, plan, **_options(args))
        print(result.report, *result.notes, agreement(load_dataset(result.report.path)), sep="\n")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


def _plan(args: argparse.Namespace) -> Plan:
    if args.tree is None:
        return plan_folders(args.images, _annotators(args.labels), args.truth, args.numbered)
    if args.images or args.labels or args.truth or args.numbered:
        raise ValueError(f"--tree {args.tree} names images and masks itself; leave the others away")
    return plan_tree(args.tree)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = "cases classes values normalise strict force origin licence".split()
    options = {name: getattr(args, name) for name in names}
    options["slices"] = "none" if args.dims == 3 else args.slices
    options["size"] = "largest" if args.size == ["largest"] else _numbers(args.size)
    if args.spacing != "keep":
        options["spacing_mm"] = _spacing(args.spacing)
    return options | ({"name": args.name} if args.name else {})


def _numbers(size: Sequence[str] | None) -> list[int] | None:
    try:
        return None if size is None else [int(s) for s in size]
    except ValueError:
        raise ValueError(f"--size {few(size or [])}: give whole numbers, or largest") from None


def _spacing(text: str) -> float:
    try:
        spacing = float(text)
    except ValueError:
        spacing = 0.0
    if not 0 < spacing < float("inf"):
        raise ValueError(f"--spacing {text}: give millimetres above 0, or keep")
    return spacing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m data_prep.folders", None, __doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=Path, action="append", default=[], help="a folder; repeat it a channel")
    add("--numbered", action="store_true", help="channels are name_0000, name_0001, ...")
    add("--labels", type=_named_folder, action="append", default=[], metavar="NAME=FOLDER")
    add("--truth", type=Path, help="a folder of true masks, used to evaluate only")
    add("--tree", type=Path, help="the authors' {train,validate,test}/{Image,Over,...}/*.tif")
    add("--classes", nargs="+", metavar="NAME", help="class names, background first")
    add("--values", nargs="+", type=int, metavar="N", help="their values in the mask files")
    add("--cases", help="who is on the image: a pattern with a group such as '(.+)_', or a\n"
        "table.csv with columns image_id,case_id[,split]")  # fmt: skip
    add("--spacing", default="keep", help="millimetres along every axis, or keep")
    add("--size", nargs="+", metavar="PIXELS", help="crop or pad to H W (D H W), or largest")
    add("--normalise", choices=NORMALISE, default="zscore", help="each image and channel alone")
    add("--slices", choices=SLICES, default="all", help="of volumes; none keeps them whole")
    add("--dims", type=int, choices=(2, 3), default=2, help="3 is --slices none")
    add("--out", type=Path, required=True, help="the prepared folder")
    add("--name", help="its name (default: that of the folder)")
    add("--licence", help="what may be done with the data")
    add("--origin", choices=ORIGINS, default="real")
    add("--strict", action="store_true", help="an image that cannot be used ends everything")
    add("--force", action="store_true", help="make the folder again if it exists")
    return parser


if __name__ == "__main__":
    main()
