"""MNIST in seven colours -> prepared folder `coloured`: 8 classes and 5 stored annotators.

Digits, noise and splits are those of `data_prep.mnist`; the colours are made up. One or two
parallel lines cut each digit into equal shares, each in a colour of its own. An annotator
misjudges the shape (over, under, wrong) or the colour (swap), never both.

    python -m data_prep.coloured --help
"""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Int8, UInt8
from numpy import ndarray
from scipy import ndimage

from data_prep import mnist
from data_prep.command import one_line_errors, parser_of
from noisyseg.data.dataset import load_dataset
from noisyseg.data.folder import write_prepared
from noisyseg.simulate import class_swap, generator, simulate_labels
from noisyseg.storage import data_root, locked

Masks = Int8[ndarray, "image height width"]
Pictures = UInt8[ndarray, "image rgb height width"]
# Class k is the k-th colour, RGB 0..255. Look-alikes are each other's nearest colour, so near
# that noise makes a single pixel ambiguous (not a stroke); yellow has no look-alike.
COLOURS = {
    "red": (255, 30, 50),
    "orange": (255, 115, 30),
    "green": (20, 170, 30),
    "teal": (0, 175, 125),
    "blue": (40, 80, 255),
    "violet": (140, 60, 255),
    "yellow": (255, 240, 60),
}
LOOK_ALIKE = ((1, 2), (3, 4), (5, 6))
ANNOTATORS = ("good", "over", "under", "swap", "wrong")
SIZES = {"train": 2400, "val": 500, "test": 2000}  # all that the profile "reduced" uses
PREP_VERSION = 1


def paint(digits: mnist.Digits, image_ids: list[str]) -> tuple[Pictures, Masks]:
    """Intensity x colour without noise (N, 3, height, width), and truth (N, height, width).

    Each digit in 2 or 3 bands of random direction and colours with equal shares of its pixels,
    seeded by image id. The truth is the colour, 1 to 7, where intensity > 0.5, else 0.
    """
    ink, colour = mnist.truth_of(digits), np.empty(digits.shape, np.int8)
    for n, image_id in enumerate(image_ids):
        rng = generator(0, image_id, "colours")
        count, angle = rng.integers(2, 4), rng.uniform(0, np.pi)
        across = np.tensordot((np.sin(angle), np.cos(angle)), np.indices(digits.shape[1:]), 1)
        cuts = np.quantile(across[ink[n] == 1], np.arange(1, count) / count)
        drawn = 1 + rng.choice(len(COLOURS), count, replace=False)
        colour[n] = drawn[np.digitize(across, cuts)]
    rgb = np.array([(0, 0, 0), *COLOURS.values()])[colour]
    painted = np.rint(digits[..., None] / 255 * rgb).astype(np.uint8)
    return np.moveaxis(painted, -1, 1), ink * colour


def annotate(truth: Masks, image_ids: list[str]) -> Int8[ndarray, "image annotator height width"]:
    """What ANNOTATORS write: truth (N, height, width) -> (N, 5, height, width).

    They outline the digit as one region, with the default degrees of `noisyseg.simulate`, and
    give each pixel the colour of the nearest true one. `swap` outlines it as `good` does and
    writes each of two look-alikes as the other, always.
    """
    shapes = ["good" if name == "swap" else name for name in ANNOTATORS]
    labels = simulate_labels((truth > 0).astype(np.int8), image_ids, shapes, seed=0)
    for mask, written in zip(truth, labels, strict=True):
        written *= mask[tuple(ndimage.distance_transform_edt(mask == 0, None, False, True))]
    swap = labels[:, ANNOTATORS.index("swap")]
    for pair in LOOK_ALIKE:
        swap[:] = class_swap(swap, generator(0, "all", "swap"), pair)
    return labels


def prepare(out: Path | None = None, sizes: dict[str, int] = SIZES, force: bool = False) -> Path:
    """Write the prepared folder `out` (default: coloured below the data root) and return it.

    `sizes`: how many digits of train, val and test, the first of each. A folder already made so
    is left alone unless `force`. Raises FileExistsError for a folder made otherwise, ValueError
    for a damaged one or for more digits than there are.
    """
    out = Path(out or data_root() / "coloured").absolute()  # load_dataset looks relative ones up
    with locked(out):
        if not force and out.exists() and any(out.iterdir()):
            data = load_dataset(out)
            counts = {split: int(np.sum(data.split_of == split)) for split in SIZES}
            made = data.name, data.meta["prep_version"], counts
            asked = "coloured", PREP_VERSION, sizes
            if made != asked:
                raise FileExistsError(f"{out} is {made}, asked for {asked}: use --force or --out")
            return out
        return _write(out, sizes, force)


def _write(out: Path, sizes: dict[str, int], force: bool) -> Path:
    digits = mnist.read_embedded()
    split = np.array(mnist.splits_of(*map(len, digits.values())))
    for name, size in sizes.items():
        there = np.sum(split == name)
        if not 1 <= size <= there:
            raise ValueError(f"{name} is {size}: the embedded digits allow 1 to {there}")
    rows = np.sort(np.concatenate([np.flatnonzero(split == s)[:n] for s, n in sizes.items()]))
    names = [f"{s}-{i:05d}" for s, images in digits.items() for i in range(len(images))]
    every, ids = np.concatenate([*digits.values()]), [names[row] for row in rows]
    painted, truth = paint(every[rows], ids)
    images = [mnist.noisy(painted[:, c], [f"{i}/{c}" for i in ids]) for c in range(3)]
    checksum = f"sha256:{hashlib.sha256(every.tobytes()).hexdigest()}"
    return write_prepared(
        out,
        np.concatenate(images, 1),
        annotate(truth, ids),
        truth,
        None,
        split[rows].tolist(),
        ids,
        overwrite=force,
        name="coloured",
        classes=["background", *COLOURS],
        channels=["noisy red", "noisy green", "noisy blue"],
        annotators=ANNOTATORS,
        sources=[{"name": "embedded", "checksum": checksum}],
        prep_version=PREP_VERSION,
        licence=mnist.LICENCE,
        origin="simulated",  # the digits are real, the colours are not
    )


def main(arguments: list[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    parser = parser_of("data_prep.coloured", __doc__)
    for split, size in SIZES.items():
        parser.add_argument(f"--{split}", type=int, default=size, help=f"digits (default {size})")
    parser.add_argument("--out", type=Path, help="prepared folder (default: coloured in data root)")
    parser.add_argument("--force", action="store_true", help="make the folder again if it exists")
    args = parser.parse_args(arguments)
    out, sizes = args.out or data_root() / "coloured", {s: getattr(args, s) for s in SIZES}
    with one_line_errors():
        before = mnist._stamp(out)
        path = prepare(out, sizes, args.force)
        state = "already there, left alone" if before == mnist._stamp(path) else "written"
        print(f"{path}: {state}; " + ", ".join(f"{n} {s}" for s, n in sizes.items()) + " digits")


if __name__ == "__main__":
    main()
