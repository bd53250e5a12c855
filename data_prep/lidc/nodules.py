"""A CT series of LIDC-IDRI and its XML file -> the nodules, as outlines in the CT's own pixels.

Puts the readers' outlines on the slices, says which outlines are one nodule, and counts what is
not used. Reads no pixel.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.cases import Case, Unusable
from data_prep.lidc.masks import READERS, Contour, cluster
from data_prep.lidc.readings import Drawn, Reading, read_xml
from data_prep.lidc.scans import Stack, stack

# What is not as one would expect in the scans that are used.
REMARKS = {
    "absent": f"scans have fewer than {READERS} readings: the last readers are not labelled there",
    "crowded": f"groups of more than {READERS} outlines, which nobody can part, have no crops",
    "few": "nodules that fewer readers outlined than asked for have no crops; lower --readers",
    "unrated": "outlines without ratings are used like the others",
}


class Scan(NamedTuple):
    """A CT and what its readers outlined: `outlines` in the order of `reading.nodules`, `chosen`
    lists positions in it, a list for each nodule that is used; `remarks` counts the rest."""

    file: Path
    reading: Reading
    ct: Stack
    outlines: list[list[Contour]]
    chosen: list[list[int]]
    remarks: Counter[str]


def read_scan(readers: int, case: Case) -> Scan:
    """The nodules of one CT series that at least `readers` readers outlined; reads no pixel.

    Raises Unusable, naming the file, for whatever does not fit together.
    """
    xml = [file for file in case.files if file.suffix.lower() == ".xml"]
    scans = [file for file in case.files if file not in xml]
    if len(xml) != 1:
        raise Unusable(f"{len(xml)} XML files for series {case.name}; one is needed")
    reading = read_xml(xml[0])
    if not reading.nodules:
        raise Unusable(
            f"{xml[0]}: no nodule of 3 mm or more ({reading.small} marks of smaller ones, "
            f"{reading.other} of other findings)"
        )
    ct = stack(scans)
    outlines = [_contours(nodule, ct, xml[0]) for nodule in reading.nodules]
    groups = cluster(outlines, ct.thickness)
    chosen = [g for g in groups if _who(g, reading) >= readers and len(g) <= READERS]
    crowded = sum(len(g) > READERS for g in groups)
    few = len(groups) - crowded - len(chosen)
    if not chosen:
        raise Unusable(
            f"{xml[0]}: no nodule outlined by {readers} readers or more: {few} by fewer (lower "
            f"--readers), {crowded} groups of more than {READERS} outlines (leave the series out)"
        )
    absent = reading.readers < READERS
    remarks = Counter(few=few, crowded=crowded, unrated=reading.unrated, absent=absent)
    return Scan(xml[0], reading, ct, outlines, chosen, remarks)


def _who(group: list[int], reading: Reading) -> int:
    return len({reading.nodules[i].reader for i in group})


def _contours(nodule: Drawn, ct: Stack, file: Path) -> list[Contour]:
    contours = []
    for ring in nodule.rings:
        index = ct.index_of.get(ring.slice_uid)
        if index is None:
            raise Unusable(
                f"{file}: nodule {nodule.name} at z {ring.z_mm} mm: slice {ring.slice_uid} is "
                "not there; download the series again"
            )
        if (ring.points < 0).any() or (ring.points >= ct.shape).any():
            raise Unusable(
                f"{file}: nodule {nodule.name} leaves the {ct.shape} pixels of its slice; the "
                "file belongs to another scan: leave this series out"
            )
        contours.append(Contour(index, ring.inside, ring.points))
    _refuse_gaps(contours, ct, file)
    return contours


def _refuse_gaps(contours: Sequence[Contour], ct: Stack, file: Path) -> None:
    used = [contour.slice_index for contour in contours]
    gaps = np.diff(ct.heights)
    inside = gaps[min(used) : max(used)]
    if len(inside) and inside.max() > 1.5 * np.median(gaps):
        raise Unusable(
            f"{file}: slices are {inside.max():.2f} mm apart within a nodule and "
            f"{np.median(gaps):.2f} mm elsewhere: one is missing; download the series again"
        )
