"""STAPLE (Warfield et al. 2004) and Spatial STAPLE (Asman & Landman 2012): labels in, truth out.

EM over the truth and one matrix per annotator, for any number of classes and annotators, with
missing labels (−1), vectorised over images.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from noisyseg.limits import check_range
from noisyseg.metrics import one_hot

START_DIAGONAL = 0.99999  # as ITK's STAPLE: everyone is trusted at the start


TINY = 1e-300
IMAGES_AT_ONCE = 64  # bounds the memory of Spatial STAPLE


class Fused(NamedTuple):
    """`posterior` p(truth = j | labels) of every pixel and, from EM, every annotator's matrix."""

    posterior: Float[Tensor, "image true *space"]
    confusion: Float[Tensor, "image annotator reported true"] | None = None


class _Patterns(NamedTuple):
    """Pixels grouped by what the annotators wrote there: EM needs only these counts."""

    one_hot: Tensor  # (1 or N, pattern, annotator·class)
    weight: Tensor  # (N, pattern) pixels
    of_pixel: Tensor  # (N, pixel) index of the pattern


def _patterns(flat: Tensor, n_classes: int) -> _Patterns:
    images, annotators, pixels = flat.shape
    power = (n_classes + 1) ** torch.arange(annotators, device=flat.device)
    if (n_classes + 1) ** annotators < 2**62:
        code = ((flat + 1) * power[:, None]).sum(1)
        seen, of_pixel = code.unique(return_inverse=True)
        if len(seen) <= pixels:
            digits = seen[:, None] // power % (n_classes + 1) - 1  # (pattern, annotator)
            weight = torch.zeros(images, len(seen), dtype=torch.double, device=flat.device)
            weight.scatter_add_(1, of_pixel, torch.ones_like(of_pixel, dtype=torch.double))
            return _Patterns(_flat_one_hot(digits[None], n_classes), weight, of_pixel)
    each = torch.arange(pixels, device=flat.device).expand(images, -1)
    weight = torch.ones(images, pixels, dtype=torch.double, device=flat.device)
    return _Patterns(_flat_one_hot(flat.movedim(1, 2), n_classes), weight, each)


def _flat_one_hot(labels: Tensor, n_classes: int) -> Tensor:
    return one_hot(labels, n_classes).flatten(-2).double()


def staple(
    labels: Int[Tensor, "image annotator *space"],
    n_classes: int,
    iterations: int = 200,
    tolerance: float = 1e-8,
) -> Fused:
    """STAPLE of every image by itself: EM over the truth and one matrix per annotator.

    The prior is the share of each class among all labels of the image, as in ITK. Missing
    labels carry no information; a pixel nobody labelled keeps the prior, and a single
    annotator is believed. A class with no support in an image keeps its starting column.
    """
    check_range(labels, n_classes)
    flat = labels.flatten(2)
    images, annotators = flat.shape[:2]
    one_hot, weight, of_pixel = _patterns(flat, n_classes)
    prior = (weight[:, :, None] * one_hot).sum(1).unflatten(1, (annotators, n_classes)).sum(1)
    prior = prior / prior.sum(1, keepdim=True).clamp_min(1)
    eye = torch.eye(n_classes, dtype=torch.double, device=flat.device)
    off = (1 - START_DIAGONAL) / (n_classes - 1)
    start = (off + (START_DIAGONAL - off) * eye).expand(images, annotators, -1, -1)
    confusion = start
    for _ in range(iterations):
        posterior = _expect(one_hot, confusion, prior)
        counts = one_hot.mT @ (weight[:, :, None] * posterior)
        updated = _normalised(counts.unflatten(1, (annotators, n_classes)), start)
        change, confusion = (updated - confusion).abs().max(), updated
        if change < tolerance:
            break
    posterior = _expect(one_hot, confusion, prior)
    index = of_pixel[:, :, None].expand(-1, -1, n_classes)
    pixels = posterior.gather(1, index).mT.unflatten(2, labels.shape[2:])
    return Fused(pixels.float(), confusion.float())


def _expect(one_hot: Tensor, confusion: Tensor, prior: Tensor) -> Tensor:
    """p(truth | pattern): (N, pattern, true)."""
    table = confusion.clamp_min(TINY).log().flatten(1, 2)  # (N, annotator·reported, true)
    return (one_hot @ table + prior.clamp_min(TINY).log()[:, None]).softmax(2)


def _normalised(counts: Tensor, otherwise: Tensor) -> Tensor:
    total = counts.sum(2, keepdim=True)
    return torch.where(total > 0, counts / total.clamp_min(TINY), otherwise)


def spatial_staple(
    labels: Int[Tensor, "image annotator *space"],
    n_classes: int,
    window_px: int = 11,
    global_px: float = 12.0,
    iterations: int = 25,
    tolerance: float = 1e-4,
) -> Fused:
    """STAPLE with a matrix for every pixel, estimated in a window around it.

    After Asman & Landman 2012 (IEEE TMI 31:1326): the window is `window_px` wide and the
    image's own STAPLE estimate counts as much as `global_px` pixels of each class, so that
    a class that is rare in a window keeps a sensible matrix. `confusion` is the mean over
    pixels, weighted by the posterior. ValueError for an even window.
    """
    if window_px % 2 == 0:
        raise ValueError(f"window_px is {window_px}: an odd number has a middle pixel")
    parts = [
        _spatial_staple(part, n_classes, window_px, global_px, iterations, tolerance)
        for part in labels.split(IMAGES_AT_ONCE)
    ]
    posterior, confusion = zip(*parts, strict=True)
    return Fused(torch.cat(posterior), torch.cat(confusion))


def _spatial_staple(
    labels: Tensor,
    n_classes: int,
    window_px: int,
    global_px: float,
    iterations: int,
    tolerance: float,
) -> Fused:
    whole = staple(labels, n_classes)
    assert whole.confusion is not None  # EM gives one
    space = [1] * (labels.dim() - 2)
    anchor = whole.confusion.view(*whole.confusion.shape, *space)
    reported = torch.stack([labels == k for k in range(n_classes)], 2).float()
    prior = _local_prior(reported, window_px, global_px)
    posterior = whole.posterior
    for _ in range(iterations):
        joint = _window_sums(reported[:, :, :, None] * posterior[:, None, None], window_px)
        total = joint.sum(2, keepdim=True)
        local = (joint + global_px * anchor) / (total + global_px)
        evidence = (reported[:, :, :, None] * local.clamp_min(1e-30).log()).sum((1, 2))
        updated = (evidence + prior).softmax(1)
        change, posterior = (updated - posterior).abs().max(), updated
        if change < tolerance:
            break
    joint = (reported[:, :, :, None] * posterior[:, None, None]).flatten(4).sum(4)
    return Fused(posterior, _normalised(joint, whole.confusion))


def _local_prior(reported: Tensor, window_px: int, global_px: float) -> Tensor:
    """log of each class's share of the labels in the window, (N, true, *space).

    It must be as local as the matrices: with the image's share, EM talks a single
    annotator out of what lies in windows where their class is common.
    """
    votes = reported.sum(1)
    everywhere = votes.flatten(2).mean(2).view(*votes.shape[:2], *[1] * (votes.dim() - 2))
    near = _window_sums(votes[:, :, None, None], window_px)[:, :, 0, 0] + global_px * everywhere
    return (near / near.sum(1, keepdim=True).clamp_min(1e-30)).clamp_min(1e-30).log()


def _window_sums(values: Tensor, window_px: int) -> Tensor:
    """Sums over a cube of `window_px` around each pixel, by one axis after the other."""
    space = values.shape[4:]
    x = values.flatten(0, 3)
    for axis in range(1, len(space) + 1):
        lines = x.movedim(axis, -1)
        shape = lines.shape
        sums = F.avg_pool1d(lines.reshape(-1, 1, shape[-1]), window_px, 1, window_px // 2)
        x = (sums * window_px).view(shape).movedim(-1, axis)
    return x.unflatten(0, values.shape[:4])
