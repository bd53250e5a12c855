"""Metrics: predictions and estimates against the truth and the labels, for reports only.

Dice, IoU, confusion matrices and their RMSE, generalised energy distance, calibration
(paper section 5, arXiv 2007.15963). Tensors in, tensors out, on any device; labels are
class indices and −1 means not labelled. No loss and no gradient.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noisyseg.limits import MOST_FACTOR, at_least_single, check_finite, check_range

MOST_SHARE = 1.01  # of a probability, which rounding in half precision takes above 1


class Metric(NamedTuple):
    """What a metric's number means, and for one of overlap how it is computed.

    `of(prediction, truth, n_classes)` gives a value for each image and class.
    """

    meaning: str
    unit: str
    better: str
    of: Callable[[Tensor, Tensor, int], Tensor] | None = None


def one_hot(classes: Int[Tensor, "*shape"], n_classes: int) -> Bool[Tensor, "*shape class"]:
    """Which class each element is, along a new last axis; −1 is no class."""
    return classes[..., None] == torch.arange(n_classes, device=classes.device)


def entropy(probs: Float[Tensor, "image class *space"]) -> Float[Tensor, "image *space"]:
    """Entropy over the classes as a share of the largest possible: 0 certain, 1 knows nothing."""
    check_finite("probs", probs, -1e-30, MOST_SHARE)
    p = at_least_single(probs)
    p = p.clamp_min(torch.finfo(p.dtype).tiny)
    return -(p * p.log()).sum(1) / math.log(probs.shape[1])


def _overlap(a: Tensor, b: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Intersection and summed sizes by class, (N, class), over all pixels."""
    for labels in (a, b):
        check_range(labels, n_classes)
    x, y = (one_hot(m.flatten(1), n_classes) for m in (a, b))
    return (x & y).sum(1).double(), (x.sum(1) + y.sum(1)).double()


def dice(
    prediction: Int[Tensor, "image *space"], target: Int[Tensor, "image *space"], n_classes: int
) -> Float[Tensor, "image class"]:
    """Dice of every image and class. Empty-mask rule: both empty = 1, one empty = 0."""
    both, sizes = _overlap(prediction, target, n_classes)
    return torch.where(sizes > 0, 2 * both / sizes.clamp_min(1), 1.0)


def dice_of_counts(
    counts: Float[Tensor, "*batch reported true"] | Int[Tensor, "*batch reported true"],
) -> Float[Tensor, "*batch class"]:
    """Dice of every class from a matrix of counts; NaN where neither wrote the class."""
    counts = counts.double()
    both = counts.diagonal(dim1=-2, dim2=-1)
    return 2 * both / (counts.sum(-1) + counts.sum(-2))


def iou(
    prediction: Int[Tensor, "image *space"], target: Int[Tensor, "image *space"], n_classes: int
) -> Float[Tensor, "image class"]:
    """Intersection over union of every image and class; the empty-mask rule of `dice`."""
    both, sizes = _overlap(prediction, target, n_classes)
    return torch.where(sizes > 0, both / (sizes - both).clamp_min(1), 1.0)


def label_counts(
    labels: Int[Tensor, "image annotator *space"],
    truth: Int[Tensor, "image *space"],
    n_classes: int,
) -> Int[Tensor, "image annotator reported true"]:
    """How often each annotator reported i where the truth is j, over labelled pixels."""
    check_range(labels, n_classes)
    check_range(truth, n_classes)
    images, annotators = labels.shape[:2]
    label, true = labels.flatten(2), truth.flatten(1)[:, None]
    cell = torch.where(label >= 0, label * n_classes + true, n_classes**2)  # one spare cell
    counts = torch.zeros(
        images, annotators, n_classes**2 + 1, dtype=torch.int64, device=label.device
    )
    counts.scatter_add_(2, cell, torch.ones_like(cell))
    return counts[..., :-1].unflatten(2, (n_classes, n_classes))


def confusion_sums(
    confusion: Float[Tensor, "image annotator reported true *space"],
    truth: Int[Tensor, "image *space"],
    labels: Int[Tensor, "image annotator *space"] | None = None,
) -> Float[Tensor, "image annotator reported true"]:
    """Column j of the estimate summed over the pixels whose truth is j.

    With `labels` only over the pixels each annotator labelled, so that after
    `normalise_columns` the result stands beside that of `label_counts`.
    """
    check_finite("confusion matrices", confusion, -1e-30, MOST_SHARE)
    n_classes = confusion.shape[3]
    where = one_hot(truth.flatten(1), n_classes).movedim(-1, 1)[:, None].to(confusion.dtype)
    if labels is not None:
        where = where * (labels.flatten(2) >= 0)[:, :, None]
    return torch.einsum(
        "nrijx,nrjx->nrij", confusion.flatten(4), where.expand(-1, confusion.shape[1], -1, -1)
    )


def normalise_columns(
    counts: Float[Tensor, "*batch reported true"] | Int[Tensor, "*batch reported true"],
) -> Float[Tensor, "*batch reported true"]:
    """Conditional matrices p(reported | true); columns never observed become NaN."""
    counts = counts.double()
    return counts / counts.sum(-2, keepdim=True)


def _squared(estimated: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    estimated, true = estimated.double(), true.double()
    for matrix in (estimated, true):  # NaN means that a column was never observed
        check_finite("confusion matrices", matrix[~matrix.isnan()], -MOST_FACTOR, MOST_FACTOR)
    seen = ~(true.isnan() | estimated.isnan())
    return torch.where(seen, (estimated - true) ** 2, 0.0), seen


def cm_rmse(
    estimated: Float[Tensor, "*batch annotator reported true"],
    true: Float[Tensor, "*batch annotator reported true"],
) -> Float[Tensor, "*batch annotator"]:
    """RMSE over the entries of observed columns, for each annotator; NaN if none is observed.

    A column counts where both matrices have it. So a fusion that never chose a class is not
    charged for that column, which flatters fusion of one label an image (blank annotator).
    """
    error, seen = _squared(estimated, true)
    return (error.sum((-2, -1)) / seen.sum((-2, -1))).sqrt()


def cm_rmse_all(
    estimated: Float[Tensor, "*batch annotator reported true"],
    true: Float[Tensor, "*batch annotator reported true"],
) -> Float[Tensor, "*batch"]:
    """RMSE over all observed entries of all annotators (the tables' "CM estimation error")."""
    error, seen = _squared(estimated, true)
    return (error.sum((-3, -2, -1)) / seen.sum((-3, -2, -1))).sqrt()


def _pair_distance(a: Tensor, b: Tensor, n_classes: int) -> Tensor:
    """1 − mean foreground IoU over pixels labelled in both: (N, A, X), (N, B, X) -> (N, A, B)."""
    known = ((a >= 0)[:, :, None] & (b >= 0)[:, None]).float()
    total = torch.zeros((), device=a.device)
    for k in range(1, n_classes):
        x, y = (a == k).float()[:, :, None], (b == k).float()[:, None]
        both = (x * y * known).sum(-1)
        either = ((x + y).clamp_max(1) * known).sum(-1)
        total = total + torch.where(either > 0, both / either.clamp_min(1), 1.0)
    return 1 - total / (n_classes - 1)


def generalised_energy_distance(
    samples: Int[Tensor, "image sample *space"],
    labels: Int[Tensor, "image annotator *space"],
    n_classes: int,
) -> Float[Tensor, " image"]:
    """D² = 2 E d(S, Y) − E d(S, S′) − E d(Y, Y′) with d = 1 − foreground IoU, 0…2.

    Kohl et al. 2018, arXiv 1806.05034 (both masks empty: d = 0). Expectations run over all
    pairs. Annotators without a label are left out; so are unlabelled pixels of a pair.
    An image nobody labelled gives NaN.
    """
    check_range(labels, n_classes)
    check_range(samples, n_classes)
    s, y = samples.flatten(2), labels.flatten(2)
    here = (y >= 0).any(-1).double()  # (image, annotator)
    weight = here / here.sum(1, keepdim=True)
    cross = (_pair_distance(s, y, n_classes).mean(1) * weight).sum(1)
    among = torch.einsum("nab,na,nb->n", _pair_distance(y, y, n_classes).double(), weight, weight)
    return 2 * cross - _pair_distance(s, s, n_classes).mean((1, 2)) - among


def agreement(
    labels: Int[Tensor, "image annotator *space"],
) -> Float[Tensor, " image"]:
    """Share of the pixels that anyone marked (a class above 0) on which all wrote the same.

    For two classes the intersection over union of all masks: the LIDC "consensus", whose
    formula the paper leaves open. Annotators without a label are left out; 1 where nobody
    marked anything, NaN for an image nobody labelled.
    """
    y = labels.flatten(2)
    here = (y >= 0).any(-1)  # (image, annotator)
    low = torch.where(here[..., None], y, torch.iinfo(y.dtype).max).amin(1)
    high = torch.where(here[..., None], y, -1).amax(1)
    marked = high > 0
    same = (marked & (low == high)).sum(1).double() / marked.sum(1).clamp_min(1)
    return torch.where(marked.any(1), same, 1.0).masked_fill(~here.any(1), torch.nan)


def calibration_bins(
    probs: Float[Tensor, "image class *space"],
    labels: Int[Tensor, "image *space"],
    n_bins: int = 15,
) -> Float[Tensor, "3 bins"]:
    """Count, summed confidence and summed accuracy by bin of the top label's confidence.

    Bins of several batches add up; `ece_from_bins` turns the sum into the error.
    """
    check_finite("probs", probs, -1e-30, MOST_SHARE)
    confidence, top = probs.double().max(1)
    keep = labels >= 0
    confidence, hit = confidence[keep], (top == labels)[keep].double()
    index = (confidence * n_bins).ceil().long().clamp(1, n_bins) - 1  # bins are (low, high]
    sums = (torch.ones_like(hit), confidence, hit)
    return torch.stack([torch.bincount(index, weights, minlength=n_bins) for weights in sums])


def ece_from_bins(bins: Float[Tensor, "3 bins"]) -> Float[Tensor, ""]:
    """Top-label error in 0…1: Σ over bins of share · |accuracy − confidence| (arXiv 1706.04599).

    NaN where nothing is labelled.
    """
    return (bins[2] - bins[1]).abs().sum() / bins[0].sum()


METRICS: dict[str, Metric] = {
    "dice": Metric("2|A∩B| / (|A|+|B|), mean over images", "0…1", "higher", dice),
    "dice_present": Metric("Dice, mean over the images that hold the class", "0…1", "higher"),
    "iou": Metric("|A∩B| / |A∪B|, mean over images", "0…1", "higher", iou),
    "cm_rmse": Metric("RMSE of conditional confusion matrices pooled over images", "0…1", "lower"),
    "cm_rmse_image": Metric("the same matrix error image by image, then the mean", "0…1", "lower"),
    "ged": Metric("generalised energy distance with d = 1 − IoU, mean over images", "0…2", "lower"),
    "ece": Metric("expected calibration error of the predicted annotators", "0…1", "lower"),
    "trace": Metric("trace of the pooled estimated matrix: L faithful, 1 ignorant", "0…L", "—"),
}
