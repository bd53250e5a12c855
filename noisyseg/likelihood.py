"""Confusion objects whose likelihoods are short: what `confusion` defines, at less cost.

A head's last layer, the matrices and the likelihood of the labels become one step (`fused`), and
annotators who labelled nothing are left out of it. `confusion` stays the definition: it is used
wherever the short way does not apply (evaluation, half precision, accelerators, likelihoods too
small for ordinary numbers), and the tests hold values and gradients of the two together.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from noisyseg import fused
from noisyseg.confusion import Confusion, GlobalConfusion, LowRankConfusion, PixelConfusion
from noisyseg.fused import FACTOR_FLOOR
from noisyseg.limits import at_least_single

LEAST = -60.0  # log likelihoods below it are left to logarithms: products would be 0 before long


class Layer(NamedTuple):
    """A 1×1 layer that has not been applied yet, and what its numbers are.

    `weight` and `bias` have one set for the batch, or one for each image where only some
    annotators were picked.
    """

    features: Float[Tensor, "batch width *space"]
    weight: Float[Tensor, "sets annotator entry width"]
    bias: Float[Tensor, "sets annotator entry"]

    def only(self, who: Int[Tensor, "batch some"]) -> "Layer":
        """The same layer for some annotators of each image."""
        images = torch.arange(len(who), device=who.device)[:, None]
        if len(self.weight) > 1:
            return Layer(self.features, self.weight[images, who], self.bias[images, who])
        weight, bias = (F.embedding(who, x[0].flatten(1)) for x in (self.weight, self.bias))
        weight = weight.unflatten(2, tuple(self.weight.shape[2:]))
        return Layer(self.features, weight, bias)

    def applied(self) -> Float[Tensor, "batch annotator entry *space"]:
        """The layer's numbers, all written out."""
        x, shape = self.features, self.weight.shape[1:3]
        weight, bias = self.weight.flatten(1, 2).to(x.dtype), self.bias.flatten(1).to(x.dtype)
        if len(weight) > 1:
            flat = torch.baddbmm(bias[:, :, None], weight, x.flatten(2))
            return flat.unflatten(2, tuple(x.shape[2:])).unflatten(1, shape)
        convolve = F.conv2d if x.dim() == 4 else F.conv3d
        kernel = weight[0].view(*weight.shape[1:], *[1] * (x.dim() - 2))
        return convolve(x, kernel, bias[0]).unflatten(1, shape)


class LayerConfusion(Confusion):
    """Matrices of a head whose last layer is applied only where, and as far as, it is needed.

    `define` makes the readable confusion object of the layer's numbers (batch, annotator, entry,
    *space); `step` takes (features, weight, bias, log_probs, labels), all flat in space, and
    returns log likelihood and trace (batch, annotator, pixel) in the short way.
    """

    def __init__(
        self,
        layer: Layer,
        classes: int,
        define: Callable[[Tensor], Confusion],
        step: Callable[..., Any],
    ) -> None:
        self.layer, self.classes, self.define, self.step = layer, classes, define, step
        self._plain: Confusion | None = None
        self._trace: Tensor | None = None

    @property
    def plain(self) -> Confusion:
        """The readable object, made on first use."""
        if self._plain is None:
            self._plain = self.define(self.layer.applied())
        return self._plain

    @property
    def _short(self) -> bool:
        x = self.layer.features
        whole = x.is_cpu and x.dtype in (torch.float32, torch.float64)
        return whole and torch.is_grad_enabled() and not torch.compiler.is_compiling()

    def log_likelihood(self, log_probs: Tensor, labels: Tensor) -> Tensor:
        """As in `Confusion`; the short way where it holds."""
        if self._short:
            x, weight, bias = self.layer
            with torch.autocast(x.device.type, enabled=False):
                found, trace = self.step(
                    x.flatten(2), weight, bias, log_probs.to(x.dtype).flatten(2), labels.flatten(2)
                )
            if float(found.detach().amin()) > LEAST:  # not where it is NaN
                self._trace = trace.view(labels.shape)
                return found.view(labels.shape)
        return self.plain.log_likelihood(log_probs, labels)

    def trace(self, labels: Tensor | None = None) -> Tensor:
        """As in `Confusion`; the short way where `labels` come with it."""
        if self._trace is None and self._short and labels is not None:
            x = self.layer.features
            even = x.new_zeros(len(x), 1, *x.shape[2:]).expand(-1, self.classes, *x.shape[2:])
            self.log_likelihood(even, labels)
        return self.plain.trace() if self._trace is None else self._trace

    def only(self, who: Int[Tensor, "batch some"]) -> "LayerConfusion":
        """The matrices of some annotators of each image."""
        return LayerConfusion(self.layer.only(who), self.classes, self.define, self.step)

    def dense(self) -> Tensor:
        """Every matrix at every pixel."""
        return self.plain.dense()

    def apply(self, probs: Tensor) -> Tensor:
        """A·p, what each annotator is expected to write."""
        return self.plain.apply(probs)

    def diagonal(self) -> Tensor:
        """A[j, j] at each pixel."""
        return self.plain.diagonal()

    def mean_dense(self, weight: Tensor | None = None) -> Tensor:
        """Mean matrix over annotators at each pixel."""
        return self.plain.mean_dense(weight)


def pixel_confusion(layer: Layer, classes: int) -> Confusion:
    """Full matrices: the layer's numbers are logits, (reported, true) flattened."""

    def define(numbers: Tensor) -> Confusion:
        return PixelConfusion(numbers.unflatten(2, (classes, classes)))

    return _late(layer, classes, define, fused.two_classes if classes == 2 else fused.pixel)


def low_rank_confusion(layer: Layer, classes: int, rank: int) -> Confusion:
    """Factors: rank × reported, rank × true and one scale, before softplus makes them positive."""
    half = rank * classes

    def define(numbers: Tensor) -> Confusion:
        values = F.softplus(numbers.float()) + FACTOR_FLOOR
        left = values[:, :, :half].unflatten(2, (rank, classes))
        right = values[:, :, half:-1].unflatten(2, (rank, classes))
        return LowRankConfusion(left, right, values[:, :, -1])

    return _late(layer, classes, define, partial(fused.low_rank, rank))


def _late(
    layer: Layer,
    classes: int,
    define: Callable[[Tensor], Confusion],
    step: Callable[..., Any],
) -> Confusion:
    """The layer applied late while something is learned; at once where no gradient is wanted.

    What is predicted inside `torch.no_grad()` may be used outside it, after the weights changed.
    """
    if torch.is_grad_enabled():
        return LayerConfusion(layer, classes, define, step)
    return define(layer.applied())


class TableConfusion(GlobalConfusion):
    """One learned matrix an annotator, whose likelihood and gradient are products.

    The definition's gradient is a scatter into as few places as there are entries, where the
    threads of an accelerator wait for each other (2.5 to 8 times the cost of full matrices).
    `who` picks annotators of each image (batch, some); None for all.
    """

    def __init__(
        self,
        log_table: Float[Tensor, "annotator reported true"],
        batch: int,
        space: tuple[int, ...],
        who: Int[Tensor, "batch some"] | None = None,
    ) -> None:
        super().__init__(log_table, batch, space)
        self.who = who

    def only(self, who: Int[Tensor, "batch some"]) -> "TableConfusion":
        """The matrices of some annotators of each image."""
        picked = who if self.who is None else self.who.gather(1, who)
        return TableConfusion(self.log_table, self.batch, self.space, picked)

    def _tables(self) -> Float[Tensor, "sets annotator reported true"]:
        return self.log_table[None] if self.who is None else self.log_table[self.who]

    def log_likelihood(self, log_probs: Tensor, labels: Tensor) -> Tensor:
        """As in `Confusion`; the short way where it holds."""
        flat, tables = labels.flatten(2), self._tables()
        log_probs = at_least_single(log_probs).flatten(2)
        if log_probs.is_cpu and not torch.compiler.is_compiling():
            found = fused.Table.apply(tables.to(log_probs.dtype), log_probs, flat)
            if float(found.detach().amin()) > LEAST:  # not where it is NaN
                return found.view(labels.shape)
        classes = torch.arange(tables.shape[2], device=labels.device)
        said = (flat.clamp_min(0)[:, :, None] == classes[:, None]).to(tables.dtype)
        row = tables.mT @ said
        return (row + log_probs[:, None]).logsumexp(2).view(labels.shape)

    def dense(self) -> Tensor:
        """Every matrix at every pixel."""
        dense = self._tables().exp()
        dense = dense.view(*dense.shape, *[1] * len(self.space))
        return dense.expand(self.batch, *dense.shape[1:4], *self.space)

    def diagonal(self) -> Tensor:
        """A[j, j] at each pixel."""
        return self.dense().diagonal(dim1=2, dim2=3).movedim(-1, 2)

    def trace(self, labels: Tensor | None = None) -> Tensor:
        """As in `Confusion`; the short way where `labels` come with it."""
        trace = self._tables().exp().diagonal(dim1=2, dim2=3).sum(2)  # before it is spread
        trace = trace.view(*trace.shape, *[1] * len(self.space))
        return trace.expand(self.batch, *trace.shape[1:2], *self.space)

    def apply(self, probs: Tensor) -> Tensor:
        """A·p, what each annotator is expected to write."""
        return super().apply(probs) if self.who is None else Confusion.apply(self, probs)

    def mean_dense(self, weight: Tensor | None = None) -> Tensor:
        """Mean matrix over annotators at each pixel."""
        whole = self.who is None
        return super().mean_dense(weight) if whole else Confusion.mean_dense(self, weight)


def labelled_only(
    confusion: Confusion,
    labels: Int[Tensor, "batch annotator *space"],
    weight: Float[Tensor, "*some annotator"] | None = None,
) -> tuple[Confusion, Tensor, Tensor | None]:
    """Matrices, labels and weights (then by image) of those who labelled, where that saves half.

    As many annotators of each image as the most labelled image has; where an image has fewer,
    others fill up, whose labels are all −1. The same three things where few are left out.

    Examples:
        >>> labels = torch.tensor([[[-1], [1], [-1], [-1]], [[-1], [-1], [0], [-1]]])
        >>> matrices = TableConfusion(torch.eye(2).repeat(4, 1, 1), 2, (1,))
        >>> labelled_only(matrices, labels)[1].tolist()
        [[[1]], [[0]]]
    """
    annotators = labels.shape[1]
    capturing = labels.is_cuda and torch.cuda.is_current_stream_capturing()
    if annotators < 3 or capturing or torch.compiler.is_compiling():
        return confusion, labels, weight
    written = labels.flatten(2).amax(-1) >= 0
    most = max(1, int(written.sum(1).amax()))
    if 2 * most > annotators:
        return confusion, labels, weight
    who = written.to(torch.uint8).topk(most, 1).indices
    picked = confusion.only(who)
    if picked is None:
        return confusion, labels, weight
    images = torch.arange(len(who), device=who.device)[:, None]
    return picked, labels[images, who], None if weight is None else weight[who]
