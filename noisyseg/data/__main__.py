"""Accept a prepared folder that you changed yourself: check it and seal it as it is now.

python -m noisyseg.data FOLDER
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from noisyseg.data.folder import seal


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; an error ends it with one line and exit status 1."""
    parser = argparse.ArgumentParser(
        "python -m noisyseg.data", None, __doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a prepared folder")
    args = parser.parse_args(arguments)
    try:
        print(f"{seal(args.folder)}: checked and sealed")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
