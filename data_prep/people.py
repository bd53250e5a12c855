"""Real people who outlined cells, as two prepared folders, where their images are there.

BU-BIL: cells under a phase-contrast microscope, arranged as a folder of images and one of
masks for each person. The images are no part of this project; without them nothing is made.

    python -m data_prep.people --folder FOLDER
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from data_prep.command import one_line_errors, parser_of
from data_prep.folders.plans import plan_folders
from data_prep.folders.prepare import Result, prepare
from data_prep.folders.slicing import agreement
from noisyseg.data.dataset import load_dataset
from noisyseg.storage import data_root, locked, project_root

LICENCE = (
    "BU-BIL, copyright (c) 2014 Boston University: redistribution and use are permitted with its "
    "notice, conditions and disclaimer (BSD, 4 clauses). Cite D. Gurari et al., How to Collect "
    "Segmentations for Biomedical Images?, WACV 2015"
)


class Source(NamedTuple):
    """One prepared folder: its name, and where the images and masks of its people lie."""

    name: str
    folder: str
    annotators: tuple[str, ...]
    truth: str


SOURCES = (
    Source(
        "people_crowd",
        "phase_crowd",
        annotators=("crowd1", "crowd2", "crowd3", "crowd4", "crowd5"),
        truth="truth",  # the gold standard of the experts
    ),
    Source(
        "people_persons",
        "phase_persons",
        annotators=("person1", "person3", "person4", "person5"),
        truth="person2",  # the source's own gold standard, so no annotator as well
    ),
)


def default_folder() -> Path:
    """Where the images are looked for: `shared/real` beside the checkout."""
    return project_root().parent / "shared" / "real"


def prepare_source(folder: Path, source: Source, out: Path, force: bool = False) -> Result:
    """Write the prepared folder `out` from the people of `source` under `folder`.

    Images of one cell stay in one split. Raises ValueError naming file, value and remedy for
    what cannot be used, FileExistsError without `force`.
    """
    people = folder / source.folder
    labels = {name: people / name for name in source.annotators}
    return prepare(
        out,
        plan_folders([people / "images"], labels, people / source.truth),
        cases=folder / f"{source.folder}_cases.csv",
        size="largest",
        strict=True,
        force=force,
        padding=0,  # background, as in the folders that the committed tables were trained on
        name=source.name,
        origin="real",
        licence=LICENCE,
    )


def main(arguments: list[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    args = _parser().parse_args(arguments)
    folder = args.folder or default_folder()
    out = args.out or data_root()
    # Who names a folder wants it read: only the default one may be absent.
    here = SOURCES if args.folder else [s for s in SOURCES if (folder / s.folder).is_dir()]
    absent = [source.name for source in SOURCES if source not in here]
    if absent:
        print(f"{', '.join(absent)}: skipped, their images are not in {folder}")
    with one_line_errors():
        for source in here:
            _make(folder, source, out / source.name, args.force)


def _make(folder: Path, source: Source, out: Path, force: bool) -> None:
    with locked(out):
        if out.exists() and not force:
            print(f"{out}: already there, left alone")
            return
        result = prepare_source(folder, source, out, force)
    print(result.report, agreement(load_dataset(result.report.path)), sep="\n")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("data_prep.people", __doc__)
    add = parser.add_argument
    add(
        "--folder",
        type=Path,
        help="holds phase_crowd and phase_persons (default: shared/real\n"
        "beside the checkout, and nothing is made where it is absent)",
    )
    add("--out", type=Path, help="holds the prepared folders (default: the data root)")
    add("--force", action="store_true", help="make the folders again if they exist")
    return parser


if __name__ == "__main__":
    main()
