"""The results store: run folders, exported tables, and their way back into notebooks.

A run folder is written under a lock and gets DONE last, by rename, so it is either
complete or resumable. Knows paths and tables; knows no model, loss or data set.
Contracts: design of `runs/` and of `figures/source_data/<experiment>.<profile>.csv`.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from noisyseg.config import ExperimentConfig
from noisyseg.paths import figures_root, runs_root

COLUMNS = (
    "experiment dataset origin profile labelling method seed metric class annotator value "
    "n_images digest"
).split()
KEY = ["experiment", "dataset", "profile", "labelling", "method", "seed"]
BEST_FIRST = ("full", "reduced", "smoke")


@dataclass(frozen=True)
class Run:
    """A finished run: `metrics` and `history` tables, `exhibits` arrays, `model()`."""

    config: ExperimentConfig
    path: Path
    build: Callable[..., Any] | None = field(default=None, repr=False)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row a value: metric, class, annotator, value (0…1), n_images."""
        return pd.read_csv(self.path / "metrics.csv", keep_default_na=False)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch: train_loss, val_loss and, with a confusion head, the mean trace."""
        return pd.read_csv(self.path / "history.csv")

    @cached_property
    def exhibits(self) -> dict[str, np.ndarray]:
        """A few test images with everything predicted for them; see `train.exhibits`."""
        with np.load(self.path / "exhibits.npz") as arrays:
            return dict(arrays)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions, device, data origin and what it took to make this run."""
        return json.loads((self.path / "provenance.json").read_text())

    def model(self) -> Any:
        """The trained network on the CPU, in evaluation mode. ValueError if none was trained."""
        import torch

        if not (self.path / "model.pt").exists():
            raise ValueError(f"method {self.config.method!r} trains no network: there is no model")
        assert self.build is not None
        model = self.build(self.config, self.provenance["shape"])
        model.load_state_dict(torch.load(self.path / "model.pt", weights_only=True))
        return model.eval()

    def value(self, metric: str, **where: str) -> float:
        """One number: `run.value("dice")`, `run.value("cm_rmse", annotator="over")`."""
        rows = self.metrics.query("metric == @metric")
        for column in ("class", "annotator"):
            rows = rows[rows[column] == where.get(column, "all")]
        if len(rows) != 1:
            have = ", ".join(sorted(set(self.metrics.metric)))
            raise KeyError(f"{metric} {where} names {len(rows)} rows of {self.path.name}; metrics: {have}")
        return float(rows.value.iloc[0])


def run_folder(cfg: ExperimentConfig, fingerprint: str) -> Path:
    """`runs/<experiment>/<dataset>-<method>-s<seed>-<digest8>/`."""
    name = f"{Path(cfg.dataset).name}-{cfg.method}-s{cfg.seed}-{cfg.digest(fingerprint)}"
    return runs_root() / cfg.experiment / name


def is_done(folder: Path) -> bool:
    """Whether the run is complete: DONE is written last."""
    return (folder / "DONE").exists()


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the run's lock: another process waits here, and a killed one lets go by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        for stray in folder.glob("*.part"):
            stray.unlink()
        yield


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


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """`table` as CSV without its index, atomically."""
    with replacing(path) as part:
        table.to_csv(part, index=False, float_format="%.6g")


def finish(folder: Path, metrics: list[dict[str, Any]], exhibits: dict[str, np.ndarray]) -> None:
    """Write metrics and exhibits, remove the checkpoint and mark the run DONE."""
    write_csv(folder / "metrics.csv", pd.DataFrame(metrics))
    with replacing(folder / "exhibits.npz") as part, part.open("wb") as file:
        np.savez_compressed(file, **exhibits)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    with replacing(folder / "DONE") as part:
        part.write_text("")


def write_config(folder: Path, cfg: ExperimentConfig) -> None:
    """`config.json`: every field, so that the folder explains itself."""
    write_json(folder / "config.json", asdict(cfg))


def read_config(folder: Path) -> ExperimentConfig:
    """The config a run folder was made with."""
    values = json.loads((folder / "config.json").read_text())
    known = {f.name for f in fields(ExperimentConfig)}
    return ExperimentConfig(**{k: v for k, v in values.items() if k in known})


def table(runs: Iterable[Run], extra: Iterable[str] = ()) -> pd.DataFrame:
    """The runs' metrics in the exported columns; `extra` names config fields to append."""
    parts = []
    for run in runs:
        cfg = run.config
        fixed = {c: getattr(cfg, c) for c in KEY} | {"dataset": Path(cfg.dataset).name}
        fixed |= {"origin": run.provenance["origin"], "digest": run.path.name[-8:]}
        fixed |= {name: getattr(cfg, name) for name in extra}
        parts.append(run.metrics.assign(**fixed))
    return pd.concat(parts, ignore_index=True)[[*COLUMNS, *extra]]


def export(runs: Iterable[Run], extra: Iterable[str] = ()) -> Path:
    """Write `figures/source_data/<experiment>.<profile>.csv`, keeping rows of other runs.

    Rows are replaced by key (labelling, method, seed and the `extra` fields), so tables
    grow with a sweep. Returns the path.
    """
    runs, extra = list(runs), list(extra)
    new = table(runs, extra)
    name = f"{runs[0].config.experiment}.{runs[0].config.profile}.csv"
    path = figures_root() / "source_data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{name}.lock")):
        if path.exists():
            old = pd.read_csv(path, keep_default_na=False, dtype={"digest": str})
            key = pd.MultiIndex.from_frame(old[KEY + extra].astype(str))
            gone = key.isin(pd.MultiIndex.from_frame(new[KEY + extra].astype(str)))
            new = pd.concat([old[~gone], new], ignore_index=True)
        write_csv(path, new.sort_values([*KEY, *extra, "metric", "class", "annotator"]))
    return path


def source_data(experiment: str, profile: str | None = None) -> pd.DataFrame:
    """The exported table of `profile`, or of the best profile present (full, reduced, smoke).

    Raises FileNotFoundError naming the notebook command that makes it.
    """
    path = _best(experiment, profile, "csv")
    return pd.read_csv(path, keep_default_na=False, dtype={"digest": str})


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

    `runs` maps the name to find them under, e.g. "dominant" or "dominant one", to a run.
    """
    cfg = next(iter(runs.values())).config
    path = figures_root() / "source_data" / f"{cfg.experiment}.{cfg.profile}.exhibits.npz"
    arrays = {f"{k}/{n}": a[:images] for k, run in runs.items() for n, a in run.exhibits.items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def source_exhibits(experiment: str, profile: str | None = None) -> dict[str, dict[str, np.ndarray]]:
    """What `export_exhibits` wrote, by name, from the best profile present."""
    exhibits: dict[str, dict[str, np.ndarray]] = {}
    with np.load(_best(experiment, profile, "exhibits.npz")) as arrays:
        for key, array in arrays.items():
            name, field_name = key.split("/")
            exhibits.setdefault(name, {})[field_name] = array
    return exhibits


def save_figure(figure: Any, name: str, profile: str) -> Path:
    """`figures/<name>.png`, or `<name>.smoke.png` so that a smoke run replaces no evidence."""
    suffix = ".smoke.png" if profile == "smoke" else ".png"
    path = figures_root() / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
    return path


def printed() -> pd.DataFrame:
    """The paper's printed values: table, dataset, labelling, method, metric, value, sd, provenance."""
    return pd.read_csv(figures_root() / "printed.csv", keep_default_na=True)


def save_table(table: pd.DataFrame, name: str, profile: str) -> Path:
    """`figures/<name>.csv` (the index becomes the first column); `.smoke.csv` for smoke."""
    path = figures_root() / f"{name}{'.smoke' if profile == 'smoke' else ''}.csv"
    write_csv(path, table.reset_index())
    return path


def select(data: pd.DataFrame, metric: str, klass: str = "all", annotator: str = "all") -> pd.DataFrame:
    """The rows of one metric."""
    return data[(data.metric == metric) & (data["class"] == klass) & (data.annotator == annotator)]


def summarise(data: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean, sd, minimum, maximum and count over seeds of one metric, by labelling and method."""
    grouped = select(data, metric).groupby(["labelling", "method"], sort=False).value
    return grouped.agg(["mean", "std", "min", "max", "count"]).reset_index()


def beside_printed(data: pd.DataFrame, number: int, dataset: str, labelling: str) -> pd.DataFrame:
    """A table of the paper beside ours: a row a method, Dice in %, CM error as RMSE.

    Ours as mean ± sd over seeds. The paper leaves open whether its STAPLE rows are fusion
    or networks (paper section 4), so its number stands beside both kinds.
    """
    paper = printed().query("table == @number and dataset == @dataset")
    networks = paper[paper.method.isin(["staple_fusion", "spatial_staple_fusion"])]
    networks = networks.assign(method=networks.method.str.removesuffix("_fusion"))
    paper = pd.concat([paper, networks]).set_index(["metric", "method"])
    table = pd.DataFrame(index=pd.Index(data.method.unique(), name="method"))
    for metric, scale, digits in (("dice", 100, 1), ("cm_rmse", 1, 4)):
        unit = "Dice %" if metric == "dice" else "CM error"
        ours = summarise(data, metric).query("labelling == @labelling").set_index("method")
        table[f"{unit}, ours"] = [_plus_minus(ours, m, scale, digits, "mean", "std") for m in table.index]
        rows = paper.loc[metric]
        table[f"{unit}, paper"] = [_plus_minus(rows, m, scale, digits, "value", "sd") for m in table.index]
    return table


def _plus_minus(rows: pd.DataFrame, method: str, scale: float, digits: int, mean: str, sd: str) -> str:
    if method not in rows.index:
        return ""
    centre, spread = scale * rows.loc[method, mean], scale * rows.loc[method, sd]
    return f"{centre:.{digits}f}" + (f" ± {spread:.{digits}f}" if np.isfinite(spread) else "")
