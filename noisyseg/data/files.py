"""The files of a prepared folder: read with suspicion, and sealed by their checksums.

A reader raises ValueError for what nobody meant to write; `read` turns that into a sentence.
What the files must hold stands in `checks`.
"""

import csv
import hashlib
import json
import stat
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisyseg.storage import sha256

COLUMNS = ("image_id", "case_id", "split")
LABEL_DTYPES = ("int8", "int16")
DTYPES = {"images": ("float32", "float16"), "labels": LABEL_DTYPES, "truth": LABEL_DTYPES}
FILES = (*(f"{name}.npy" for name in DTYPES), "index.csv", "meta.json")


def signature(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Name, size, time and inode of each file present: changes whenever the folder does."""
    stats = [(name, (path / name).stat()) for name in FILES if (path / name).exists()]
    return tuple((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats)


def read(path: Path, load: Callable[[Path], Any], problems: list[str]) -> Any:
    """What `load` makes of the file; None, and one more of `problems`, where it cannot."""
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


def load_csv(path: Path) -> pd.DataFrame:
    """index.csv, all as text; ValueError for rows that do not fit their header."""
    # As text, because "007" is a name. Spreadsheets put a byte order mark in front.
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = [row for row in csv.reader(file, strict=True) if row] or [[]]
    if not header:
        raise ValueError(f"it is empty; its first line is {','.join(COLUMNS)}")
    if len(set(header)) < len(header):
        raise ValueError(f"two columns have one name: {', '.join(header)}; keep one")
    odd = [n for n, row in enumerate(rows) if len(row) != len(header)]
    if odd:
        raise ValueError(
            f"row {odd[0]} has {len(rows[odd[0]])} values for {len(header)} columns; a value with "
            "a comma needs quotes"
        )
    return pd.DataFrame(rows, columns=header, dtype=str)


def load_array(path: Path) -> np.ndarray:
    """An array, memory-mapped; ValueError for another type or length than its header says."""
    with path.open("rb") as file:
        if file.read(6) != np.lib.format.MAGIC_PREFIX:
            raise ValueError("it is no array of NumPy; save it with numpy.save")
    with np.errstate(over="raise"):  # a shape with more pixels than can be counted
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype not in [np.dtype(name) for name in DTYPES[path.stem]]:
        raise ValueError(f"dtype is {array.dtype}; convert it to {' or '.join(DTYPES[path.stem])}")
    more = path.stat().st_size - array.offset - array.nbytes
    if more != 0:
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


def check_seal(path: Path, meta: dict[str, Any] | None) -> Iterator[str]:
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
