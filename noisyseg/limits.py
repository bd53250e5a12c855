"""What tensors must hold: class numbers that exist, and numbers that arithmetic survives.

One place for the checks that losses, confusion objects, fusion and metrics share. Each raises
with the value and the remedy; none changes anything.
"""

import torch
from torch import Tensor

MOST = 1e30  # the sum of a million such numbers is still a number in single precision
LARGEST_LOG = 1e-2  # of a probability, which rounding in half precision takes above 0
MOST_FACTOR = 1e15  # of what is multiplied by another


class NotFinite(ValueError, FloatingPointError):
    """A tensor holds NaN, infinity or a number too large to go on with."""


def at_least_single(x: Tensor) -> Tensor:
    """`x` in single precision, or in double where it already is: logarithms need the digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_finite(name: str, x: Tensor, least: float = -MOST, most: float = MOST) -> None:
    """`NotFinite` unless all of `x` lies strictly between `least` and `most`.

    Not asked while a graph is captured or compiled: the values are not there yet.
    """
    if not x.numel() or torch.compiler.is_compiling():
        return
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    low, high = torch.aminmax(x.detach())  # NaN where there is any
    if not bool((low > least) & (high < most)):
        raise NotFinite(
            f"{name}: from {float(low):g} to {float(high):g}, and it must be finite, above "
            f"{least:g} and below {most:g}; rescale what is given. In training lower "
            "learning_rate, or use precision='32-true'"
        )


def check_log_probs(log_probs: Tensor) -> None:
    """`NotFinite` for what is no logarithm of a probability; −∞ counts as such."""
    check_finite("log_probs", log_probs, -MOST, LARGEST_LOG)


def check_range(labels: Tensor, n_classes: int) -> None:
    """ValueError for a label that is no class and not −1, and for fewer than two classes."""
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}: give a background and at least one class")
    if not labels.numel():
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} are empty; "
            "give at least one annotator and one pixel"
        )
    low, high = (int(v) for v in torch.aminmax(labels))
    if low < -1 or high >= n_classes:
        raise ValueError(
            f"labels range from {low} to {high}, but there are {n_classes} classes: use "
            f"0 … {n_classes - 1}, and -1 for not labelled"
        )
