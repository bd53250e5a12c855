"""Everything the notebooks need and is not there yet: digits, and stand-ins where no archive is.

    python -m data_prep

A folder that is there is left alone, whatever it was made from: prepare your own archive first
(`python -m data_prep.ms_lesions --folder …`), and the stand-in is not made. The people of
`data_prep.people` have no stand-in: they are skipped where their images are absent.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from data_prep import brats, coloured, mnist, ms_lesions, people
from data_prep.command import one_line_errors, parser_of
from data_prep.lidc import contours
from data_prep.standins import trees
from noisyseg.storage import data_root, locked

# Coarse, so that all of it takes a minute or two: the readers' defaults are the paper's.
MS = ms_lesions.Options(spacing=1.5, crop=(96, 112), min_pixels=3, every=2)
BRATS = brats.Options(spacing=2.5, crop=64, min_pixels=20, every=2)
LIDC = contours.Settings(slices_per_nodule=1)
# The same masks under pictures rendered by other rules, scored with the boundary rendered; and
# with the readers of every nodule shuffled (paper.ablations.ablation_lidc).
_KNOWN = replace(LIDC, reference="latent")
VARIANTS = {
    "lidc_mean": _KNOWN,
    "lidc_reader": replace(_KNOWN, render="reader"),
    "lidc_shifted": replace(_KNOWN, render="shifted"),
    "lidc_shuffled": replace(_KNOWN, order="shuffled"),
}


def is_there(name: str) -> bool:
    """Whether the prepared folder `name` exists, from whatever source; says so."""
    there = (data_root() / name).exists()
    if there:
        print(f"{data_root() / name}: already there, left alone")
    return there


def stand_in(name: str, make: Callable[[Path], None], read: Callable[[Path], object]) -> None:
    """Write an official tree of phantoms, read it with the real reader, and delete the tree."""
    with locked(data_root() / name):
        if is_there(name):
            return
        tree = data_root() / f".{name}.stand-in"
        make(tree)
        print(read(tree))
        shutil.rmtree(tree)


def main(arguments: list[str] | None = None) -> None:
    """Make what is missing; a data error ends it with one line and exit status 1."""
    parser_of("data_prep", __doc__).parse_args(arguments)
    with one_line_errors():
        mnist.main([])
        coloured.main([])
        stand_in(
            "ms",
            lambda tree: trees.make_ms(tree, voxel_mm=MS.spacing),
            lambda tree: ms_lesions.prepare(tree / "training", None, MS, "stand-in"),
        )
        stand_in(
            "brats",
            lambda tree: trees.make_brats(tree, voxel_mm=BRATS.spacing),
            lambda tree: brats.prepare(tree, None, BRATS, "stand-in"),
        )
        for name, settings in ({"lidc": LIDC} | VARIANTS).items():
            with locked(data_root() / name):
                if not is_there(name):
                    path = contours.prepare(data_root() / name, settings)
                    print(f"{path}: written\n{contours.summary(path)}")
        people.main([])


if __name__ == "__main__":
    main()
