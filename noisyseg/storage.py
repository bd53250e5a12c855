"""Where things lie on disk, and how a file is written: whole or not at all.

The only module that reads NOISYSEG_* variables.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd  # slow to import, and paths are needed by quick commands


def project_root() -> Path:
    """The checkout this package is imported from, else the current directory."""
    parent = Path(__file__).resolve().parent.parent
    return parent if (parent / "pyproject.toml").exists() else Path.cwd()


def _root(variable: str, folder: str) -> Path:
    moved = os.environ.get(variable)
    return Path(moved).expanduser() if moved else project_root() / folder


def data_root() -> Path:
    """Prepared data sets: NOISYSEG_DATA, else `data/` of the checkout."""
    return _root("NOISYSEG_DATA", "data")


def runs_root() -> Path:
    """Run folders: NOISYSEG_RUNS, else `runs/` of the checkout."""
    return _root("NOISYSEG_RUNS", "runs")


def figures_root() -> Path:
    """Figures, tables and their source data: NOISYSEG_FIGURES, else `figures/` of the checkout."""
    return _root("NOISYSEG_FIGURES", "figures")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the path given, then rename it to `path`; a failure leaves the old file."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """`values` as indented JSON, atomically."""
    with replacing(path) as part:
        part.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """`table` as CSV without its index, atomically."""
    with replacing(path) as part:
        table.to_csv(part, index=False, float_format="%.6g")
