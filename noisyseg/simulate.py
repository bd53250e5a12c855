"""Simulated annotators: a mask and a random generator in, the mask somebody wrote out.

Paper section 4 (arXiv 2007.15963) names them and gives no degrees; the default degrees come
close to the area ratios and error rates of the samples the authors ship (tests/test_simulate.py).
Degrees are pixels: passes of a dilation or erosion with the direct neighbours (4 in 2-D, 6 in
3-D). Knows masks and pixels; knows no data set, path or network.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Int8, Shaped
from numpy import ndarray
from scipy import ndimage

Annotator = Callable[..., ndarray]


def good(mask: ndarray, rng: np.random.Generator) -> ndarray:
    """Writes the truth. `mask` (*space) class indices -> int8 (*space)."""
    return mask.astype(np.int8)


def over(
    mask: ndarray, rng: np.random.Generator, degree_px: int | float = 1.72, target: int = 1
) -> ndarray:
    """Over-segments class `target` by `degree_px` pixels: passes of 4-neighbour dilation.

    A fraction is a pass over that share of the image, in random patches. Other classes lose
    what the target takes. ValueError for a degree below 0.
    """
    grown = _passes(mask == target, rng, degree_px, ndimage.binary_dilation)
    return np.where(grown, target, mask).astype(np.int8)


def under(
    mask: ndarray, rng: np.random.Generator, degree_px: int | float = 1.3, target: int = 1
) -> ndarray:
    """Under-segments class `target` by `degree_px` pixels; the nearest other class takes over.

    Passes of 4-neighbour erosion; the image border does not erode. A fraction is a pass over
    that share of the image. Other classes keep their pixels. ValueError for a degree below 0.
    """
    region = mask == target
    kept = _passes(region, rng, degree_px, _erode)
    return np.where(region & ~kept, _without(mask, region), mask).astype(np.int8)


def wrong(
    mask: ndarray,
    rng: np.random.Generator,
    degree_px: int | float = 1.15,
    target: int = 1,
    fractures: int = 3,
    fracture_px: int | float = 1.0,
) -> ndarray:
    """Small fractures and over-segmentation of class `target` (paper section 4).

    `fractures` cuts of half-width `fracture_px` pixels go across the skeleton at random points
    away from its tips, as in Morpho-MNIST (arXiv 1809.10780); the region grows by `degree_px`
    and the cuts stay open. A cut becomes background; other classes lose what the target takes.
    """
    region = mask == target
    cuts = _fractures(region, rng, fractures, fracture_px)
    grown = _passes(region, rng, degree_px, ndimage.binary_dilation) & ~cuts
    written = np.where(region & ~grown, 0, mask)
    return np.where(grown, target, written).astype(np.int8)


def blank(mask: ndarray, rng: np.random.Generator) -> ndarray:
    """Writes background everywhere. (The authors' samples have one corner pixel set.)"""
    return np.zeros_like(mask, dtype=np.int8)


def class_swap(
    mask: ndarray, rng: np.random.Generator, classes: Sequence[int] | None = None
) -> ndarray:
    """Mixes up `classes`: each is written as the next, the last as the first.

    (0, 1) swaps two; the paper's BraTS annotator "wrong" is a cycle of three. None swaps
    1 and 2 where a class above 1 occurs, so that a two-class mask never gets a third class.
    """
    if classes is None:
        classes = (1, 2) if mask.max(initial=0) > 1 else ()
    written = mask.astype(np.int8)
    for k, old in enumerate(classes):
        written[mask == old] = classes[(k + 1) % len(classes)]
    return written


def alternate(
    mask: ndarray, rng: np.random.Generator, degree_px: int | float = 100, target: int = 1
) -> ndarray:
    """Leaves out every second run of `degree_px` pixels of class `target` in raster order.

    The stripes of the paper's MS annotator "wrong": in the authors' script a run is 100 voxels
    of the volume. The first run goes; what is left out becomes background.
    """
    if not degree_px >= 1:
        raise ValueError(f"degree_px is {degree_px}: a run has 1 pixel or more")
    written = mask.astype(np.int8)
    where = np.flatnonzero(mask == target)
    written.flat[where[np.arange(len(where)) // int(degree_px) % 2 == 0]] = 0
    return written


def class_cycle(mask: ndarray, rng: np.random.Generator) -> ndarray:
    """Writes each class above 0 as the one below it, the lowest present as the highest.

    The authors' BraTS script: label 4 is written as 2, 2 as 1 and 1 as 4. A mask with less
    than two classes above 0 stays as it is.
    """
    present = [int(k) for k in np.unique(mask) if k > 0]
    return class_swap(mask, rng, present[::-1])


def grey_over(mask: ndarray, rng: np.random.Generator, degree_px: int | float = 1) -> ndarray:
    """Dilates the label map itself: the highest class within a (2·degree_px + 1) square wins."""
    return ndimage.maximum_filter(mask, 2 * _whole(degree_px) + 1).astype(np.int8)


def grey_under(mask: ndarray, rng: np.random.Generator, degree_px: int | float = 1) -> ndarray:
    """Erodes the label map itself: the lowest class within a (2·degree_px + 1) square wins."""
    return ndimage.minimum_filter(mask, 2 * _whole(degree_px) + 1).astype(np.int8)


def _whole(degree_px: int | float) -> int:
    if degree_px < 0 or degree_px != int(degree_px):
        raise ValueError(f"degree_px is {degree_px}: a square reaches 0, 1, 2, … pixels")
    return int(degree_px)


def _without(mask: ndarray, region: ndarray) -> ndarray:
    """`mask` with each pixel of `region` as the nearest class outside it (0 if there is none)."""
    if not region.any() or region.all():
        return np.where(region, 0, mask)
    return mask[tuple(ndimage.distance_transform_edt(region, None, False, True))]


def _erode(region: ndarray) -> ndarray:
    return ndimage.binary_erosion(region, border_value=1)


def _passes(
    region: ndarray,
    rng: np.random.Generator,
    degree_px: int | float,
    step: Callable[[ndarray], ndarray],
) -> ndarray:
    """Apply `step` degree_px times; the fractional pass only in patches of the image.

    The patches are the low part of smoothed noise: with the same generator those of a
    smaller fraction lie inside those of a larger one, so what changes is monotone in degree.
    """
    if not 0 <= degree_px < np.inf:
        raise ValueError(f"degree_px is {degree_px}: a degree is a number of pixels, 0 or more")
    whole = int(degree_px)
    for _ in range(whole):
        region = step(region)
    if degree_px == whole or not region.size:
        return region
    field = ndimage.gaussian_filter(rng.random(region.shape), 1.5)
    patches = field <= np.quantile(field, degree_px - whole)
    return np.where(patches, step(region), region)


def _fractures(
    region: ndarray, rng: np.random.Generator, count: int, half_px: int | float
) -> ndarray:
    """Slabs of half-width `half_px` across the stroke at up to `count` random points of it.

    A slab ends 2.5 px beyond the stroke's own thickness, so that other strokes stay whole.
    """
    cuts = np.zeros(region.shape, bool)
    if not region.any():
        return cuts
    thickness = ndimage.distance_transform_edt(region)
    for centre, along in islice(_stroke_points(region, thickness, rng), count):
        reach = thickness[tuple(centre)] + 2.5
        corner = np.maximum(centre - int(reach), 0)
        window = tuple(map(slice, corner, centre + int(reach) + 1))
        offset = np.moveaxis(np.indices(cuts[window].shape), 0, -1) + corner - centre
        inside = np.linalg.norm(offset, axis=-1) <= reach
        cuts[window] |= (abs(offset @ along) <= half_px + 1e-6) & inside
    return cuts


def _stroke_points(
    region: ndarray, thickness: ndarray, rng: np.random.Generator
) -> Iterator[tuple[ndarray, ndarray]]:
    """Random points of the skeleton, not its tips, with the unit vector along the stroke.

    A tip is where the skeleton ends within 2 px (Morpho-MNIST prunes 2 px too).
    """
    # scikit-image's 3-D skeleton of a rod of even thickness is empty; the ridge never is.
    ridge = region & (thickness == ndimage.maximum_filter(thickness, 3))
    from skimage.morphology import skeletonize  # slow to import, and needed here alone

    points = np.argwhere(skeletonize(region) if region.ndim == 2 else ridge)
    for centre in rng.permutation(points):
        near = points[np.linalg.norm(points - centre, axis=1) <= 4] - centre
        along = np.linalg.svd(near, full_matrices=False)[2][0]
        side = near @ along
        if min(side.max(), -side.min()) > 2:
            yield centre, along


ANNOTATORS: dict[str, Annotator] = {
    "good": good,
    "over": over,
    "under": under,
    "wrong": wrong,
    "blank": blank,
    "class_swap": class_swap,
    "class_cycle": class_cycle,
    "alternate": alternate,
    "grey_over": grey_over,
    "grey_under": grey_under,
}
NAME = re.compile(
    r"(?P<kind>\w+)(?:@(?P<degree>\d+(?:\.\d*)?))?(?::(?P<classes>\d+(?:-\d+)*))?(?:#\d+)?"
)


def simulate_labels(
    truth: Shaped[ndarray, "image *space"],
    image_ids: Sequence[str] | ndarray,
    annotators: Sequence[str],
    seed: int,
    degrees: Mapping[str, int | float | Mapping[str, Any]] | None = None,
) -> Int8[ndarray, "image annotator *space"]:
    """What each annotator writes: truth (N, *space) -> int8 (N, annotator, *space).

    Every mask has its own generator, seeded by (seed, image id, annotator), so labels do
    not depend on order, on subsets or on the other annotators. `degrees` gives a degree in
    pixels or keyword arguments by annotator, e.g. {"over": 3, "wrong": {"fractures": 5}}.
    A name may carry its degree, the classes it acts on and a number to tell equals apart:
    "over@2.5", "under:3", "class_swap:1-3", "wrong@1#2".
    Raises ValueError for unknown annotators or options and a truth that is not class indices.
    """
    degrees = degrees or {}
    _check(truth, image_ids, [*annotators, *degrees])
    options = {name: _options(name, degrees.get(name, {})) for name in annotators}
    labels = np.empty((len(truth), len(annotators), *truth.shape[1:]), np.int8)
    for n, image_id in enumerate(image_ids):
        for r, name in enumerate(annotators):
            rng = generator(seed, image_id, name)
            labels[n, r] = ANNOTATORS[_named(name)[0]](truth[n], rng, **options[name])
    return labels


def _named(name: str) -> tuple[str, dict[str, Any]]:
    """The kind of annotator and the options in a name: "over@2.5:3#2" -> "over", 2.5 px of 3."""
    found = NAME.fullmatch(name)
    if found is None or found["kind"] not in ANNOTATORS:
        raise ValueError(
            f"unknown annotators [{name!r}]; allowed: {', '.join(ANNOTATORS)}, with a degree, the "
            'classes meant and a number where wanted ("over@2.5", "under:3", "class_swap:1-3", '
            '"wrong@1#2")'
        )
    options: dict[str, Any] = {}
    if found["degree"] is not None:
        options["degree_px"] = float(found["degree"])
    if found["classes"] is not None:
        classes = [int(k) for k in found["classes"].split("-")]
        swaps = "classes" in signature(ANNOTATORS[found["kind"]]).parameters
        if not swaps and len(classes) > 1:
            raise ValueError(
                f"annotator {name!r}: {found['kind']} acts on one class, not {classes}"
            )
        options |= {"classes": classes} if swaps else {"target": classes[0]}
    return found["kind"], options


def _check(truth: ndarray, image_ids: Sequence[str] | ndarray, names: Sequence[str]) -> None:
    for name in names:
        _named(name)
    if len(truth) != len(image_ids):
        raise ValueError(f"{len(truth)} masks but {len(image_ids)} image ids: give one for each")
    if truth.dtype.kind not in "iu":
        raise ValueError(f"truth has dtype {truth.dtype}: give integer class indices")
    if truth.size and not 0 <= truth.min() <= truth.max() <= 127:
        raise ValueError(f"truth holds {truth.min()} to {truth.max()}: classes are 0 to 127")


def _options(annotator: str, given: int | float | Mapping[str, Any]) -> dict[str, Any]:
    kind, named = _named(annotator)
    options = named | (dict(given) if isinstance(given, Mapping) else {"degree_px": given})
    allowed = [*signature(ANNOTATORS[kind]).parameters][2:]
    unknown = [name for name in options if name not in allowed]
    if unknown:
        raise ValueError(f"annotator {annotator!r} has no {unknown}; allowed: {allowed or 'none'}")
    return options


def generator(seed: int, image_id: str, annotator: str) -> np.random.Generator:
    """A generator that depends on nothing but its three arguments (no Python hash)."""
    digest = hashlib.sha256(f"{seed}/{image_id}/{annotator}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
