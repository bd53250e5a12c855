"""The pickle of the PyTorch port of the Probabilistic U-Net -> slices, without running it.

A pickle can make its reader call anything. This one may call what puts numpy arrays together
and nothing else. The file holds a dict: a key for each slice, `image` (height, width) in 0..1,
`masks` of four readers, `series_uid`.
"""

import pickle
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy import ndarray

from data_prep.cases import Case, Slices, Unusable
from data_prep.lidc.masks import READERS

# Arrays were saved by numpy 1 ("core") or numpy 2 ("_core").
RECONSTRUCT = {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
}
CONTAINERS = {"dict", "list", "tuple", "set", "frozenset", "int", "float", "bool", "str", "bytes"}
# The patients with two CT series: without this the same person might be trained and tested on.
SAME_PATIENT = {
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.151647338241909635299641922057": "LIDC-IDRI-0132",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.254176853278710432756285662989": "LIDC-IDRI-0132",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.453946099750629491201946672998": "LIDC-IDRI-0151",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.768856069922657732839929586657": "LIDC-IDRI-0151",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.406508755509460310384282367044": "LIDC-IDRI-0315",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.322682676064999314374885526223": "LIDC-IDRI-0315",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.316900421002460665752357657094": "LIDC-IDRI-0332",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.159996104466052855396410079250": "LIDC-IDRI-0332",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.170344311940983984999167745197": "LIDC-IDRI-0355",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.147979688121667984912633630926": "LIDC-IDRI-0355",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.207544473852086582434957174616": "LIDC-IDRI-0365",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.802846969823720586279982179144": "LIDC-IDRI-0365",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.226813447046845316215094488309": "LIDC-IDRI-0442",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.335799017122466251265955525941": "LIDC-IDRI-0442",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.132435134414676494105851714351": "LIDC-IDRI-0484",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.145600217263993824806929968211": "LIDC-IDRI-0484",
}


def _bytes_of(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
    return text.encode("latin1")


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how old protocols write bytes
            return _bytes_of
        allowed = (module, name) in RECONSTRUCT | {("numpy", "ndarray"), ("numpy", "dtype")}
        if allowed or (module in ("builtins", "__builtin__") and name in CONTAINERS):
            return super().find_class(module.replace("numpy.core.", "numpy._core."), name)
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which no array needs")


def load_arrays(stream: BinaryIO, file: Path) -> Any:
    """What a pickle of plain containers and numpy arrays holds; ValueError for any other."""
    try:
        return _ArraysOnly(stream, encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(
            f"{file}: not loaded ({error}); nothing in it was run. Get data_lidc.pickle again"
        ) from error


def read_pickles(path: Path) -> dict[str, dict[str, Any]]:
    """The slices in a file, or in all files below a folder with ".pickle" in their name.

    Raises FileNotFoundError when there is none, ValueError for a file that holds something
    else or for a slice that two files have.
    """
    files = [path] if path.is_file() else sorted(p for p in path.glob("*.pickle*") if p.is_file())
    if not files:
        raise FileNotFoundError(f"{path}: no file with .pickle in its name; give data_lidc.pickle")
    merged: dict[str, dict[str, Any]] = {}
    for file in files:
        with file.open("rb") as stream:
            content = load_arrays(stream, file)
        if not isinstance(content, dict) or not content:
            raise ValueError(f"{file}: holds {type(content).__name__}, not slices by name")
        twice = sorted(map(str, merged.keys() & content.keys()))
        if twice:
            raise ValueError(f"{file}: slices {twice[:3]} are in another file too; remove one")
        merged |= content
    return merged


def cases_of(slices: Mapping[str, dict[str, Any]], file: Path) -> tuple[list[Case], dict]:
    """One case for each CT series, and the names of its slices. ValueError for a slice that
    does not say which series it is from."""
    names = defaultdict(list)
    for name, slice_ in slices.items():
        series = slice_.get("series_uid") if isinstance(slice_, dict) else None
        if not isinstance(series, str) or not series.strip():
            raise ValueError(f"{file}: slice {name} has no series_uid; without it no split is fair")
        names[series.strip()].append(name)
    files = (file,) if file.is_file() else tuple(sorted(file.glob("*.pickle*")))
    cases = [Case(series, SAME_PATIENT.get(series, series), files) for series in names]
    return cases, {series: sorted(found, key=str) for series, found in names.items()}


def read_case(slices: Mapping[str, dict[str, Any]], names: list[str], readers: int) -> Slices:
    """The slices of one series in which at least `readers` masks are not empty; no truth yet.

    Raises Unusable, naming the slice, for a picture or masks that are not as they should be.
    """
    images, masks, ids = [], [], []
    for name in names:
        image, four = _checked(name, slices[name])
        if four.any((1, 2)).sum() >= readers:
            images.append(image.astype(np.float16)[None])
            masks.append(four.astype(np.int8))
            ids.append(str(name))
    if not ids:
        raise Unusable(f"no slice was outlined by {readers} readers; lower --readers")
    return Slices(np.array(images), np.array(masks), None, ids)


def _checked(name: str, slice_: Mapping[str, Any]) -> tuple[ndarray, ndarray]:
    try:
        image = np.asarray(slice_["image"], np.float64)
        four = [np.asarray(mask, np.float64) for mask in slice_["masks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable(f"slice {name}: image or masks missing or no numbers ({error})") from error
    shapes = {mask.shape for mask in four}
    if len(four) != READERS or image.ndim != 2 or shapes != {image.shape}:
        raise Unusable(
            f"slice {name}: image {image.shape}, {len(four)} masks {sorted(shapes)}; expected "
            f"{READERS} masks of the image's shape: get the file again"
        )
    if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
        raise Unusable(f"slice {name}: image leaves 0..1 ({image.min()} to {image.max()})")
    masks = np.array(four)
    if not np.isin(masks, (0, 1)).all():
        raise Unusable(f"slice {name}: masks hold {np.unique(masks)[:4]}, expected 0 and 1")
    return image, masks
