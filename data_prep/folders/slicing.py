"""One surveyed image -> its rows of the prepared folder, and the table of who agrees with whom.

Normalises, maps mask values to classes, crops or pads, and cuts volumes into slices. Opens
no file itself and knows no rule of file names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray

from data_prep.cases import Slices, Unusable
from data_prep.fitting import fit, fit_image
from data_prep.folders.matching import few
from data_prep.folders.survey import NOT_LABELLED, TRUTH, Entry, load
from noisyseg.data.dataset import SegmentationDataset

NORMALISE = ("zscore", "minmax", "none")
SLICES = ("all", "labelled", "none")


class Recipe(NamedTuple):
    """How pixels become arrays: `classes` maps a value in a file to a class, `size` is the
    space to crop or pad to, `slices` one of SLICES, `padding` what stands around the labels of
    an image that is padded: not labelled."""

    annotators: tuple[str, ...]
    has_truth: bool
    classes: dict[int, int]
    size: tuple[int, ...]
    normalise: str
    slices: str
    spacing_mm: float | None
    tree: str
    padding: int = NOT_LABELLED


def slices_of(entry: Entry, recipe: Recipe) -> Slices:
    """The arrays of one entry: images float32, labels and truth int8 (int16 for more than
    127 classes), -1 = not labelled.

    A slice that nobody labelled is left out, unless it is for testing. Raises `Unusable` naming
    file and value for a mask value that is no class, a missing truth and a constant image.
    """
    if recipe.has_truth and entry.truth is None:
        raise Unusable(f"{entry.images[0]}: no truth mask; add one, or use no truth at all")
    if recipe.annotators and not entry.masks and entry.split != "test":
        raise Unusable(f"{entry.images[0]}: nobody labelled it; add a mask or remove it")
    loaded = load(entry, recipe.spacing_mm, recipe.tree)
    image = normalised(loaded.image, recipe.normalise, entry.images[0])
    files = dict(entry.masks) | {TRUTH: entry.truth}
    masks = {
        w: fit(
            _as_classes(m, recipe.classes, files[w], w != TRUTH),
            recipe.size,
            0 if w == TRUTH else recipe.padding,  # a truth has a class everywhere
        )
        for w, m in loaded.masks.items()
    }
    image = fit_image(image, recipe.size)
    absent = np.full((len(image), *recipe.size), -1, _dtype(recipe.classes))
    labels = [masks.get(who, absent) for who in recipe.annotators]
    found = _chosen(
        image,
        np.stack(labels, axis=1) if labels else None,
        masks[TRUTH] if recipe.has_truth else None,
        recipe.slices,
        loaded.image.ndim == 4,
    )
    return found if entry.split == "test" else _labelled(found, entry.images[0])


def normalised(
    image: Float[ndarray, "channel *space"], how: str, file: Path | None = None
) -> Float32[ndarray, "channel *space"]:
    """Each channel with mean 0 and sd 1 (zscore), from 0 to 1 (minmax), or as it is (none).

    A channel that is the same everywhere becomes 0 and says nothing; `Unusable` where all are.
    """
    if how == "none":
        return image
    space, exact = tuple(range(1, image.ndim)), image.astype(np.float64)
    low, spread = exact.min(space, keepdims=True), np.ptp(exact, axis=space, keepdims=True)
    flat = spread == 0
    if flat.all():
        raise Unusable(
            f"{file}: {'it' if len(image) == 1 else 'every channel'} is {low.flat[0]} everywhere; "
            "remove the image, or give --normalise none"
        )
    if how == "minmax":
        return ((exact - low) / np.where(flat, 1, spread)).astype(np.float32)
    mean, sd = exact.mean(space, keepdims=True), exact.std(space, keepdims=True)
    return np.where(flat, 0, (exact - mean) / np.where(flat, 1, sd)).astype(np.float32)


def _dtype(classes: Mapping[int, int]) -> type[np.signedinteger]:
    return np.int8 if max(classes.values()) < 127 else np.int16


def _as_classes(
    mask: ndarray, classes: Mapping[int, int], file: Path | None, partly: bool
) -> ndarray:
    """Class numbers; `partly`: the mask may hold -1, not labelled, as labels do and truth not."""
    known = [*classes, *([NOT_LABELLED] if partly else [])]
    wrong = ~np.isin(mask, known)
    if wrong.any():
        raise Unusable(
            f"{file}: value {mask[wrong].flat[0]} is none of {few(known)}; correct the "
            "mask, or give all values with --values"
        )
    result = np.full(mask.shape, NOT_LABELLED, _dtype(classes))
    for value, number in classes.items():
        result[mask == value] = number
    return result


def _chosen(
    images: ndarray, labels: ndarray | None, truth: ndarray | None, which: str, volume: bool
) -> Slices:
    sliced = volume and which != "none"
    ids = [f"z{n:03d}" for n in range(len(images))] if sliced else ["image"]
    if not (sliced and which == "labelled"):
        return Slices(images, labels, truth, ids)
    written = [a.reshape(len(images), -1) > 0 for a in (labels, truth) if a is not None]
    keep = np.flatnonzero(np.any([w.any(1) for w in written], axis=0))
    rows = [None if a is None else a[keep] for a in (images, labels, truth)]
    return Slices(*rows, [ids[n] for n in keep])


def _labelled(found: Slices, file: Path | None) -> Slices:
    """The slices that somebody labelled; `Unusable` where there is none."""
    if found.labels is None:
        return found
    keep = np.flatnonzero((found.labels >= 0).reshape(len(found.labels), -1).any(1))
    if len(found.labels) and not len(keep):
        raise Unusable(f"{file}: its masks hold -1 (not labelled) only; remove it, or mark classes")
    rows = [None if a is None else a[keep] for a in found[:3]]
    return Slices(*rows, [found.ids[n] for n in keep])


def agreement(data: SegmentationDataset) -> str:
    """A table: who labelled how many images, the share of each class, Dice with each other.

    Dice is over all pixels that both labelled, the mean over the classes but the first.
    """
    names = [*data.annotators, *(["truth"] if data.truth is not None else [])]
    joint, images = _joint(data, len(names))
    width = max(9, *(len(name) for name in [*names, *data.classes]))
    head = ["", "images", *data.classes, *names]
    rows = [_row(a, name, images, joint) for a, name in enumerate(names)]
    return "\n".join("  ".join(f"{cell:>{width}}" for cell in row) for row in [head, *rows])


def _joint(
    data: SegmentationDataset, count: int
) -> tuple[Int[ndarray, "who who k k"], Int[ndarray, "who"]]:
    """Pixels by what two of them wrote, and images that each labelled; one image at a time."""
    bins = data.n_classes + 1  # one more for what is not labelled
    joint, images = np.zeros((count, count, bins, bins), np.int64), np.zeros(count, np.int64)
    for i in range(len(data)):
        parts = [] if data.labels is None else [*np.asarray(data.labels[i])]
        parts += [] if data.truth is None else [np.asarray(data.truth[i])]
        flat = [part.ravel().astype(np.int64) + 1 for part in parts]
        images += [bool(part.any()) for part in flat]
        for a, x in enumerate(flat):
            for b in range(a, count):
                found = np.bincount(x * bins + flat[b], minlength=bins * bins)
                joint[a, b] += found.reshape(bins, bins)
                joint[b, a] = joint[a, b].T
    return joint[..., 1:, 1:], images


def _row(a: int, name: str, images: ndarray, joint: ndarray) -> list[str]:
    own = np.diag(joint[a, a])
    shares = [f"{share:.4f}" for share in own / max(1, own.sum())]
    return [name, str(images[a]), *shares, *(_dice(joint[a, b]) for b in range(len(joint)))]


def _dice(joint: Int[ndarray, "k k"]) -> str:
    import torch  # takes seconds; `--help` needs none of it

    from noisyseg.metrics import dice_of_counts

    mean = float(dice_of_counts(torch.from_numpy(joint))[1:].nanmean())
    return "-" if np.isnan(mean) else f"{mean:.3f}"
