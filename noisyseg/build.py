"""From a row of METHODS and a config to data, model and objective.

The one place where annotators are simulated for a data set that has none, labels are
dropped, targets fused and networks assembled. Trains nothing and writes nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from noisyseg import (
    baselines,
    calibrated,
    fusion,
    losses,
    metrics,
    models,
)
from noisyseg.config import ExperimentConfig
from noisyseg.confusion import Confusion
from noisyseg.data.dataset import SegmentationDataset
from noisyseg.data.training import TrainingView
from noisyseg.methods import METHODS
from noisyseg.simulate import simulate_labels

HEADS: dict[str, Callable[[models.UNet, int, int, ExperimentConfig], nn.Module]] = {
    "pixel": lambda trunk, r, c, cfg: models.PixelHead(trunk, r, c, cfg.init_diagonal),
    "global": lambda trunk, r, c, cfg: models.GlobalHead(trunk, r, c, cfg.init_diagonal),
    "low_rank": lambda trunk, r, c, cfg: models.LowRankHead(
        trunk, r, c, cfg.init_diagonal, cfg.rank
    ),
}
Objective = Callable[[models.Prediction, dict[str, Tensor], int], Tensor]


class Splits(NamedTuple):
    """Train and validation with labels dropped as `labelling` says; test with all labels."""

    train: SegmentationDataset
    val: SegmentationDataset
    test: SegmentationDataset


def load_splits(cfg: ExperimentConfig, dataset: SegmentationDataset) -> Splits:
    """The three splits of `dataset`, with simulated annotators where it has none of its own.

    With `train_on="all"` the images of the other two are among those of `train`.
    """

    def part(name: str, limit: int | None, labelling: str) -> SegmentationDataset:
        if name == "train" and cfg.train_on == "all":
            subset = dataset.labelled(limit)
        else:
            subset = dataset.split(name, limit=limit)
        if subset.labels is None:
            labels = simulate_labels(
                subset.read_truth(), subset.image_ids, cfg.annotators, cfg.annotator_seed
            )
            subset = subset.with_labels(labels, cfg.annotators)
        return subset.drop_labels(labelling, cfg.seed)

    return Splits(
        part("train", cfg.n_train, cfg.labelling),
        part("val", cfg.n_val, cfg.labelling),
        part("test", cfg.n_test, "dense"),
    )


def training_view(cfg: ExperimentConfig, data: SegmentationDataset) -> TrainingView:
    """What training may see of `data`: the truth only for the method that is defined by it."""
    target = METHODS[cfg.method].target
    if target == "labels":
        return data.training_view()
    if target == "calibrated":
        images, labels = data.read_images(), data.read_labels()
        new, weight = calibrated_by(cfg, images, labels, data.n_classes)
        return data.training_view(calibrated=new, weight=np.tile(weight, (len(labels), 1)))
    if target == "truth":
        one_hot = metrics.one_hot(torch.from_numpy(data.read_truth()), data.n_classes)
        return data.training_view(target=one_hot.movedim(-1, 1).float().numpy())
    return data.training_view(target=fused_labels(cfg, data).posterior.numpy())


def validation_view(cfg: ExperimentConfig, data: SegmentationDataset) -> TrainingView:
    """`training_view`, but calibrated labels are validated by the labels as they were written."""
    if METHODS[cfg.method].target == "calibrated":
        return data.training_view()
    return training_view(cfg, data)


def fused_labels(cfg: ExperimentConfig, data: SegmentationDataset) -> fusion.Fused:
    """One soft target of all labels of each image, as the method's `target` says."""
    target, labels = METHODS[cfg.method].target, data.read_labels()
    if target != "calibrated":
        return fusion.FUSIONS[target](torch.from_numpy(labels), data.n_classes)
    new, weight = calibrated_by(cfg, data.read_images(), labels, data.n_classes)
    votes = torch.from_numpy(new.astype(np.int64))
    return calibrated.calibrated_vote(votes, torch.from_numpy(weight), data.n_classes)


def calibrated_by(
    cfg: ExperimentConfig, images: np.ndarray, labels: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels calibrated as `cfg.anchor` says, and each annotator's say."""
    found = calibrated.calibrate(images, labels, n_classes)
    new = calibrated.calibrated_labels(labels, found.shift(cfg.anchor))
    return new, calibrated.say(new, found.weight(), n_classes)


def known_matrices(data: SegmentationDataset) -> Float[Tensor, "annotator reported true"]:
    """The annotators' true mean matrices on `data` (needs the truth), half a pixel added.

    What "known confusion matrices" means for the oracle row (paper section 4): the real
    error rates of each annotator, one matrix for all pixels.
    """
    labels, truth = torch.from_numpy(data.read_labels()), torch.from_numpy(data.read_truth())
    counts = metrics.label_counts(labels, truth, data.n_classes).sum(0).float() + 0.5
    return counts / counts.sum(1, keepdim=True)


def model_shape(data: SegmentationDataset) -> dict[str, Any]:
    """What a network must know of its data; kept in a run's provenance to rebuild it."""
    return {
        "channels": len(data.channels),
        "classes": list(data.classes),
        "annotators": list(data.annotators),
        "dims": len(data.space),
        "sources": data.meta["sources"],  # says how files became images, for data_prep.predict
    }


def build_model(
    cfg: ExperimentConfig, shape: dict[str, Any], known: Tensor | None = None
) -> nn.Module:
    """The method's network, initialised from `cfg.seed` alone.

    `known`: (annotator, reported, true) for the oracle; without it the identity stands in
    until a state dict is loaded.
    """
    head = METHODS[cfg.method].head if cfg.head == "method" else cfg.head
    classes, annotators = len(shape["classes"]), len(shape["annotators"])
    known = torch.eye(classes).repeat(annotators, 1, 1) if known is None else known

    def trunk_of() -> models.UNet:
        sizes = shape["channels"], cfg.width, cfg.depth, shape["dims"]
        return models.UNet(*sizes, cfg.activation)

    def plain() -> models.SegmentationModel:
        return models.SegmentationModel(trunk_of(), classes)

    def network() -> nn.Module:
        if head in ("none", "separate"):
            return plain()
        trunk = trunk_of()
        if head in HEADS:
            make = partial(HEADS[head], trunk, annotators, classes, cfg)
            own = make()
            more = make() if METHODS[cfg.method].target == "calibrated" else None
            return models.SegmentationModel(trunk, classes, own, more)
        if head == "known":
            return models.SegmentationModel(trunk, classes, baselines.KnownHead(known))
        if head == "latent":
            return baselines.ProbUNet(trunk, shape["channels"], classes)
        raise ValueError(f"unknown head {head!r}")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        if head == "separate":
            return baselines.SeparateModel([plain() for _ in range(annotators)])
        return network()


def objective(cfg: ExperimentConfig) -> Objective:
    """The loss of a batch: `loss(prediction, batch, epoch)`, warm-up included."""
    kind = METHODS[cfg.method].loss
    if kind == "cross_entropy":
        return lambda out, batch, epoch: losses.soft_cross_entropy(
            out.logits.log_softmax(1), batch["target"]
        )
    if kind == "evidence":
        return lambda out, batch, epoch: out.latent.loss(batch["labels"])
    if kind == "released":
        return lambda out, batch, epoch: baselines.released_loss(
            out.logits.log_softmax(1), matrices(out), batch["labels"], trace_weight(cfg, epoch)
        )
    if kind == "calibrated":
        return partial(calibrated_loss, cfg)
    return lambda out, batch, epoch: two_phases(
        cfg, epoch, out.logits, matrices(out), batch["labels"]
    )


def two_phases(
    cfg: ExperimentConfig,
    epoch: int,
    logits: Float[Tensor, "batch true *space"],
    confusion: Confusion,
    labels: Int[Tensor, "batch annotator *space"],
    annotator_weight: Float[Tensor, " annotator"] | None = None,
) -> Tensor:
    """The paper's loss at `epoch` (from 0): with fixed matrices first, if so asked, then Eq. 4."""
    if cfg.warm_up == "fixed" and epoch < warm_up_epochs(cfg):
        return losses.fixed_phase_loss(
            logits.log_softmax(1), confusion, labels, cfg.fixed_diagonal, annotator_weight
        )
    return losses.disentangling_loss(
        logits,
        confusion,
        labels,
        trace_weight=trace_weight(cfg, epoch),
        dominance_weight=cfg.dominance_weight,
        dominance_level=cfg.dominance_level,
        dominance_margin=cfg.dominance_margin,
        annotator_weight=annotator_weight,
        from_logits=True,
    )


def calibrated_loss(
    cfg: ExperimentConfig, out: models.Prediction, batch: dict[str, Tensor], epoch: int
) -> Tensor:
    """Ours: the truth from calibrated labels by the paper's loss, given it the labels as written.

    The second part explains what the annotators wrote and leaves the truth alone.
    """
    assert out.calibrated is not None, "a model of ours has matrices of calibrated labels"
    weight = batch["weight"][0].to(out.logits.dtype)
    loss = two_phases(cfg, epoch, out.logits, out.calibrated, batch["calibrated"], weight)
    given = out.logits.detach().log_softmax(1)
    return loss + losses.annotator_nll(given, matrices(out), batch["labels"])


def matrices(out: models.Prediction) -> Confusion:
    """The annotators of a prediction that has some."""
    assert out.confusion is not None, "this loss needs a model with annotators"
    return out.confusion


def warm_up_epochs(cfg: ExperimentConfig) -> int:
    """How many epochs the first phase has."""
    return max(cfg.warm_up_epochs, round(cfg.warm_up_share * cfg.epochs))


def trace_weight(cfg: ExperimentConfig, epoch: int) -> float:
    """λ at `epoch` (from 0): during warm-up it is 0 ("hold") or −λ ("maximise", paper 1.5)."""
    if epoch >= warm_up_epochs(cfg) or cfg.warm_up == "none":
        return cfg.trace_weight
    return -cfg.trace_weight if cfg.warm_up == "maximise" else 0.0


def validation_loss(out: models.Prediction, batch: dict[str, Tensor]) -> Tensor:
    """How well a batch is explained, without truth: NLL of the labels, or CE to the target."""
    if out.latent is not None:
        return out.latent.loss(batch["labels"])
    log_probs = out.logits.log_softmax(1)
    if out.confusion is None:
        return losses.soft_cross_entropy(log_probs, batch["target"])
    return losses.annotator_nll(log_probs, out.confusion, batch["labels"])
