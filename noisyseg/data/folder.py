"""Writing a prepared folder `data/<name>/`: whole, or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from noisyseg.data import checks
from noisyseg.data.views import index_table


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
    """Write the prepared folder `path` and return it; an interrupted call leaves none.

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
    together; pixel values and classes are checked on loading.

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
    arrays = {name: _as_array(a) for name, a in given.items() if a is not None}
    shapes = {name: tuple(a.shape) for name, a in arrays.items()}
    meta = _complete(meta, path.name, shapes["images"])
    index = index_table(len(arrays["images"]), image_ids, case_ids, split)
    problems = [*checks.check_meta(meta), *checks.check_index(index)]
    problems += checks.check_shapes(shapes, given.keys() - arrays.keys(), len(index), meta)
    checks.raise_all(problems, f"cannot write {path}")
    _refuse(path, overwrite)
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    part.mkdir(parents=True)
    try:
        for name, array in arrays.items():
            _write_array(part / f"{name}.npy", array, len(meta["classes"]))
        index.to_csv(part / "index.csv", index=False)
        (part / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False), "utf-8")
        _refuse(path, overwrite)  # it may have appeared since
        _move(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def _as_array(values: Any) -> Any:
    return values if isinstance(getattr(values, "dtype", None), np.dtype) else np.asarray(values)


def _complete(meta: dict[str, Any], name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    numbered = [f"channel {i + 1}" for i in range(shape[1] if len(shape) > 1 else 0)]
    empty = ("classes", "annotators", "spacing_mm", "origin", "licence")
    full: dict[str, Any] = dict.fromkeys(empty)
    full |= {"name": name, "sources": [], "prep_version": 1} | meta
    full["channels"] = meta.get("channels") or (["image"] if len(numbered) == 1 else numbered)
    return json.loads(json.dumps(full, default=lambda value: np.asarray(value).tolist()))


def _refuse(path: Path, overwrite: bool) -> None:
    there = {path.name} if path.exists() else set()
    if path.is_dir():
        there = {file.name for file in path.iterdir()}
    if there and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    strangers = sorted(there - set(checks.FILES))
    if strangers:
        raise FileExistsError(f"{path}: overwriting would delete {strangers[:5]}; move them away")


def _move(part: Path, path: Path) -> None:
    old = part.with_suffix(".old")
    if path.exists():
        path.rename(old)
    try:
        part.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _write_array(file: Path, array: Any, n_classes: int) -> None:
    # Plain writes and no memory map: memory stays flat, and a full disk raises.
    is_image, dtype = file.stem == "images", np.dtype(array.dtype)
    if dtype not in [np.dtype(name) for name in checks.DTYPES[file.stem]]:
        if dtype.kind not in ("fiub" if is_image else "iub"):
            raise ValueError(f"{file.stem}: dtype {dtype} is not {checks.DTYPES[file.stem]}")
        whole = "int8" if n_classes <= 127 else "int16"
        dtype = np.dtype("float32" if is_image else whole)
    header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(map(int, array.shape))}
    with file.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for _, rows in checks.chunks(array):
            stored = rows.astype(dtype, order="C")
            if not is_image and (stored != rows).any():
                value = rows[stored != rows].flat[0]
                raise ValueError(f"{file.stem}: {value} is no class; write -1 for not labelled")
            out.write(stored.data)
