"""LIDC outlines -> masks and nodules: what the database and the XML files have in common.

A contour of LIDC is the ring of the first pixels outside a nodule, so its own pixels do not
belong to the mask; exclusion contours cut holes. Outlines of different readers whose points
come near each other are one nodule. Knows no file and no image.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from matplotlib.path import Path as Polygon
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

READERS = 4  # of every scan; who they are differs from scan to scan
SHRINK, SMALLEST = 0.9, 0.1  # how the distance is lowered while a nodule has too many outlines


class Contour(NamedTuple):
    """A ring in one slice: `points` (n, 2) are row and column in whole pixels, `slice_index`
    counts the slices of the scan by increasing z; `inside` is False for a hole."""

    slice_index: int
    inside: bool
    points: Int[ndarray, "point 2"]


class Window(NamedTuple):
    """A rectangle of pixels: its first row and column and its size; it may leave the image."""

    top: int
    left: int
    height: int
    width: int


def window_of(contours: Sequence[Contour], size: int | None = None) -> Window:
    """The smallest window around all points, or one of `size` pixels a side with its centre."""
    points = np.concatenate([contour.points for contour in contours])
    low, high = points.min(0), points.max(0)
    if size is None:
        return Window(*map(int, low), *map(int, high - low + 1))
    top, left = ((low + high + 1) // 2 - size // 2).tolist()
    return Window(top, left, size, size)


def mask_of(contours: Sequence[Contour], slice_index: int, window: Window) -> Bool[ndarray, "h w"]:
    """What these contours, of one reader, enclose in one slice: (height, width) of `window`.

    Contours are taken in their order, holes last. A ring that is not closed is closed by a
    straight line; a slice without contours gives an empty mask.
    """
    mask = np.zeros(window[2:], bool)
    here = [contour for contour in contours if contour.slice_index == slice_index]
    for contour in sorted(here, key=lambda contour: not contour.inside):
        points = contour.points - window[:2]
        enclosed = _enclosed(points, mask.shape)
        mask = mask | enclosed if contour.inside else mask & ~enclosed
        mask[*_within(points, mask.shape).T] = False
    return mask


def _enclosed(points: Int[ndarray, "point 2"], shape: tuple[int, int]) -> Bool[ndarray, "h w"]:
    if (points[0] != points[-1]).any():
        points = np.concatenate([points, points[:1]])
    # Only the pixels around the ring are asked: the rest of a large window is outside.
    low = np.clip(points.min(0), 0, shape)
    high = np.clip(points.max(0) + 1, low, shape)
    rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]]
    inside = np.zeros(shape, bool)
    if rows.size:
        found = Polygon(points, closed=True).contains_points(np.c_[rows.ravel(), columns.ravel()])
        inside[low[0] : high[0], low[1] : high[1]] = found.reshape(rows.shape)
    return inside


def _within(points: Int[ndarray, "point 2"], shape: tuple[int, int]) -> Int[ndarray, "kept 2"]:
    return points[((points >= 0) & (points < shape)).all(1)]


def cluster(outlines: Sequence[Sequence[Contour]], thickness_mm: float) -> list[list[int]]:
    """Which outlines of a scan are one nodule: lists of positions in `outlines`, by first.

    The rule of pylidc: two outlines are neighbours when two of their points, in pixels and
    slice numbers, are no farther apart than the number `thickness_mm` (units are mixed; it is
    what everybody counts with); nodules are the connected groups. While one has more than
    four outlines the distance shrinks by a tenth, down to 0.1: then it stays too large.
    """
    distance = _distances(outlines)
    reach = thickness_mm
    groups = _connected(distance <= reach)
    while max(map(len, groups), default=0) > READERS and reach * SHRINK >= SMALLEST:
        reach *= SHRINK
        groups = _connected(distance <= reach)
    return groups


def _distances(outlines: Sequence[Sequence[Contour]]) -> ndarray:
    points = [
        np.concatenate([np.c_[c.points, np.full(len(c.points), c.slice_index)] for c in outline])
        for outline in outlines
    ]
    trees = [KDTree(each) for each in points]
    distance = np.zeros((len(points), len(points)))
    for a, b in combinations(range(len(points)), 2):
        distance[a, b] = distance[b, a] = trees[a].query(points[b])[0].min()
    return distance


def _connected(near: Bool[ndarray, "n n"]) -> list[list[int]]:
    count, group = connected_components(coo_array(near), directed=False)
    groups = [np.flatnonzero(group == g).tolist() for g in range(count)]
    return sorted(groups)
