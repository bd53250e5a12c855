"""What the commands of data_prep share: how one ends with an error, and options of archives."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.formats import size


@contextmanager
def one_line_errors(max_gb: float | None = None) -> Iterator[None]:
    """An error of the data inside it ends the command: one line, exit status 1.

    `max_gb`: what one file may take in memory inside it; None keeps the defaults.
    """
    try:
        with size.allowing(max_gb):
            yield
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


def parser_of(module: str, text: str | None) -> argparse.ArgumentParser:
    """A parser of `python -m module` whose help is `text` as it stands."""
    return argparse.ArgumentParser(
        f"python -m {module}", None, text, formatter_class=argparse.RawTextHelpFormatter
    )


def add_archive_options(parser: argparse.ArgumentParser, name: str, tree: str) -> None:
    """The options of a reader of volumes: `tree` is what --folder holds, `name` the data set."""
    add = parser.add_argument
    add("--folder", type=Path, required=True, help=tree)
    add("--out", type=Path, help=f"prepared folder (default: {name} below the data root)")
    add("--spacing", type=float, default=1.0, help="mm (1.0)")
    add("--every", type=int, default=1, help="keep every n-th of these slices (1)")
    add("--origin", choices=("real", "stand-in"), default="real", help="stand-in: made up")
    add_limit(parser)
    add("--strict", action="store_true", help="stop at the first unusable case")
    add("--force", action="store_true", help="make the folder again if it exists")


def add_limit(parser: argparse.ArgumentParser) -> None:
    """The option --max-gb of commands that read volumes."""
    text = f"of a volume in memory (default: {size.VOLUME_GB:g})"
    parser.add_argument("--max-gb", type=float, help=text)
