"""Simulated annotators: a mask and a random generator in, the mask somebody wrote out.

Paper section 4 and its supplement (arXiv 2007.15963) describe them by name only; the
degrees here reproduce the area ratios and error rates of the authors' shipped samples.
Knows masks and pixels; knows no data set, path or network.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray
from scipy import ndimage
from skimage.morphology import skeletonize

Annotator = Callable[..., ndarray]


def good(mask: ndarray, rng: np.random.Generator) -> ndarray:
    """Writes the truth. `mask` (*space) class indices -> int8 (*space)."""
    return mask.astype(np.int8)


def over(
    mask: ndarray, rng: np.random.Generator, degree_px: float = 1.7, target: int = 1
) -> ndarray:
    """Over-segments class `target` by `degree_px` pixels: passes of 4-neighbour dilation.

    A fractional pass keeps a random share of the pixels it would add. Other classes lose
    what the target takes.
    """
    grown = _passes(mask == target, rng, degree_px, ndimage.binary_dilation)
    return np.where(grown, target, mask).astype(np.int8)


def under(
    mask: ndarray, rng: np.random.Generator, degree_px: float = 1.25, target: int = 1
) -> ndarray:
    """Under-segments class `target` by `degree_px` pixels; what it loses becomes background.

    Passes of 4-neighbour erosion; the image border does not erode. A fractional pass
    removes a random share of its pixels.
    """
    region = mask == target
    kept = _passes(region, rng, degree_px, _erode)
    return np.where(region & ~kept, 0, mask).astype(np.int8)


def wrong(
    mask: ndarray,
    rng: np.random.Generator,
    degree_px: float = 1.0,
    target: int = 1,
    fractures: int = 3,
    fracture_px: float = 1.0,
) -> ndarray:
    """Small fractures and over-segmentation of class `target`.

    `fractures` cuts of half-width `fracture_px` go through random points of the skeleton,
    across it; then everything that is left grows by `degree_px` (the cut is kept open).
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
    mask: ndarray, rng: np.random.Generator, classes: tuple[int, int] = (1, 2)
) -> ndarray:
    """Mixes up two `classes` (paper: the BraTS annotator "wrong")."""
    a, b = classes
    written = mask.astype(np.int8)
    written[mask == a], written[mask == b] = b, a
    return written


def _erode(region: ndarray) -> ndarray:
    return ndimage.binary_erosion(region, border_value=1)


def _passes(
    region: ndarray, rng: np.random.Generator, degree_px: float, step: Callable[[ndarray], ndarray]
) -> ndarray:
    """Apply `step` degree_px times; the last, fractional pass changes a random share."""
    if degree_px < 0:
        raise ValueError(f"degree_px is {degree_px}: a degree is a number of pixels, 0 or more")
    whole = int(degree_px)
    for _ in range(whole):
        region = step(region)
    chosen = rng.random(region.shape) < degree_px - whole
    return np.where(chosen, step(region), region) if degree_px > whole else region


def _fractures(region: ndarray, rng: np.random.Generator, count: int, half_px: float) -> ndarray:
    """Slabs of half-width `half_px` across the skeleton at `count` random points of it.

    The direction along the stroke is the main axis of the skeleton points near the cut;
    the slab ends where the stroke's own thickness ends, so other strokes stay whole.
    """
    cuts = np.zeros(region.shape, bool)
    points = np.argwhere(skeletonize(region)) if region.any() else np.empty((0, region.ndim))
    if len(points) < 2:
        return cuts
    grid = np.stack(np.indices(region.shape), -1)
    thickness = ndimage.distance_transform_edt(region)
    for centre in points[rng.integers(len(points), size=count)]:
        near = points[np.linalg.norm(points - centre, axis=1) <= 4] - centre
        along = np.linalg.svd(near, full_matrices=False)[2][0] if len(near) > 1 else near[0] * 0.0
        offset = grid - centre
        distance = np.linalg.norm(offset, axis=-1)
        cuts |= (abs(offset @ along) <= half_px) & (distance <= thickness[tuple(centre)] + 2.5)
    return cuts


ANNOTATORS: dict[str, Annotator] = {
    "good": good,
    "over": over,
    "under": under,
    "wrong": wrong,
    "blank": blank,
    "class_swap": class_swap,
}


def simulate_labels(
    truth: ndarray,
    image_ids: Sequence[str],
    annotators: Sequence[str],
    seed: int,
    degrees: Mapping[str, Mapping[str, Any]] | None = None,
) -> ndarray:
    """What each annotator writes: truth (N, *space) -> int8 (N, annotator, *space).

    Every mask has its own generator, seeded by (seed, image id, annotator), so labels do
    not depend on order, on subsets or on the other annotators. `degrees` gives keyword
    arguments by annotator, e.g. {"over": {"degree_px": 3}}. Raises ValueError for an
    unknown annotator or a truth that is not integer.
    """
    unknown = [name for name in annotators if name not in ANNOTATORS]
    if unknown:
        raise ValueError(f"unknown annotators {unknown}; allowed: {', '.join(ANNOTATORS)}")
    if not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"truth has dtype {truth.dtype}: class indices are integers")
    if len(truth) != len(image_ids):
        raise ValueError(f"{len(truth)} masks but {len(image_ids)} image ids")
    labels = np.empty((len(truth), len(annotators), *truth.shape[1:]), np.int8)
    for n, image_id in enumerate(image_ids):
        for r, name in enumerate(annotators):
            options = (degrees or {}).get(name, {})
            labels[n, r] = ANNOTATORS[name](truth[n], generator(seed, image_id, name), **options)
    return labels


def generator(seed: int, image_id: str, annotator: str) -> np.random.Generator:
    """A generator that depends on nothing but its three arguments."""
    digest = hashlib.sha256(f"{seed}/{image_id}/{annotator}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
