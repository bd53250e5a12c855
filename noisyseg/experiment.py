"""run: from a config to a finished run, loaded, published, resumed or trained.

The one place where the run store, the published runs and training meet. Steps no optimiser
itself; `evaluate` compares with the truth of the test split after training.
"""

import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from noisyseg import build, published, runs, storage
from noisyseg.config import ExperimentConfig
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.evaluate import evaluate, evaluate_fusion
from noisyseg.methods import METHODS
from noisyseg.train import OnEpoch, fit


def run(cfg: ExperimentConfig, on_epoch: OnEpoch | None = None, fresh: bool = False) -> runs.Run:
    """Load, resume, or train and evaluate the run that `cfg` defines.

    A run that comes with the repository (`published`) is loaded like one of the store, unless
    `fresh` asks to train it here. A finished run that is damaged is set aside with a message and
    made again. `on_epoch(row)` is called after each epoch with its history row; returning True
    stops (raises TrainingStopped). Two processes may ask for the same run: one waits.

    Examples:
        >>> sizes = dict(n_train=8, n_val=4, n_test=4, width=4, depth=2, epochs=1, progress=False)
        >>> done = run(ExperimentConfig.preset("mnist", "smoke", "mode", **sizes))
        >>> 0 <= done.value("dice") <= 1, list(done.history.epoch)
        (True, [1])
    """
    dataset = load_dataset(cfg.dataset)
    folder, digest = runs.run_folder(cfg, dataset.fingerprint), cfg.digest(dataset.fingerprint)
    if _serves(folder, digest, fresh):
        runs.tidy(folder)
        return runs.Run(cfg, folder, build.build_model)
    with runs.claimed(folder):
        if not _serves(folder, digest, fresh):
            _make_way(folder, digest)
            row = None if fresh else published.find(cfg, dataset)
            if row is None:
                _make(cfg, dataset, folder, on_epoch)
            else:
                published.unpack(row, cfg, dataset, folder)
    return runs.Run(cfg, folder, build.build_model)


def _serves(folder: Path, digest: str, fresh: bool) -> bool:
    """Whether the folder holds the run that was asked for, whole: a fresh one was trained here."""
    if not runs.is_done(folder) or runs.damage(folder, digest):
        return False
    return not fresh or "published" not in runs.Run(ExperimentConfig(), folder).provenance


def _make_way(folder: Path, digest: str) -> None:
    """A damaged run is set aside; one that is whole, but not fresh, counts as not done."""
    found = runs.damage(folder, digest) if runs.is_done(folder) else None
    if found:
        storage.set_aside(folder, found)
    (folder / "DONE").unlink(missing_ok=True)


def _make(
    cfg: ExperimentConfig, dataset: SegmentationDataset, folder: Path, on_epoch: OnEpoch | None
) -> None:
    started, digest = time.perf_counter(), cfg.digest(dataset.fingerprint)
    runs.write_config(folder, cfg)
    splits = build.load_splits(cfg, dataset)
    shape = build.model_shape(splits.train)
    if METHODS[cfg.method].loss == "none":
        scored = evaluate_fusion(cfg, splits.test)
        history, device = pd.DataFrame({"epoch": []}), torch.device("cpu")
    else:
        known = METHODS[cfg.method].head == "known"
        model = build.build_model(cfg, shape, build.known_matrices(splits.train) if known else None)
        train = build.training_view(cfg, splits.train)
        val = build.validation_view(cfg, splits.val)
        checkpoint = runs.Checkpoint(folder, digest)
        history, device = fit(model, train, val, cfg, checkpoint, on_epoch)
        scored = evaluate(model, splits.test)
        runs.write_model(folder, {k: v.cpu() for k, v in model.state_dict().items()})
    storage.write_csv(folder / "history.csv", history)
    provenance = _provenance(dataset, shape, str(device), time.perf_counter() - started)
    storage.write_json(folder / "provenance.json", provenance)
    runs.finish(folder, digest, *scored)


def _provenance(
    dataset: SegmentationDataset, shape: dict[str, Any], device: str, seconds: float
) -> dict[str, Any]:
    return {
        "fingerprint": dataset.fingerprint,
        "origin": dataset.origin,
        "shape": shape,
        "device": device,
        "threads": torch.get_num_threads(),
        "wall_seconds": round(seconds, 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
