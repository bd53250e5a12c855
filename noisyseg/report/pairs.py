"""Annotators beside each other, pair by pair, at the pixels that both labelled.

Dice, area ratios and what a whole group says of one of its members. No estimate of the truth
plays a part, so nothing here can be wrong with it. Knows labels and counts of pixels only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from noisyseg import metrics
from noisyseg.report.bootstrap import Sample

Joint = Int[ndarray, "image annotator other written theirs"]
COLUMNS = ["annotator", "other", "class", "dice", "dice_low", "dice_high", "area_ratio", "images"]


def joint_counts(labels: Any, n_classes: int) -> Joint:
    """Pixels by what two annotators wrote there; `labels` (image, annotator, *space), −1 = not.

    Pixels that one of the two did not label count nowhere.
    """
    bins, annotators = n_classes + 1, labels.shape[1]
    joint = np.zeros((len(labels), annotators, annotators, bins, bins), np.int32)
    for counts, image in zip(joint, labels, strict=True):
        flat = np.asarray(image, np.int64).reshape(annotators, -1) + 1
        for r in range(annotators):
            for s in range(r, annotators):
                cells = np.bincount(flat[r] * bins + flat[s], minlength=bins * bins)
                counts[r, s] = cells.reshape(bins, bins)
                counts[s, r] = counts[r, s].T
    return joint[..., 1:, 1:]


def image_dice(joint: Joint) -> Float[ndarray, "image annotator other"]:
    """Dice of each pair on each image: the mean over foreground classes that either has.

    1 where neither has any; NaN where the two have no labelled pixel in common, and of an
    annotator with oneself.
    """
    by_class = metrics.dice_of_counts(torch.from_numpy(joint))[..., 1:]
    dice: ndarray = by_class.nanmean(-1).nan_to_num(1.0).numpy()
    dice[joint.sum((-2, -1)) == 0] = np.nan
    own = np.arange(joint.shape[1])
    dice[:, own, own] = np.nan
    return dice


def agreement_with_others(joint: Joint) -> Float[ndarray, "image annotator"]:
    """Mean Dice of each label with those of the others on its image; NaN where there is none."""
    dice = image_dice(joint)
    known = np.isfinite(dice)
    return np.where(
        known.any(-1), np.where(known, dice, 0).sum(-1) / np.maximum(known.sum(-1), 1), np.nan
    )


def table(
    joint: Joint, sample: Sample, classes: Sequence[str], annotators: Sequence[str]
) -> pd.DataFrame:
    """One row an ordered pair and foreground class, see COLUMNS.

    Dice is pooled over all images that both labelled, with its 95 % interval; `area_ratio` is
    the annotator's area over the other's, on the same pixels; `images` that both labelled.
    """
    hits = np.diagonal(joint, axis1=-2, axis2=-1)
    own, theirs = joint.sum(-1), joint.sum(-2)
    dice = sample.ratio(2 * hits, own + theirs)
    ratio = sample.ratio(own, theirs)[0]
    both = (joint.sum((-2, -1)) > 0).sum(0)
    rows = []
    for r, s in np.ndindex(both.shape):
        if r == s:
            continue
        for c, klass in enumerate(classes[1:], start=1):
            who = annotators[r], annotators[s], klass
            scores = *dice[:, r, s, c].tolist(), float(ratio[r, s, c])
            rows.append((*who, *scores, int(both[r, s])))
    return pd.DataFrame(rows, columns=COLUMNS)


def cautious_median(values: ndarray, axis: int) -> ndarray:
    """The middle of the finite values along `axis`; of two middle ones the one nearer to 0.

    Two middle values of different sign give 0, no value gives NaN. So "larger than the others"
    means larger than at least half of them, by at least this much.
    """
    ordered = np.sort(np.moveaxis(values, axis, -1), -1)  # NaN comes last
    count = (~np.isnan(ordered)).sum(-1)[..., None]
    low, high = (
        np.take_along_axis(ordered, np.maximum(middle, 0), -1)[..., 0]
        for middle in ((count - 1) // 2, count // 2)
    )
    nearer = np.where(np.abs(low) <= np.abs(high), low, high)
    return np.where(np.sign(low) * np.sign(high) < 0, 0.0, nearer)


def beside_others(values: ndarray, axis: int) -> ndarray:
    """`cautious_median` over the others: `values` has annotators at `axis`, the others after it.

    What stands for an annotator beside oneself plays no part.
    """
    apart = np.array(values, np.float64)
    own = np.arange(apart.shape[axis])
    np.moveaxis(apart, (axis, axis + 1), (0, 1))[own, own] = np.nan
    return cautious_median(apart, axis + 1)
