"""MS lesions: the MSLSC / ISBI 2015 longitudinal training tree -> prepared folder `ms`.

21 scans of 5 patients, four modalities, lesion masks of two raters (paper section 4). How the
paper cut slices from the scans it does not say; every such choice is an argument here.

    python -m data_prep.ms_lesions --folder training
"""

import re
from collections.abc import Iterator, Sequence
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

MODALITIES = ("flair", "mprage", "pd", "t2")
TRUTHS = ("mask1", "mask2", "union", "intersection")
SCAN = re.compile(
    r"(?P<name>training(?P<patient>\d+)_(?P<visit>\d+))_"
    r"(?P<what>flair|mprage|pd|t2|mask1|mask2)(?P<pp>_pp)?\.nii(\.gz)?",
    re.IGNORECASE,
)
LICENCE = "MSLSC / ISBI 2015: for registered users, not to be passed on (smart-stats-tools.org)"
STAND_IN = "phantoms on ICBM 152 anatomy (copyright McConnell Brain Imaging Centre); lesions drawn"
PREP_VERSION = 1


class Options(NamedTuple):
    """How a scan becomes slices. `spacing` mm in all directions, `crop` pixels (x, y), slices
    with at least `min_pixels` of lesion in the truth, and of these every `every`-th."""

    modalities: tuple[str, ...] = ("flair", "mprage")
    which: str = "preprocessed"
    truth: str = "mask1"
    raters: bool = False
    spacing: float = 1.0
    crop: tuple[int, int] = (192, 224)
    min_pixels: int = 1
    every: int = 1


DEFAULT = Options()


def find_cases(folder: Path, options: Options = DEFAULT) -> list[Case]:
    """One case a scan below `folder`, at any depth; files in the order of the modalities, then
    the two masks.

    Raises FileNotFoundError where there is no scan. A scan without one of its files becomes a
    case whose reading says what is missing; a file that is there twice is a ValueError.
    """
    found: dict[str, dict[str, Path]] = {}
    for file, match in _scans(Path(folder)):
        what = match["what"].lower()
        if what in MODALITIES and bool(match["pp"]) != (options.which == "preprocessed"):
            continue
        files = found.setdefault(match["name"].lower(), {})
        other = files.setdefault(what, file)
        if other != file:
            raise ValueError(f"{file} and {other} are the same scan twice; remove one")
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no scan named training01_01_flair_pp.nii or alike: give the folder "
            "`training` of the archive"
        )
    names = [*options.modalities, "mask1", "mask2"]
    return [
        Case(name, name.split("_")[0], tuple(files.get(n, _absent(folder, name, n)) for n in names))
        for name, files in sorted(found.items())
    ]


def _scans(folder: Path) -> Iterator[tuple[Path, re.Match]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the folder `training`")
    for where, folders, files in walk(folder):
        # A folder with the name of a scan is damage: the case says so when it is read.
        for name in sorted(folders + files):
            match = SCAN.fullmatch(name)
            if match:
                yield where / name, match


def _absent(folder: Path, name: str, what: str) -> Path:
    return Path(folder) / f"{name}_{what} (missing)"


def read_case(case: Case, options: Options) -> Slices:
    """The axial slices of one scan, normalised over its own brain; `Unusable` if damaged."""
    count = len(options.modalities)
    scans = {str(f): volumes.read_volume(f) for f in case.files[:count]}
    masks = {str(f): volumes.read_mask(f, (0, 1)) for f in case.files[count:]}
    volumes.same_grid(scans | masks)
    spacing = (options.spacing,) * 3
    images = [volumes.resample(volumes.normalise(v), spacing).array for v in scans.values()]
    raters = [volumes.resample_mask(v, spacing).array > 0 for v in masks.values()]
    truth = {
        "mask1": raters[0],
        "mask2": raters[1],
        "union": raters[0] | raters[1],
        "intersection": raters[0] & raters[1],
    }[options.truth]
    seen = volumes.centre(truth, options.crop)  # what the crop cuts off does not count
    keep = np.flatnonzero(seen.sum((0, 1)) >= options.min_pixels)[:: options.every]
    if not len(keep):
        raise Unusable(
            f"{case.files[count]}: no slice has {options.min_pixels} pixels of lesion; lower "
            "--min-pixels or remove the case"
        )
    image = volumes.cut(np.stack(images), keep, options.crop).astype(np.float16)
    mask = volumes.cut(truth[None].astype(np.int8), keep, options.crop)[:, 0]
    both = (
        volumes.cut(np.stack(raters).astype(np.int8), keep, options.crop)
        if options.raters
        else None
    )
    return Slices(image, both, mask, [f"z{z:03d}" for z in keep])


def prepare(
    folder: Path,
    out: Path | None = None,
    options: Options = DEFAULT,
    origin: str = "real",
    strict: bool = False,
    force: bool = False,
) -> Report:
    """Write the prepared folder `out` (default: ms below the data root) from `folder`.

    Split by patient: slices of one brain never stand on both sides. Raises ValueError for
    options that make no sense, and what `find_cases` and `prepare_cases` raise.
    """
    volumes.check_options(options)
    cases = find_cases(folder, options)
    settings = options._asdict() | {"prep_version": PREP_VERSION}
    return prepare_cases(
        out or data_root() / "ms",
        cases,
        partial(read_case, options=options),
        settings,
        strict=strict,
        force=force,
        name="ms",
        classes=["background", "lesion"],
        channels=[*options.modalities],
        origin=origin,
        prep_version=PREP_VERSION,
        annotators=["rater 1", "rater 2"] if options.raters else None,
        sources=sources(cases, Input(VOLUMES, options.spacing, size=options.crop[::-1])),
        spacing_mm=[options.spacing] * 2,
        licence=LICENCE if origin == "real" else STAND_IN,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    parser = parser_of("data_prep.ms_lesions", __doc__)
    add, default = parser.add_argument, DEFAULT
    add_archive_options(parser, "ms", "the folder `training` of the archive")
    add(
        "--modalities",
        nargs="+",
        choices=MODALITIES,
        default=default.modalities,
        help="channels; the paper has FLAIR and T1 (default: flair mprage)",
    )
    add(
        "--which",
        choices=("preprocessed", "orig"),
        default=default.which,
        help="orig: needs masks on the grid of the originals; those of the archive lie on the\n"
        "preprocessed one, so its tree as it is ends in the error about one grid",
    )
    add("--truth", choices=TRUTHS, default=default.truth, help="what is the truth (mask1)")
    add(
        "--annotators",
        choices=("simulated", "raters"),
        default="simulated",
        help="simulated at run time as in the paper, or the two raters themselves",
    )
    add("--crop", type=int, nargs=2, default=default.crop, help="pixels left-right, front-back")
    add("--min-pixels", type=int, default=default.min_pixels, help="lesion pixels of a slice (1)")
    args = parser.parse_args(arguments)
    options = Options(
        tuple(args.modalities),
        args.which,
        args.truth,
        args.annotators == "raters",
        args.spacing,
        tuple(args.crop),
        args.min_pixels,
        args.every,
    )
    with one_line_errors(args.max_gb):
        print(prepare(args.folder, args.out, options, args.origin, args.strict, args.force))


if __name__ == "__main__":
    main()
