"""Official trees of the MS and BraTS archives with made-up lesions in real anatomy.

For whoever lacks the official archives: the readers run on these trees unchanged, and only a
path differs later. The head is the real ICBM 152 average packaged with nilearn (no download);
lesions, tumours, contrasts, noise and raters are made up. Nothing measured on them says
anything about patients; `stand-in.json` and the header of every volume say what they are.
"""

import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from jaxtyping import Shaped
from numpy import ndarray
from tqdm.auto import tqdm

from data_prep.standins.lesions import make_visit, ms_anatomy, ms_grid
from data_prep.standins.tumours import brats_grid, make_case, plan_tumour
from noisyseg.storage import locked, move_into_place, write_bytes

VERSION = 1


RECORD = "stand-in.json"
NOTE = "made-up lesions in the ICBM 152 average head; not data of patients"


VISITS = (4, 4, 5, 4, 4)  # of the five patients of the official training set
BRATS_TREE = "MICCAI_BraTS2020_TrainingData"


SEQUENCES = ("flair", "t1", "t1ce", "t2")
MODALITIES = ("flair", "mprage", "pd", "t2")


MAPPING = (
    "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,"
    "BraTS_2019_subject_ID,BraTS_2020_subject_ID"
)
CASE = re.compile(r"training\d+_\d+|BraTS20_Training_\d+")


class Written(NamedTuple):
    """The root of the official tree, and how many cases were made and were there already."""

    tree: Path
    made: int
    kept: int


class _Task(NamedTuple):
    """One case: its files in the order they appear in, and what makes their volumes."""

    files: tuple[Path, ...]
    make: Callable[[], Sequence[Shaped[ndarray, "x y z"]]]


def make_ms(
    out: str | Path,
    patients: int = 5,
    visits: Sequence[int] | None = None,
    seed: int = 0,
    voxel_mm: float = 1.0,
    compress: bool = False,
    force: bool = False,
) -> Written:
    """Write an MSLSC / ISBI 2015 training tree below `out`: `training/training01/...`.

    `visits`: scans of each patient, or one number for all; None = 4, 4, 5, 4, 4 and so on.
    `voxel_mm` coarsens the 181 x 217 x 181 grid of 1 mm. Official files are `.nii`; `compress`
    writes `.nii.gz`. A scan depends on seed, patient and visit alone. Complete scans are left
    alone, so a tree may grow; `force` deletes it first. Raises ValueError for numbers out of
    range, FileExistsError for a folder that is no stand-in, was made with other settings or
    holds scans besides those asked for.
    """
    counts = _visits(patients, visits)
    grid = ms_grid(voxel_mm)
    with locked(Path(out).expanduser().resolve()):
        out, tree = _open(out, "training", _settings("ms", seed, voxel_mm, compress), force)
        suffix = ".nii.gz" if compress else ".nii"

        def volumes(patient: int, visit: int) -> list[ndarray]:
            scan = make_visit(ms_anatomy(voxel_mm, seed, patient), seed, patient, visit)
            return [*(scan.images[name] for name in MODALITIES), *scan.masks]

        tasks = [
            _Task(_ms_files(tree, patient, visit, suffix), partial(volumes, patient, visit))
            for patient, count in enumerate(counts, start=1)
            for visit in range(1, count + 1)
        ]
        return Written(tree, *_run(tasks, grid.affine, out))


def _visits(patients: int, visits: Sequence[int] | None) -> list[int]:
    if not 1 <= patients <= 99:
        raise ValueError(f"patients is {patients}; give 1 to 99")
    counts = [VISITS[p % len(VISITS)] for p in range(patients)] if visits is None else [*visits]
    counts = counts * patients if len(counts) == 1 else counts
    if len(counts) != patients or not all(1 <= n <= 99 for n in counts):
        raise ValueError(
            f"visits is {counts} for {patients} patients; give one number, or one for each "
            "patient, of 1 to 99"
        )
    return counts


def _ms_files(tree: Path, patient: int, visit: int, suffix: str) -> tuple[Path, ...]:
    folder, name = tree / f"training{patient:02d}", f"training{patient:02d}_{visit:02d}"
    images = [folder / "preprocessed" / f"{name}_{m}_pp{suffix}" for m in MODALITIES]
    return (*images, *(folder / "masks" / f"{name}_mask{r}{suffix}" for r in (1, 2)))


def make_brats(
    out: str | Path, cases: int = 40, seed: int = 0, voxel_mm: float = 1.0, force: bool = False
) -> Written:
    """Write a BraTS 2020 training tree below `out`; one case in five does not enhance.

    `voxel_mm` coarsens the 240 x 240 x 155 grid of 1 mm. A case depends on seed and number
    alone. Resuming, `force` and errors as in `make_ms`.
    """
    if not 1 <= cases <= 999:
        raise ValueError(f"cases is {cases}; give 1 to 999")
    grid = brats_grid(voxel_mm)
    with locked(Path(out).expanduser().resolve()):
        out, tree = _open(out, BRATS_TREE, _settings("brats", seed, voxel_mm, True), force)

        def volumes(case: int) -> list[ndarray]:
            tumour = make_case(voxel_mm, seed, case)
            return [*(tumour.images[name] for name in SEQUENCES), tumour.labels]

        tasks = [
            _Task(_brats_files(tree, case), partial(volumes, case)) for case in range(1, cases + 1)
        ]
        done = _run(tasks, grid.affine, out)
        _write_mapping(tree, seed)
        return Written(tree, *done)


def _brats_files(tree: Path, case: int) -> tuple[Path, ...]:
    name = f"BraTS20_Training_{case:03d}"
    return tuple(tree / name / f"{name}_{part}.nii.gz" for part in (*SEQUENCES, "seg"))


def _write_mapping(tree: Path, seed: int) -> None:
    lines = [MAPPING]
    for folder in sorted(tree.glob("BraTS20_Training_???")):
        grade = "HGG" if plan_tumour(seed, int(folder.name[-3:])).ring else "LGG"
        lines.append(f"{grade},NA,NA,NA,NA,{folder.name}")
    write_bytes(tree / "name_mapping.csv", ("\n".join(lines) + "\n").encode())


def _settings(kind: str, seed: int, voxel_mm: float, compress: bool) -> dict:
    if seed < 0:
        raise ValueError(f"seed is {seed}; give 0 or more")
    return {
        "kind": kind,
        "seed": seed,
        "voxel_mm": float(voxel_mm),
        "compress": compress,
        "version": VERSION,
        "note": NOTE,
    }


def _open(out: str | Path, tree: str, settings: dict, force: bool) -> tuple[Path, Path]:
    """The folders to write to, once it is sure that nothing but stand-ins is in them."""
    out = Path(out).expanduser().resolve()
    record = out / RECORD
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; give another --out")
    if out.is_dir() and any(out.iterdir()):
        _refuse(record, settings, force)
        if force and (out / tree).exists():
            shutil.rmtree(out / tree)
    (out / tree).mkdir(parents=True, exist_ok=True)
    write_bytes(record, (json.dumps(settings, indent=1) + "\n").encode())
    return out, out / tree


def _refuse(record: Path, settings: dict, force: bool) -> None:
    if not record.is_file():
        raise FileExistsError(
            f"{record.parent} holds files and no {RECORD}, so it is no stand-in; give another --out"
        )
    try:
        found = json.loads(record.read_text())
        kind = found["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{record} is damaged ({error}); delete {record.parent}") from error
    if kind != settings["kind"]:
        raise FileExistsError(f"{record.parent} holds {kind} stand-ins; give another --out")
    if found != settings and not force:
        differ = {k: (found.get(k), v) for k, v in settings.items() if found.get(k) != v}
        raise FileExistsError(
            f"{record.parent} was made with other settings (found, asked for: {differ}); "
            "--force makes it again, --out gives another folder"
        )


def _cases_of(files: Iterable[Path]) -> set[str]:
    found = [CASE.match(file.name) for file in files]
    return {case[0] for case in found if case}


def _refuse_more(tasks: Sequence[_Task], out: Path) -> None:
    # Readers take every case of a tree: those of an earlier, larger call would be in the data.
    cases = _cases_of(out.rglob("*.nii*"))
    asked = _cases_of(file for task in tasks for file in task.files)
    more = sorted(cases - asked)
    if more:
        raise FileExistsError(
            f"{out} holds {len(cases)} cases, {len(asked)} are asked for; not among these are "
            f"{', '.join(more[:3])}{' ...' if len(more) > 3 else ''}: ask for as many, --force "
            "makes it again, --out gives another folder"
        )


def _run(tasks: Sequence[_Task], affine: ndarray, out: Path) -> tuple[int, int]:
    _refuse_more(tasks, out)
    made = 0
    for task in tqdm(tasks, desc=out.name, disable=None, leave=False):
        if not all(file.is_file() for file in task.files):
            _publish(task, affine, out)
            made += 1
    return made, len(tasks) - made


def _publish(task: _Task, affine: ndarray, out: Path) -> None:
    """All files of a case at once, the mask last: an interrupted case is made again."""
    part = out / f".{uuid4().hex[:8]}.part"
    part.mkdir()
    try:
        # Bare numbers: what a killed run leaves behind looks like no volume to any reader.
        for n, (file, volume) in enumerate(zip(task.files, task.make(), strict=True)):
            (part / str(n)).write_bytes(_nifti(volume, affine, file.suffix == ".gz"))
        for n, file in enumerate(task.files):
            file.parent.mkdir(parents=True, exist_ok=True)
            move_into_place(part / str(n), file)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _nifti(volume: Shaped[ndarray, "x y z"], affine: ndarray, compress: bool) -> bytes:
    import nibabel

    image = nibabel.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = f"stand-in: {NOTE}".encode()[:79]
    content = image.to_bytes()
    # No time in the archive: the same case is the same bytes whenever it is made.
    return gzip.compress(content, compresslevel=3, mtime=0) if compress else content
