"""Likelihood and trace with backward passes of their own, in blocks that fit a processor's cache.

Each step takes the features before a head's last layer, so that neither logits nor their
gradients are ever written out; what it keeps for the backward pass stands in its docstring.
Tensors are flat in space. Probabilities, not logarithms: `likelihood` looks for underflow and
then leaves the batch to `confusion`. Knows no model, no loss and no confusion object.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 2**18  # entries of a block: 1 MiB in single precision, about a core's second cache
FACTOR_FLOOR = 1e-6  # keeps the factors' logarithms finite where softplus underflows
Block = tuple[slice, slice]
Both = tuple[Tensor, Tensor]

# --- blocks -----------------------------------------------------------------------------------


def _blocks(batch: int, pixels: int, entries: int) -> Iterator[Block]:
    """Images and pixels of each block, with `entries` numbers a pixel."""
    images = max(1, BLOCK // (entries * pixels))
    width = pixels if entries * pixels <= BLOCK else max(1, BLOCK // entries)
    for first in range(0, batch, images):
        for left in range(0, pixels, width):
            yield slice(first, first + images), slice(left, left + width)


def _with_bias(weight: Tensor, bias: Tensor) -> Float[Tensor, "sets entries one_more"]:
    """Weights for features that have a 1 at their end."""
    return torch.cat((weight, bias[..., None]), 3).flatten(1, 2)


def _with_one(features: Tensor) -> Float[Tensor, "batch one_more pixel"]:
    return torch.cat((features, features.new_ones(len(features), 1, features.shape[2])), 1)


class _Products:
    """Products of a layer's weights with blocks of its features, and their gradients."""

    def __init__(self, features: Tensor, weight: Tensor, gradients: bool = False) -> None:
        self.ones, self.weight = _with_one(features), weight
        if gradients:
            self.of_features = torch.empty_like(features)
            self.of_weight = torch.zeros_like(weight.mT)

    def _sets(self, images: slice, count: int) -> Tensor:
        return self.weight[images] if len(self.weight) > 1 else self.weight.expand(count, -1, -1)

    def numbers(self, block: Block) -> Float[Tensor, "image entries pixel"]:
        """The layer's numbers in one block."""
        images, pixels = block
        x = self.ones[images, :, pixels]
        return torch.bmm(self._sets(images, len(x)), x)

    def add(self, block: Block, change: Float[Tensor, "image entries pixel"]) -> None:
        """Take the gradient of one block's numbers into account."""
        images, pixels = block
        sets = self._sets(images, len(change))[:, :, :-1]
        self.of_features[images, :, pixels] = torch.bmm(sets.mT, change)
        outer = torch.bmm(self.ones[images, :, pixels], change.mT)
        if len(self.weight) > 1:
            self.of_weight[images] += outer
        else:
            self.of_weight += outer.sum(0, keepdim=True)


def _zero_if_none(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


# --- full matrices ----------------------------------------------------------------------------


def pixel(x: Tensor, weight: Tensor, bias: Tensor, log_probs: Tensor, labels: Tensor) -> Both:
    """log Σ_j A[y, j] p[j] and tr A (batch, annotator, pixel) of matrices with any classes.

    `x` (batch, width, pixel), `weight` (sets, annotator, entry, width), `bias` (sets, annotator,
    entry), `log_probs` (batch, true, pixel), `labels` (batch, annotator, pixel).
    """
    return _Pixel.apply(x, _with_bias(weight, bias), log_probs, labels)


class _Pixel(torch.autograd.Function):
    """log Σ_j A[y, j] p[j] and tr A. Keeps A, and of each pixel the row A[y, :]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, log_probs: Tensor, labels: Tensor) -> Any:
        batch, annotators, pixels = labels.shape
        classes, probs = log_probs.shape[1], log_probs.exp()
        layer, kept = _Products(x, weight), []
        likely, trace = (probs.new_empty(labels.shape) for _ in range(2))
        for block in _blocks(batch, pixels, weight.shape[1]):
            images, there = block
            shape = annotators, classes, classes
            matrix = layer.numbers(block).unflatten(1, shape).softmax(2)
            where = _rows(labels[images, :, there], classes)
            row = matrix.gather(2, where).squeeze(2)
            likely[images, :, there] = (row * probs[images, None, :, there]).sum(2)
            trace[images, :, there] = matrix.diagonal(dim1=2, dim2=3).sum(-1)
            kept += [matrix, row]
        ctx.save_for_backward(x, weight, probs, labels, likely, *kept)
        ctx.set_materialize_grads(False)
        return likely.log(), trace

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_log: Tensor | None, of_trace: Tensor | None) -> Any:
        x, weight, probs, labels, likely, *kept = ctx.saved_tensors
        batch, _, pixels = labels.shape
        share, of_probs = _zero_if_none(of_log, likely) / likely, torch.empty_like(probs)
        layer = _Products(x, weight, gradients=True)
        blocks = _blocks(batch, pixels, weight.shape[1])
        for block, matrix, row in zip(blocks, kept[::2], kept[1::2], strict=True):
            images, there = block
            own = share[images, :, None, there] * row * probs[images, None, :, there]
            of_probs[images, :, there] = own.sum(1)
            change, agreed = own, None
            if of_trace is not None:
                diagonal = matrix.diagonal(dim1=2, dim2=3).movedim(-1, 2)
                agreed = of_trace[images, :, None, there] * diagonal
                change = own + agreed
            raw = matrix * change.neg()[:, :, None]
            raw.scatter_add_(2, _rows(labels[images, :, there], row.shape[2]), own[:, :, None])
            if agreed is not None:
                raw.diagonal(dim1=2, dim2=3).add_(agreed.movedim(2, -1))
            layer.add(block, raw.flatten(1, 3))
        return layer.of_features, layer.of_weight.mT, of_probs, None


def _rows(labels: Tensor, classes: int) -> Int[Tensor, "image annotator 1 true pixel"]:
    """Where the reported class lies on the axis of reported classes."""
    return labels.clamp_min(0)[:, :, None, None].expand(-1, -1, 1, classes, -1)


def two_classes(x: Tensor, weight: Tensor, bias: Tensor, log_probs: Tensor, labels: Tensor) -> Both:
    """`pixel` for two classes: of two logits only the difference counts, half of the layer."""
    weight, bias = weight.unflatten(2, (2, 2)), bias.unflatten(2, (2, 2))
    both = weight[:, :, 0] - weight[:, :, 1], bias[:, :, 0] - bias[:, :, 1]
    return _TwoClasses.apply(x, _with_bias(*both), log_probs, labels)


class _TwoClasses(torch.autograd.Function):
    """The same for two classes, from d = logit of reporting 0 less that of reporting 1.

    A[y, j] = σ(±d[j]), + where y is 0. Keeps A[y, :], half a number an entry.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, log_probs: Tensor, labels: Tensor) -> Any:
        batch, annotators, pixels = labels.shape
        probs, kept = log_probs.exp(), []
        layer = _Products(x, weight)
        likely, trace = (probs.new_empty(labels.shape) for _ in range(2))
        for block in _blocks(batch, pixels, weight.shape[1]):
            images, there = block
            sign = _signs(labels[images, :, there], probs)
            row = layer.numbers(block).unflatten(1, (annotators, 2))
            row = row.mul_(sign[:, :, None]).sigmoid_()
            given = probs[images, None, :, there]
            seen = row[:, :, 0] * given[:, :, 0]
            likely[images, :, there] = seen.addcmul_(row[:, :, 1], given[:, :, 1])
            trace[images, :, there] = (row[:, :, 0] - row[:, :, 1]).mul_(sign).add_(1)
            kept.append(row)
        ctx.save_for_backward(x, weight, probs, labels, likely, *kept)
        ctx.set_materialize_grads(False)
        return likely.log(), trace

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_log: Tensor | None, of_trace: Tensor | None) -> Any:
        x, weight, probs, labels, likely, *kept = ctx.saved_tensors
        batch, _, pixels = labels.shape
        share, of_probs = _zero_if_none(of_log, likely) / likely, torch.empty_like(probs)
        layer = _Products(x, weight, gradients=True)
        blocks = _blocks(batch, pixels, weight.shape[1])
        for block, row in zip(blocks, kept, strict=True):
            images, there = block
            own, given = share[images, :, there], probs[images, :, there]
            of_probs[images, :, there] = (own[:, :, None] * row).sum(1).mul_(given)
            signed = own * _signs(labels[images, :, there], probs)
            raw = signed[:, :, None] * given[:, None]
            if of_trace is not None:
                raw[:, :, 0] += of_trace[images, :, there]
                raw[:, :, 1] -= of_trace[images, :, there]
            raw.mul_(torch.addcmul(row, row, row, value=-1))  # σ' = σ (1 − σ)
            layer.add(block, raw.flatten(1, 2))
        return layer.of_features, layer.of_weight.mT, of_probs, None


def _signs(labels: Tensor, like: Tensor) -> Tensor:
    """1 where 0 was reported, −1 where 1 was; 1 where nothing was."""
    return 1 - 2 * labels.clamp_min(0).to(like.dtype)


# --- factors ----------------------------------------------------------------------------------


def low_rank(
    rank: int, x: Tensor, weight: Tensor, bias: Tensor, log_probs: Tensor, labels: Tensor
) -> Both:
    """`pixel` for the factors of `confusion.LowRankConfusion` before softplus."""
    return _LowRank.apply(x, _with_bias(weight, bias), log_probs, labels, rank)


class _LowRank(torch.autograd.Function):
    """The same for columns of B₁ B₂ᵀ + s·I divided by their sums.

    Keeps e to the power of the layer's numbers, from which softplus and its slope follow.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, log_probs: Tensor, labels: Tensor, rank: int
    ) -> Any:
        batch, annotators, pixels = labels.shape
        probs, kept = log_probs.exp(), []
        layer = _Products(x, weight)
        likely, trace = (probs.new_empty(labels.shape) for _ in range(2))
        for block in _blocks(batch, pixels, weight.shape[1]):
            images, there = block
            powers = layer.numbers(block).unflatten(1, (annotators, -1)).exp_()
            part = _Parts(powers, rank, labels[images, :, there], probs[images, :, there])
            likely[images, :, there] = part.likely()
            trace[images, :, there] = (part.agreed() / part.total).sum(2)
            kept.append(powers)
        ctx.save_for_backward(x, weight, probs, labels, likely, *kept)
        ctx.set_materialize_grads(False)
        ctx.rank = rank
        return likely.log(), trace

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_log: Tensor | None, of_trace: Tensor | None) -> Any:
        x, weight, probs, labels, likely, *kept = ctx.saved_tensors
        batch, _, pixels = labels.shape
        share, of_probs = _zero_if_none(of_log, likely) / likely, torch.empty_like(probs)
        layer = _Products(x, weight, gradients=True)
        blocks = _blocks(batch, pixels, weight.shape[1])
        for block, powers in zip(blocks, kept, strict=True):
            images, there = block
            part = _Parts(powers, ctx.rank, labels[images, :, there], probs[images, :, there])
            said = None if of_trace is None else of_trace[images, :, None, there]
            change, own = part.gradients(share[images, :, None, there], said)
            of_probs[images, :, there] = own.sum(1)
            change.mul_(powers / (powers + 1))  # the slope of softplus
            layer.add(block, change.flatten(1, 2))
        return layer.of_features, layer.of_weight.mT, of_probs, None, None


def _positive(powers: Tensor) -> Tensor:
    """log(1 + e) and the floor, for powers e of e.

    log(1 + e) is log(u) · e / (u − 1) with u = 1 + e as rounded, right to the last digit; torch
    computes log1p one number at a time, at twenty times the cost. Infinite e gives no number.
    """
    least = torch.finfo(powers.dtype).eps / 2  # what is lost beside 1; there log(1 + e) is e
    one = powers + 1
    seen = (one - 1).clamp_min_(least)
    ratio = one.log_().mul_(powers).div_(seen)
    return torch.maximum(ratio, powers.clamp_max(least)).add_(FACTOR_FLOOR)


def _ranks(product: Tensor) -> Tensor:
    """The sum over ranks; of one rank there is nothing to copy."""
    return product[:, :, 0] if product.shape[2] == 1 else product.sum(2)


class _Parts:
    """What likelihood and trace of factored matrices are made of, for one block."""

    def __init__(self, powers: Tensor, rank: int, labels: Tensor, probs: Tensor) -> None:
        values, classes = _positive(powers), probs.shape[1]
        half = rank * classes
        self.half, self.scale = half, values[:, :, -1:]
        self.left = values[:, :, :half].unflatten(2, (rank, classes))
        self.right = values[:, :, half:-1].unflatten(2, (rank, classes))
        self.sums = self.left.sum(3, keepdim=True)  # (image, annotator, rank, 1, pixel)
        self.total = _ranks(self.sums * self.right) + self.scale  # of each column
        self.share = probs[:, None] / self.total  # p over the column's sum
        self.at = labels.clamp_min(0)[:, :, None]
        self.where = self.at[:, :, :, None].expand(-1, -1, rank, 1, -1)
        self.row = self.left.gather(3, self.where)  # of the reported class
        self.seen = (self.right * self.share[:, :, None]).sum(3, keepdim=True)

    def likely(self) -> Float[Tensor, "image annotator pixel"]:
        """Σ_j A[y, j] p[j]."""
        own = self.share.gather(2, self.at) * self.scale
        return _ranks(self.row * self.seen).add_(own).squeeze(2)

    def agreed(self) -> Float[Tensor, "image annotator true pixel"]:
        """The diagonal before columns are divided by their sums."""
        return _ranks(self.left * self.right) + self.scale

    def gradients(self, own: Tensor, said: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of the values, and of log p by annotator; `own`, `said`: of likelihood and trace."""
        of_share = own * _ranks(self.row * self.right)
        of_share.scatter_add_(2, self.at, own * self.scale)
        of_log = of_share * self.share
        of_total = -of_log / self.total
        of_scale = own * self.share.gather(2, self.at)
        if said is not None:
            each = said / self.total
            of_total -= each * self.agreed() / self.total
            of_scale += each.sum(2, keepdim=True)
        of_scale += of_total.sum(2, keepdim=True)
        of_left = (of_total[:, :, None] * self.right).sum(3, keepdim=True).expand_as(self.left)
        of_right = of_total[:, :, None] * self.sums
        of_right += (own[:, :, None] * self.row) * self.share[:, :, None]
        if said is None:
            of_left = of_left.clone()
        else:
            of_left = of_left + each[:, :, None] * self.right
            of_right += each[:, :, None] * self.left
        of_left.scatter_add_(3, self.where, own[:, :, None] * self.seen)
        change = torch.cat((of_left.flatten(2, 3), of_right.flatten(2, 3), of_scale), 2)
        return change, of_log


# --- one matrix for all pixels ----------------------------------------------------------------


class Table(torch.autograd.Function):
    """The same for log A (sets, annotator, reported, true), one set for all or one an image.

    A·p of all classes is one small product, of which each label picks one.
    """

    @staticmethod
    def forward(ctx: Any, log_table: Tensor, log_probs: Tensor, labels: Tensor) -> Tensor:
        table, probs = log_table.exp(), log_probs.exp()
        rows = table.flatten(1, 2).expand(len(labels), -1, -1)
        reported = torch.bmm(rows, probs).unflatten(1, table.shape[1:3])
        likely = reported.gather(2, labels.clamp_min(0)[:, :, None]).squeeze(2)
        ctx.save_for_backward(table, probs, labels, likely)
        return likely.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Two products: what each label hands back, with p and with A."""
        table, probs, labels, likely = ctx.saved_tensors
        of_reported = probs.new_zeros(*labels.shape[:2], table.shape[2], labels.shape[2])
        share = (gradient / likely)[:, :, None]
        of_reported.scatter_(2, labels.clamp_min(0)[:, :, None], share)
        flat = of_reported.flatten(1, 2)
        rows = table.flatten(1, 2).expand(len(labels), -1, -1)
        of_probs = torch.bmm(rows.mT, flat).mul_(probs)
        if not ctx.needs_input_grad[0]:
            return None, of_probs, None
        of_rows = torch.bmm(flat, probs.mT)
        if len(table) == 1:
            of_rows = of_rows.sum(0, keepdim=True)
        return of_rows.view_as(table).mul_(table), of_probs, None
