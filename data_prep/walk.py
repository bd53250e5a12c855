"""Everything below a folder, behind links too: on shared storage cases are often links.

Knows no file format.
"""

import os
from collections.abc import Iterator
from pathlib import Path


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder below `folder`, itself first, with the sorted names of the folders and of the
    files in it; hidden files are left out.

    A folder that several links lead to is entered once, at its first name in sorted order; a
    link to a folder that holds `folder` is not entered.
    """
    seen = {str(parent) for parent in Path(os.path.realpath(folder)).parents}
    for where, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(where)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield Path(where), list(folders), sorted(f for f in files if not f.startswith("."))
