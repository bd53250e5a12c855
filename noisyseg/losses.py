"""Losses: what annotators wrote against what the two coupled networks say.

Eq. 3 and 4 of arXiv 2007.15963 in log space with missing labels, the loss as the authors
released it, and two ways to hold the assumption of Theorem 1: a hinge on the mean matrix,
and `dominant_loss`, ours. Compares with labels and images only; no loss here knows the
truth or an optimiser.
"""

from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noisyseg.confusion import Confusion, as_confusion, at_least_single

SIMPLEX_TOLERANCE = 1e-4
# An annotator whose informedness reaches this has a whole vote: the aim is to leave out who
# writes the same whatever the others write, not to weigh skill (a lone careful annotator
# agrees least with a careless majority).
INFORMED = 0.1


def log_probabilities(
    probs_or_logits: Float[Tensor, "batch true *space"], from_logits: bool | None = None
) -> Float[Tensor, "batch true *space"]:
    """log p of either probabilities or logits, of shape (batch, true, *space).

    With `from_logits=None` the input counts as probabilities when every pixel is
    non-negative and sums to 1; say which it is to save that look.
    """
    x = at_least_single(probs_or_logits)
    if from_logits is None:
        off = (x.sum(1) - 1).abs().amax()
        from_logits = bool((x.amin() < 0) | (off > SIMPLEX_TOLERANCE))
    if from_logits:
        return F.log_softmax(x, dim=1)
    return x.clamp_min(torch.finfo(x.dtype).tiny).log()


def label_mean(
    values: Float[Tensor, "batch annotator *space"], labels: Int[Tensor, "batch annotator *space"]
) -> Float[Tensor, ""]:
    """(1/M) Σ_n Σ_{r∈S(n)} mean over the labelled pixels of `values`.

    M counts the (image, annotator) pairs with at least one labelled pixel, so a missing
    label drops everything of its annotator. Without any label the result is 0.
    """
    labelled = labels >= 0
    pixels = labelled.flatten(2).sum(-1)
    sums = torch.where(labelled, values, 0.0).flatten(2).sum(-1)
    pairs = (pixels > 0).sum().clamp_min(1)
    return (sums / pixels.clamp_min(1)).sum() / pairs


def annotator_nll(
    log_probs: Float[Tensor, "batch true *space"],
    confusion: Confusion,
    labels: Int[Tensor, "batch annotator *space"],
) -> Float[Tensor, ""]:
    """Eq. 3: −log Σ_j A⁽ʳ⁾[ỹ, j] p[j], averaged by `label_mean`."""
    return label_mean(-confusion.log_likelihood(log_probs, labels), labels)


def trace_penalty(
    confusion: Confusion, labels: Int[Tensor, "batch annotator *space"]
) -> Float[Tensor, ""]:
    """The second term of Eq. 4 without its weight: tr A⁽ʳ⁾, averaged by `label_mean`."""
    return label_mean(confusion.trace(), labels)


def dominance_penalty(
    confusion: Confusion,
    probs: Float[Tensor, "batch true *space"],
    level: str = "pixel",
    margin: float = 0.1,
) -> Float[Tensor, ""]:
    """Hinge on the mean confusion matrix Ā over annotators: a true class must win its column.

    mean over j of max(0, margin + max_{i≠j} Ā[i, j] − Ā[j, j]).
    `level="pixel"`: Ā at each pixel, hinge averaged over pixels (Theorem 1 assumes a
    dominant mean matrix at the pixel). `level="class"`: Ā[i, j] = Σ p[j] A[i, j] / Σ p[j]
    over all pixels of the batch (the population-level assumption of arXiv 1902.03680).
    """
    mean = confusion.mean_dense()  # (batch, reported, true, *space)
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
    from_logits: bool | None = None,
) -> Float[Tensor, ""]:
    """Eq. 4 of arXiv 2007.15963 up to the constant 1/M, plus the dominance penalty.

    `confusion`: a confusion object of `models` or a dense tensor (batch, annotator,
    reported, true, *space) whose columns (over reported) sum to 1. `labels`: class
    indices (batch, annotator, *space), −1 = not labelled. Raises ValueError when shapes or
    labels do not fit.
    """
    matrix = as_confusion(confusion)
    check_labels(labels, probs_or_logits)
    log_probs = log_probabilities(probs_or_logits, from_logits)
    loss = annotator_nll(log_probs, matrix, labels)
    if trace_weight:
        loss = loss + trace_weight * trace_penalty(matrix, labels)
    if dominance_weight:
        hinge = dominance_penalty(matrix, log_probs.exp(), dominance_level, dominance_margin)
        loss = loss + dominance_weight * hinge
    return loss


def dominant_loss(
    probs_or_logits: Float[Tensor, "batch true *space"],
    confusion: Confusion | Float[Tensor, "batch annotator reported true *space"],
    labels: Int[Tensor, "batch annotator *space"],
    image: Float[Tensor, "batch channel *space"],
    *,
    trace_weight: float = 0.0,
    dominance_weight: float = 1.0,
    dominance_support: float = 0.3,
    edge_weight: float = 0.1,
    from_logits: bool | None = None,
) -> Float[Tensor, ""]:
    """Ours: annotators explain the labels, and the truth is where votes and image agree.

    The labels determine A·p and nothing else, so each term here settles one thing alone:
    the likelihood (Eq. 3) fits A to the labels given p; `support_penalty` keeps p to the
    classes that enough annotators report, which no swap does; `edge_penalty` chooses where
    several classes have support; the trace (Eq. 4) lowers the columns of classes without
    support as far as p rules them out, because the labels leave those free. Neither
    likelihood nor trace moves p, so no trace weight can swap the classes. (Matrices that are
    the same at every pixel cannot explain labels by themselves: there the likelihood does
    move p.) Shapes as in `disentangling_loss`; `image` holds the
    pixels the labels belong to. Raises ValueError when shapes or labels do not fit.
    """
    matrix = as_confusion(confusion)
    check_labels(labels, probs_or_logits)
    log_probs = log_probabilities(probs_or_logits, from_logits)
    given = log_probs.detach()
    loss = annotator_nll(given if matrix.by_pixel else log_probs, matrix, labels)
    kept = supported(informed_vote(matrix.apply(given.exp()).detach()), dominance_support)
    if trace_weight:
        free = ((1 - given.exp()) * ~kept)[:, None] * matrix.diagonal()
        loss = loss + trace_weight * label_mean(free.sum(2), labels)
    loss = loss + dominance_weight * support_penalty(log_probs, kept)
    if edge_weight:
        loss = loss + edge_weight * edge_penalty(log_probs.exp(), image)
    return loss


def informed_vote(
    reported: Float[Tensor, "batch annotator reported *space"],
) -> Float[Tensor, "batch reported *space"]:
    """Share of the annotators expected to write each class; the uninformed have no vote.

    An annotator's informedness is (tr C − 1) / (L − 1), with C[i, j] how often they write
    i where the annotators on average write j (Youden's J for two classes): 0 for who
    writes one class everywhere, whatever the others say. `INFORMED` and more is one vote.
    """
    mean, classes = reported.mean(1), reported.shape[2]
    together = torch.einsum("bric,bjc->rij", reported.flatten(3), mean.flatten(2))
    total = mean.transpose(0, 1).flatten(1).sum(1).clamp_min(1e-6)
    trace = (together / total).diagonal(dim1=1, dim2=2).sum(1)
    informed = (trace - 1) / (classes - 1)
    votes = (informed / INFORMED).clamp(1e-6, 1)  # where nobody is informed all vote alike
    return torch.einsum("r,bri...->bi...", votes / votes.sum(), reported)


def supported(
    vote: Float[Tensor, "batch true *space"], support: float
) -> Bool[Tensor, "batch true *space"]:
    """Where a class has support: its `vote` reaches the share `support`, or is the largest.

    A share of 1/2 asks for Theorem 1's dominance in the column of the true class, with two
    classes the majority; less lets the truth be what only a minority wrote.
    """
    return vote >= vote.amax(1, keepdim=True).clamp_max(support)


def support_penalty(
    log_probs: Float[Tensor, "batch true *space"], kept: Bool[Tensor, "batch true *space"]
) -> Float[Tensor, ""]:
    """−log of the probability that p gives to the classes in `kept`, mean over pixels."""
    return -torch.where(kept, log_probs, -torch.inf).logsumexp(1).mean()


def edge_penalty(
    probs: Float[Tensor, "batch true *space"], image: Float[Tensor, "batch channel *space"]
) -> Float[Tensor, ""]:
    """Price of a boundary where the image has no edge: E[classes differ] · exp(−β·contrast).

    Over all direct and diagonal neighbours, divided by their distance, mean over pixels;
    β = 1 / (2 · mean squared contrast) as in GrabCut (Rother et al. 2004, section 2), so
    the unit of the image does not matter.
    """
    image, pairs = at_least_single(image), []
    for step in product((0, 1, -1), repeat=image.dim() - 2):
        if step > tuple(-s for s in step):  # each pair of neighbours once
            pairs.append((step, *(_neighbours(x, step) for x in (image, probs))))
    contrasts = [(a - b).square().sum(1) for _, (a, b), _ in pairs]
    scale = 2 * torch.cat([c.flatten() for c in contrasts]).mean()
    total = probs.new_zeros(())
    for (step, _, (p, q)), contrast in zip(pairs, contrasts, strict=True):
        differ = 1 - (p * q).sum(1)
        near = torch.exp(-contrast / scale.clamp_min(1e-12)) / sum(s * s for s in step) ** 0.5
        total = total + (near * differ).mean()
    return total


def _neighbours(x: Tensor, step: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """`x` and `x` moved by `step` (one of −1, 0, 1 an axis), cut to where both exist."""
    a = b = x
    for axis, move in enumerate(step, start=2):
        length = x.shape[axis] - abs(move)
        a, b = a.narrow(axis, max(0, -move), length), b.narrow(axis, max(0, move), length)
    return a, b


def released_loss(
    log_probs: Float[Tensor, "batch true *space"],
    confusion: Confusion,
    labels: Int[Tensor, "batch annotator *space"],
    trace_weight: float,
) -> Float[Tensor, ""]:
    """The loss of the authors' public code: cross-entropy of A·p *as if it were logits*.

    So a second softmax is taken of probabilities and a perfect fit still costs
    log(1 + (L−1)/e) an annotator. Means over batch and pixels, summed over annotators;
    labels that are missing, which that code cannot handle, are left out of the means.
    """
    noisy = confusion.apply(log_probs.exp())
    trace = confusion.trace()
    total = log_probs.new_zeros(())
    for r in range(labels.shape[1]):
        labelled = labels[:, r] >= 0
        count = labelled.sum().clamp_min(1)
        cost = F.cross_entropy(noisy[:, r], labels[:, r], ignore_index=-1, reduction="sum")
        total = (
            total + (cost + trace_weight * torch.where(labelled, trace[:, r], 0.0).sum()) / count
        )
    return total


def soft_cross_entropy(
    log_probs: Float[Tensor, "batch true *space"], target: Float[Tensor, "batch true *space"]
) -> Float[Tensor, ""]:
    """−Σ_j target[j] log p[j], mean over images and pixels; for one fused or true target."""
    return -(target * log_probs).sum(1).mean()


def check_labels(labels: Tensor, probs: Tensor) -> None:
    """ValueError unless `labels` (batch, annotator, *space) fit `probs` (batch, true, *space)."""
    if labels.shape[0] != probs.shape[0] or labels.shape[2:] != probs.shape[2:]:
        raise ValueError(
            f"labels {tuple(labels.shape)} do not fit predictions {tuple(probs.shape)}: expected "
            "(batch, annotator, *space) and (batch, true, *space) with equal batch and space"
        )
    low, high = (int(v) for v in torch.aminmax(labels))
    if low < -1 or high >= probs.shape[1]:
        raise ValueError(
            f"labels range from {low} to {high}, but there are {probs.shape[1]} classes: use "
            f"0 … {probs.shape[1] - 1}, and -1 for not labelled"
        )
