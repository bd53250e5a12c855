"""Which images, whose labels: rows read on demand, splits, dropped labels.

Knows arrays in memory or on disk; knows no folder, no annotator by name, no model and no torch,
which takes seconds to import.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray


class Rows:
    """Some rows of a memory-mapped array in some order, read only when indexed.

    Where `kept` (row, annotator) is False it reads as -1. `np.asarray(rows)` reads all.
    """

    def __init__(self, source: ndarray, index: ndarray, kept: ndarray | None = None) -> None:
        self.source, self.index, self.kept = source, index, kept
        self.dtype, self.ndim = source.dtype, source.ndim
        self.shape = (len(index), *source.shape[1:])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            rows = self[key[0]]
            return rows[key[1:] if rows.ndim < self.ndim else (slice(None), *key[1:])]
        values = self.source[self.index[key]]
        if self.kept is None:
            return values
        kept = self.kept[key]
        return np.where(kept.reshape(kept.shape + (1,) * (values.ndim - kept.ndim)), values, -1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, index: ndarray) -> "Rows":
        """These rows of the rows, still unread."""
        return Rows(self.source, self.index[index], None if self.kept is None else self.kept[index])


Array = ndarray | Rows


def take(array: Array, index: ndarray) -> Array:
    """Rows `index` of `array`, unread if they hold pixels: a slice where they are adjacent."""
    if isinstance(array, Rows):
        return array.take(index)
    if array.ndim < 3:  # names, not pixels
        return array[index]
    adjacent = np.array_equal(index, np.arange(index[0], index[0] + len(index)))
    return array[index[0] : index[-1] + 1] if adjacent else Rows(array, index)


def unpadded(image: ndarray, labels: ndarray) -> tuple[slice, ...]:
    """The part of space that is no padding, of `image` (channel, *space) with its `labels`.

    Padding are the outer rows, columns and slices in which nobody labelled anything and every
    channel has its least value throughout. All of space where nothing else is left.
    """
    axes = tuple(range(1, image.ndim))
    there = (image > image.min(axes, keepdims=True)).any(0) | (labels >= 0).any(0)
    found = []
    for axis in range(there.ndim):
        places = np.flatnonzero(there.any(tuple(a for a in range(there.ndim) if a != axis)))
        found.append(slice(places[0], places[-1] + 1) if len(places) else slice(None))
    return tuple(found)


def index_table(n: int, image_ids: Any, case_ids: Any, split: Any) -> pd.DataFrame:
    """The rows of index.csv for `n` images, with defaults for what is None.

    Numbered images, each its own case, split by case. ValueError where lengths differ from n.
    """
    ids = [f"{i:0{max(4, len(str(n - 1)))}d}" for i in range(n)] if image_ids is None else image_ids
    columns = {"image_id": list(ids), "case_id": list(ids if case_ids is None else case_ids)}
    columns["split"] = split_by_case(columns["case_id"]) if split is None else list(split)
    wrong = {name: len(values) for name, values in columns.items() if len(values) != n}
    if wrong:
        raise ValueError(f"{n} images, but entries given: {wrong}; give one an image")
    return pd.DataFrame({k: [str(v) for v in values] for k, values in columns.items()}, dtype=str)


def split_by_case(case_ids: Sequence[Any]) -> list[str]:
    """70 % of the cases to train, 10 % to val, 20 % to test, by a hash of their names.

    The same cases give the same split in any order. ValueError for fewer than three cases.
    """
    names = [str(case) for case in case_ids]
    cases = sorted(set(names), key=lambda case: hashlib.sha256(case.encode()).digest())
    if len(cases) < 3:
        raise ValueError(f"case_ids {cases} cannot fill train, val and test; pass split=")
    n_val, n_test = (max(1, round(share * len(cases))) for share in (0.1, 0.2))
    parts = {case: "val" if i < n_val else "test" for i, case in enumerate(cases[: n_val + n_test])}
    return [parts.get(case, "train") for case in names]


def parse_labelling(labelling: str) -> int | None:
    """How many annotators label an image: "dense" -> None, "one" -> 1, "k3" -> 3.

    Raises ValueError for anything else.
    """
    if labelling in ("dense", "one"):
        return None if labelling == "dense" else 1
    if not re.fullmatch("k[1-9][0-9]*", labelling):
        raise ValueError(f'unknown labelling {labelling!r}; use "dense", "one", "k2", "k3", …')
    return int(labelling[1:])


def ranks(image_ids: ndarray, has_label: ndarray, seed: int) -> ndarray:
    """A random rank (image, annotator) from 0; those who did not label the image come last.

    Drawn from `seed` and image id alone, so that order and subset do not matter.
    """
    size = 8 * has_label.shape[1]
    draws = [hashlib.shake_128(f"{seed}/{name}".encode()).digest(size) for name in image_ids]
    keys = np.frombuffer(b"".join(draws), "<u8").reshape(has_label.shape)
    return np.lexsort((keys, ~has_label)).argsort(1)
