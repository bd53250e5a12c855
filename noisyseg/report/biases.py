"""Systematic bias of annotators: size, shift, swapped classes.

Each relative to the other annotators first, then to an estimate of the truth, which may sit to
one side of all of them (`one_sided` says so). Amounts with bootstrap intervals over cases, and
each in one English sentence. Knows counts of pixels and masks; knows no model and no path.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from noisyseg.report.bootstrap import Sample, resample
from noisyseg.report.pairs import Joint, beside_others, joint_counts

OTHERS, ESTIMATE = "the others", "the estimate"
LEAST_AREA = 0.05  # a bias in size below 5 % is not worth a sentence
LEAST_SHIFT_PX = 0.25
LEAST_SWAP = 0.05
NEVER = -0.995  # smaller by as much as this: nothing is drawn
BATCH = 32
WAYS = (("up", "down"), ("left", "right"))
SLICES = ("towards the first slices", "towards the last slices")
Row = dict[str, Any]  # by COLUMNS
COLUMNS = "annotator class kind beside amount low high unit way clear text".split()


def biases(
    truth: Int[ndarray, "image *space"],
    labels: Int[ndarray, "image annotator *space"],
    counts: Int[ndarray, "image annotator written estimated"],
    sample: Sample,
    *,
    classes: Sequence[str],
    annotators: Sequence[str],
    spacing_mm: Sequence[float] | None = None,
    joint: Joint | None = None,
) -> pd.DataFrame:
    """One row an annotator, class, kind of bias and what it is relative to.

    Columns COLUMNS; `way` is larger, smaller, where to or the class
    written instead; `beside` is OTHERS (larger than the others: than at least half of them, see
    `pairs.cautious_median`) or ESTIMATE. Rows come in the annotators' order, relative to the
    others first. A bias is `clear` when its interval excludes none and it is at least 5 % of the
    size, a quarter of a pixel, or, for a swap, 5 % of the class and twice what the others do.
    Beside the estimate it must be clear beside the others as well, where there are any: an
    estimate that is too small makes everybody large. `joint`: of `labels`, see `pairs`.
    """
    joint = joint_counts(labels, len(classes)) if joint is None else joint
    names = classes, annotators
    rows = _areas(sample.interval(_size_beside_others(joint, sample)), OTHERS, *names)
    rows += _areas(sample.ratio(counts.sum(3), counts.sum(2)) - 1, ESTIMATE, *names)
    rows += _shifts(truth, labels, sample, *names, spacing_mm)
    rows += _swaps(joint, counts, sample, *names)
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["clear"] = table.clear.astype(bool) & _same_beside_others(table)
    order = {name: r for r, name in enumerate(annotators)}
    table = table.sort_values("annotator", key=lambda a: a.map(order), kind="stable")
    return table.reset_index(drop=True)


def _same_beside_others(table: pd.DataFrame) -> ndarray:
    """Whether a bias beside the estimate is one beside the others as well; True for those."""
    keys = ["annotator", "class", "kind"]
    compared = {tuple(k) for k in table[table.beside == OTHERS][[*keys[:2], "unit"]].to_numpy()}
    clear = {tuple(k) for k in table[(table.beside == OTHERS) & table.clear][keys].to_numpy()}
    return np.array(
        [
            row.beside == OTHERS
            or (row.annotator, row[2], row.unit) not in compared
            or (row.annotator, row[2], row.kind) in clear
            for row in table.itertuples()
        ],
        bool,
    )


def one_sided(table: pd.DataFrame) -> list[str]:
    """What most annotators do alike and nobody otherwise beside the estimate, in sentences.

    Then the estimate itself sits to one side of them. `table` as `biases` gives it.
    """
    said = []
    rows = table[(table.beside == ESTIMATE) & table.kind.isin(("over", "under", "shift"))]
    for (klass, shift), group in rows.groupby(["class", rows.kind == "shift"], sort=False):
        certain = (group.low > 0) | (group.high < 0)
        least = 0 if shift else 100 * LEAST_AREA
        way = np.where(certain & (group.amount.abs() >= least), group.way, "")
        for side in dict.fromkeys(way[way != ""]):
            many = int((way == side).sum())
            if many < 2 or 2 * many <= len(group) or set(way) - {side, ""}:
                continue
            amounts = np.sort(group.amount[way == side].abs())
            unit = group.unit.iloc[0]
            reach = f"{_number(amounts[0], unit)} to {_number(amounts[-1], unit)} {unit}"
            who = f"All {many}" if many == len(group) else f"{many} of {len(group)}"
            if shift:
                did, fault = f"move {klass} {side} ({reach})", "moved the other way"
            else:
                did = f"draw {klass} {side} than the estimate ({reach})"
                fault = {"larger": "too small", "smaller": "too large"}[side]
            said.append(
                f"{who} annotators {did}. So the estimate itself sits to one side of them: it may "
                f"be {fault}, or they may all err alike. Go by what is said relative to the others."
            )
    return said


def batches(*arrays: ndarray) -> Iterator[list[ndarray]]:
    """The same few images of every array, one after the other, in memory."""
    for start in range(0, len(arrays[0]), BATCH):
        yield [np.asarray(a[start : start + BATCH]) for a in arrays]


def _number(value: float, unit: str) -> str:
    return f"{round(value) + 0:d}" if unit == "%" else f"{round(value, 1) + 0.0:.1f}"


def _between(low: float, high: float, unit: str) -> str:
    if not np.isfinite(low):
        return "too few cases for an interval"
    return f"95 % interval {_number(low, unit)} to {_number(high, unit)} {unit}"


def _size_beside_others(joint: Joint, sample: Sample) -> ndarray:
    """Area less that of the others, as a share of it: (1 + B, annotator, class)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.log(sample.ratios(joint.sum(-1), joint.sum(-2)))
    return np.expm1(beside_others(ratios, 1))


def beside_others_now(
    labels: Int[ndarray, "image annotator *space"], klass: int
) -> tuple[Float[ndarray, " annotator"], Float[ndarray, "annotator axis"]]:
    """Size and shift of every annotator beside the others, as `biases` has them, without interval.

    The size is a share (0.3: 30 % larger), the shift in pixels along each axis; NaN where there
    is nothing to compare. Fast enough to follow a brush.

    Examples:
        >>> one, two = np.array([[0, 1, 1, 0]]), np.array([[0, 0, 1, 1]])
        >>> size, shift = beside_others_now(np.stack([one, two])[None], 1)
        >>> size.tolist(), shift[:, 1].tolist()
        ([0.0, 0.0], [-1.0, 1.0])
    """
    sample = resample(np.arange(len(labels)), 0, 0)
    size = _size_beside_others(joint_counts(labels, klass + 1), sample)
    _, apart = _moved(labels[:, 0], labels, klass)
    return size[0, :, klass], beside_others(_means(apart, sample), 1)[0]


def size_in_words(amount: float, klass: str, beside: str = OTHERS) -> str:
    """How much larger somebody draws, as a share, in words.

    Examples:
        >>> size_in_words(0.304, "digit")
        'draws digit 30 % larger than the others'
        >>> size_in_words(-1.0, "digit")
        'never writes digit'
    """
    if amount <= NEVER:
        return f"never writes {klass}"
    way = "larger" if amount > 0 else "smaller"
    return f"draws {klass} {100 * abs(amount):.0f} % {way} than {beside}"


def shift_in_words(amount: float, unit: str, way: str, klass: str, beside: str = OTHERS) -> str:
    """Where somebody moves a class, in words.

    Examples:
        >>> shift_in_words(-0.83, "px", "left", "digit")
        'moves digit 0.8 px left beside the others'
    """
    return f"moves {klass} {abs(amount):.1f} {unit} {way} beside {beside}"


def _areas(
    size: ndarray, beside: str, classes: Sequence[str], annotators: Sequence[str]
) -> list[Row]:
    rows = []
    for r, c in np.ndindex(size.shape[1:]):
        amount, low, high = (float(v) for v in size[:, r, c])
        if c == 0 or not np.isfinite(amount):
            continue
        clear = abs(amount) >= LEAST_AREA and (low > 0 or high < 0)
        way = "larger" if amount > 0 else "smaller"
        ends = (100 * low, 100 * high) if amount > 0 else (-100 * high, -100 * low)
        text = size_in_words(amount, classes[c], beside)
        if amount > NEVER:
            text += f" ({_between(*ends, '%')})"
        kind = "over" if amount > 0 else "under"
        values = (100 * amount, 100 * low, 100 * high, "%", way, clear, text)
        row = (annotators[r], classes[c], kind, beside, *values)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
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
        moved, apart = (
            np.concatenate(parts)
            for parts in zip(*(_moved(t, y, c) for t, y in batches(truth, labels)), strict=True)
        )
        found = {
            OTHERS: sample.interval(beside_others(_means(apart, sample), 1)),
            ESTIMATE: sample.interval(_means(moved, sample)),
        }
        for beside, mean in found.items():  # (3, annotator, axis)
            for r, name in enumerate(annotators):
                if np.isfinite(mean[0, r]).all():
                    said = _shift(mean[:, r], per_px, unit, classes[c], beside)
                    row = (name, classes[c], "shift", beside, *said)
                    rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows


def _moved(
    truth: Int[ndarray, "image *space"], labels: Int[ndarray, "image annotator *space"], klass: int
) -> tuple[Float[ndarray, "image annotator axis"], Float[ndarray, "image annotator other axis"]]:
    """How far each centroid lies from the estimate's and from each other's, where both labelled."""
    seen, drawn = labels >= 0, labels == klass
    moved = _centres(drawn) - _centres((truth == klass)[:, None] & seen)
    together = np.stack([_centres(drawn & seen[:, [s]]) for s in range(labels.shape[1])], 2)
    return moved, together - together.swapaxes(1, 2)


def _means(moved: ndarray, sample: Sample) -> ndarray:
    """Means over the images (image, ...) of each resample that are no NaN: (1 + B, ...)."""
    return sample.ratios(np.nan_to_num(moved), np.isfinite(moved).astype(float))


def main_way(shift: Float[ndarray, " axis"]) -> tuple[int, str]:
    """The axis of the largest part of a shift, and where to along it in a word."""
    axis = int(np.abs(shift).argmax())
    names = WAYS if len(shift) == 2 else (SLICES, *WAYS)
    return axis, names[axis][int(shift[axis] > 0)]


def _shift(
    mean: ndarray, per_px: ndarray | float, unit: str, klass: str, beside: str
) -> tuple[Any, ...]:
    """From (3, axis) in px: amount, low, high, unit, way, clear, text of the main direction."""
    axis, way = main_way(mean[0])
    amount, low, high = ((mean * per_px)[:, axis]).tolist()
    clear = abs(mean[0, axis]) >= LEAST_SHIFT_PX and (low > 0 or high < 0)
    ends = (low, high) if amount > 0 else (-high, -low)
    text = f"{shift_in_words(amount, unit, way, klass, beside)} ({_between(*ends, unit)})"
    return amount, low, high, unit, way, clear, text


def _swaps(
    joint: Joint,
    counts: ndarray,
    sample: Sample,
    classes: Sequence[str],
    annotators: Sequence[str],
) -> list[Row]:
    """Shares of the pixels of class j that are written i, both not background."""
    rows = []
    theirs, estimated = joint.sum(-2), counts.sum(2)
    for i, j in np.ndindex(len(classes), len(classes)):
        if 0 in (i, j) or i == j:
            continue
        apart = beside_others(sample.ratios(joint[..., i, j], theirs[..., j]), 1)
        rows += _swap(sample.interval(apart), OTHERS, classes[i], classes[j], annotators)
        share = sample.ratio(counts[:, :, i, j], estimated[:, :, j])
        rows += _swap(share, ESTIMATE, classes[i], classes[j], annotators)
    return rows


def _swap(
    share: ndarray, beside: str, written: str, klass: str, annotators: Sequence[str]
) -> list[Row]:
    """From shares (3, annotator) of the pixels of `klass` at which `written` was written."""
    rows = []
    says = "the estimate says" if beside == ESTIMATE else "the others write"
    for r, name in enumerate(annotators):
        others = np.delete(share[0], r)
        usual = float(np.nanmean(others)) if np.isfinite(others).any() else 0.0
        amount, low, high = (100 * float(v) for v in share[:, r])
        if not np.isfinite(amount):
            continue
        clear = low >= 100 * LEAST_SWAP and low > 200 * usual
        text = (
            f"writes {written} where {says} {klass} in {amount:.0f} % of the pixels "
            f"({_between(low, high, '%')}; the rest of them {100 * usual:.0f} %)"
        )
        row = (name, klass, "swap", beside, amount, low, high, "%", written, clear, text)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows
