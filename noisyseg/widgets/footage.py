"""What the film of the label swap shows: three trainings on the same digits, epoch by epoch.

Training is that of `noisyseg.train`; after each epoch the network is asked what it makes of a
few test digits. The recording lies in `figures/explorers/swap.npz`; reading it trains nothing.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor, nn

from noisyseg import build, diagnostics, metrics, storage
from noisyseg.config import ExperimentConfig
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.methods import METHODS
from noisyseg.plots import style
from noisyseg.train import fit

DIGITS = (7, 1, 4)  # of the test split
SEED = 0
# Long enough that each phase can be seen; the printed loss is released after a short warm-up.
LENGTH: dict[str, Any] = {"epochs": 30, "n_train": 600, "n_val": 32, "n_test": 64}
CAST: dict[str, dict[str, Any]] = {
    "trace_printed": {"warm_up_share": 0.2},
    "trace": {},
    "calibrated": {},
}
LEVELS = 15  # of grey in a picture: what the eye can tell apart at this size, and small in a file
WATCHED = ("dice", "class_margin", "mean_trace", "off_pixel", "unmarked")


class Footage(NamedTuple):
    """A recording. Epoch 0 is the network before training; pictures are 0…255.

    `matrices` are those of the annotators over all test digits, weighted by the estimate: what is
    written (rows) where the network says rest and digit (columns). `watched` holds the values of
    `WATCHED`; only the first, the Dice, knows the truth. `about` says what was trained on what,
    and at each epoch what the monitor says of each training.
    """

    image: UInt8[ndarray, "digit h w"]
    truth: UInt8[ndarray, "digit h w"]
    written: UInt8[ndarray, "digit annotator h w"]
    estimate: UInt8[ndarray, "method epoch digit h w"]
    expected: UInt8[ndarray, "method epoch digit annotator h w"]
    matrices: UInt8[ndarray, "method epoch annotator 2 2"]
    watched: Float[ndarray, "method epoch value"]
    about: dict[str, Any]


def config(method: str, **changes: Any) -> ExperimentConfig:
    """The training of one method; `changes` as in `ExperimentConfig.preset`."""
    settings = {"dataset": "mnist", "progress": False, **LENGTH, **CAST[method], **changes}
    return ExperimentConfig.preset("film", "smoke", method, SEED, **settings)


def record(**changes: Any) -> Footage:
    """Train every method of `CAST` and record it; minutes at the sizes of `LENGTH`.

    `changes` are fields of the config, for all methods alike.
    """
    dataset = load_dataset("mnist")
    takes = [_take(config(method, **changes), dataset) for method in CAST]
    configs = [config(method, **changes) for method in CAST]
    test = build.load_splits(configs[0], dataset).test
    shown = [*DIGITS]
    about = {
        "data": f"{dataset.origin} {dataset.name.upper()} digits, simulated annotators",
        "profile": configs[0].profile,
        "seed": SEED,
        "sizes": {name: getattr(configs[0], name) for name in ("epochs", "n_train", "width")},
        "digits": shown,
        "tested": len(test.read_truth()),
        "annotators": style.in_words(test.annotators),
        "methods": [*CAST],
        "titles": [METHODS[method].title for method in CAST],
        "warm_up": [build.warm_up_epochs(cfg) for cfg in configs],
        "weight": [cfg.trace_weight for cfg in configs],
        "hinge": [cfg.dominance_weight for cfg in configs],
        "warned": [take["warned"] for take in takes],
    }
    pictures = test.read_images()[shown, 0].astype(float)
    low, high = pictures.min((1, 2), keepdims=True), pictures.max((1, 2), keepdims=True)
    stacked = {name: np.stack([take[name] for take in takes]) for name in takes[0]}
    return Footage(
        grey((pictures - low) / (high - low)),
        grey(test.read_truth()[shown]),
        grey(test.read_labels()[shown]),
        stacked["estimate"],
        stacked["expected"],
        stacked["matrices"],
        stacked["watched"].astype(np.float32),
        about,
    )


def _take(cfg: ExperimentConfig, dataset: SegmentationDataset) -> dict[str, Any]:
    """One training, recorded before its first epoch and after each."""
    splits = build.load_splits(cfg, dataset)
    model = build.build_model(cfg, build.model_shape(splits.train))
    frames: list[dict[str, Any]] = []

    def ask(_: Any = None) -> None:
        frames.append(_frame(model, splits.test, METHODS[cfg.method].loss != "calibrated"))

    ask()
    train = build.training_view(cfg, splits.train)
    fit(model, train, build.validation_view(cfg, splits.val), cfg, on_epoch=ask)
    taken: dict[str, Any] = {name: np.stack([f[name] for f in frames]) for name in frames[0]}
    return taken | {"warned": [str(frame["warned"]) for frame in frames]}


@torch.no_grad()
def _frame(model: nn.Module, test: SegmentationDataset, coupled: bool) -> dict[str, Any]:
    """What the network makes of the test digits now; what it learns next does not depend on it."""
    model.eval()
    out = model(torch.from_numpy(test.read_images()))
    probs, confusion = out.logits.softmax(1), build.matrices(out)
    row = diagnostics.watch(confusion, probs)
    mask, truth = probs.argmax(1), torch.from_numpy(test.read_truth()).long()
    dice = float(metrics.dice(mask, truth, 2)[:, 1].mean())
    shown = [*DIGITS]
    return {
        "estimate": grey(probs[shown, 1].numpy()),
        "expected": grey(confusion.apply(probs)[shown, :, 1].numpy()),
        "matrices": eight_bits(_by_estimate(confusion.dense(), probs).numpy()),
        "watched": np.array([dice, *(row[name] for name in WATCHED[1:])]),
        "warned": diagnostics.warning(row, needs_matrices=coupled) or "",
    }


def _by_estimate(
    dense: Float[Tensor, "batch annotator reported true h w"],
    probs: Float[Tensor, "batch true h w"],
) -> Float[Tensor, "annotator reported true"]:
    """The mean matrix of each annotator, each column over the pixels where its class is."""
    summed = torch.einsum("brijxy,bjxy->rij", dense, probs)
    return summed / probs.sum((0, 2, 3)).clamp_min(1e-6)


def eight_bits(values: ndarray) -> UInt8[ndarray, "..."]:
    """Values 0…1 as 0…255."""
    return np.round(255 * np.asarray(values, float)).astype(np.uint8)


def grey(values: ndarray) -> UInt8[ndarray, "..."]:
    """Values 0…1 as 0…255 in `LEVELS` equal steps."""
    return eight_bits(np.round(LEVELS * np.asarray(values, float)) / LEVELS)


def place() -> Path:
    """Where the recording lies."""
    return storage.figures_root() / "explorers" / "swap.npz"


def save(footage: Footage, file: Path) -> None:
    """Write a recording; the same one gives the same bytes."""
    arrays = {name: getattr(footage, name) for name in Footage._fields if name != "about"}
    with storage.replacing(file) as part, open(part, "wb") as out:
        np.savez_compressed(out, **arrays, about=np.array(json.dumps(footage.about)))


def load(file: Path | None = None) -> Footage:
    """The recording that comes with the repository, or that in `file`.

    FileNotFoundError where there is none, ValueError where the file is no recording.
    """
    file = place() if file is None else file
    if not file.exists():
        raise FileNotFoundError(
            f"no recording in {file}: run `python -m noisyseg.widgets`, which makes it again"
        )
    storage.check_npz(file)
    with np.load(file, allow_pickle=False) as stored:
        missing = sorted(set(Footage._fields) - set(stored.files))
        if missing:
            raise ValueError(f"{file} has no {missing}: run `python -m noisyseg.widgets`")
        arrays = {name: stored[name] for name in Footage._fields}
    return Footage(**arrays | {"about": json.loads(str(arrays["about"]))})
