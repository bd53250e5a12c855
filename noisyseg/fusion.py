"""Label fusion: several labels of an image in, one soft target out.

Votes of those who labelled a pixel, here; STAPLE and Spatial STAPLE, in `staple`. Any number of
classes and annotators, with missing labels (−1). Fusion is not segmentation: nothing here has
seen a picture.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noisyseg.limits import check_range
from noisyseg.staple import Fused as Fused
from noisyseg.staple import spatial_staple as spatial_staple
from noisyseg.staple import staple as staple


def vote_counts(
    labels: Int[Tensor, "image annotator *space"],
    n_classes: int,
    weight: Float[Tensor, " annotator"] | None = None,
) -> Float[Tensor, "image true *space"]:
    """How many annotators wrote each class; with `weight` the sum of their weights."""
    check_range(labels, n_classes)
    if weight is None:
        return torch.stack([(labels == k).sum(1) for k in range(n_classes)], 1).double()
    say = weight.view(1, -1, *[1] * (labels.dim() - 2)).double()
    return torch.stack([((labels == k) * say).sum(1) for k in range(n_classes)], 1)


def vote_shares(
    labels: Int[Tensor, "image annotator *space"], n_classes: int
) -> Float[Tensor, "image true *space"]:
    """Share of the annotators who wrote each class, among those who labelled the pixel.

    0 for every class where nobody labelled.
    """
    counts = vote_counts(labels, n_classes)
    return counts / counts.sum(1, keepdim=True).clamp_min(1)


def mean_labels(labels: Int[Tensor, "image annotator *space"], n_classes: int) -> Fused:
    """Share of the votes of those who labelled the pixel; uniform where nobody did."""
    shares = vote_shares(labels, n_classes)
    return Fused(torch.where(shares.sum(1, keepdim=True) > 0, shares, 1 / n_classes).float())


def majority_vote(labels: Int[Tensor, "image annotator *space"], n_classes: int) -> Fused:
    """The class most annotators wrote. A tie splits the pixel equally between its winners
    (argmax then takes the lowest class); uniform where nobody labelled.
    """
    votes = vote_counts(labels, n_classes)
    winners = (votes == votes.amax(1, keepdim=True)).float()
    return Fused(winners / winners.sum(1, keepdim=True))


FUSIONS: dict[str, Callable[[Tensor, int], Fused]] = {
    "mean": mean_labels,
    "majority": majority_vote,
    "staple": staple,
    "spatial_staple": spatial_staple,
}
