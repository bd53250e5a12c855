"""From a folder of images and masks to a model, predictions and one page on the annotators.

    python -m noisyseg.report --data FOLDER --out REPORT

FOLDER is a prepared folder (or the name of one), or a raw one: `images/` and beside it one
folder of masks an annotator, with the same file names (PNG, TIFF or NIfTI; a missing mask
means not labelled). The second call loads what is done. No truth is needed.
"""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from noisyseg.data.checks import ORIGINS
from noisyseg.report import STEPS

ANCHOR = (
    "what calibrated outlines keep to. annotators (default): they move relative to each other,\n"
    "and the group as a whole stays where it is. image: they move to the image's edges, which\n"
    "assumes that objects end where the image changes most; choose it only if you know that."
)
CASES = (
    "which images of a raw folder show the same patient: a table.csv with\n"
    "image_id,case_id[,split], or a pattern with a group such as '(.+)_'"
)
MATCH = "where a mask's name holds its image's: 'seg_(.+)' for seg_m01.png of m01.png"
NO_FLIP = "train without mirrored images: for images with a reading direction, such as digits"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; an error ends it with one line and exit status 1."""
    parser = argparse.ArgumentParser(
        "python -m noisyseg.report", None, __doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", required=True, help="folder: prepared, or images/ and one folder per annotator")
    add("--out", required=True, type=Path, help="folder for the page, tables and predictions")
    add("--method", default="calibrated", help="a method that trains (default: calibrated)")
    add("--anchor", choices=("annotators", "image"), default="annotators", help=ANCHOR)
    add("--no-flip", dest="flip", action="store_false", help=NO_FLIP)
    add("--steps", type=int, default=STEPS, help=f"of the optimiser (default: {STEPS})")
    add("--seed", type=int, default=0)
    add("--cases", help=CASES)
    add("--match", metavar="PATTERN", help=MATCH)
    add("--origin", choices=ORIGINS, default="real", help="of raw pixels (default: real)")
    args = parser.parse_args(arguments)
    from noisyseg.report.make import build  # with torch, which takes seconds to import

    os.environ.setdefault("NOISYSEG_RUNS", str(args.out.expanduser().absolute() / "runs"))
    try:
        file = build(
            args.data,
            args.out,
            method=args.method,
            anchor=args.anchor,
            flip=args.flip,
            steps=args.steps,
            seed=args.seed,
            origin=args.origin,
            cases=args.cases,
            match=args.match,
            progress=True,
        )
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}{_elsewhere(str(error), parser)}") from error
    print(file)


def _elsewhere(error: str, parser: argparse.ArgumentParser) -> str:
    """Where the options are that `error` advises and this command does not have."""
    own = re.findall(r"--[a-z][\w-]*", parser.format_help())
    others = [o for o in dict.fromkeys(re.findall(r"--[a-z][\w-]*", error)) if o not in own]
    if not others:
        return ""
    return (
        f" ({', '.join(others)}: of python -m data_prep.folders; prepare the folder with it, and "
        "give its --out here as --data)"
    )


if __name__ == "__main__":
    main()
