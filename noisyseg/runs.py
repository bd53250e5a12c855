"""The run store: one folder per run, complete or resumable, read back as a `Run`.

A run folder is written under a lock and gets DONE last, by rename. Nothing is pickled.
Knows paths, tables and arrays; knows no model, loss or data set.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from noisyseg.config import ExperimentConfig
from noisyseg.storage import replacing, runs_root, write_csv, write_json


@dataclass(frozen=True)
class Run:
    """A finished run: `metrics` and `history` tables, `exhibits` arrays, `model()`."""

    config: ExperimentConfig
    path: Path
    build: Callable[..., Any] | None = field(default=None, repr=False)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row per value: metric, class, annotator, value (0…1), n_images."""
        return read_values(self.path / "metrics.csv")

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch: train_loss, val_loss and, with a confusion head, the mean trace."""
        return pd.read_csv(self.path / "history.csv")

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row a test image: dice, energy distance, the annotators' agreement, its names."""
        return pd.read_csv(self.path / "images.csv", dtype={"image_id": str, "case_id": str})

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
            raise KeyError(
                f"{metric} {where} names {len(rows)} rows of {self.path.name}; metrics: {have}"
            )
        return float(rows.value.iloc[0])


def read_values(path: Path) -> pd.DataFrame:
    """A table with one row per value; what is empty is NaN, and nothing else (not "none")."""
    strings = {"digest": str, "class": str, "annotator": str}
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=strings)


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


def finish(
    folder: Path,
    metrics: list[dict[str, Any]],
    exhibits: dict[str, np.ndarray],
    images: pd.DataFrame,
) -> None:
    """Write metrics and exhibits, remove the checkpoint and mark the run DONE."""
    write_csv(folder / "metrics.csv", pd.DataFrame(metrics))
    write_csv(folder / "images.csv", images)
    with replacing(folder / "exhibits.npz") as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **exhibits)
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
    kept: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
    return ExperimentConfig(**kept)
