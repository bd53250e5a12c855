"""Your own data: a folder of images, a folder of masks for each annotator -> prepared folder.

NIfTI, PNG and TIFF; masks belong to images by name (case7.png or case7_anna.png), a missing
mask means not labelled. Also reads the tree that the authors' code uses (--tree).

    python -m data_prep.folders --images scans --labels anna=a --labels ben=b --out mine
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.command import one_line_errors, parser_of
from data_prep.folders.matching import few
from data_prep.folders.plans import Plan, plan_folders, plan_tree
from data_prep.folders.prepare import prepare
from data_prep.folders.slicing import NORMALISE, SLICES, agreement
from data_prep.formats import size
from noisyseg.data.checks import ORIGINS
from noisyseg.data.dataset import load_dataset

MATCH = "where a mask's name holds its image's: 'seg_(.+)' for seg_m01.png of m01.png"


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
    with one_line_errors(args.max_gb):
        result = prepare(args.out, _matched(args), **_options(args))
        print(result.report, *result.notes, agreement(load_dataset(result.report.path)), sep="\n")


def _matched(args: argparse.Namespace) -> Plan | Path:
    given = [args.images, args.labels, args.truth, args.numbered, args.tree, args.cases]
    if args.manifest is not None:
        if any(given):
            raise ValueError(f"--manifest {args.manifest} names all files; leave the others away")
        return args.manifest
    if args.tree is None:
        labels = _annotators(args.labels)
        return plan_folders(args.images, labels, args.truth, args.numbered, args.match)
    if args.images or args.labels or args.truth or args.numbered or args.match:
        raise ValueError(f"--tree {args.tree} names images and masks itself; leave the others away")
    return plan_tree(args.tree)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = "cases classes values ignore normalise strict force origin licence".split()
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
    parser = parser_of("data_prep.folders", __doc__)
    add = parser.add_argument
    add("--images", type=Path, action="append", default=[], help="a folder; repeat it a channel")
    add("--numbered", action="store_true", help="channels are name_0000, name_0001, ...")
    add("--labels", type=_named_folder, action="append", default=[], metavar="NAME=FOLDER")
    add("--truth", type=Path, help="a folder of true masks, used to evaluate only")
    add(
        "--manifest",
        type=Path,
        help="instead of matching: the table that an earlier call wrote,\n"
        "<out>.manifest.csv, corrected by hand (image, case, split, a file a channel, annotator)",
    )
    add("--tree", type=Path, help="the authors' {train,validate,test}/{Image,Over,...}/*.tif")
    add("--match", metavar="PATTERN", help=MATCH)
    add("--classes", nargs="+", metavar="NAME", help="class names, background first")
    add("--values", nargs="+", type=int, metavar="N", help="their values in the mask files")
    add("--ignore", nargs="+", type=int, default=(), metavar="N", help="values: not labelled")
    add(
        "--cases",
        help="who is on the image: a pattern with a group such as '(.+)_', or a\n"
        "table.csv with columns image_id,case_id[,split]",
    )
    add("--spacing", default="keep", help="millimetres along every axis, or keep")
    add("--size", nargs="+", metavar="PIXELS", help="crop or pad to H W (D H W), or largest")
    add("--normalise", choices=NORMALISE, default="zscore", help="each image and channel alone")
    add("--slices", choices=SLICES, default="all", help="of volumes; none keeps them whole")
    add("--dims", type=int, choices=(2, 3), default=2, help="3 is --slices none")
    add("--out", type=Path, required=True, help="the prepared folder")
    add(
        "--max-gb",
        type=float,
        help="a file that announces more is left out\n"
        f"(default: {size.PICTURE_GB:g} for pictures, {size.VOLUME_GB:g} for volumes)",
    )
    add("--name", help="its name (default: that of the folder)")
    add("--licence", help="what may be done with the data")
    add("--origin", choices=ORIGINS, default="real")
    add("--strict", action="store_true", help="an image that cannot be used ends everything")
    add("--force", action="store_true", help="make the folder again if it exists")
    return parser


if __name__ == "__main__":
    main()
