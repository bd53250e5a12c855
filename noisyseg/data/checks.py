"""What a prepared folder must hold, and a sentence for everything that it does not.

The contract of `data/<name>/` (images, labels, truth, index, meta). A check yields problems
instead of raising, so that `open_folder` can name all of them at once; each problem names
file, value and remedy. Knows files and arrays; knows no training and no annotator model.
"""

import csv
import hashlib
import json
import os
import reprlib
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from noisyseg.storage import sha256

SPLITS = ("train", "val", "test")
ORIGINS = ("real", "stand-in", "simulated")
COLUMNS = ("image_id", "case_id", "split")
LABEL_DTYPES = ("int8", "int16")
DTYPES = {"images": ("float32", "float16"), "labels": LABEL_DTYPES, "truth": LABEL_DTYPES}
FILES = (*(f"{name}.npy" for name in DTYPES), "index.csv", "meta.json")
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


def signature(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Name, size, time and inode of each file present: changes whenever the folder does."""
    stats = [(name, (path / name).stat()) for name in FILES if (path / name).exists()]
    return tuple((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats)


def raise_all(problems: Iterable[str], title: str) -> None:
    """ValueError with one line a problem, if there is any."""
    if found := list(problems):
        # A damaged file may hold anything, and a terminal obeys what is not printable.
        lines = ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in found]
        raise ValueError(f"{title} ({len(found)} to correct):\n- " + "\n- ".join(lines))


@lru_cache(maxsize=4)
def _checked(path: Path, _signature: tuple[Any, ...]) -> Folder:
    problems: list[str] = []
    meta = _read(path / "meta.json", load_json, problems)
    index = _read(path / "index.csv", _load_csv, problems)
    absent = {n for n in ("labels", "truth") if not os.path.lexists(path / f"{n}.npy")}
    arrays = {
        name: None if name in absent else _read(path / f"{name}.npy", _load_array, problems)
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


def _read(path: Path, load: Callable[[Path], Any], problems: list[str]) -> Any:
    try:
        # Before it is opened: a pipe would wait for ever for somebody to write to it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no file but a folder, a pipe or a device")
        return load(path)
    except FileNotFoundError:
        problems.append(f"{path.name}: missing; write the folder with noisyseg.write_prepared")
    except Exception as error:  # parsers raise whatever they meet in a damaged file
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        problems.append(f"{path.name}: not usable ({why[:500]}); prepare it again")
    return None


def load_json(path: Path) -> dict[str, Any]:
    """The fields of meta.json; ValueError where one is there twice or is no JSON."""
    meta = json.loads(
        path.read_text(encoding="utf-8-sig"),
        object_pairs_hook=_without_repeats,
        parse_constant=_no_number,
    )
    if not isinstance(meta, dict):
        raise ValueError(f"it holds a {type(meta).__name__}, not an object with named fields")
    return meta


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"field {', '.join(map(repr, twice))} is there twice; keep one")
    return fields


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON; give a finite one")


def _load_csv(path: Path) -> pd.DataFrame:
    # As text, because "007" is a name. Spreadsheets put a byte order mark in front.
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = [row for row in csv.reader(file, strict=True) if row] or [[]]
    if not header:
        raise ValueError(f"it is empty; its first line is {','.join(COLUMNS)}")
    if len(set(header)) < len(header):
        raise ValueError(f"two columns have one name: {', '.join(header)}; keep one")
    if odd := [n for n, row in enumerate(rows) if len(row) != len(header)]:
        raise ValueError(
            f"row {odd[0]} has {len(rows[odd[0]])} values for {len(header)} columns; a value with "
            "a comma needs quotes"
        )
    return pd.DataFrame(rows, columns=header, dtype=str)


def _load_array(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        if file.read(6) != np.lib.format.MAGIC_PREFIX:
            raise ValueError("it is no array of NumPy; save it with numpy.save")
    with np.errstate(over="raise"):  # a shape with more pixels than can be counted
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype not in [np.dtype(name) for name in DTYPES[path.stem]]:
        raise ValueError(f"dtype is {array.dtype}; convert it to {' or '.join(DTYPES[path.stem])}")
    if (more := path.stat().st_size - array.offset - array.nbytes) != 0:
        raise ValueError(f"it has {more} bytes more than its header says")
    return array


def seal_of(path: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """What the field `seal` of meta.json holds: the checksum of each file of the folder `path`
    but meta.json, and as `digest` that of all other fields of `meta`."""
    files = {file[0]: checksum(path / file[0], file) for file in signature(path)}
    files.pop("meta.json", None)
    fields = json.dumps({k: v for k, v in meta.items() if k != "seal"}, sort_keys=True)
    return {"digest": hashlib.sha256(fields.encode()).hexdigest(), "files": files}


@lru_cache(maxsize=64)
def checksum(path: Path, _signature: tuple[Any, ...]) -> str:
    """sha256 (hex) of a file, which is read once as long as its line of `signature` stays."""
    return sha256(path)


def check_seal(path: Path, meta: dict[str, Any] | None) -> Problems:
    """Files that are not those that were sealed. Folders older than seals have none."""
    if meta is None or "seal" not in meta:
        return
    sealed, found = meta["seal"], seal_of(path, meta)
    changed = [] if sealed["digest"] == found["digest"] else ["meta.json"]
    names = sorted(sealed["files"].keys() | found["files"].keys())
    changed += [n for n in names if sealed["files"].get(n) != found["files"].get(n)]
    if changed:
        yield (
            f"{', '.join(changed)}: not as written; prepare it again, or restore it; if you "
            f"changed it yourself, say so with `python -m noisyseg.data {path}`"
        )


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
