"""The run store: one folder per run, complete or resumable, read back as a `Run`.

A run folder is written under a lock. DONE is its seal, written last: the config's digest and the
checksum of each file, compared whenever the run is loaded. Nothing is pickled.
Knows paths, tables and arrays; knows no model, loss or data set.
"""

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisyseg.config import ExperimentConfig
from noisyseg.storage import (
    check_npz,
    lock_file,
    locked,
    replacing,
    runs_root,
    set_aside,
    sha256,
    write_bytes,
    write_csv,
    write_json,
)

# What a run holds; the seal has a line for each that is there.
FILES = (
    "config.json",
    "provenance.json",
    "history.csv",
    "metrics.csv",
    "images.csv",
    "exhibits.npz",
    "model.pt",
)
NEEDED = FILES[:4]  # of a run without a seal: the others may have been deleted to save room
CHECKPOINT = "checkpoint.pt"

NAMES_OF_IMAGES = {"image_id": str, "case_id": str}


@dataclass(frozen=True)
class Run:
    """A finished run: `metrics` and `history` tables, `exhibits` arrays, `model()`."""

    config: ExperimentConfig
    path: Path
    build: Callable[..., Any] | None = field(default=None, repr=False)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row a value: metric, class, annotator, value (0…1), n_images."""
        with _readable(self.path / "metrics.csv") as file:
            return read_values(file)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch: train_loss, val_loss and, with a confusion head, the mean trace."""
        with _readable(self.path / "history.csv") as file:
            return pd.read_csv(file)

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row a test image: dice, energy distance, the annotators' agreement, its names."""
        with _readable(self.path / "images.csv") as file:
            return pd.read_csv(file, dtype=NAMES_OF_IMAGES)

    @cached_property
    def exhibits(self) -> dict[str, np.ndarray]:
        """A few test images with everything predicted for them; see `train.exhibits`."""
        check_npz(self.path / "exhibits.npz")
        with _readable(self.path / "exhibits.npz") as file, np.load(file) as arrays:
            return dict(arrays)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions, device, data origin and what it took to make this run."""
        with _readable(self.path / "provenance.json") as file:
            return json.loads(file.read_text("utf-8"))

    def model(self) -> Any:
        """The trained network on the CPU, in evaluation mode. ValueError if none was trained."""
        import torch

        if not (self.path / "model.pt").exists():
            raise ValueError(f"method {self.config.method!r} trains no network: there is no model")
        assert self.build is not None
        model = self.build(self.config, self.provenance["shape"])
        with _readable(self.path / "model.pt") as file:
            model.load_state_dict(torch.load(file, weights_only=True))
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


def read_values(path: Path | BytesIO) -> pd.DataFrame:
    """A table with one row a value; what is empty is NaN, and nothing else (not "none")."""
    strings = {"digest": str, "class": str, "annotator": str}
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=strings)


@contextmanager
def _readable(file: Path) -> Iterator[Path]:
    """Give every failure to read a run's own file its name and the remedy."""
    try:
        yield file
    except Exception as error:  # readers raise whatever they meet in a damaged file
        raise ValueError(
            f"{file}: cannot be read ({type(error).__name__}: {error}); remove the folder "
            f"{file.parent} and run it again"
        ) from error


def run_folder(cfg: ExperimentConfig, fingerprint: str) -> Path:
    """`runs/<experiment>/<dataset>-<method>-s<seed>-<digest8>/`."""
    name = f"{Path(cfg.dataset).name}-{cfg.method}-s{cfg.seed}-{cfg.digest(fingerprint)}"
    folder = runs_root() / cfg.experiment / name
    # The config refuses such names; nothing is ever written outside the store, whoever made it.
    if Path(cfg.experiment).name != cfg.experiment or Path(name).name != name:
        raise ValueError(f"{folder} is not in {runs_root()}: experiment and seed are no paths")
    return folder


def stored(root: Path | None = None) -> pd.DataFrame:
    """Every run folder of the store by its name, without opening a file: thousands a second.

    One row a run: experiment, dataset, method, seed, digest, done, path. `root` is another store.

    Examples:
        >>> list(stored(Path("nowhere")).columns)
        ['experiment', 'dataset', 'method', 'seed', 'digest', 'done', 'path']
    """
    root = runs_root() if root is None else root
    rows = []
    for experiment in sorted(root.iterdir()) if root.is_dir() else []:
        for folder in sorted(experiment.iterdir()) if experiment.is_dir() else []:
            parts = folder.name.rsplit("-", 3)
            # What is locked, set aside or no run has another name.
            if len(parts) == 4 and re.fullmatch(r"s\d+", parts[2]) and parts[3].isalnum():
                dataset, method, seed, digest = parts
                row = (experiment.name, dataset, method, int(seed[1:]), digest)
                rows.append((*row, is_done(folder), folder))
    columns = ["experiment", "dataset", "method", "seed", "digest", "done", "path"]
    return pd.DataFrame(rows, columns=columns)


def is_done(folder: Path) -> bool:
    """Whether the run is complete: DONE is written last."""
    return (folder / "DONE").exists()


def damage(folder: Path, digest: str | None = None) -> str | None:
    """What is wrong with the complete run in `folder`; None where nothing is.

    The seal in DONE is compared with every file and, if given, with the `digest` of the config.
    Runs older than seals have an empty DONE: their files are looked at for being whole.
    """
    try:
        text = (folder / "DONE").read_text("utf-8")
        return _broken_seal(folder, json.loads(text), digest) if text else _cut(folder, digest)
    except Exception as error:  # of whatever kind: it cannot be read
        return f"it cannot be read ({type(error).__name__}: {error})"


def _broken_seal(folder: Path, seal: dict[str, Any], digest: str | None) -> str | None:
    if digest not in (None, seal["digest"]):
        return f"it holds the run {seal['digest']}, not {digest}"
    there = {name for name in FILES if (folder / name).exists()}
    odd = sorted(there ^ seal["files"].keys())
    if odd:
        return f"{', '.join(odd)}: missing, or there and not in the seal"
    changed = [name for name in sorted(there) if sha256(folder / name) != seal["files"][name]]
    return f"{', '.join(changed)}: not as written" if changed else None


def _cut(folder: Path, digest: str | None) -> str | None:
    lost = [name for name in NEEDED if not (folder / name).exists()]
    if lost:
        return f"{', '.join(lost)}: missing"
    cut = [name for name in FILES if (folder / name).exists() and not _whole(folder / name)]
    if cut:
        return f"{', '.join(cut)}: not whole"
    provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
    found = read_config(folder).digest(provenance["fingerprint"])
    return None if digest in (None, found) else f"it holds the run {found}, not {digest}"


def _whole(file: Path) -> bool:
    """Whether a file ends as its kind does; an archive's own checksums are compared."""
    if file.suffix == ".csv":
        return file.read_bytes().endswith(b"\n")
    if file.suffix == ".json":
        return isinstance(json.loads(file.read_text("utf-8")), dict)
    with zipfile.ZipFile(file) as archive:
        return archive.testzip() is None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the run's lock: another process waits here, and a killed one lets go by itself."""
    with locked(folder):
        for stray in folder.glob("*.part"):
            stray.unlink()
        yield


class Checkpoint:
    """`checkpoint.pt` of a run: the state after an epoch, with the `digest` of its config.

    Anything else in its place (cut, changed, or of another seed, setting or data set) is set aside
    with a message, and training starts again.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.path, self.digest = folder / CHECKPOINT, digest

    def save(self, state: dict[str, Any]) -> None:
        """Write `state` (tensors, numbers, lists, dicts), sealed, atomically."""
        import torch

        content = _saved(state)
        sealed = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        checksum = hashlib.sha256(content).hexdigest()
        outer = {"digest": self.digest, "sha256": checksum, "state": sealed}
        write_bytes(self.path, _saved(outer))

    def load(self) -> dict[str, Any] | None:
        """The state that was saved; None where there is none that fits."""
        if not self.path.exists():
            return None
        try:
            return self._opened()
        except Exception as error:  # torch raises whatever it meets in a damaged file
            set_aside(self.path, f"no checkpoint of this run ({type(error).__name__}: {error})")
        return None

    def _opened(self) -> dict[str, Any]:
        import torch

        outer = torch.load(self.path, weights_only=True)
        if outer["digest"] != self.digest:
            raise ValueError(f"it belongs to the run {outer['digest']}, not {self.digest}")
        content = outer["state"].numpy().tobytes()
        if hashlib.sha256(content).hexdigest() != outer["sha256"]:
            raise ValueError("its checksum is another")
        return torch.load(io.BytesIO(content), weights_only=True)


def _saved(state: dict[str, Any]) -> bytes:
    """What torch.save writes. In memory first: a full disk is then an error that says so."""
    import torch

    with io.BytesIO() as buffer:
        torch.save(state, buffer)
        return buffer.getvalue()


def write_model(folder: Path, state: dict[str, Any]) -> None:
    """`model.pt`: the state dict of the trained network."""
    write_bytes(folder / "model.pt", _saved(state))


def finish(
    folder: Path,
    digest: str,
    metrics: list[dict[str, Any]],
    exhibits: dict[str, np.ndarray],
    images: pd.DataFrame,
) -> None:
    """Write metrics and exhibits, seal the run with DONE, then remove its checkpoint."""
    write_csv(folder / "metrics.csv", pd.DataFrame(metrics))
    write_csv(folder / "images.csv", images)
    needed = sum(array.nbytes for array in exhibits.values())
    with replacing(folder / "exhibits.npz", needed) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **exhibits)
    files = {name: sha256(folder / name) for name in FILES if (folder / name).exists()}
    write_json(folder / "DONE", {"digest": digest, "files": files})
    tidy(folder)


def tidy(folder: Path) -> None:
    """Remove what a process killed after DONE could not: the checkpoint, and the lock's file."""
    left = (folder / CHECKPOINT).exists() or lock_file(folder).exists()
    if left and os.access(folder, os.W_OK):
        with locked(folder):
            (folder / CHECKPOINT).unlink(missing_ok=True)


def write_config(folder: Path, cfg: ExperimentConfig) -> None:
    """`config.json`: every field, so that the folder explains itself."""
    write_json(folder / "config.json", asdict(cfg))


def read_config(folder: Path) -> ExperimentConfig:
    """The config a run folder was made with."""
    values = json.loads((folder / "config.json").read_text())
    known = {f.name for f in fields(ExperimentConfig)}
    kept: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
    return ExperimentConfig(**kept)
