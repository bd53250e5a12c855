"""fit: the only module that steps an optimiser.

Training sees a `TrainingView`, which has no truth. Epochs are fixed in advance: nothing is
selected by looking at the truth.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from noisyseg import build, diagnostics, runs
from noisyseg.config import ExperimentConfig
from noisyseg.data.training import TrainingView, collate, share_of
from noisyseg.evaluate import EVALUATION_BATCH
from noisyseg.methods import METHODS

# Primes between the seeds of two runs, so that the epochs of one never draw what another draws.
SEED_STEP, FLIP_STEP = 1_000_003, 7_919
Batches = DataLoader[dict[str, Tensor]]
OnEpoch = Callable[[dict[str, float]], bool | None]


class TrainingStopped(Exception):
    """Raised when `on_epoch` asked to stop; the checkpoint stays, the next call resumes."""


class SwapWarning(UserWarning):
    """Training ended outside the dominant set, as far as one can see without the truth."""


def _loader(view: TrainingView, cfg: ExperimentConfig, epoch: int | None = None) -> Batches:
    """Batches of `view`; shuffled by (seed, epoch) alone, so that a resumed run sees the same."""
    if epoch is None:
        return DataLoader(view, batch_size=EVALUATION_BATCH, collate_fn=collate)
    order = torch.Generator().manual_seed(SEED_STEP * cfg.seed + epoch)
    return DataLoader(
        view, batch_size=cfg.batch_size, shuffle=True, generator=order, collate_fn=collate
    )


def fit(
    model: nn.Module,
    train: TrainingView,
    val: TrainingView,
    cfg: ExperimentConfig,
    checkpoint: runs.Checkpoint | None = None,
    on_epoch: OnEpoch | None = None,
    devices: int = 1,
) -> tuple[pd.DataFrame, torch.device]:
    """Train `model` in place for `cfg.epochs`; returns the history and the device used.

    More `devices` share every batch (`torchrun --nproc-per-node DEVICES script.py`): the same
    numbers as on one, up to rounding, where each image has as many labels.

    With a `checkpoint` the state is saved after every epoch and picked up from there;
    on one CPU thread a resumed run is bit-identical to an uninterrupted one.
    Raises FloatingPointError when the loss is no longer finite.
    """
    from lightning_fabric import Fabric

    precision: Any = cfg.precision  # one of Fabric's names, as checked by the config
    strategy = "ddp" if devices > 1 else "auto"
    fabric = Fabric(
        accelerator=cfg.accelerator, strategy=strategy, devices=devices, precision=precision
    )
    fabric.launch()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay
    )
    steps = cfg.epochs * len(_loader(train, cfg, 0))
    schedule = _schedule(optimiser, cfg, steps)
    history: list[dict[str, float]] = []
    state = None if checkpoint is None else checkpoint.load()
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        history = state["history"]
    wrapped, wrapped_optimiser = fabric.setup(model, optimiser)
    loss = build.objective(cfg)
    for epoch in tqdm(
        range(len(history), cfg.epochs), disable=None if cfg.progress else True, leave=False
    ):
        batches = fabric.setup_dataloaders(
            _loader(train, cfg, epoch), use_distributed_sampler=False
        )
        with torch.random.fork_rng():  # a generative model draws; an epoch's draws are its own
            torch.manual_seed(SEED_STEP * cfg.seed + epoch)
            row = {"epoch": epoch + 1} | _train_epoch(
                fabric, wrapped, wrapped_optimiser, schedule, batches, loss, cfg, epoch
            )
            held = fabric.setup_dataloaders(_loader(val, cfg), use_distributed_sampler=False)
            row |= _validate(wrapped, held)
        history.append(row)
        if checkpoint is not None and fabric.is_global_zero:
            checkpoint.save(_state(model, optimiser, schedule, history))
        if on_epoch is not None and on_epoch(row) and epoch + 1 < cfg.epochs:
            raise TrainingStopped(f"stopped after epoch {epoch + 1} of {cfg.epochs}")
    if METHODS[cfg.method].head in ("pixel", "global", "low_rank"):
        coupled = METHODS[cfg.method].loss != "calibrated"
        message = diagnostics.warning(history[-1], needs_matrices=coupled)
        if message:
            # Explicit: the reader's cell is of interest, not a line of this file.
            warnings.warn_explicit(f"{cfg.method}: {message}", SwapWarning, "noisyseg", 0)
    return pd.DataFrame(history), fabric.device


def _schedule(optimiser: Any, cfg: ExperimentConfig, steps: int) -> Any:
    if cfg.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    # Torch divides by the length of the rise less one step, which is 0 for five steps.
    rise = 0.2 if 0.2 * steps != 1 else 0.4
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, cfg.learning_rate, total_steps=steps, pct_start=rise
    )


def _state(
    model: nn.Module, optimiser: Any, schedule: Any, history: list[dict[str, float]]
) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "history": history,
    }


def _train_epoch(
    fabric: Any,
    model: nn.Module,
    optimiser: Any,
    schedule: Any,
    batches: Any,
    loss_of: build.Objective,
    cfg: ExperimentConfig,
    epoch: int,
) -> dict[str, float]:
    model.train()
    total: Any = 0.0
    coin = torch.Generator().manual_seed(FLIP_STEP * cfg.seed + epoch)
    for batch in batches:
        if cfg.flip:
            batch = _flipped(batch, coin)
        share = 1.0
        if fabric.world_size > 1:
            batch, share = share_of(batch, fabric.global_rank, fabric.world_size)
        loss = share * loss_of(model(batch["image"]), batch, epoch)
        optimiser.zero_grad()
        fabric.backward(loss)
        optimiser.step()
        schedule.step()
        total = total + loss.detach()
    total = fabric.all_reduce(total, reduce_op="mean") if fabric.world_size > 1 else total
    mean = float(total) / len(batches)
    if not np.isfinite(mean):
        raise FloatingPointError(
            f"the training loss of {cfg.method!r} became {mean} in epoch {epoch + 1}: "
            "lower learning_rate, or use precision='32-true'"
        )
    return {"train_loss": mean}


def _flipped(batch: dict[str, Tensor], coin: torch.Generator) -> dict[str, Tensor]:
    """Half of the batches turned by flipping the last axis, images and labels alike."""
    if torch.rand((), generator=coin) < 0.5:
        return batch
    return {k: v.flip(-1) if v.dim() > 2 else v for k, v in batch.items()}


@torch.no_grad()
def _validate(model: nn.Module, batches: Any) -> dict[str, float]:
    model.eval()
    sums: dict[str, float] = {}
    seen = 0
    for batch in batches:
        out, n = model(batch["image"]), len(batch["image"])
        row = {"val_loss": float(build.validation_loss(out, batch))}
        if out.confusion is not None:
            labelled = (batch["labels"] >= 0).any(1)  # of padding nobody says anything
            row |= diagnostics.watch(out.confusion, out.logits.softmax(1), labelled)
        sums = {name: sums.get(name, 0.0) + value * n for name, value in row.items()}
        seen += n
    return {name: total / seen for name, total in sums.items()}
