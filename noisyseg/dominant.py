"""`dominant_loss`: our way to hold the assumption of Theorem 1 (arXiv 2007.15963).

The truth is among the classes that enough annotators write, and image edges and votes choose
among those; the annotators' matrices only explain the labels. Why no rule that sees labels
alone can do it, and how this one was chosen, is told in notebooks 02 and 30.
"""

from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noisyseg.confusion import Confusion, as_confusion, at_least_single
from noisyseg.losses import annotator_nll, check_labels, label_mean, log_probabilities

# An annotator whose informedness reaches this has a whole vote: the aim is to leave out who
# writes the same whatever the others write, not to weigh skill (a lone careful annotator
# agrees least with a careless majority).
INFORMED = 0.1


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
    vote_weight: float = 0.05,
    from_logits: bool | None = None,
) -> Float[Tensor, ""]:
    """Ours: annotators explain the labels, and the truth is where votes and image agree.

    The labels determine A·p and nothing else, so each term here settles one thing alone:
    the likelihood (Eq. 3) fits A to the labels given p; `support_penalty` keeps p to the
    classes that enough annotators report, which no swap does; where several classes have
    support `edge_penalty` chooses, and `label_penalty` where the image shows nothing; the
    trace (Eq. 4) lowers the columns of classes without support as far as p rules them out,
    because the labels leave those free. Neither likelihood nor trace moves p, so no trace
    weight can swap the classes. (Matrices that are the same at every pixel cannot explain
    labels by themselves: there the likelihood does move p.) Shapes as in
    `disentangling_loss`; `image` holds the pixels the labels belong to. Raises ValueError
    when shapes or labels do not fit.
    """
    matrix = as_confusion(confusion)
    check_labels(labels, probs_or_logits)
    log_probs = log_probabilities(probs_or_logits, from_logits)
    given = log_probs.detach()
    loss = annotator_nll(given if matrix.by_pixel else log_probs, matrix, labels)
    kept = supported(informed_vote(matrix.apply(given.exp()).detach()), dominance_support)
    # What annotators did write counts beside what they are expected to write: at first the
    # matrices know no rare class, and support by them alone would never let one in.
    kept = kept | (written_share(labels, log_probs.shape[1]) >= dominance_support)
    if trace_weight:
        free = ((1 - given.exp()) * ~kept)[:, None] * matrix.diagonal()
        loss = loss + trace_weight * label_mean(free.sum(2), labels)
    loss = loss + dominance_weight * support_penalty(log_probs, kept)
    if vote_weight:
        loss = loss + vote_weight * label_penalty(log_probs, labels)
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


def written_share(
    labels: Int[Tensor, "batch annotator *space"], classes: int
) -> Float[Tensor, "batch true *space"]:
    """Share of the annotators who wrote each class, of those who labelled the pixel."""
    counts = torch.stack([(labels == c).sum(1) for c in range(classes)], 1)
    return counts / counts.sum(1, keepdim=True).clamp_min(1)


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


def label_penalty(
    log_probs: Float[Tensor, "batch true *space"], labels: Int[Tensor, "batch annotator *space"]
) -> Float[Tensor, ""]:
    """−log p[ỹ] as if every annotator wrote the truth, averaged by `label_mean`."""
    return label_mean(-log_probs.gather(1, labels.clamp_min(0)), labels)


def edge_penalty(
    probs: Float[Tensor, "batch true *space"], image: Float[Tensor, "batch channel *space"]
) -> Float[Tensor, ""]:
    """Price of a boundary where the image has no edge: E[classes differ] · exp(−β·contrast).

    Over all direct and diagonal neighbours, divided by their distance, mean over pixels;
    β = 1 / (2 · mean squared contrast) as in GrabCut (Rother et al. 2004, section 2), so
    the unit of the image does not matter.
    """
    image = at_least_single(image)
    pairs: list[tuple[tuple[int, ...], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]] = []
    for step in product((0, 1, -1), repeat=image.dim() - 2):
        if step > tuple(-s for s in step):  # each pair of neighbours once
            pairs.append((step, _neighbours(image, step), _neighbours(probs, step)))
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
