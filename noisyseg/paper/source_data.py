"""The exported tables: runs -> figures/source_data -> notebooks.

Contract: `figures/source_data/<experiment>.<profile>.csv`, one row a value. `smoke` files
stand beside better ones and never replace them. Trains nothing and knows no model.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisyseg.paper import ablations
from noisyseg.runs import Run, read_values
from noisyseg.storage import figures_root, locked, replacing, write_csv

COLUMNS = (
    "experiment dataset origin profile labelling method seed metric class annotator value "
    "n_images digest"
).split()
KEY = ["experiment", "dataset", "profile", "labelling", "method", "seed"]


BEST_FIRST = ("full", "reduced", "smoke")


def table(runs: Iterable[Run]) -> pd.DataFrame:
    """The runs' metrics in the exported columns, then those that `ablations` adds."""
    parts, extra = [], {}
    for run in runs:
        cfg = run.config
        fixed = {c: getattr(cfg, c) for c in KEY} | {"dataset": Path(cfg.dataset).name}
        fixed |= {"origin": run.provenance["origin"], "digest": run.path.name[-8:]}
        fixed |= (extra := ablations.columns(cfg))
        parts.append(pd.concat([run.metrics, _validation(run)]).assign(**fixed))
    # No value: a column of a matrix that never occurred, e.g. STAPLE of blank masks.
    return pd.concat(parts, ignore_index=True)[[*COLUMNS, *extra]].dropna(subset="value")


def _validation(run: Run) -> pd.DataFrame:
    """The last validation loss on *noisy* labels, the only score a user without truth has."""
    if "val_loss" not in run.history:
        return pd.DataFrame()
    row = {"metric": "val_loss", "class": "all", "annotator": "all"}
    count = run.config.n_val or 0  # 0 stands for all images of the split
    return pd.DataFrame([row | {"value": run.history.val_loss.iloc[-1], "n_images": count}])


def export(runs: Iterable[Run]) -> Path:
    """Write `figures/source_data/<experiment>.<profile>.csv`, keeping rows of other runs.

    Rows are replaced by key (labelling, method, seed and the study's columns), so tables
    grow with a sweep. Returns the path.
    """
    runs = list(runs)
    new, extra = table(runs), list(ablations.columns(runs[0].config))
    name = f"{runs[0].config.experiment}.{runs[0].config.profile}.csv"
    path = figures_root() / "source_data" / name
    with locked(path):
        old = read_values(path) if path.exists() else new[:0]
        if list(old) == list(new):  # a table of an older format is written anew from the runs
            key = pd.MultiIndex.from_frame(old[KEY + extra].astype(str))
            gone = key.isin(pd.MultiIndex.from_frame(new[KEY + extra].astype(str)))
            new = pd.concat([old[~gone], new], ignore_index=True)
        write_csv(path, new.sort_values([*KEY, *extra, "metric", "class", "annotator"]))
    return path


def held(experiment: str, profile: str) -> set[tuple[str, str]]:
    """(labelling, digest) of the runs whose rows the exported table holds; maybe none."""
    path = figures_root() / "source_data" / f"{experiment}.{profile}.csv"
    if not path.exists():
        return set()
    return set(read_values(path)[["labelling", "digest"]].itertuples(index=False, name=None))


def read(experiment: str, profile: str | None = None) -> pd.DataFrame:
    """The exported table of `profile`, or of the best profile present (full, reduced, smoke).

    Raises FileNotFoundError naming the notebook command that makes it.
    """
    path = _best(experiment, profile, "csv")
    return read_values(path)


def _best(experiment: str, profile: str | None, suffix: str) -> Path:
    folder = figures_root() / "source_data"
    for name in [profile] if profile else BEST_FIRST:
        path = folder / f"{experiment}.{name}.{suffix}"
        if path.exists():
            return path
    raise FileNotFoundError(
        f"no {experiment}.<profile>.{suffix} in {folder}: run `make figures` to train and export it"
    )


def export_exhibits(runs: Mapping[str, Run], images: int = 4) -> Path:
    """Write the first test images of some runs as `<experiment>.<profile>.exhibits.npz`.

    `runs` maps the name to find them under, e.g. "calibrated" or "calibrated one", to a run.
    """
    cfg = next(iter(runs.values())).config
    path = figures_root() / "source_data" / f"{cfg.experiment}.{cfg.profile}.exhibits.npz"
    arrays = {f"{k}/{n}": a[:images] for k, run in runs.items() for n, a in run.exhibits.items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def read_exhibits(experiment: str, profile: str | None = None) -> dict[str, dict[str, np.ndarray]]:
    """What `export_exhibits` wrote, by name, from the best profile present."""
    exhibits: dict[str, dict[str, np.ndarray]] = {}
    with np.load(_best(experiment, profile, "exhibits.npz")) as arrays:
        for key, array in arrays.items():
            name, field_name = key.split("/")
            exhibits.setdefault(name, {})[field_name] = array
    return exhibits


def export_histories(runs: Mapping[str, Run]) -> Path:
    """Write the training curves of some runs as `<experiment>.<profile>.history.csv`.

    One row an epoch with the columns of `Run.history` behind `name`, the key of `runs`.
    """
    cfg = next(iter(runs.values())).config
    path = figures_root() / "source_data" / f"{cfg.experiment}.{cfg.profile}.history.csv"
    parts = [run.history.assign(name=name) for name, run in runs.items()]
    table = pd.concat(parts, ignore_index=True)
    write_csv(path, table[["name", *(c for c in table if c != "name")]])
    return path


def export_images(runs: Mapping[str, Run]) -> Path:
    """Write one row a test image of some runs as `<experiment>.<profile>.images.csv`."""
    cfg = next(iter(runs.values())).config
    path = figures_root() / "source_data" / f"{cfg.experiment}.{cfg.profile}.images.csv"
    write_csv(path, pd.concat([run.images.assign(name=name) for name, run in runs.items()]))
    return path


def read_images(experiment: str, profile: str | None = None) -> pd.DataFrame:
    """What `export_images` wrote (column `name`), from the best profile present."""
    return pd.read_csv(_best(experiment, profile, "images.csv"))


def read_histories(experiment: str, profile: str | None = None) -> dict[str, pd.DataFrame]:
    """What `export_histories` wrote, by name, from the best profile present."""
    table = pd.read_csv(_best(experiment, profile, "history.csv"))
    return {name: part for name, part in table.groupby("name", sort=False)}


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
