"""Images of any size and the one size a network was trained on: padded, and brought back.

Training needs all images in one size, and instance norm sees whatever is around an image. So a
prediction gives the network the same padded arrays as training did, one window of that size at
a time. Knows arrays and a network; knows no file.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

if TYPE_CHECKING:  # torch takes seconds to import, and sizes of arrays need none of it
    from torch import nn

    from noisyseg.predict import VolumePrediction

Window = tuple[slice, ...]


def fit(array: ndarray, size: Sequence[int], fill: float) -> ndarray:
    """(n, *size): slices (or one picture, or one volume) cropped or padded about the middle.

    `fill` is what stands in the padding.
    """
    array = array if array.ndim > len(size) else array[None]
    for axis, wanted in enumerate(size, start=1):
        crop = _middle(array.shape[axis], wanted)
        array = array.take(range(crop.start, crop.stop), axis)
        pads = [(0, 0)] * array.ndim
        missing = wanted - array.shape[axis]
        pads[axis] = (missing // 2, missing - missing // 2)
        array = np.pad(array, pads, constant_values=fill)
    return array


def _middle(have: int, wanted: int) -> slice:
    """What is kept of an axis of `have` pixels: `wanted` about the middle, or all."""
    start = max(0, have - wanted) // 2
    return slice(start, start + min(have, wanted))


def fit_image(
    image: Float[ndarray, "channel *space"],
    size: Sequence[int],
    window: Window | None = None,
    fill: float | None = None,
) -> Float[ndarray, "n channel *size"]:
    """`fit` of every channel, padded with `fill` (None: its least value); what the network sees.

    `window` chooses a part of the last axes of space first; None is the middle.
    """
    part = image if window is None else image[(..., *window)]
    fills = [whole.min() if fill is None else fill for whole in image]
    return np.stack([fit(near, size, f) for near, f in zip(part, fills, strict=True)], axis=1)


def windows(space: Sequence[int], size: Sequence[int]) -> Iterator[Window]:
    """Parts of `space` no larger than `size` that cover it, the one that `fit` keeps at the end.

    An image no larger than `size` has one window: all of it.
    """
    middle = tuple(_middle(have, wanted) for have, wanted in zip(space, size, strict=True))
    by_axis = [_steps(m, have) for m, have in zip(middle, space, strict=True)]
    yield from (window for window in product(*by_axis) if window != middle)
    yield middle


def _steps(middle: slice, have: int) -> list[slice]:
    """Windows as long as `middle` side by side with it, moved inwards at the ends."""
    length = middle.stop - middle.start
    before = range(middle.start - length, -length, -length)
    after = range(middle.stop, have, length)
    starts = [max(0, s) for s in before] + [min(s, have - length) for s in after]
    return [slice(s, s + length) for s in sorted({*starts, middle.start})]


def as_it_is(array: ndarray) -> ndarray:
    """The way an image lies, where the network sees it so."""
    return array


def predict_fitted(
    model: "nn.Module",
    image: Float[ndarray, "channel *space"],
    size: Sequence[int] | None,
    fill: float | None = None,
    turn: Callable[[ndarray], ndarray] = as_it_is,
) -> "VolumePrediction":
    """What `model` says of `image`, each window of it padded to `size`, on the image's own grid.

    Where `size` has one axis less than the image, the first axis of space holds slices. The
    middle window is what `fit_image` makes of the image, so the answer there is the same to the
    bit. None: the network sees the image as it is. `turn` is how a padded slice is laid before
    the network sees it, and how its answer is laid back.
    """
    from noisyseg.predict import VolumePrediction, predict_image, space_axes

    axes = tuple(image.shape[-space_axes(model) :] if size is None else size)
    space = image.shape[image.ndim - len(axes) :]
    parts: list[ndarray] = []
    for window in windows(space, axes):
        rows = [
            turned(predict_image(model, turn(row)), turn)
            for row in fit_image(image, axes, window, fill)
        ]
        here = (..., *(_inside(w.stop - w.start, s) for w, s in zip(window, axes, strict=True)))
        found = [
            None if got[0] is None else np.stack([row[here] for row in got if row is not None])
            for got in zip(*rows, strict=True)
        ]
        parts = parts or [_empty(f, space) for f in found if f is not None]
        for whole, part in zip(parts, [f for f in found if f is not None], strict=True):
            whole[(..., *window)] = part
    slices = image.ndim > len(axes) + 1
    probs, *noisy = [np.moveaxis(p, 0, -len(axes) - 1) if slices else p[0] for p in parts]
    return VolumePrediction(probs, noisy[0] if noisy else None)


def turned(found: "VolumePrediction", turn: Callable[[ndarray], ndarray]) -> "VolumePrediction":
    """`found` laid another way."""
    noisy = None if found.noisy_probs is None else turn(found.noisy_probs)
    return type(found)(turn(found.probs), noisy)


def _inside(have: int, size: int) -> slice:
    """Where `fit` puts `have` pixels into `size`."""
    start = (size - have) // 2
    return slice(start, start + have)


def _empty(like: ndarray, space: Sequence[int]) -> ndarray:
    return np.empty((*like.shape[: like.ndim - len(space)], *space), like.dtype)
