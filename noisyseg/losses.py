"""Losses: what annotators wrote against what the two coupled networks say.

Eq. 3 and 4 of arXiv 2007.15963 in log space with missing labels, the loss as the authors
released it, and a hinge on the mean matrix that holds the assumption of Theorem 1. Our own
method takes the same losses to calibrated labels (`calibrated`). Compares with labels only; no
loss here knows the truth or an optimiser.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from noisyseg.confusion import Confusion, GlobalConfusion, as_confusion
from noisyseg.likelihood import TableConfusion, labelled_only
from noisyseg.limits import at_least_single, check_finite, check_log_probs, check_range

SIMPLEX_TOLERANCE = 1e-4


def log_probabilities(
    probs_or_logits: Float[Tensor, "batch true *space"], from_logits: bool | None = None
) -> Float[Tensor, "batch true *space"]:
    """log p of either probabilities or logits, of shape (batch, true, *space).

    With `from_logits=None` the input counts as probabilities when every pixel is
    non-negative and sums to 1; say which it is to save that look.
    """
    x = at_least_single(probs_or_logits)
    check_finite("probs_or_logits", x)
    if from_logits is None:
        off = (x.sum(1) - 1).abs().amax()
        from_logits = bool((x.amin() < 0) | (off > SIMPLEX_TOLERANCE))
    if from_logits:
        return F.log_softmax(x, dim=1)
    return x.clamp_min(torch.finfo(x.dtype).tiny).log()


def label_mean(
    values: Float[Tensor, "batch annotator *space"],
    labels: Int[Tensor, "batch annotator *space"],
    weight: Float[Tensor, "*some annotator"] | None = None,
) -> Float[Tensor, ""]:
    """(1/M) Σ_n Σ_{r∈S(n)} mean over the labelled pixels of `values`.

    M counts the (image, annotator) pairs with at least one labelled pixel, so a missing
    label drops everything of its annotator. Without any label the result is 0. With `weight`
    each annotator's labels count that much, and M is the sum of their weights.
    """
    labelled = labels >= 0
    pixels = labelled.flatten(2).sum(-1)
    sums = torch.where(labelled, values, 0.0).flatten(2).sum(-1)
    means = sums / pixels.clamp_min(1)
    if weight is not None:
        # A batch of which nobody with a say labelled anything has no loss.
        return (weight * means).sum() / (weight * (pixels > 0)).sum().clamp_min(1e-6)
    return means.sum() / (pixels > 0).sum().clamp_min(1)


def annotator_nll(
    log_probs: Float[Tensor, "batch true *space"],
    confusion: Confusion,
    labels: Int[Tensor, "batch annotator *space"],
    weight: Float[Tensor, "*some annotator"] | None = None,
) -> Float[Tensor, ""]:
    """Eq. 3: −log Σ_j A⁽ʳ⁾[ỹ, j] p[j], averaged by `label_mean`."""
    check_log_probs(log_probs)
    confusion, labels, weight = labelled_only(confusion, labels, weight)
    return label_mean(-confusion.log_likelihood(log_probs, labels), labels, weight)


def fixed_matrices(
    diagonal: float, labels: Int[Tensor, "batch annotator *space"], classes: int
) -> GlobalConfusion:
    """The same matrix for every annotator and pixel, with `diagonal` on its diagonal."""
    other = max((1 - diagonal) / (classes - 1), torch.finfo(torch.float32).tiny)
    table = torch.full((classes, classes), other, device=labels.device)
    table.fill_diagonal_(max(diagonal, torch.finfo(torch.float32).tiny))
    log_table = table.log().expand(labels.shape[1], -1, -1)
    return TableConfusion(log_table, labels.shape[0], tuple(labels.shape[2:]))


def fixed_phase_loss(
    log_probs: Float[Tensor, "batch true *space"],
    confusion: Confusion,
    labels: Int[Tensor, "batch annotator *space"],
    diagonal: float = 0.95,
    weight: Float[Tensor, " annotator"] | None = None,
) -> Float[Tensor, ""]:
    """The first phase of the paper's method: near-identity matrices that do not move yet.

    The truth is learned by Eq. 3 through `fixed_matrices`, while the annotators' own matrices
    are only pulled towards the same diagonal: a hinge below the trace of `diagonal` · L and
    nothing above, so that they do not saturate before they are released.
    """
    classes = log_probs.shape[1]
    confusion, labels, weight = labelled_only(confusion, labels, weight)
    fixed = fixed_matrices(diagonal, labels, classes)
    short = F.relu(diagonal * classes - confusion.trace(labels))
    return annotator_nll(log_probs, fixed, labels, weight) + label_mean(short, labels)


def trace_penalty(
    confusion: Confusion,
    labels: Int[Tensor, "batch annotator *space"],
    weight: Float[Tensor, "*some annotator"] | None = None,
) -> Float[Tensor, ""]:
    """The second term of Eq. 4 without its weight: tr A⁽ʳ⁾, averaged by `label_mean`."""
    confusion, labels, weight = labelled_only(confusion, labels, weight)
    return label_mean(confusion.trace(labels), labels, weight)


def dominance_penalty(
    confusion: Confusion,
    probs: Float[Tensor, "batch true *space"],
    level: str = "pixel",
    margin: float = 0.1,
    weight: Float[Tensor, " annotator"] | None = None,
) -> Float[Tensor, ""]:
    """Hinge on the mean confusion matrix Ā over annotators: a true class must win its column.

    mean over j of max(0, margin + max_{i≠j} Ā[i, j] − Ā[j, j]).
    `level="pixel"`: Ā at each pixel, hinge averaged over pixels (Theorem 1 assumes a
    dominant mean matrix at the pixel). `level="class"`: Ā[i, j] = Σ p[j] A[i, j] / Σ p[j]
    over all pixels of the batch (the population-level assumption of arXiv 1902.03680).
    With `weight` the mean over annotators is a weighted one.
    """
    mean = confusion.mean_dense(weight)  # (batch, reported, true, *space)
    if level == "class":
        weight = probs[:, None]
        over = (0, *range(3, mean.dim()))
        mean = (mean * weight).sum(over) / weight.sum(over).clamp_min(1e-6)
        mean = mean[None]
    elif level != "pixel":
        raise ValueError(f"unknown dominance level {level!r}; allowed: pixel, class")
    own = mean.diagonal(dim1=1, dim2=2).movedim(-1, 1)  # (batch, true, *space)
    classes = mean.shape[1]
    eye = torch.eye(classes, dtype=torch.bool, device=mean.device)
    eye = eye.view(1, classes, classes, *[1] * (mean.dim() - 3))
    rival = mean.masked_fill(eye, -torch.inf).amax(1)
    return F.relu(margin + rival - own).mean()


def disentangling_loss(
    probs_or_logits: Float[Tensor, "batch true *space"],
    confusion: Confusion | Float[Tensor, "batch annotator reported true *space"],
    labels: Int[Tensor, "..."],
    *,
    trace_weight: float = 0.0,
    dominance_weight: float = 0.0,
    dominance_level: str = "pixel",
    dominance_margin: float = 0.1,
    annotator_weight: Float[Tensor, " annotator"] | None = None,
    from_logits: bool | None = None,
) -> Float[Tensor, ""]:
    """Eq. 4 of arXiv 2007.15963 up to the constant 1/M, plus the dominance penalty.

    Args:
        probs_or_logits: p(truth) or its logits; `from_logits` says which (None: look).
        confusion: a confusion object of `models`, or dense matrices (batch, annotator, reported,
            true, *space) whose columns (over reported) sum to 1.
        labels: class indices (batch, annotator, *space), −1 = not labelled.
        trace_weight: λ of Eq. 4.
        dominance_weight, dominance_level, dominance_margin: see `dominance_penalty`.
        annotator_weight: how much each annotator counts, in all terms; equal by default.

    Raises ValueError when shapes or labels do not fit.

    Examples:
        >>> probs = torch.tensor([[[[0.9]], [[0.1]]]])  # one pixel: p(background), p(object)
        >>> exact = torch.eye(2).view(1, 1, 2, 2, 1, 1)  # one annotator, who makes no mistake
        >>> loss = disentangling_loss(probs, exact, torch.tensor([[[[0]]]]), trace_weight=0.1)
        >>> round(float(loss), 3)  # -log 0.9, and 0.1 times a trace of 2
        0.305
    """
    matrix = as_confusion(confusion)
    check_labels(labels, probs_or_logits)
    log_probs = log_probabilities(probs_or_logits, from_logits)
    some, written, weight = labelled_only(matrix, labels, annotator_weight)
    loss = annotator_nll(log_probs, some, written, weight)
    if trace_weight:
        loss = loss + trace_weight * trace_penalty(some, written, weight)
    if dominance_weight:
        hinge = dominance_penalty(
            matrix, log_probs.exp(), dominance_level, dominance_margin, annotator_weight
        )
        loss = loss + dominance_weight * hinge
    return loss


def soft_cross_entropy(
    log_probs: Float[Tensor, "batch true *space"], target: Float[Tensor, "batch true *space"]
) -> Float[Tensor, ""]:
    """−Σ_j target[j] log p[j], mean over images and pixels; for one fused or true target."""
    check_log_probs(log_probs)
    check_finite("target", target)
    return -(target * at_least_single(log_probs)).sum(1).mean()


def check_labels(labels: Tensor, probs: Tensor) -> None:
    """ValueError unless `labels` (batch, annotator, *space) fit `probs` (batch, true, *space)."""
    if labels.shape[0] != probs.shape[0] or labels.shape[2:] != probs.shape[2:]:
        raise ValueError(
            f"labels {tuple(labels.shape)} do not fit predictions {tuple(probs.shape)}: expected "
            "(batch, annotator, *space) and (batch, true, *space) with equal batch and space"
        )
    check_range(labels, probs.shape[1])
