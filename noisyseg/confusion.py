"""Confusion objects: what a head says about the annotators, behind one interface.

A⁽ʳ⁾[i, j] = p(annotator r reports i | truth j): columns sum to 1 (paper 1.1, Eq. 2 of arXiv
2007.15963). Losses use `log_likelihood`, `apply`, `trace` and `mean_dense`; `dense` is for
evaluation and pictures. Everything is computed from logarithms or factors, and a label's
likelihood gathers the row that was reported instead of multiplying matrices at each pixel.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noisyseg.limits import MOST_FACTOR, at_least_single, check_finite

Space = tuple[int, ...]


class Confusion(ABC):
    """Confusion matrices of a batch: (batch, annotator, reported, true, *space).

    `by_pixel`: whether the matrices differ from pixel to pixel, so that they could explain
    every label without the truth.
    """

    by_pixel = True

    @abstractmethod
    def log_likelihood(
        self,
        log_probs: Float[Tensor, "batch true *space"],
        labels: Int[Tensor, "batch annotator *space"],
    ) -> Float[Tensor, "batch annotator *space"]:
        """log Σ_j A⁽ʳ⁾[ỹ, j] p[j] of every label; arbitrary where the label is −1."""

    @abstractmethod
    def dense(self) -> Float[Tensor, "batch annotator reported true *space"]:
        """Every matrix at every pixel."""

    def apply(
        self, probs: Float[Tensor, "batch true *space"]
    ) -> Float[Tensor, "batch annotator reported *space"]:
        """A·p, what each annotator is expected to write (`noisy_probs`)."""
        return (self.dense() * probs[:, None, None]).sum(3)

    def diagonal(self) -> Float[Tensor, "batch annotator true *space"]:
        """A[j, j] at each pixel: how often an annotator reports j where it is true."""
        return self.dense().diagonal(dim1=2, dim2=3).movedim(-1, 2)

    def trace(self, labels: Tensor | None = None) -> Float[Tensor, "batch annotator *space"]:
        """tr A at each pixel; 1 where a matrix ignores the truth, L where it copies it.

        `labels`, where a loss has them, may save time (`likelihood`) and change no value.
        """
        return self.diagonal().sum(2)

    def only(self, who: Int[Tensor, "batch some"]) -> "Confusion | None":
        """The matrices of some annotators of each image; None where picking saves nothing."""
        return None

    def mean_dense(
        self, weight: Float[Tensor, " annotator"] | None = None
    ) -> Float[Tensor, "batch reported true *space"]:
        """Mean matrix over annotators at each pixel, weighted where `weight` is given."""
        if weight is None:
            return self.dense().mean(1)
        dense = self.dense()
        return torch.einsum("r,brij...->bij...", shares(weight).to(dtype=dense.dtype), dense)


class PixelConfusion(Confusion):
    """A matrix for every pixel, from logits (batch, annotator, reported, true, *space)."""

    def __init__(self, logits: Float[Tensor, "batch annotator reported true *space"]) -> None:
        self.logits = at_least_single(logits)
        check_finite("logits of confusion matrices", self.logits)

    @cached_property
    def log_dense(self) -> Float[Tensor, "batch annotator reported true *space"]:
        """log A, computed once."""
        return self.logits.log_softmax(2)

    def log_likelihood(self, log_probs: Tensor, labels: Tensor) -> Tensor:
        shape = (*labels.shape[:2], 1, log_probs.shape[1], *labels.shape[2:])
        reported = labels.clamp_min(0)[:, :, None, None].expand(shape)
        row = self.log_dense.gather(2, reported).squeeze(2)  # (batch, annotator, true, *space)
        return (row + log_probs[:, None]).logsumexp(2)

    def dense(self) -> Tensor:
        return self.log_dense.exp()

    def diagonal(self) -> Tensor:
        return self.log_dense.diagonal(dim1=2, dim2=3).exp().movedim(-1, 2)


class DenseConfusion(PixelConfusion):
    """Matrices given as they are; columns must sum to 1 (ValueError otherwise)."""

    def __init__(self, matrices: Float[Tensor, "batch annotator reported true *space"]) -> None:
        off = (matrices.sum(2) - 1).abs().max().item()
        if not off < 1e-3 or matrices.min() < 0:
            raise ValueError(
                f"a confusion matrix has a column that sums to 1 ± {off:.3g} or a negative entry: "
                "axis 2 is the reported class, and each column over it must be a distribution"
            )
        self.matrices = at_least_single(matrices)

    @cached_property
    def log_dense(self) -> Tensor:
        """log A; an entry of 0 becomes the smallest positive number."""
        return self.matrices.clamp_min(torch.finfo(self.matrices.dtype).tiny).log()


class GlobalConfusion(Confusion):
    """One matrix per annotator for all pixels, from log A (annotator, reported, true)."""

    by_pixel = False

    def __init__(
        self, log_table: Float[Tensor, "annotator reported true"], batch: int, space: Space
    ) -> None:
        self.log_table, self.batch, self.space = at_least_single(log_table), batch, space
        check_finite("logarithms of confusion matrices", self.log_table)

    def _spread(self, values: Tensor) -> Tensor:
        values = values.reshape(1, *values.shape, *[1] * len(self.space))
        return values.expand(self.batch, *values.shape[1 : -len(self.space)], *self.space)

    def log_likelihood(self, log_probs: Tensor, labels: Tensor) -> Tensor:
        annotator = torch.arange(labels.shape[1], device=labels.device)
        annotator = annotator.view(1, -1, *[1] * len(self.space))
        row = self.log_table[annotator, labels.clamp_min(0)].movedim(-1, 2)
        return (row + log_probs[:, None]).logsumexp(2)

    def dense(self) -> Tensor:
        return self._spread(self.log_table.exp())

    def apply(self, probs: Tensor) -> Tensor:
        # In the finer of the two precisions: half-precision features meet a single table here.
        kind = torch.promote_types(self.log_table.dtype, probs.dtype)
        return torch.einsum("rij,bj...->bri...", self.log_table.exp().to(kind), probs.to(kind))

    def diagonal(self) -> Tensor:
        return self._spread(self.log_table.diagonal(dim1=1, dim2=2).exp())

    def mean_dense(self, weight: Tensor | None = None) -> Tensor:
        equal = self.log_table.new_ones(len(self.log_table))
        share = shares(equal if weight is None else weight).to(dtype=equal.dtype)
        return self._spread(torch.einsum("r,rij->ij", share, self.log_table.exp()))


class LowRankConfusion(Confusion):
    """A = columns of (B₁ B₂ᵀ + s·I) divided by their sums, never formed for the loss.

    B₁ is (batch, annotator, rank, reported, *space), B₂ (batch, annotator, rank, true,
    *space), s (batch, annotator, *space), all positive. Without s·I a rank-one matrix
    would have equal columns and ignore the truth (paper 1.6); the released code has s too.
    For two classes and rank 1 the trace cannot fall below 1, so it cannot swap outright.
    """

    def __init__(
        self,
        left: Float[Tensor, "batch annotator rank reported *space"],
        right: Float[Tensor, "batch annotator rank true *space"],
        scale: Float[Tensor, "batch annotator *space"],
    ) -> None:
        left, right, scale = (at_least_single(x) for x in (left, right, scale))
        for x in (left, right, scale):
            check_finite("factors of confusion matrices", x, 0.0, MOST_FACTOR)
        total = (left.sum(3, keepdim=True) * right).sum(2) + scale[:, :, None]
        self.left, self.right = left, right / total[:, :, None]  # columns are normalised here
        self.scale = scale[:, :, None] / total  # (batch, annotator, true, *space)

    def log_likelihood(self, log_probs: Tensor, labels: Tensor) -> Tensor:
        reported = labels.clamp_min(0)
        shape = (*labels.shape[:2], self.left.shape[2], 1, *labels.shape[2:])
        row = self.left.gather(3, reported[:, :, None, None].expand(shape)).squeeze(3)
        seen = (self.right.log() + log_probs[:, None, None]).logsumexp(3)
        own = (self.scale.log() + log_probs[:, None]).gather(2, reported[:, :, None]).squeeze(2)
        return torch.logaddexp((row.log() + seen).logsumexp(2), own)

    def apply(self, probs: Tensor) -> Tensor:
        seen = (self.right * probs[:, None, None]).sum(3, keepdim=True)
        return (self.left * seen).sum(2) + self.scale * probs[:, None]

    def diagonal(self) -> Tensor:
        return (self.left * self.right).sum(2) + self.scale

    def dense(self) -> Tensor:
        outer = torch.einsum("brki...,brkj...->brij...", self.left, self.right)
        return outer + torch.diag_embed(self.scale.movedim(2, -1)).movedim((-2, -1), (2, 3))


def shares(weight: Float[Tensor, " annotator"]) -> Float[Tensor, " annotator"]:
    """Weights as shares of their sum; all 0 where nobody has a say. ValueError below 0."""
    check_finite("weights of annotators", weight, -1e-30)
    return weight / weight.sum().clamp_min(1e-6)


def as_confusion(confusion: "Confusion | Tensor") -> Confusion:
    """`confusion` itself, or dense matrices (batch, annotator, reported, true, *space) wrapped."""
    return confusion if isinstance(confusion, Confusion) else DenseConfusion(confusion)
