"""Writing a prepared folder `data/<name>/`: whole, or not at all."""

import glob
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from noisyseg.data import checks, files
from noisyseg.data.views import index_table
from noisyseg.storage import check_room, explained, locked, move_into_place, recover, write_bytes


def write_prepared(
    path: str | Path,
    images: Any,
    labels: Any = None,
    truth: Any = None,
    case_ids: Any = None,
    split: Any = None,
    image_ids: Any = None,
    *,
    overwrite: bool = False,
    **meta: Any,
) -> Path:
    """Write the prepared folder `path` and return it; an interrupted call leaves the old or none.

    Anything like an array will do; memory-mapped input is copied in pieces.

    Args:
        path: the folder.
        images: (N, channel, *space).
        labels: (N, annotator, *space), -1 = not labelled; None where annotators are simulated.
        truth: (N, *space), for evaluation only; None where there is none.
        case_ids: the patient of each image; by default each image its own.
        split: "train", "val" or "test" for each image; None splits 70/10/20 by case.
        image_ids: names of the images; numbers by default.
        overwrite: replace a folder that is there.
        meta: needs `classes` and `origin` ("real", "stand-in", "simulated"); it takes name,
            channels, annotators, spacing_mm, licence, sources (name, checksum), prep_version.

    Raises FileExistsError without `overwrite`, ValueError naming all that does not fit
    together; pixel values and classes are checked on loading. Where two processes write the same
    folder, one waits. meta.json gets a `seal`: the checksum of each file, compared on loading.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from noisyseg import load_dataset
        >>> images, labels = np.zeros((6, 1, 8, 8)), np.zeros((6, 2, 8, 8), int)
        >>> names = {"classes": ["background", "cell"], "annotators": ["anna", "ben"]}
        >>> with TemporaryDirectory() as folder:
        ...     path = write_prepared(f"{folder}/mine", images, labels, origin="real", **names)
        ...     load_dataset(path).annotators
        ('anna', 'ben')
    """
    path = Path(path).expanduser().resolve()
    given = {"images": images, "labels": labels, "truth": truth}
    arrays = {name: _as_array(name, a) for name, a in given.items() if a is not None}
    shapes = {name: tuple(a.shape) for name, a in arrays.items()}
    meta = _complete(meta, path.name, shapes["images"])
    index = index_table(len(arrays["images"]), image_ids, case_ids, split)
    problems = [*checks.check_meta(meta), *checks.check_index(index)]
    problems += checks.check_shapes(shapes, given.keys() - arrays.keys(), len(index), meta)
    checks.raise_all(problems, f"cannot write {path}")
    needed = _bytes_of(arrays, len(meta["classes"]))
    with locked(path):
        recover(path)
        _refuse(path, overwrite)
        with explained(path, needed), _beside(path) as part:
            check_room(path, needed)
            for name, array in arrays.items():
                _write_array(part / f"{name}.npy", array, len(meta["classes"]))
            index.to_csv(part / "index.csv", index=False)
            _write_meta(part, meta)
            _refuse(path, overwrite)  # what does not know the lock may have come since
            move_into_place(part, path)
    return path


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new folder beside `path` to write into; what of it is left at the end is removed."""
    for stray in path.parent.glob(f".{glob.escape(path.name)}.*.part*"):  # of a killed process
        shutil.rmtree(stray, ignore_errors=True)
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def seal(path: str | Path) -> Path:
    """Seal the prepared folder `path` as it is now, after a change that was meant; returns it.

    Raises ValueError naming what else is wrong with it, and then leaves it without a seal.
    """
    path = Path(path).expanduser().resolve()
    with locked(path):
        meta = files.load_json(path / "meta.json")
        meta.pop("seal", None)
        write_bytes(path / "meta.json", _text(meta))
        checks.open_folder(path)
        _write_meta(path, meta)
    return path


def _write_meta(folder: Path, meta: dict[str, Any]) -> None:
    write_bytes(folder / "meta.json", _text(meta | {"seal": files.seal_of(folder, meta)}))


def _text(meta: dict[str, Any]) -> bytes:
    return json.dumps(meta, indent=1, ensure_ascii=False).encode()


def _as_array(name: str, values: Any) -> Any:
    """`values` as an array; ValueError where its rows differ in size or are no numbers."""
    if isinstance(getattr(values, "dtype", None), np.dtype):
        return values
    try:
        array = np.asarray(values)
    except ValueError:
        shapes = [np.shape(row) for row in values]
        other = next((n for n, shape in enumerate(shapes) if shape != shapes[0]), 0)
        raise ValueError(
            f"{name}: number 0 has shape {shapes[0]}, number {other} has {shapes[other]}; crop or "
            "pad all to one size (data_prep.folders --size largest does), and give one array"
        ) from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: {array.dtype} of shape {array.shape}; give an array of numbers")
    return array


def _complete(meta: dict[str, Any], name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    numbered = [f"channel {i + 1}" for i in range(shape[1] if len(shape) > 1 else 0)]
    empty = ("classes", "annotators", "spacing_mm", "origin", "licence")
    full: dict[str, Any] = dict.fromkeys(empty)
    full |= {"name": name, "sources": [], "prep_version": 1} | meta
    full.pop("seal", None)  # of the folder it was copied from
    full["channels"] = meta.get("channels") or (["image"] if len(numbered) == 1 else numbered)
    return json.loads(json.dumps(full, default=lambda value: np.asarray(value).tolist()))


def _refuse(path: Path, overwrite: bool) -> None:
    there = {path.name} if path.exists() else set()
    if path.is_dir():
        there = {file.name for file in path.iterdir()}
    if there and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    strangers = sorted(there - set(files.FILES))
    if strangers:
        raise FileExistsError(f"{path}: overwriting would delete {strangers[:5]}; move them away")


def _stored(name: str, dtype: np.dtype, n_classes: int) -> np.dtype:
    """The dtype that an array `name` of `dtype` has in the file."""
    if dtype in [np.dtype(allowed) for allowed in files.DTYPES[name]]:
        return dtype
    is_image = name == "images"
    if dtype.kind not in ("fiub" if is_image else "iub"):
        raise ValueError(f"{name}: dtype {dtype} is not {files.DTYPES[name]}")
    return np.dtype("float32" if is_image else "int8" if n_classes <= 127 else "int16")


def _bytes_of(arrays: dict[str, Any], n_classes: int) -> int:
    """How many bytes the pixels of `arrays` take on the disk."""
    return sum(
        int(np.prod(array.shape, dtype=np.int64)) * _stored(name, array.dtype, n_classes).itemsize
        for name, array in arrays.items()
    )


def _write_array(file: Path, array: Any, n_classes: int) -> None:
    # Plain writes and no memory map: memory stays flat, and a full disk raises.
    dtype = _stored(file.stem, np.dtype(array.dtype), n_classes)
    header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(map(int, array.shape))}
    with file.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for _, rows in checks.chunks(array):
            stored = rows.astype(dtype, order="C")
            if file.stem != "images" and (stored != rows).any():
                value = rows[stored != rows].flat[0]
                raise ValueError(f"{file.stem}: {value} is no class; write -1 for not labelled")
            out.write(stored.data)
