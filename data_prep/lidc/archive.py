"""The real scans of LIDC-IDRI: crops about nodules, the masks of four readers, a reference.

1 mm pixels, 180 x 180 crops centred on a nodule, Spatial STAPLE of the four masks as reference,
as in the paper. A reader who did not mark anything gives an empty mask, a reading that the file
lacks gives none. Readers are slots: reader 1 of one scan is not reader 1 of another.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import ndimage

from data_prep.cases import Case, Report, Slices, Unusable, prepare_cases
from data_prep.lidc.contours import fused
from data_prep.lidc.masks import READERS, Contour, Window, mask_of, window_of
from data_prep.lidc.nodules import REMARKS, Scan, read_scan
from data_prep.lidc.pickles import cases_of, read_case, read_pickles
from data_prep.lidc.readings import by_series
from data_prep.lidc.render import windowed
from data_prep.lidc.scans import Stack, find, read_slice

AIR_HU = -1000.0  # what a crop shows beyond the scan


PREP_VERSION = 2
LICENCE = "LIDC-IDRI (Armato et al. 2011, The Cancer Imaging Archive), CC BY 3.0"


META = {
    "name": "lidc",
    "classes": ["background", "nodule"],
    "channels": ["CT"],
    "origin": "real",
    "annotators": [f"reader {r + 1}" for r in range(READERS)],
    "licence": LICENCE,
    "prep_version": PREP_VERSION,
}


@dataclass(frozen=True)
class Settings:
    """Pixels a side of a crop, mm a pixel, readers who must have outlined a nodule at least,
    and which of its slices are taken (every n-th)."""

    crop: int = 180
    spacing: float = 1.0
    readers: int = READERS
    every: int = 1

    def __post_init__(self) -> None:
        if self.crop < 16 or not 0 < self.spacing < 10 or self.every < 1:
            raise ValueError(f"{self}: crop from 16 pixels, spacing 0 to 10 mm, every from 1")
        if not 1 <= self.readers <= READERS:
            raise ValueError(f"readers is {self.readers}; LIDC has 1 to {READERS}")


def survey(folder: Path) -> tuple[list[Case], list[str]]:
    """The CT series below `folder` with their XML file last, and notes on what is not used.

    XML files that cannot be read become cases too, so that they are reported like the rest.
    """
    found = find(folder)
    outlines, broken, x_ray = by_series(found.xml)
    folders = {file.parent: file for file in found.unreadable}
    cases = []
    for series, files in found.series.items():
        damaged = {folders[f.parent] for f in files if f.parent in folders}
        with_xml = (*sorted(files), *sorted(damaged), *sorted(outlines.get(series, [])))
        cases.append(Case(series, found.patient[series], with_xml))
    cases += [Case(str(file.relative_to(folder)), "unknown", (file,)) for file in broken]
    unknown = len(outlines.keys() - found.series.keys())
    kinds = sorted(set(found.other.values()))
    notes = [
        f"{len(found.series)} CT series; {len(found.other)} series of other kinds {kinds} and "
        f"{x_ray} XML files of X-ray pictures not used; {unknown} XML files belong to series "
        f"that are not here; {len(found.unreadable)} DICOM files cannot be read"
    ]
    return cases, notes


def slices_of(settings: Settings, scan: Scan) -> Slices:
    """The crops around each chosen nodule; readings that the file lacks are -1, not labelled.

    Every outline of a reader in the slice is in that reader's mask, other nodules' too: they
    are in the picture. Raises Unusable, naming the file, for damaged pixels.
    """
    parts = [_crops(group, scan, settings) for group in scan.chosen]
    images, masks, ids = (sum(columns, []) for columns in zip(*parts, strict=True))
    if not ids:
        raise Unusable(f"{scan.file}: no mask is left at {settings.spacing} mm; lower --spacing")
    drawn = np.array(masks)[:, : scan.reading.readers]
    labels = np.full((len(drawn), READERS, *drawn.shape[2:]), -1, np.int8)
    labels[:, : scan.reading.readers] = drawn
    pictures = windowed(np.array(images)).astype(np.float16)[:, None]
    return Slices(pictures, labels, reference(drawn), ids)


def reference(masks: Bool[ndarray, "slice reader height width"]) -> ndarray:
    """Spatial STAPLE of the readers, the paper's reference: int8 (slice, height, width)."""
    return fused(masks, "spatial_staple").astype(np.int8)


def _crops(
    group: list[int], scan: Scan, settings: Settings
) -> tuple[list[ndarray], list[ndarray], list[str]]:
    ct = scan.ct
    lesion = [contour for i in group for contour in scan.outlines[i]]
    box = window_of(lesion)
    # Whole pixels, so that a mask's own pixels stay where no resampling is asked for.
    centre = box.top + box.height // 2, box.left + box.width // 2
    by_reader: list[list[list[Contour]]] = [[] for _ in range(READERS)]
    for nodule, outline in zip(scan.reading.nodules, scan.outlines, strict=True):
        by_reader[nodule.reader].append(outline)
    images, masks, ids = [], [], []
    for k in sorted({contour.slice_index for contour in lesion})[:: settings.every]:
        whole = np.array([_whole(each, k, ct.shape) for each in by_reader])
        four = np.array([resampled(m.astype(float), centre, ct, settings) >= 0.5 for m in whole])
        if four.any():
            picture = read_slice(ct.files[k], ct.shape)
            images.append(resampled(picture, centre, ct, settings, AIR_HU))
            masks.append(four)
            ids.append(f"nodule{group[0]}/z{ct.heights[k]:+.2f}")
    return images, masks, ids


def _whole(outlines: list[list[Contour]], index: int, shape: tuple[int, int]) -> ndarray:
    mask = np.zeros(shape, bool)
    for outline in outlines:
        mask |= mask_of(outline, index, Window(0, 0, *shape))
    return mask


def resampled(
    picture: Float[ndarray, "rows columns"],
    centre: tuple[int, int],
    ct: Stack,
    settings: Settings,
    beyond: float = 0.0,
) -> Float[ndarray, "crop crop"]:
    """`settings.crop` pixels a side of `settings.spacing` mm; `centre` (row, column of
    `picture`) becomes pixel crop // 2. Linear between pixels, `beyond` outside the picture."""
    steps = (np.arange(settings.crop) - settings.crop // 2) * settings.spacing
    rows, columns = (c + steps / mm for c, mm in zip(centre, ct.spacing, strict=True))
    grid = np.meshgrid(rows, columns, indexing="ij")
    return ndimage.map_coordinates(picture, grid, order=1, mode="constant", cval=beyond)


def prepare_tree(
    folder: Path, out: Path, settings: Settings, strict: bool = False, force: bool = False
) -> tuple[Report, list[str]]:
    """TCIA's tree -> prepared folder `out`; its report and notes on what was not used."""
    cases, notes = survey(Path(folder))
    remarks: dict[str, Counter[str]] = {}

    def read(case: Case) -> Slices:
        scan = read_scan(settings.readers, case)
        remarks[case.name] = scan.remarks
        return slices_of(settings, scan)

    report = prepare_cases(
        out,
        cases,
        read,
        asdict(settings) | {"version": PREP_VERSION},
        strict=strict,
        force=force,
        spacing_mm=[settings.spacing] * 2,
        **META,
    )
    used = [case for case in cases if case.name not in report.skipped]
    # The slices of an interrupted call are kept, its remarks are not.
    remarks |= {
        c.name: read_scan(settings.readers, c).remarks for c in used if c.name not in remarks
    }
    total = sum((remarks[case.name] for case in used), Counter[str]())
    return report, [*notes, *(f"{n} {REMARKS[kind]}" for kind, n in sorted(total.items()))]


def prepare_pickle(
    path: Path, out: Path, readers: int = 1, strict: bool = False, force: bool = False
) -> Report:
    """The pickle -> prepared folder `out`; slices outlined by at least `readers` readers.

    Pictures keep the pixels and the grey values 0..1 of the file.
    """
    slices = read_pickles(Path(path))
    cases, names = cases_of(slices, Path(path))
    shapes = {np.shape(s.get("image")) for s in slices.values()}
    if len(shapes) > 1:
        raise ValueError(f"{path}: images of shapes {sorted(map(str, shapes))[:4]}; expected one")

    def read(case: Case) -> Slices:
        found = read_case(slices, names[case.name], readers)
        return found._replace(truth=reference(found.labels == 1))

    settings = {"readers": readers, "version": PREP_VERSION}
    return prepare_cases(
        out, cases, read, settings, strict=strict, force=force, spacing_mm=None, **META
    )
