"""Many cases -> one prepared folder: resumable, written whole or not at all, flat in memory.

Every reader of an archive gives a list of cases and a function that turns one of them into
slices. Here the slices are cached case by case (an interrupted run goes on where it was),
cases that cannot be used are counted with their reason, and the folder is written at once.
How files became images is noted among the sources in meta.json, so that a prediction can
repeat it. Knows no file format.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy import ndarray
from tqdm.auto import tqdm

from noisyseg.data.dataset import load_dataset
from noisyseg.data.folder import write_prepared
from noisyseg.storage import explained, locked, replacing

ARRAYS = ("images", "labels", "truth")
# How files become images; noted in meta.json, so the texts stay as they are.
VOLUMES = "volumes"  # z-score of what is not 0, then resampled; axial slices, the front above
FOLDERS = "folders"  # resampled, then `normalise`; axes (z, y, x) of the volume as they are
PICTURES = "pictures"  # `normalise`, no volumes: PNG or TIFF
PREFIX = "data_prep.inputs "


class Unusable(ValueError):
    """This case cannot be used; the message names the file, the value and the remedy."""


class Case(NamedTuple):
    """One scan: its name, the patient it belongs to, and every file it is read from."""

    name: str
    patient: str
    files: tuple[Path, ...]


class Slices(NamedTuple):
    """What a case gives: `images` (n, channel, *space), `labels` (n, annotator, *space) with
    -1 = not labelled, `truth` (n, *space); one of the last two may be None. `ids` name the
    slices within the case."""

    images: ndarray
    labels: ndarray | None
    truth: ndarray | None
    ids: Sequence[str]


class Report(NamedTuple):
    """Where the folder is, images a split, and every case left out with its reason."""

    path: Path
    counts: dict[str, int]
    skipped: dict[str, str]

    def __str__(self) -> str:
        images = ", ".join(f"{n} {split}" for split, n in self.counts.items())
        lines = [f"{self.path}: {images} images"]
        if self.skipped:
            lines.append(f"{len(self.skipped)} cases left out:")
            lines += [f"- {line}" for line in alike(self.skipped)]
        return "\n".join(lines)


def alike(skipped: Mapping[str, str]) -> list[str]:
    """A line for each kind of reason: the first case in full, the others of its kind by name.

    Reasons are of one kind where they differ in names of files and in numbers alone.
    """
    kinds: dict[str, list[str]] = {}
    for name, why in skipped.items():
        bare = re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "0", re.sub(r"\S*/\S*", "FILE", why))
        kinds.setdefault(bare, []).append(name)
    lines = []
    for first, *others in kinds.values():
        more = f" (and {len(others)} more alike: {_listed(others)})" if others else ""
        lines.append(f"{first}: {skipped[first]}{more}")
    return lines


def _listed(names: Sequence[str], shown: int = 20) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def file_names(names: Sequence[str]) -> list[str]:
    """A file name for each of `names`, in their order: all different, on any disk.

    Letters, digits, ".", "-" and "_" stay. Names that become equal, capitals aside, are numbered;
    a name that is a file name already keeps it.
    """
    plain = [re.sub(r"[^\w.-]+", "_", name)[:60] or "_" for name in names]
    chosen: dict[int, str] = {}
    taken: set[str] = set()
    for n in sorted(range(len(names)), key=lambda n: plain[n] != names[n]):
        number, unique = 1, plain[n]
        while unique.casefold() in taken:
            number += 1
            unique = f"{plain[n]}-{number}"
        taken.add(unique.casefold())
        chosen[n] = unique
    return [chosen[n] for n in range(len(names))]


def prepare_cases(
    out: Path,
    cases: Sequence[Case],
    read: Callable[[Case], Slices],
    settings: Mapping[str, Any],
    *,
    strict: bool = False,
    force: bool = False,
    split: Callable[[Sequence[str]], Sequence[str]] | None = None,
    **meta: Any,
) -> Report:
    """Write the prepared folder `out` from `cases`; `read` turns one case into its slices.

    `settings` is everything besides the files that `read` depends on: with the same settings
    and files a case read before is not read again. `split` maps the patient of each image to
    its split (None: 70/10/20 by patient). `meta` as in `write_prepared`; `sources` defaults to
    one checksum over the names and sizes of all files. A case for which `read` raises
    `Unusable` is left out and reported, or ends everything with `strict`. Raises ValueError
    when no case is left, FileExistsError when `out` is there and `force` is not given.
    Two processes may ask for the same folder: one waits.
    """
    out = Path(out).expanduser().resolve()
    with locked(out):
        refuse_existing(out, force)
        return _prepare(out, cases, read, settings, strict, force, split, meta)


def refuse_existing(out: Path, force: bool) -> None:
    """FileExistsError where `out` is there and not to be made again; called under its lock.

    Slices kept by a process that was killed when `out` was complete are removed.
    """
    if out.exists() and not force:
        shutil.rmtree(_cache(out), ignore_errors=True)
        raise FileExistsError(f"{out} exists; --force makes it again")


def _cache(out: Path) -> Path:
    """Where slices are kept until `out` is complete."""
    return out.with_name(f".{out.name}.cases")


def _prepare(
    out: Path,
    cases: Sequence[Case],
    read: Callable[[Case], Slices],
    settings: Mapping[str, Any],
    strict: bool,
    force: bool,
    split: Callable[[Sequence[str]], Sequence[str]] | None,
    meta: dict[str, Any],
) -> Report:
    _refuse_repeats(cases)
    cache = _cache(out)
    cache.mkdir(parents=True, exist_ok=True)
    for stray in [*cache.glob("raw-*"), *cache.glob("*.part")]:  # of a process that was killed
        shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
    parts, skipped = _read_all(cases, read, settings, cache, strict)
    if not parts:
        why = "; ".join(alike(skipped)) or "none found"
        raise ValueError(f"no usable case among {len(cases)} ({why})")
    ids, patients = [], []
    for case, part in parts:
        with np.load(part) as stored:
            names = stored["ids"].tolist()
        ids += [f"{case.name}/{name}" for name in names]
        patients += [case.patient] * len(names)
    meta.setdefault("sources", [{"name": f"{len(cases)} cases", "checksum": fingerprint(cases)}])
    chosen = None if split is None else split(patients)
    with tempfile.TemporaryDirectory(prefix="raw-", dir=cache) as raw:
        arrays = _gather([part for _, part in parts], Path(raw))
        write_prepared(
            out, **arrays, case_ids=patients, image_ids=ids, split=chosen, overwrite=force, **meta
        )
        del arrays  # closes the mapped files before they go
    shutil.rmtree(cache)
    counts = pd.Series(load_dataset(out).split_of).value_counts()
    return Report(
        out, {s: int(counts[s]) for s in ("train", "val", "test") if s in counts}, skipped
    )


def fingerprint(cases: Sequence[Case]) -> str:
    """One sha256 over every present file's name and size, in the order of the cases' names."""
    total = hashlib.sha256()
    for case in sorted(cases):
        for file in filter(Path.exists, case.files):
            total.update(f"{case.name}/{file.name}:{file.stat().st_size}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _refuse_repeats(cases: Sequence[Case]) -> None:
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.name, case)
        if other is not case:
            raise ValueError(
                f"case {case.name} is there twice: {other.files[0].parent} and "
                f"{case.files[0].parent}; remove one"
            )


def _read_all(
    cases: Sequence[Case],
    read: Callable[[Case], Slices],
    settings: Mapping[str, Any],
    cache: Path,
    strict: bool,
) -> tuple[list[tuple[Case, Path]], dict[str, str]]:
    parts, skipped = [], {}
    for case in tqdm(sorted(cases), desc="cases", disable=None, leave=False):
        part = cache / f"{_key(case, settings)}.npz"
        try:
            if not part.exists():
                _store(part, read(case))
            parts.append((case, part))
        except Unusable as error:
            if strict:
                raise
            skipped[case.name] = str(error)
    return parts, skipped


def _key(case: Case, settings: Mapping[str, Any]) -> str:
    stats = [(str(file), file.stat()) for file in case.files if file.exists()]
    state = [case.name, dict(settings), [(n, s.st_size, s.st_mtime_ns) for n, s in stats]]
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _store(part: Path, slices: Slices) -> None:
    given = {name: getattr(slices, name) for name in ARRAYS}
    arrays = {name: array for name, array in given.items() if array is not None}
    if not len(slices.ids):
        raise Unusable("no slice is left; lower the number of labelled pixels asked for")
    lengths = {n: len(a) for n, a in arrays.items()} | {"ids": len(slices.ids)}
    assert len(set(lengths.values())) == 1, lengths
    needed = sum(array.nbytes for array in arrays.values())
    with replacing(part, needed) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, ids=np.array([str(i) for i in slices.ids]), **arrays)


def _gather(parts: Sequence[Path], raw: Path) -> dict[str, ndarray]:
    """The arrays of all parts one after another, as memory-mapped files in the folder `raw`."""
    mapped: dict[str, ndarray] = {}
    shapes: dict[str, list[tuple[int, ...]]] = {}
    dtypes: dict[str, np.dtype] = {}
    for part in parts:
        with np.load(part) as stored:
            for name in set(stored.files) - {"ids"}:
                array = stored[name]
                shapes.setdefault(name, []).append(array.shape)
                dtypes.setdefault(name, array.dtype)
                file = raw / f"{name}.raw"
                with explained(file, array.nbytes), file.open("ab") as stream:
                    stream.write(array.astype(dtypes[name], order="C").data)
                mapped[name] = array[:0]
    for name, found in shapes.items():
        assert len({shape[1:] for shape in found}) == 1, f"{name}: {set(found)}"
        total = (sum(shape[0] for shape in found), *found[0][1:])
        mapped[name] = np.memmap(raw / f"{name}.raw", dtypes[name], "r", shape=total)
    return mapped


class Input(NamedTuple):
    """`reader` is one of VOLUMES, FOLDERS and PICTURES; `normalise` one of slicing.NORMALISE.

    `spacing_mm`: a number for all axes; one for each of the last axes of space; None = as it is.
    `size`: pixels along the last axes of space that images are padded or cropped to; None = not.
    """

    reader: str
    spacing_mm: float | Sequence[float] | None
    normalise: str = "zscore"
    size: Sequence[int] | None = None


def sources(cases: Sequence[Case], made: Input) -> list[dict[str, str]]:
    """`sources` of meta.json: one checksum over all files, and how they became images."""
    note = json.dumps(made._asdict(), sort_keys=True)
    return [
        {"name": f"{len(cases)} cases", "checksum": fingerprint(cases)},
        {"name": PREFIX + note, "checksum": f"sha256:{hashlib.sha256(note.encode()).hexdigest()}"},
    ]


def noted(listed: Sequence[Mapping[str, Any]]) -> Input | None:
    """What `sources` noted among the sources `listed`; None in folders that say nothing."""
    notes = [source["name"] for source in listed if source["name"].startswith(PREFIX)]
    return Input(**json.loads(notes[0].removeprefix(PREFIX))) if notes else None


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder below `folder`, itself first, with the sorted names of the folders and of the
    files in it; hidden files are left out.

    A folder that several links lead to is entered once, at its first name in sorted order; a
    link to a folder that holds `folder` is not entered.
    """
    seen = {str(parent) for parent in Path(os.path.realpath(folder)).parents}
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield Path(where), list(folders), sorted(f for f in files if not f.startswith("."))
