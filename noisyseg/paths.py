"""Where things lie on disk; the only module that reads NOISYSEG_* variables."""

import os
from pathlib import Path


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
