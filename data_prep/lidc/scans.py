"""A tree of LIDC-IDRI as TCIA gives it -> CT series and their slices in Hounsfield units.

Folder names changed with the years, so nothing is read from them: files are put together by the
SeriesInstanceUID in their headers, and only series of modality CT count. Knows no outline.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from jaxtyping import Float
from numpy import ndarray
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from data_prep.cases import Unusable, walk
from data_prep.formats import size

TAGS = [
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "PatientID",
    "Modality",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "InstanceNumber",
    "SliceThickness",
]
SAME_MM = 0.01  # positions closer than this are one slice
# What pydicom raises for damaged files, depending on where they are damaged.
DAMAGE = (
    InvalidDicomError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    RuntimeError,
    NotImplementedError,
)


class Found(NamedTuple):
    """What lies in a tree: files of each CT series, its patient, the XML files, pictures of
    other modalities by series, and files whose header cannot be read."""

    series: dict[str, list[Path]]
    patient: dict[str, str]
    xml: list[Path]
    other: dict[str, str]
    unreadable: list[Path]


class Stack(NamedTuple):
    """The slices of a CT by rising position along its normal: `files`, `heights` (mm);
    `index_of` finds a slice by the UID of any of its files; `spacing` (row, column) and
    `thickness` in mm; `shape` in pixels."""

    files: list[Path]
    heights: Float[ndarray, " slice"]
    index_of: dict[str, int]
    spacing: tuple[float, float]
    thickness: float
    shape: tuple[int, int]


def find(folder: Path) -> Found:
    """Every CT series and XML file below `folder`, in any arrangement. FileNotFoundError
    when there is no such folder or nothing in it."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the one that holds LIDC-IDRI")
    found = Found(defaultdict(list), {}, [], {}, [])
    for file in _files(folder):
        if file.suffix.lower() == ".xml":
            found.xml.append(file)
        elif file.suffix.lower() in (".dcm", ""):
            _add(file, found)
    if not found.series:
        raise FileNotFoundError(
            f"{folder} holds no CT series in DICOM files, {len(found.xml)} XML files and "
            f"{len(found.other)} series of other kinds; download LIDC-IDRI from TCIA into it"
        )
    return found


def _files(folder: Path) -> Iterable[Path]:
    for where, _, names in walk(folder):
        yield from (where / name for name in names)


def _add(file: Path, found: Found) -> None:
    try:
        header = _dicom(file, stop_before_pixels=True, specific_tags=TAGS)
        series, kind = str(header.SeriesInstanceUID), str(header.Modality)
        patient = str(header.PatientID).strip()
    except DAMAGE:
        # Files without a suffix may be anything, such as a licence.
        if file.suffix:
            found.unreadable.append(file)
        return
    if kind != "CT":
        found.other[series] = kind
        return
    found.series[series].append(file)
    if found.patient.setdefault(series, patient) != patient:
        raise ValueError(
            f"{file}: patient {patient}, but others of series {series} say "
            f"{found.patient[series]}; download this series again"
        )


def stack(files: Sequence[Path]) -> Stack:
    """Put the slices of one series in order. Of several at one position the one with the lower
    InstanceNumber stays. Raises Unusable when they do not share spacing, size and direction."""
    headers = [(file, _header(file)) for file in files]
    _same("PixelSpacing", headers)
    _same("Rows", headers)
    _same("Columns", headers)
    _same("ImageOrientationPatient", headers)
    first = headers[0][1]
    direction = np.array([float(x) for x in first.ImageOrientationPatient])
    normal = np.cross(direction[:3], direction[3:])
    if abs(normal[2]) < 0.5:
        raise Unusable(f"{files[0]}: not an axial scan (normal {normal}); leave this series out")
    normal *= np.sign(normal[2])  # rising z, whichever way rows and columns run
    placed = [
        _Placed(
            float(normal @ [float(x) for x in h.ImagePositionPatient]), int(h.InstanceNumber), n
        )
        for n, (_, h) in enumerate(headers)
    ]
    kept, heights, index_of = [], [], {}
    for group in _by_position(placed):
        best = min(group, key=lambda one: one.number)
        index_of |= {str(headers[one.index][1].SOPInstanceUID): len(kept) for one in group}
        kept.append(headers[best.index][0])
        heights.append(best.height)
    spacing = tuple(float(x) for x in first.PixelSpacing)
    shape = int(first.Rows), int(first.Columns)
    return Stack(kept, np.array(heights), index_of, spacing, float(first.SliceThickness), shape)


class _Placed(NamedTuple):
    height: float
    number: int
    index: int


def _by_position(placed: Sequence[_Placed]) -> list[list[_Placed]]:
    groups: list[list[_Placed]] = []
    for one in sorted(placed):
        if groups and one.height - groups[-1][0].height <= SAME_MM:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _dicom(file: Path, **options: Any) -> pydicom.Dataset:
    """The dataset in `file`; ValueError for one that is packed whole, to any size."""
    if read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise ValueError("a deflated DICOM file; save it with another transfer syntax")
    return pydicom.dcmread(file, **options)


def _header(file: Path) -> pydicom.Dataset:
    try:
        header = _dicom(file, stop_before_pixels=True, specific_tags=TAGS)
        numbers = [*header.ImagePositionPatient, *header.ImageOrientationPatient]
        numbers += [*header.PixelSpacing, header.SliceThickness, header.InstanceNumber]
        whole = len(numbers) == 13 and np.isfinite([float(x) for x in numbers]).all()
        if not whole or min(map(float, header.PixelSpacing)) <= 0:
            raise ValueError("position, direction or spacing is no number")
        header.Rows, header.Columns, header.SOPInstanceUID  # noqa: B018
    except DAMAGE as error:
        raise Unusable(f"{file}: {error}; download this file again") from error
    return header


def _same(tag: str, headers: Sequence[tuple[Path, pydicom.Dataset]]) -> None:
    expected = headers[0][1][tag].value
    for file, header in headers:
        if not np.allclose(np.array(header[tag].value, float), np.array(expected, float), 0, 1e-3):
            raise Unusable(
                f"{file}: {tag} is {header[tag].value}, but {expected} in {headers[0][0].name}; "
                "two scans are mixed: leave this series out"
            )


def read_slice(file: Path, shape: tuple[int, int]) -> Float[ndarray, "height width"]:
    """One slice in HU (pixel x slope + intercept); Unusable when it is cut short or damaged."""
    try:
        data = _dicom(file)
        frames, samples = int(data.get("NumberOfFrames") or 1), int(data.get("SamplesPerPixel", 1))
        size.check(file, (frames, int(data.Rows), int(data.Columns), samples))
        if data.BitsAllocated == 16 and not data.file_meta.TransferSyntaxUID.is_compressed:
            if len(data.PixelData) < 2 * shape[0] * shape[1]:
                raise ValueError(f"pixels are cut short after {len(data.PixelData)} bytes")
        pixels = data.pixel_array.astype(np.float32)
        slope, intercept = float(data.RescaleSlope), float(data.RescaleIntercept)
    except Unusable:
        raise
    except DAMAGE as error:
        raise Unusable(f"{file}: {error}; download this file again") from error
    if pixels.shape != shape:
        raise Unusable(f"{file}: {pixels.shape} pixels, expected {shape}; leave this series out")
    return pixels * slope + intercept
