"""What a prepared folder must hold, and a sentence for everything that it does not.

The contract of `data/<name>/` (images, labels, truth, index, meta). A check yields problems
instead of raising, so that `open_folder` can name all of them at once; each problem names
file, value and remedy. How its files are read and sealed stands in `files`. Knows no training
and no annotator model.
"""

import json
import os
import reprlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from noisyseg.data.files import (
    COLUMNS,
    DTYPES,
    FILES,
    check_seal,
    load_array,
    load_csv,
    load_json,
    read,
    signature,
)

SPLITS = ("train", "val", "test")
ORIGINS = ("real", "stand-in", "simulated")
_CHUNK_BYTES = 1 << 24  # read at a time, so that memory stays flat however large the folder
_LONGEST = 10_000  # characters of a name
_FINEST_MM = 1e-9  # of a pixel: far below any microscope
_SHOWN = 5  # instances of one problem that are named one by one
Problems = Iterator[str]


class Folder(NamedTuple):
    """A valid prepared folder: arrays memory-mapped, `has_label` (N, annotator) bool."""

    meta: dict[str, Any]
    index: pd.DataFrame
    images: np.ndarray
    labels: np.ndarray | None
    truth: np.ndarray | None
    has_label: np.ndarray | None


def open_folder(path: Path) -> Folder:
    """Open and check the prepared folder `path`; ValueError names every violation at once.

    A folder that did not change since it was checked in this process is not read again.
    """
    folder = _checked(path, signature(path))
    return folder._replace(meta=json.loads(json.dumps(folder.meta)), index=folder.index.copy())


def raise_all(problems: Iterable[str], title: str) -> None:
    """ValueError with one line a problem, if there is any."""
    found = list(problems)
    if found:
        # A damaged file may hold anything, and a terminal obeys what is not printable.
        lines = ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in found]
        raise ValueError(f"{title} ({len(found)} to correct):\n- " + "\n- ".join(lines))


@lru_cache(maxsize=4)
def _checked(path: Path, _signature: tuple[Any, ...]) -> Folder:
    problems: list[str] = []
    meta = read(path / "meta.json", load_json, problems)
    index = read(path / "index.csv", load_csv, problems)
    absent = {n for n in ("labels", "truth") if not os.path.lexists(path / f"{n}.npy")}
    arrays = {
        name: None if name in absent else read(path / f"{name}.npy", load_array, problems)
        for name in DTYPES
    }
    # What cannot be read is left out here, and the search for more goes on.
    problems += [] if meta is None else check_meta(meta)
    problems += [] if index is None else check_index(index)
    shapes = {name: array.shape for name, array in arrays.items() if array is not None}
    rows = None if index is None else len(index)
    problems += check_shapes(shapes, absent, rows, meta or {})
    problems += _check_content(arrays, index, meta or {})
    # Last, and alone: where something can be named, that says more than "changed".
    problems += [] if problems else check_seal(path, meta)
    raise_all(problems, f"{path} is not a valid prepared folder")
    images, labels, truth = arrays.values()
    assert images is not None  # or it would be a problem
    has_label = None if labels is None else labelled(labels)
    return Folder(meta, index, images, labels, truth, has_label)


def _few(texts: Iterable[str]) -> Problems:
    found = list(texts)
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield f"{found[0].split(':')[0]}: … and {len(found) - _SHOWN} more like the one above"


def _is_text(value: Any) -> bool:
    """A text of one line that shows something: no control character, no half of a character."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return False
    kinds = {unicodedata.category(character) for character in value}
    return not kinds & {"Cc", "Cs", "Zl", "Zp"} and any(kind[0] not in "CZ" for kind in kinds)


def _is_licence(value: Any) -> bool:
    return isinstance(value, str) and _is_text(" ".join(value.split()))


def _is_list(value: Any, valid: Callable[[Any], bool], least: int = 0) -> bool:
    return isinstance(value, list) and len(value) >= least and all(map(valid, value))


def _are_names(value: Any, least: int = 1) -> bool:
    # "all" is what exported tables call the mean over classes or annotators.
    if not _is_list(value, _is_text, least):
        return False
    seen = {unicodedata.normalize("NFC", name.strip()) for name in value}
    return len({"all", *seen}) == len(value) + 1


def _is_size(value: Any) -> bool:
    return type(value) in (int, float) and _FINEST_MM <= value <= 1 / _FINEST_MM


def _is_source(value: Any) -> bool:
    named = isinstance(value, dict) and set(value) == {"name", "checksum"}
    return named and all(map(_is_text, value.values()))


def _is_seal(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"digest", "files"}:
        return False
    files = value["files"]
    return isinstance(value["digest"], str) and isinstance(files, dict) and set(files) <= {*FILES}


_NAMES = 'different names, none of them "all"'
META_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "a text"),
    "classes": (lambda v: _are_names(v, 2), f"a list of two or more {_NAMES}"),
    "channels": (_are_names, f"a list of {_NAMES}"),
    "annotators": (lambda v: v is None or _are_names(v), f"null or a list of {_NAMES}"),
    "spacing_mm": (
        lambda v: v is None or _is_list(v, _is_size),
        f"null or positive numbers, in mm, from {_FINEST_MM:g} to {1 / _FINEST_MM:g}",
    ),
    "origin": (lambda v: v in ORIGINS, f"one of {', '.join(ORIGINS)}"),
    "licence": (lambda v: v is None or _is_licence(v), "null or a text"),
    "sources": (lambda v: _is_list(v, _is_source), "a list of {name, checksum}"),
    "prep_version": (
        lambda v: _is_text(v) or (type(v) is int and abs(v) < 2**63),
        "a text or a whole number",
    ),
    "seal": (_is_seal, "what noisyseg.write_prepared wrote: digest and files"),
}
OPTIONAL = ("seal",)  # folders written before there was one stay valid


def check_meta(meta: dict[str, Any]) -> Problems:
    """Fields of meta.json that are unknown, missing, or not what they must be."""
    for field in meta:
        if field not in META_FIELDS:
            yield f"meta.json: unknown field {field!r}; allowed are {', '.join(META_FIELDS)}"
    for field, (valid, wanted) in META_FIELDS.items():
        if field not in meta:
            if field not in OPTIONAL:
                yield f"meta.json: field {field!r} is missing; make it {wanted}"
        elif not valid(meta[field]):
            yield f"meta.json: {field} is {reprlib.repr(meta[field])}; make it {wanted}"


def check_index(index: pd.DataFrame) -> Problems:
    """Missing columns, empty or repeated ids, unknown splits, cases in two splits."""
    absent = [column for column in COLUMNS if column not in index]
    if absent:
        yield from (f"index.csv: no column {c!r}; it needs {', '.join(COLUMNS)}" for c in absent)
        return
    for column in COLUMNS[:2]:
        texts = index[column].tolist()
        empty = [row for row, text in enumerate(texts) if not text.strip()]
        yield from _few(f"index.csv: {column} of row {row} is empty; name it" for row in empty)
        odd = [row for row, text in enumerate(texts) if text.strip() and not _is_text(text)]
        yield from _few(
            f"index.csv: {column} of row {row} is {reprlib.repr(texts[row])}; make it a text that "
            "can be seen, of one line"
            for row in odd
        )
    twice = index.image_id[index.image_id.duplicated()].unique()
    yield from _few(f"index.csv: image_id {i!r} is repeated; make it unique" for i in twice)
    wrong = index[~index.split.isin(SPLITS)]
    yield from _few(
        f"index.csv: split {s!r} of image {i!r} is unknown; use {', '.join(SPLITS)}"
        for i, s in zip(wrong.image_id, wrong.split, strict=True)
    )
    pairs = index[["case_id", "split"]].drop_duplicates()
    torn = pairs[pairs.case_id.duplicated(keep=False)].groupby("case_id").split.agg(" and ".join)
    yield from _few(
        f"index.csv: case {case!r} is in {splits}; put all its images in one split"
        for case, splits in torn.items()
    )


def check_shapes(
    shapes: dict[str, tuple[int, ...]], absent: set[str], rows: int | None, meta: dict[str, Any]
) -> Problems:
    """Disagreement of arrays, rows of index.csv and names in meta.json; arrays `absent`."""
    if {"labels", "truth"} <= absent:
        yield "labels.npy, truth.npy: both missing; there is nothing to learn from, write one"
    elif "labels" in absent and meta.get("annotators"):
        yield (
            f"labels.npy: missing, but meta.json names annotators {meta['annotators']}; "
            "restore it, or set annotators to null to have them simulated"
        )
    n, *rest = shapes.get("images", (None,))
    if n is None:
        return
    space = tuple(rest[1:])
    if len(space) not in (2, 3) or 0 in shapes["images"]:
        yield f"images.npy: shape is {shapes['images']}; make it (N, channel, 2 or 3 axes of space)"
        return
    if rows not in (None, n):
        yield f"index.csv: {rows} rows, but images.npy has {n} images; write one row per image"
    counts = {"channels": rest[0], "spacing_mm": len(space)}
    for name, shape in shapes.items():
        lead = {"images": 2, "labels": 2, "truth": 1}[name]
        if shape[0] != n or shape[lead:] != space or 0 in shape:
            axes = (n, "annotator", *space) if name == "labels" else (n, *space)
            yield f"{name}.npy: shape is {shape}, but images.npy asks for {axes}"
        elif name == "labels":
            counts["annotators"] = shape[1]
    for name, count in counts.items():
        if isinstance(meta.get(name), list) and len(meta[name]) != count:
            yield f"meta.json: {name} {meta[name]} must have {count} entries to fit the arrays"


def _check_content(
    arrays: dict[str, np.ndarray | None], index: pd.DataFrame | None, meta: dict[str, Any]
) -> Problems:
    images, labels, truth = arrays.values()
    index = index if index is not None and set(COLUMNS) <= set(index) else None
    lengths = [len(a) for a in arrays.values() if a is not None and a.ndim]
    ids = [] if index is None else index.image_id.tolist()
    ids += [f"number {i}" for i in range(len(ids), max(lengths, default=0))]
    if images is not None and images.ndim > 1 and images.size:
        yield from _check_pixels(images, ids)
    if not META_FIELDS["classes"][0](meta.get("classes")):
        return
    if truth is not None and truth.ndim > 1 and truth.size:
        yield from check_classes(truth[:, None], ids, None, meta["classes"])
    if labels is not None and labels.ndim > 2 and labels.size:
        names = annotator_names(meta.get("annotators"), labels.shape[1])
        yield from check_classes(labels, ids, names, meta["classes"])
        splits = ["train"] * len(labels)
        if index is not None and len(index) == len(labels):
            splits = index.split.tolist()
        yield from check_labelled(labelled(labels), ids, names, splits)


def annotator_names(named: Any, count: int) -> list[str]:
    """The names given, or "annotator 1", "annotator 2", … where there are none that fit."""
    fits = isinstance(named, list) and len(named) == count
    return [str(name) for name in named] if fits else [f"annotator {i + 1}" for i in range(count)]


def chunks(array: Any) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows) of `array`, some megabytes at a time."""
    row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, len(array), step):
        yield start, np.asarray(array[start : start + step])


def _check_pixels(images: np.ndarray, ids: Sequence[str]) -> Problems:
    space = tuple(range(1, images.ndim))
    finite = np.concatenate([np.isfinite(x).all(space) for _, x in chunks(images)])
    rows = np.flatnonzero(~finite).tolist()
    yield from _few(f"images.npy: image {ids[n]!r} has NaN or infinite pixels; fix" for n in rows)


def check_classes(
    labels: Any, ids: Sequence[str], annotators: Sequence[str] | None, classes: Sequence[str]
) -> Problems:
    """Values of labels (N, annotator, *space) that name no class.

    Without `annotators` it is the truth (N, 1, *space), which may not hold -1 either.
    """
    lowest, file = (0, "truth.npy") if annotators is None else (-1, "labels.npy")
    allowed = f"use 0 to {len(classes) - 1} ({', '.join(classes)})"
    found = []
    for start, x in chunks(labels):
        if x.size and (x.min() < lowest or x.max() >= len(classes)):
            wrong = ((x < lowest) | (x >= len(classes))).reshape(*x.shape[:2], -1)
            for i, r in np.argwhere(wrong.any(-1)).tolist():
                value = x[i, r].reshape(-1)[wrong[i, r].argmax()]
                who = "" if annotators is None else f", annotator {annotators[r]!r},"
                found.append(f"{file}: image {ids[start + i]!r}{who} has value {value}; {allowed}")
    yield from _few(text if lowest == 0 else f"{text} or -1, not labelled" for text in found)


def labelled(labels: Any) -> np.ndarray:
    """Who labelled what: labels (N, annotator, *space) -> bool (N, annotator)."""
    return np.concatenate([(x >= 0).any(tuple(range(2, x.ndim))) for _, x in chunks(labels)])


def check_labelled(
    has_label: np.ndarray, ids: Sequence[str], annotators: Sequence[str], splits: Sequence[str]
) -> Problems:
    """Images outside the test split that nobody labelled, annotators who labelled nothing."""
    bare = [n for n in np.flatnonzero(~has_label.any(1)).tolist() if splits[n] != "test"]
    yield from _few(f"labels.npy: image {ids[n]!r} has no label; leave it out" for n in bare)
    for r in np.flatnonzero(~has_label.any(0)).tolist():
        yield f"labels.npy: annotator {annotators[r]!r} has no label at all; leave them out"
