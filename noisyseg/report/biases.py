"""Systematic bias of annotators against an estimate of the truth: size, shift, swapped classes.

Amounts with bootstrap intervals over cases, and each in one English sentence. Knows counts of
pixels and masks; knows no model and no path.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy import ndarray

LEAST_CASES = 3  # with fewer there is no interval
LEAST_AREA = 0.05  # a bias in size below 5 % is not worth a sentence
LEAST_SHIFT_PX = 0.25
LEAST_SWAP = 0.05
BATCH = 32
WAYS = (("up", "down"), ("left", "right"))
SLICES = ("towards the first slices", "towards the last slices")
Row = tuple[Any, ...]  # values of COLUMNS
COLUMNS = ["annotator", "class", "kind", "amount", "low", "high", "unit", "clear", "text"]


class Sample(NamedTuple):
    """Weights of cases in each bootstrap resample, the first row all ones: (1 + B, case)."""

    weights: ndarray
    case_of: ndarray

    def interval(self, values: ndarray) -> ndarray:
        """Of statistics (1 + B, ...): the statistic, low and high, stacked in front (3, ...)."""
        if self.weights.shape[1] < LEAST_CASES:
            nothing = np.full_like(values[0], np.nan)
            return np.stack([values[0], nothing, nothing])
        low, high = _percentiles(values[1:])
        return np.stack([values[0], low, high])

    def ratio(self, above: ndarray, below: ndarray) -> ndarray:
        """Interval (3, ...) of Σ above / Σ below over images; values are (image, ...)."""
        sums = [self.weights @ self.by_case(x.reshape(len(x), -1)) for x in (above, below)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.interval((sums[0] / sums[1]).reshape(-1, *above.shape[1:]))

    def by_case(self, values: ndarray) -> ndarray:
        """Sums over the images of each case: (image, ...) -> (case, ...)."""
        total = np.zeros((self.weights.shape[1], *values.shape[1:]))
        np.add.at(total, self.case_of, np.nan_to_num(values))
        return total


def _percentiles(values: ndarray) -> ndarray:
    some = np.isfinite(values).any(0)
    filled = np.where(some, values, 0)
    return np.where(some, np.nanpercentile(filled, (2.5, 97.5), axis=0), np.nan)


def resample(case_ids: Sequence[str] | ndarray, resamples: int, seed: int) -> Sample:
    """The cases of each image and `resamples` bootstrap draws of them."""
    cases, case_of = np.unique(np.asarray(case_ids).astype(str), return_inverse=True)
    share = np.full(len(cases), 1 / len(cases))
    drawn = np.random.default_rng(seed).multinomial(len(cases), share, size=resamples)
    return Sample(np.vstack([np.ones(len(cases)), drawn]), case_of)


def biases(
    truth: Int[ndarray, "image *space"],
    labels: Int[ndarray, "image annotator *space"],
    counts: Int[ndarray, "image annotator written estimated"],
    sample: Sample,
    *,
    classes: Sequence[str],
    annotators: Sequence[str],
    spacing_mm: Sequence[float] | None = None,
) -> pd.DataFrame:
    """One row per annotator, class and kind of bias, in the annotators' order.

    Columns COLUMNS; a bias is `clear` when its interval excludes none and it is at least 5 %
    of the size, a quarter of a pixel, or, for a swap, 5 % of the class and twice what the
    others do.
    """
    rows = _areas(counts, sample, classes, annotators)
    rows += _shifts(truth, labels, sample, classes, annotators, spacing_mm)
    rows += _swaps(counts, sample, classes, annotators)
    table = pd.DataFrame(rows, columns=COLUMNS)
    order = {name: r for r, name in enumerate(annotators)}
    table = table.sort_values("annotator", key=lambda a: a.map(order), kind="stable")
    return table.reset_index(drop=True)


def batches(*arrays: ndarray) -> Iterator[list[ndarray]]:
    """The same few images of every array, one after the other, in memory."""
    for start in range(0, len(arrays[0]), BATCH):
        yield [np.asarray(a[start : start + BATCH]) for a in arrays]


def _between(low: float, high: float, unit: str) -> str:
    if not np.isfinite(low):
        return "too few cases for an interval"
    number = "{:.0f}" if unit == "%" else "{:.1f}"
    return f"95 % interval {number.format(low)} to {number.format(high)} {unit}"


def _areas(
    counts: ndarray, sample: Sample, classes: Sequence[str], annotators: Sequence[str]
) -> list[Row]:
    size = sample.ratio(counts.sum(3), counts.sum(2)) - 1  # (3, annotator, class)
    rows = []
    for r, c in np.ndindex(size.shape[1:]):
        amount, low, high = (float(v) for v in size[:, r, c])
        if c == 0 or not np.isfinite(amount):
            continue
        clear = abs(amount) >= LEAST_AREA and (low > 0 or high < 0)
        way = "large" if amount > 0 else "small"
        ends = (100 * low, 100 * high) if amount > 0 else (-100 * high, -100 * low)
        text = f"draws {classes[c]} {100 * abs(amount):.0f} % too {way} ({_between(*ends, '%')})"
        if amount <= -0.995:
            text = f"never writes {classes[c]}"
        kind = "over" if amount > 0 else "under"
        values = (100 * amount, 100 * low, 100 * high, "%", clear, text)
        rows.append((annotators[r], classes[c], kind, *values))
    return rows


def _centres(masks: ndarray) -> ndarray:
    """Centroids (image, annotator, axis) of boolean masks; NaN where a mask is empty."""
    size = masks.reshape(*masks.shape[:2], -1).sum(-1)
    centres = []
    for axis in range(masks.ndim - 2):
        others = tuple(2 + k for k in range(masks.ndim - 2) if k != axis)
        profile = masks.sum(others)
        with np.errstate(invalid="ignore"):
            centres.append((profile * np.arange(profile.shape[-1])).sum(-1) / size)
    return np.stack(centres, -1)


def _shifts(
    truth: ndarray,
    labels: ndarray,
    sample: Sample,
    classes: Sequence[str],
    annotators: Sequence[str],
    spacing_mm: Sequence[float] | None,
) -> list[Row]:
    """Displacement of the centroid, averaged over images in which both drew the class."""
    unit, per_px = ("px", 1.0) if spacing_mm is None else ("mm", np.asarray(spacing_mm, float))
    rows = []
    for c in range(1, len(classes)):
        parts = [
            _centres(np.asarray(y) == c) - _centres(np.asarray(t)[:, None] == c)
            for t, y in batches(truth, labels)
        ]
        moved = np.concatenate(parts)
        there = np.isfinite(moved).astype(float)
        mean = sample.ratio(np.nan_to_num(moved), there)  # (3, annotator, axis)
        for r, name in enumerate(annotators):
            if np.isfinite(mean[0, r]).all():
                rows.append((name, classes[c], *_shift(mean[:, r], per_px, unit, classes[c])))
    return rows


def _shift(mean: ndarray, per_px: ndarray | float, unit: str, klass: str) -> Row:
    """From (3, axis) in px: kind, amount, low, high, unit, clear, text of the main direction."""
    axis = int(np.abs(mean[0]).argmax())
    amount, low, high = ((mean * per_px)[:, axis]).tolist()
    clear = abs(mean[0, axis]) >= LEAST_SHIFT_PX and (low > 0 or high < 0)
    names = WAYS if mean.shape[1] == 2 else (SLICES, *WAYS)
    way = names[axis][int(amount > 0)]
    text = f"moves {klass} {abs(amount):.1f} {unit} {way} ({_between(low, high, unit)})"
    return "shift", amount, low, high, unit, clear, text


def _swaps(
    counts: ndarray, sample: Sample, classes: Sequence[str], annotators: Sequence[str]
) -> list[Row]:
    """Shares of the pixels of class j that are written i, both not background."""
    rows = []
    below = counts.sum(2)
    for i in range(1, len(classes)):
        for j in range(1, len(classes)):
            if i == j:
                continue
            share = sample.ratio(counts[:, :, i, j], below[:, :, j])  # (3, annotator)
            for r, name in enumerate(annotators):
                others = np.delete(share[0], r)
                usual = float(np.nanmean(others)) if np.isfinite(others).any() else 0.0
                amount, low, high = (100 * float(v) for v in share[:, r])
                if not np.isfinite(amount):
                    continue
                clear = low >= 100 * LEAST_SWAP and low > 200 * usual
                text = (
                    f"writes {classes[i]} where the estimate says {classes[j]} in {amount:.0f} % "
                    f"of the pixels ({_between(low, high, '%')}; the others {100 * usual:.0f} %)"
                )
                rows.append((name, classes[j], "swap", amount, low, high, "%", clear, text))
    return rows
