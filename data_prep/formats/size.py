"""How large a file says it is, before a byte of its pixels is read.

A few kilobytes can announce terabytes: every reader asks here first.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from pathlib import Path

from data_prep.cases import Unusable

PICTURE_GB = 0.5  # 125 megapixels of grey: Pillow warns at 89, and a slide scanner gives more
VOLUME_GB = 2.0  # a CT of 512 x 512 x 1,900
SINGLE = 4  # bytes of a value once it is read, as float32
_given: ContextVar[float | None] = ContextVar("limit_gb", default=None)


@contextmanager
def allowing(limit_gb: float | None) -> Iterator[None]:
    """Inside it `limit_gb` (decimal gigabytes) holds for every file; None keeps the defaults."""
    if limit_gb is not None and not 0 < limit_gb < float("inf"):
        raise ValueError(f"--max-gb {limit_gb}: give gigabytes above 0")
    token = _given.set(limit_gb)
    try:
        yield
    finally:
        _given.reset(token)


def check(
    file: Path, shape: Sequence[int], itemsize: int = 1, default_gb: float = PICTURE_GB
) -> None:
    """`Unusable` where `shape` values take more memory than is allowed.

    `itemsize`: bytes of a value in the file; it counts as at least `SINGLE`.
    """
    limit, asked = _given.get() or default_gb, _gigabytes(shape, itemsize)
    if asked > limit:
        raise Unusable(
            f"{file}: announces {' x '.join(map(str, shape))} values, {asked:.3g} GB in memory; "
            f"the limit is {limit:g} GB a file: give --max-gb {asked * 1.01:.3g} if that is right"
        )


def _gigabytes(shape: Sequence[int], itemsize: int) -> float:
    return prod(map(int, shape)) * max(SINGLE, itemsize) / 1e9
