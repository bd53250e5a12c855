"""Ours: annotators calibrated against each other, then the paper's model on calibrated labels.

The image says at which level of an annotator's outlines it changes most: their boundary offset.
Every outline is moved by what sets its annotator apart from the others, and who follows edges
sharply counts more. What all annotators have in common stays, because real images break the
assumption that objects end at edges; `anchor="image"` makes it. Notebooks 01 and 03 show this;
notebook 30 how the loss on these labels (arXiv 2007.15963, Eq. 4, with Theorem 1 held) was
chosen. Knows arrays, images and labels; no truth, network or path.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import ndimage
from torch import Tensor

from noisyseg.fusion import Fused, vote_counts

# Levels in pixels. What counts is which pixels a level parts: along the axes they lie at 0.5,
# 1.5, …, on diagonals at √2 − 0.5, …; no level falls on one of them.
LEVEL_PX = 0.2
LEVELS = np.arange(-15, 16) * LEVEL_PX
MARGIN_PX = 6  # around a mask; further away nothing straddles a level, and nothing moves
FLAT = 0.1  # a peak less than this share above the image's mean contrast is no edge
NEAR = 0.8  # what is nearly as high as the peak counts too: the smallest move is taken
SECOND = 0.5  # a profile that rises again by this share of its peak has no one offset
MOST_PIXEL = 1e100
MOST_WEIGHT = 2.0  # times the median weight


class Calibration(NamedTuple):
    """How each annotator's outlines lie relative to the image's edges, by class.

    `profile`: contrast at each of `LEVELS` over the mean contrast of the same images; 0 where no
    two pixels straddle the level. `offset`: the level of its peak in pixels, positive for
    outlines outside the image's edge; 0 without one clear peak. `sharpness`: height of the
    peak above 1; 0 without one. Class 0, the background, has neither.
    """

    profile: Float[ndarray, "annotator class level"]
    offset: Float[ndarray, "annotator class"]
    sharpness: Float[ndarray, "annotator class"]

    def relative(self) -> Float[ndarray, "annotator class"]:
        """How much wider than the others each annotator draws, in pixels (negative: narrower).

        The offset less the sharpness-weighted median of all annotators' offsets. NaN where an
        annotator has no clear peak.
        """
        common = weighted_median(self.offset, self.sharpness)
        return np.where(self.sharpness > 0, self.offset - common, np.nan)

    def shift(self, anchor: str = "annotators") -> Float[ndarray, "annotator class"]:
        """By how many pixels to move each outline inwards; a whole number of level steps.

        `anchor="annotators"`: `relative`, so that the group as a whole stays where it is.
        `anchor="image"`: the whole offset. Raises ValueError for another anchor.
        """
        if anchor not in ("annotators", "image"):
            raise ValueError(f"unknown anchor {anchor!r}; allowed: annotators, image")
        moves = np.nan_to_num(self.relative()) if anchor == "annotators" else self.offset
        steps = np.floor(np.abs(moves) / LEVEL_PX + 0.5 + 1e-6)
        return np.copysign(steps * LEVEL_PX, moves)

    def weight(self) -> Float[ndarray, " annotator"]:
        """The say of each annotator: mean sharpness over the classes, at most twice the median.

        The mean is 1 over those who have any say; all are 1 where nobody follows an edge.
        """
        sharp = self.sharpness[:, 1:].mean(1)
        if not sharp.any():
            return np.ones_like(sharp)
        capped = np.minimum(sharp, MOST_WEIGHT * np.median(sharp[sharp > 0]))
        return capped / capped[capped > 0].mean()


def weighted_median(
    values: Float[ndarray, "annotator class"], weights: Float[ndarray, "annotator class"]
) -> Float[ndarray, " class"]:
    """The value in the middle of the weight; halfway where the middle falls between two values.

    Of two values neither is the middle one, whatever they weigh: the result is halfway.
    """
    order = np.lexsort((weights, values), axis=0)
    values, weights = (np.take_along_axis(a, order, 0) for a in (values, weights))
    total = weights.sum(0)
    share = weights.cumsum(0) / np.where(total > 0, total, 1)
    low = np.take_along_axis(values, (share >= 0.5 - 1e-9).argmax(0)[None], 0)[0]
    high = np.take_along_axis(values, (share > 0.5 + 1e-9).argmax(0)[None], 0)[0]
    two = (weights > 0).sum(0) == 2
    halfway = np.where(weights > 0, values, 0).sum(0) / 2
    return np.where(two, halfway, np.where(total > 0, (low + high) / 2, 0.0))


def signed_distance(labels: Int[ndarray, " *space"], klass: int) -> Float[ndarray, " *space"]:
    """Distance to the outline of `klass` in pixels: 0.5 on its rim, −0.5 just outside.

    The outline lies between two pixels. Pixels that are not labelled (−1) and the image's border
    are no outline; all is −inf where the class was not drawn and inf where it is everywhere.
    """
    inside, other = labels == klass, (labels != klass) & (labels >= 0)
    if not inside.any():
        return np.full(labels.shape, -np.inf)
    if not other.any():
        return np.full(labels.shape, np.inf)
    within = ndimage.distance_transform_edt(~other)
    beyond = ndimage.distance_transform_edt(~inside)
    return np.where(inside, within - 0.5, 0.5 - beyond)


def calibrate(
    images: Float[ndarray, "image channel *space"],
    labels: Int[ndarray, "image annotator *space"],
    n_classes: int,
) -> Calibration:
    """The calibration of all annotators from a whole data set; −1 = not labelled.

    The result does not depend on the order of images or annotators.

    Examples:
        >>> image = np.zeros((1, 1, 9, 9)); image[..., 3:6, 3:6] = 1
        >>> wide = np.zeros((1, 1, 9, 9), int); wide[..., 2:7, 2:7] = 1
        >>> true = (image > 0).astype(int)
        >>> found = calibrate(image, np.concatenate([true, true, wide], 1), 2)
        >>> found.relative()[:, 1].round(2).tolist()
        [0.0, 0.0, 1.0]
    """
    sums = sum(contrast_sums(i, y, n_classes) for i, y in zip(images, labels, strict=True))
    return from_sums(np.asarray(sums))


def contrast_sums(
    image: Float[ndarray, "channel *space"],
    labels: Int[ndarray, "annotator *space"],
    n_classes: int,
) -> Float[ndarray, "3 annotator class levels"]:
    """Contrasts of neighbours, summed by the levels between them, of one image.

    The first axis has the sum, the number and (in its first level) sum and number of all pairs of
    neighbours that were labelled. The contrast of two direct neighbours is the distance of
    their values over the channels. A pair counts at all levels between its two distances; a
    difference array adds it to all of them at once.
    """
    largest = float(np.abs(image).max(initial=0))  # in double: 1e100 is no float32
    if not largest < MOST_PIXEL:  # NaN is not
        raise ValueError(
            f"images reach {largest:g}: values must be finite and below {MOST_PIXEL:g}, or the "
            "squares of their differences are no numbers; rescale them, for example to mean 0 and "
            "sd 1"
        )
    size = len(LEVELS)
    sums = np.zeros((3, len(labels), n_classes, size + 1))
    contrast = [_contrast(image, axis) for axis in range(1, image.ndim)]
    for r, label in enumerate(labels):
        for axis, values in enumerate(contrast):
            known = np.minimum(*_pairs(label, axis)) >= 0
            sums[2, r, :, 0] += values[known].sum()
            sums[2, r, :, 1] += known.sum()
        for c in range(1, n_classes):
            window = _window(label == c)
            if window is None:
                continue
            part = label[window]
            distance = signed_distance(part, c)
            if not np.isfinite(distance).all():
                continue
            for axis, values in enumerate(contrast):
                between = _between(distance, part, axis)
                near = values[_shorter(window, axis)].ravel()
                sums[:2, r, c] += _spread(*between, near)
    return sums


def _pairs(x: ndarray, axis: int) -> tuple[ndarray, ndarray]:
    """Direct neighbours along `axis`: `x` without its last and without its first slice."""
    head = (slice(None),) * axis
    return x[(*head, slice(None, -1))], x[(*head, slice(1, None))]


def _contrast(image: ndarray, axis: int) -> Float[ndarray, " *space"]:
    first, second = _pairs(image.astype(np.float64), axis)
    return np.sqrt(np.square(first - second).sum(0))


def _window(mask: ndarray) -> tuple[slice, ...] | None:
    """The box of `mask` with a margin around it; None where the mask is empty."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return None
    return tuple(slice(max(0, s.start - MARGIN_PX), s.stop + MARGIN_PX) for s in found[0])


def _shorter(window: tuple[slice, ...], axis: int) -> tuple[slice, ...]:
    """The pairs of neighbours that lie in `window` along `axis`."""
    parts = list(window)
    parts[axis] = slice(window[axis].start, window[axis].stop - 1)
    return tuple(parts)


def _between(distance: ndarray, label: ndarray, axis: int) -> tuple[ndarray, ndarray, ndarray]:
    """Of each pair: the first level between its distances, the one after the last, and whether
    both pixels were labelled and any level lies between."""
    a, b = (x.ravel() for x in _pairs(distance, axis))
    first = np.searchsorted(LEVELS, np.minimum(a, b), "right")
    last = np.searchsorted(LEVELS, np.maximum(a, b), "left")
    known = np.minimum(*_pairs(label, axis)).ravel() >= 0
    return first, last, known & (first < last)


def _spread(
    first: ndarray, last: ndarray, use: ndarray, contrast: ndarray
) -> Float[ndarray, "2 levels"]:
    size = len(LEVELS) + 1
    starts, ends = first[use], last[use]
    rows = []
    for weights in (contrast[use], None):
        change = np.bincount(starts, weights, size) - np.bincount(ends, weights, size)
        rows.append(change.cumsum(dtype=np.float64))
    return np.stack(rows)


def from_sums(sums: Float[ndarray, "3 annotator class levels"]) -> Calibration:
    """The calibration of summed `contrast_sums`."""
    total, count = sums[2, :, :, 0], sums[2, :, :, 1]
    mean = total / np.maximum(count, 1)
    pairs = sums[1, ..., :-1]
    level = sums[0, ..., :-1] / np.maximum(pairs, 1)
    # A sum without pairs is not exactly 0: a difference array leaves rounding errors.
    there = (pairs > 0) & (mean[..., None] > 0)
    profile = np.where(there, level / np.where(mean > 0, mean, 1)[..., None], 0.0)
    return Calibration(profile, *_peak(profile))


def _peak(profile: Float[ndarray, "*sample level"]) -> tuple[ndarray, ndarray]:
    """Place and height of one clear peak; 0 and 0 where there is none."""
    height = profile.max(-1) - 1
    high = profile - 1 >= NEAR * height[..., None]
    nearest = np.where(high, np.abs(LEVELS), np.inf).argmin(-1)[..., None]
    value = np.take_along_axis(profile, nearest, -1)
    # Levels that the same pairs straddle have the same value: their middle is the place.
    close = np.abs(LEVELS - LEVELS[nearest]) < 1
    same = close & (np.abs(profile - value) <= 1e-9 * np.abs(value))
    place = (same * LEVELS).sum(-1) / same.sum(-1)
    top = profile.argmax(-1)
    clear = (height >= FLAT) & (top > 0) & (top < len(LEVELS) - 1)
    clear &= _second_rise(profile) < SECOND * height
    return np.where(clear, place, 0.0), np.where(clear, height, 0.0)


def _second_rise(profile: Float[ndarray, "*sample level"]) -> Float[ndarray, "*sample"]:
    """How far the profile rises again beyond a valley, on either side of its maximum."""
    rise = np.zeros(profile.shape[:-1])
    for way in (1, -1):
        line = profile[..., ::way]
        after = np.arange(line.shape[-1]) > line.argmax(-1)[..., None]
        valley = np.minimum.accumulate(np.where(after, line, np.inf), -1)
        beyond = np.where(after, line, 0) - np.where(after, valley, 0)
        rise = np.maximum(rise, beyond.max(-1))
    return rise


def moved(
    labels: Int[ndarray, "annotator *space"], shift: Float[ndarray, "annotator class"]
) -> Int[ndarray, "annotator *space"]:
    """Every outline of one image moved inwards by `shift` pixels, outwards where it is negative.

    A class takes what it grows over; what it gives up goes to the nearest other class that was
    drawn. Of several classes the one that moves furthest is moved last. −1 stays −1.

    Examples:
        >>> moved(np.array([[[0, 1, 1, 1, 0]]]), np.array([[0.0, 0.6]])).tolist()
        [[[0, 0, 1, 0, 0]]]
    """
    new = labels.copy()
    for label, target, by_class in zip(labels, new, shift, strict=True):
        for c in np.argsort(np.abs(by_class), kind="stable"):
            if c > 0 and by_class[c] != 0:
                _move(label, target, int(c), by_class[c])
    return new


def _move(label: ndarray, target: ndarray, klass: int, inwards: float) -> None:
    window = _window(label == klass)
    if window is None:
        return
    part, result = label[window], target[window]
    distance = signed_distance(part, klass)
    now = (distance > inwards) & (part >= 0)
    lost = (result == klass) & ~now & (part >= 0)
    result[now] = klass
    others = (result != klass) & (result >= 0)
    if lost.any() and others.any():
        nearest = ndimage.distance_transform_edt(~others, None, False, True)
        result[lost] = result[tuple(nearest)][lost]


def calibrated_labels(
    labels: Int[ndarray, "image annotator *space"], shift: Float[ndarray, "annotator class"]
) -> Int[ndarray, "image annotator *space"]:
    """`moved` for every image; int16, or int8 where that is what `labels` has.

    Examples:
        >>> wide = np.array([[[[0, 1, 1, 1, 0]]]])
        >>> calibrated_labels(wide, np.array([[0.0, 0.6]])).tolist()
        [[[[0, 0, 1, 0, 0]]]]
    """
    dtype = np.int8 if labels.dtype == np.int8 else np.int16
    return np.stack([moved(np.asarray(y, dtype), shift) for y in labels])


def say(
    calibrated: Int[ndarray, "image annotator *space"],
    weight: Float[ndarray, " annotator"],
    n_classes: int,
) -> Float[ndarray, " annotator"]:
    """`weight` times how often the others mean the same class, where they mark anything.

    Sharpness cannot see somebody who draws the right outlines with the wrong names. For each
    foreground class an annotator wrote, the share of its pixels at which the others' vote is the
    same class, of those at which it is foreground; the mean over classes. 1 with two classes,
    and for somebody whose labels overlap with nobody's.
    """
    annotators = calibrated.shape[1]
    same, seen = np.zeros((2, annotators, n_classes))
    for labels in calibrated:
        flat = labels.reshape(annotators, -1)
        votes = np.stack([weight[:, None] * (flat == c) for c in range(n_classes)])
        for r, written in enumerate(flat):
            vote = (votes.sum(1) - votes[:, r]).argmax(0)
            marked = (vote > 0) & (written > 0)
            seen[r] += np.bincount(written[marked], minlength=n_classes)
            same[r] += np.bincount(written[marked & (vote == written)], minlength=n_classes)
    share = np.where(seen > 0, same / np.maximum(seen, 1), np.nan)[:, 1:]
    known = np.isfinite(share)
    agreement = np.where(known, share, 0).sum(1) / np.maximum(known.sum(1), 1)
    return weight * np.where(known.any(1), agreement, 1.0)


def calibrated_vote(
    labels: Int[Tensor, "image annotator *space"],
    weight: Float[Tensor, " annotator"],
    n_classes: int,
) -> Fused:
    """The weighted vote of calibrated labels: every class's share of the weight at each pixel.

    Uniform where nobody with a say labelled the pixel.

    Examples:
        >>> labels = torch.tensor([[[[0, 1]], [[1, 1]]]])  # one image, two annotators, 1 x 2 pixels
        >>> calibrated_vote(labels, torch.tensor([3.0, 1.0]), 2).posterior[0, 1].tolist()
        [[0.25, 1.0]]
    """
    votes = vote_counts(labels, n_classes, weight)
    total = votes.sum(1, keepdim=True)
    return Fused(torch.where(total > 0, votes / total.clamp_min(1e-12), 1 / n_classes).float())
