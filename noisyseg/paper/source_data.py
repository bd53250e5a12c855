"""The exported tables: runs -> figures/source_data -> notebooks.

Contract: `figures/source_data/<experiment>.<profile>.csv`, one row per value. `smoke` files
stand beside better ones and never replace them. Trains nothing and knows no model.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisyseg.paper import ablations
from noisyseg.runs import Run, read_values
from noisyseg.storage import check_npz, figures_root, locked, replacing, write_csv

COLUMNS = (
    "experiment dataset origin profile labelling method seed metric class annotator value "
    "n_images digest"
).split()
KEY = ["experiment", "dataset", "profile", "labelling", "method", "seed"]
BEST_FIRST = ("full", "reduced", "smoke")
# What can be exported -> the end of its file's name.
KINDS = {
    "values": "csv",
    "images": "images.csv",
    "history": "history.csv",
    "exhibits": "exhibits.npz",
}
SHOWN = 4  # images of each run among the exhibits


def table(runs: Iterable[Run]) -> pd.DataFrame:
    """The runs' metrics in the exported columns, then those that `ablations` adds."""
    parts, extra = [], {}
    for run in runs:
        cfg = run.config
        fixed = {c: getattr(cfg, c) for c in KEY} | {"dataset": Path(cfg.dataset).name}
        fixed |= {"origin": run.provenance["origin"], "digest": run.path.name[-8:]}
        extra = ablations.columns(cfg)
        parts.append(pd.concat([run.metrics, _validation(run)]).assign(**fixed | extra))
    # No value: a column of a matrix that never occurred, e.g. STAPLE of blank masks.
    return pd.concat(parts, ignore_index=True)[[*COLUMNS, *extra]].dropna(subset="value")


def _validation(run: Run) -> pd.DataFrame:
    """The last validation loss on *noisy* labels, the only score a user without truth has."""
    if "val_loss" not in run.history:
        return pd.DataFrame()
    row = {"metric": "val_loss", "class": "all", "annotator": "all"}
    count = run.config.n_val or 0  # 0 stands for all images of the split
    return pd.DataFrame([row | {"value": run.history.val_loss.iloc[-1], "n_images": count}])


def export(runs: Iterable[Run] | Mapping[str, Run], kind: str = "values") -> Path:
    """Write the exported file of `kind` for some runs of one experiment and profile.

    `kind`: one of KINDS. "values" takes any runs and keeps the rows of others: rows are replaced
    by key (labelling, method, seed and the study's columns), so tables grow with a sweep. The
    other kinds take runs by the name to find them under, e.g. "calibrated one", and replace
    the file: "images" has one row a test image, "history" one row per epoch, "exhibits" the
    arrays of the first four test images. Returns the path. Raises ValueError for runs of
    several experiments or profiles.
    """
    if kind != "values":
        assert isinstance(runs, Mapping), "give runs by name"
        path = _path(next(iter(runs.values())), kind)
        NAMED[kind](path, runs)
        return path
    runs = list(runs.values() if isinstance(runs, Mapping) else runs)
    files = sorted({_path(run, kind).name for run in runs})
    if len(files) != 1:
        raise ValueError(
            f"runs for {len(files)} tables ({', '.join(files)}): export each experiment alone"
        )
    path, new, extra = _path(runs[0], kind), table(runs), list(ablations.columns(runs[0].config))
    with locked(path):
        old = read_values(path) if path.exists() else new[:0]
        if list(old) == list(new):  # a table of an older format is written anew from the runs
            key = pd.MultiIndex.from_frame(old[KEY + extra].astype(str))
            gone = key.isin(pd.MultiIndex.from_frame(new[KEY + extra].astype(str)))
            new = pd.concat([old[~gone], new], ignore_index=True)
        write_csv(path, new.sort_values([*KEY, *extra, "metric", "class", "annotator"]))
    return path


def _path(run: Run, kind: str) -> Path:
    name = f"{run.config.experiment}.{run.config.profile}.{KINDS[kind]}"
    return figures_root() / "source_data" / name


def _write_images(path: Path, runs: Mapping[str, Run]) -> None:
    write_csv(path, pd.concat([run.images.assign(name=name) for name, run in runs.items()]))


def _write_history(path: Path, runs: Mapping[str, Run]) -> None:
    rows = pd.concat([r.history.assign(name=n) for n, r in runs.items()], ignore_index=True)
    write_csv(path, rows[["name", *(c for c in rows if c != "name")]])


def _write_exhibits(path: Path, runs: Mapping[str, Run]) -> None:
    arrays = {f"{k}/{n}": a[:SHOWN] for k, run in runs.items() for n, a in run.exhibits.items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


NAMED: dict[str, Callable[[Path, Mapping[str, Run]], None]] = {
    "images": _write_images,
    "history": _write_history,
    "exhibits": _write_exhibits,
}


def read(experiment: str, profile: str | None = None, kind: str = "values") -> Any:
    """What `export` wrote, of `profile` or of the best profile present (full, reduced, smoke).

    "values" and "images" give a table, "history" one table for each name, "exhibits" arrays by
    name and field. Raises FileNotFoundError naming the command that makes the file.
    """
    path = _best(experiment, profile, KINDS[kind])
    if kind == "values":
        return read_values(path)
    if kind == "exhibits":
        return _read_exhibits(path)
    rows = pd.read_csv(path)
    if kind == "images":
        return rows
    return {name: part for name, part in rows.groupby("name", sort=False)}


def exists(experiment: str, profile: str) -> bool:
    """Whether the values of an experiment have been exported in this very profile."""
    return (figures_root() / "source_data" / f"{experiment}.{profile}.csv").exists()


def _best(experiment: str, profile: str | None, suffix: str) -> Path:
    folder = figures_root() / "source_data"
    for name in [profile] if profile else BEST_FIRST:
        path = folder / f"{experiment}.{name}.{suffix}"
        if path.exists():
            return path
    raise FileNotFoundError(
        f"no {experiment}.<profile>.{suffix} in {folder}: run `make figures` to train and export it"
    )


def _read_exhibits(path: Path) -> dict[str, dict[str, np.ndarray]]:
    exhibits: dict[str, dict[str, np.ndarray]] = {}
    check_npz(path)
    with np.load(path) as arrays:
        for key, array in arrays.items():
            name, field = key.split("/")
            exhibits.setdefault(name, {})[field] = array
    return exhibits


def held(experiment: str, profile: str) -> set[tuple[str, str]]:
    """(labelling, digest) of the runs whose rows the exported table holds; maybe none."""
    path = figures_root() / "source_data" / f"{experiment}.{profile}.csv"
    if not path.exists():
        return set()
    return set(read_values(path)[["labelling", "digest"]].itertuples(index=False, name=None))


def save_figure(figure: Any, name: str, profile: str) -> Path:
    """`figures/<name>.png`, or `<name>.smoke.png` so that a smoke run replaces no evidence."""
    suffix = ".smoke.png" if profile == "smoke" else ".png"
    path = figures_root() / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
    return path


def printed() -> pd.DataFrame:
    """The paper's printed values: table, dataset, labelling, method, metric, value, sd, …"""
    return pd.read_csv(figures_root() / "printed.csv", keep_default_na=True)


def save_table(table: pd.DataFrame, name: str, profile: str) -> Path:
    """`figures/<name>.csv` (the index becomes the first column); `.smoke.csv` for smoke."""
    path = figures_root() / f"{name}{'.smoke' if profile == 'smoke' else ''}.csv"
    write_csv(path, table.reset_index())
    return path
