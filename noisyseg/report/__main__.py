"""From a folder of images and masks to a model, predictions and one page on the annotators.

    python -m noisyseg.report --data FOLDER --out REPORT

FOLDER is a prepared folder (or the name of one), or a raw one: `images/` and beside it one
folder of masks an annotator, with the same file names (PNG, TIFF or NIfTI; a missing mask
means not labelled). The second call loads what is done. No truth is needed.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from noisyseg.data.checks import ORIGINS
from noisyseg.report.make import STEPS, build

ANCHOR = (
    "what calibrated outlines keep to. annotators (default): they move relative to each other,\n"
    "and the group as a whole stays where it is. image: they move to the image's edges, which\n"
    "assumes that objects end where the image changes most; choose it only if you know that."
)
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
    add("--origin", choices=ORIGINS, default="real", help="of raw pixels (default: real)")
    args = parser.parse_args(arguments)
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
            progress=True,
        )
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    notes = file.with_name("notes.txt")
    print(*([notes.read_text("utf-8")] if notes.exists() else []), file, sep="\n")


if __name__ == "__main__":
    main()
