"""BraTS 2018 to 2023: the official training trees -> prepared folder `brats`.

Four modalities, three tumour classes (paper section 4: centre crops of 192, z-score by case
and modality). Label 4 (enhancing tumour until 2021) becomes 3, the label it has since 2023.

    python -m data_prep.brats --folder MICCAI_BraTS2020_TrainingData
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.cases import (
    VOLUMES,
    Case,
    Input,
    Report,
    Slices,
    Unusable,
    prepare_cases,
    sources,
    walk,
)
from data_prep.command import add_archive_options, one_line_errors, parser_of
from data_prep.formats import volumes
from noisyseg.storage import data_root

MODALITIES = ("flair", "t1", "t1ce", "t2")
CLASSES = ("background", "necrotic core", "oedema", "enhancing tumour")
SINCE_2023 = {"t2f": "flair", "t1n": "t1", "t1c": "t1ce", "t2w": "t2"}
SCAN = re.compile(
    r"(?P<name>BraTS.*?)[_-](?P<what>flair|t1ce|t1|t2|t1n|t1c|t2w|t2f|seg)\.nii(\.gz)?",
    re.IGNORECASE,
)
# Since 2023 the challenge stands in the name. The numbers of a mask mean these classes in the
# challenges on glioma of adults alone; see OTHERS for what they mean elsewhere.
CHALLENGE = re.compile(r"BraTS-([A-Za-z]+)[-_]", re.IGNORECASE)
GLIOMA = ("gli", "ssa")
OTHERS = {
    "ped": "children's tumours, where 1 is enhancing, 2 not enhancing, 3 cystic and 4 oedema",
    "men": "meningioma",
    "met": "metastases",
    "goat": "tumours of several kinds",
}
YEAR = re.compile(r"BraTS\d*[-_]", re.IGNORECASE)  # Brats18_ to BraTS2021_, BraTS- since 2023
# One mask of the 2020 copy that is passed around carries the name of another project.
MISNAMED = re.compile(r"W39_1998\.09\.19_Segm\.nii(\.gz)?")
LICENCE = "BraTS: for registered users, not to be passed on (Menze 2015, Bakas 2017 and 2018)"
STAND_IN = "phantoms on ICBM 152 anatomy (copyright McConnell Brain Imaging Centre); tumours drawn"
PREP_VERSION = 1


class Options(NamedTuple):
    """How a case becomes slices. `spacing` mm in all directions, `crop` pixels (square), slices
    with at least `min_pixels` of tumour, with `all_classes` all three, every `every`-th."""

    modalities: tuple[str, ...] = MODALITIES
    spacing: float = 1.0
    crop: int = 192
    min_pixels: int = 50
    all_classes: bool = False
    every: int = 1


DEFAULT = Options()


def find_cases(folder: Path, options: Options = DEFAULT) -> list[Case]:
    """One case a folder or name below `folder`; files in the order of the modalities, then the
    mask.

    Raises FileNotFoundError where there is no case, ValueError for a case in two places or
    cases of several years. A case without one of its files says so when it is read.
    """
    found: dict[str, dict[str, Path]] = {}
    for file, name, what in _scans(Path(folder)):
        files = found.setdefault(name, {})
        other = files.setdefault(what, file)
        if other != file:
            raise ValueError(f"{file} and {other} are the same case twice; remove one")
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no case such as BraTS20_Training_001_flair.nii.gz: give the folder "
            "of the training data"
        )
    _refuse_other_tumours(found, Path(folder))
    _refuse_two_years(found, Path(folder))
    names = [*options.modalities, "seg"]
    return [
        Case(
            name,
            _patient(name),
            tuple(files.get(n, Path(folder) / f"{name}_{n} (missing)") for n in names),
        )
        for name, files in sorted(found.items())
    ]


def _scans(folder: Path) -> Iterator[tuple[Path, str, str]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the folder of the training data")
    for where, folders, files in walk(folder):
        # A folder with the name of a scan is damage: the case says so when it is read.
        for file in sorted(folders + files):
            match = SCAN.fullmatch(file)
            if match:
                what = match["what"].lower()
                yield where / file, match["name"], SINCE_2023.get(what, what)
            elif MISNAMED.fullmatch(file):
                yield where / file, where.name, "seg"


def _refuse_other_tumours(names: Iterable[str], folder: Path) -> None:
    for name in sorted(names):
        match = CHALLENGE.match(name)
        if match is None or match[1].lower() in GLIOMA:
            continue
        what = OTHERS.get(match[1].lower(), "another challenge")
        raise ValueError(
            f"{folder} holds {name}, of BraTS-{match[1].upper()} ({what}); the classes here are "
            f"those of glioma ({', '.join(CLASSES[1:])}): give a folder of BraTS-GLI or earlier "
            "years, or prepare this one with data_prep.folders and its own --classes"
        )


def _refuse_two_years(names: Iterable[str], folder: Path) -> None:
    # 2020 has the patients of 2019, and 2023 those of 2021, under new names: one brain could
    # be trained and tested on.
    dated = [(YEAR.match(name), name) for name in sorted(names)]
    years = {year[0].lower(): name for year, name in dated if year}
    if len(years) > 1:
        raise ValueError(
            f"{folder} holds cases of {len(years)} years ({', '.join(sorted(years.values()))}); "
            "later years have patients of earlier ones under new names (name_mapping.csv), who "
            "would be trained and tested on: give the folder of one year"
        )


def _patient(name: str) -> str:
    """The patient of a case: since 2023 a last number counts the visits (BraTS-GLI-00001-000)."""
    return name.rsplit("-", 1)[0] if re.fullmatch(r"BraTS-\w+-\d+-\d+", name) else name


def read_case(case: Case, options: Options) -> Slices:
    """The axial slices of one case that show tumour, normalised; `Unusable` if damaged."""
    scans = {str(f): volumes.read_volume(f) for f in case.files[:-1]}
    seg = _read_tumour(case)
    volumes.same_grid(scans | {str(case.files[-1]): seg})
    spacing = (options.spacing,) * 3
    images = [volumes.resample(volumes.normalise(v), spacing).array for v in scans.values()]
    truth = volumes.as_labels(volumes.resample_mask(seg, spacing))
    keep = _chosen(truth, options, case.files[-1])
    image = volumes.cut(np.stack(images), keep, (options.crop,) * 2).astype(np.float16)
    return Slices(
        image,
        None,
        volumes.cut(truth[None], keep, (options.crop,) * 2)[:, 0],
        [f"z{z:03d}" for z in keep],
    )


def _read_tumour(case: Case) -> volumes.Volume:
    """The mask with enhancing tumour as 3; `Unusable` for a label its year does not have."""
    file = case.files[-1]
    seg = volumes.read_mask(file, (0, 1, 2, 3, 4))
    since_2023 = case.name.lower().startswith("brats-")
    if since_2023 and (seg.array == 4).any():
        raise Unusable(
            f"{file}: holds label 4; data named BraTS-... have 0, 1, 2, 3, and since 2024 4 is a "
            "resection cavity, which is no class here: leave this case out, or write 3 if "
            "enhancing tumour is meant"
        )
    if not since_2023 and (seg.array == 3).any():
        raise Unusable(
            f"{file}: holds label 3; data until 2021 have 0, 1, 2, 4: write 4 if enhancing tumour "
            "is meant"
        )
    return seg._replace(array=np.where(seg.array == 4, 3, seg.array))


def _chosen(truth: np.ndarray, options: Options, file: Path) -> np.ndarray:
    """Numbers of the slices that are kept; what the crop cuts off does not count."""
    truth = volumes.centre(truth, (options.crop, options.crop))
    good = (truth > 0).sum((0, 1)) >= options.min_pixels
    if options.all_classes:
        good &= np.all([(truth == k).any((0, 1)) for k in (1, 2, 3)], axis=0)
    if not good.any():
        wanted = f"{options.min_pixels} pixels of tumour"
        if options.all_classes:
            wanted += " of all classes"
        raise Unusable(f"{file}: no slice has {wanted}; lower --min-pixels or remove the case")
    return np.flatnonzero(good)[:: options.every]


def prepare(
    folder: Path,
    out: Path | None = None,
    options: Options = DEFAULT,
    origin: str = "real",
    strict: bool = False,
    force: bool = False,
) -> Report:
    """Write the prepared folder `out` (default: brats below the data root) from `folder`.

    Split by patient; annotators are simulated at run time. Raises ValueError for options that
    make no sense, and what `find_cases` and `prepare_cases` raise.
    """
    volumes.check_options(options)
    cases = find_cases(Path(folder), options)
    settings = options._asdict() | {"prep_version": PREP_VERSION}
    return prepare_cases(
        out or data_root() / "brats",
        cases,
        partial(read_case, options=options),
        settings,
        strict=strict,
        force=force,
        name="brats",
        classes=[*CLASSES],
        origin=origin,
        channels=[*options.modalities],
        annotators=None,
        prep_version=PREP_VERSION,
        sources=sources(cases, Input(VOLUMES, options.spacing, size=(options.crop,) * 2)),
        spacing_mm=[options.spacing] * 2,
        licence=LICENCE if origin == "real" else STAND_IN,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    parser = parser_of("data_prep.brats", __doc__)
    add, default = parser.add_argument, DEFAULT
    add_archive_options(parser, "brats", "the tree of the training data, any year")
    add("--modalities", nargs="+", choices=MODALITIES, default=default.modalities)
    add("--crop", type=int, default=default.crop, help="pixels, square, about the middle (192)")
    add("--min-pixels", type=int, default=default.min_pixels, help="tumour pixels of a slice (50)")
    add("--all-classes", action="store_true", help="only slices with all three tumour classes")
    args = parser.parse_args(arguments)
    options = Options(
        tuple(args.modalities),
        args.spacing,
        args.crop,
        args.min_pixels,
        args.all_classes,
        args.every,
    )
    with one_line_errors(args.max_gb):
        print(prepare(args.folder, args.out, options, args.origin, args.strict, args.force))


if __name__ == "__main__":
    main()
