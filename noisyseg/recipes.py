"""From a row of METHODS and a config to data, model and objective.

The one place where annotators are simulated for a data set that has none, labels are
dropped, targets fused and networks assembled. Trains nothing and writes nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noisyseg import calibrated, dominant, fusion, losses, metrics, models, prob_unet
from noisyseg.config import ExperimentConfig
from noisyseg.confusion import Confusion
from noisyseg.data import SegmentationDataset
from noisyseg.methods import METHODS
from noisyseg.simulate import simulate_labels
from noisyseg.subsets import TrainingView

Objective = Callable[[models.Prediction, dict[str, Tensor], int], Tensor]


class Splits(NamedTuple):
    """Train and validation with labels dropped as `labelling` says; test with all labels."""

    train: SegmentationDataset
    val: SegmentationDataset
    test: SegmentationDataset


def load_splits(cfg: ExperimentConfig, dataset: SegmentationDataset) -> Splits:
    """The three splits of `dataset`, with simulated annotators where it has none of its own."""

    def part(name: str, limit: int | None, labelling: str) -> SegmentationDataset:
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


def training_view(cfg: ExperimentConfig, data: SegmentationDataset, calibration: "calibrated.Calibration | None" = None) -> TrainingView:
    """What training may see of `data`: the truth only for the method that is defined by it."""
    target = METHODS[cfg.method].target
    if target == "labels":
        return data.training_view()
    if target == "calibrated":
        assert calibration is not None
        images, labels = data.read_images(), data.read_labels()
        shift = calibration.shift(cfg.anchor)
        new = calibrated.calibrated_labels(labels.astype(np.int8), shift)
        weight = calibration.weight() if cfg.weighted else np.ones(labels.shape[1])
        return data.training_view(calibrated=new, weight=np.tile(weight, (len(labels), 1)))
    if target == "truth":
        truth = torch.from_numpy(data.read_truth())
        return data.training_view(target=one_hot(truth, data.n_classes).numpy())
    labels = torch.from_numpy(data.read_labels())
    fused = fusion.FUSIONS[target](labels, data.n_classes)
    return data.training_view(target=fused.posterior.numpy())


def one_hot(classes: Tensor, n_classes: int) -> Float[Tensor, "batch true *space"]:
    """Class indices (batch, *space) as probabilities (batch, true, *space)."""
    return F.one_hot(classes, n_classes).movedim(-1, 1).float()


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
        sizes = (trunk, annotators, classes, cfg.init_diagonal)
        if head == "pixel":
            own = models.PixelHead(*sizes, cfg.common_columns)
            habits = None
            if METHODS[cfg.method].target == "calibrated":
                pixel = cfg.truth_from.startswith("pixel")
                habits = models.PixelHead(*sizes) if pixel else models.GlobalHead(trunk, annotators, classes, 3.0)
                if pixel and cfg.truth_from == "pixel2":
                    habits.table = models.GlobalHead(trunk, annotators, classes, 3.0)
            return models.SegmentationModel(trunk, classes, own, habits)
        if head == "global":
            return models.SegmentationModel(trunk, classes, models.GlobalHead(*sizes))
        if head == "low_rank":
            return models.SegmentationModel(trunk, classes, models.LowRankHead(*sizes, cfg.rank))
        if head == "known":
            return models.SegmentationModel(trunk, classes, models.KnownHead(known))
        if head == "latent":
            return prob_unet.ProbUNet(trunk, shape["channels"], classes)
        raise ValueError(f"unknown head {head!r}")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        if head == "separate":
            return models.SeparateModel([plain() for _ in range(annotators)])
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
        return lambda out, batch, epoch: losses.released_loss(
            out.logits.log_softmax(1), matrices(out), batch["labels"], trace_weight(cfg, epoch)
        )
    if kind == "calibrated":
        return lambda out, batch, epoch: calibrated_objective(cfg, out, batch, epoch)
    if cfg.warm_up == "fixed":
        return lambda out, batch, epoch: two_phases(cfg, out, batch, epoch)
    if cfg.dominance_level == "support":
        return lambda out, batch, epoch: dominant.dominant_loss(
            out.logits,
            matrices(out),
            batch["labels"],
            batch["image"],
            trace_weight=trace_weight(cfg, epoch),
            dominance_weight=cfg.dominance_weight,
            dominance_support=cfg.dominance_support,
            edge_weight=cfg.edge_weight,
            vote_weight=vote_weight(cfg, epoch),
            from_logits=True,
        )
    return lambda out, batch, epoch: losses.disentangling_loss(
        out.logits,
        matrices(out),
        batch["labels"],
        trace_weight=trace_weight(cfg, epoch),
        dominance_weight=cfg.dominance_weight,
        dominance_level=cfg.dominance_level,
        dominance_margin=cfg.dominance_margin,
        from_logits=True,
    )


def warm_up_length(cfg: ExperimentConfig) -> int:
    """Epochs of the first phase."""
    return max(cfg.warm_up_epochs, round(cfg.warm_up_share * cfg.epochs))


def two_phases(cfg, out, batch, epoch):
    if epoch < warm_up_length(cfg):
        return losses.fixed_phase_loss(out.logits.log_softmax(1), matrices(out), batch["labels"], cfg.fixed_diagonal)
    return losses.disentangling_loss(
        out.logits,
        matrices(out),
        batch["labels"],
        trace_weight=cfg.trace_weight,
        dominance_weight=cfg.dominance_weight,
        dominance_level=cfg.dominance_level,
        dominance_margin=cfg.dominance_margin,
        from_logits=True,
    )


def calibrated_objective(cfg, out, batch, epoch):
    log_probs = out.logits.log_softmax(1)
    y, weight = batch["calibrated"], batch["weight"]
    fixed = losses.fixed_matrices(cfg.fixed_diagonal, y, log_probs.shape[1])
    explain = losses.annotator_nll(log_probs.detach(), matrices(out), batch["labels"])
    kind = cfg.truth_from
    if kind.startswith("pixel"):
        if kind == "pixel2" and epoch < warm_up_length(cfg):
            return (losses.label_mean(-out.table.log_likelihood(log_probs, y), y, weight) + explain
                    + losses.annotator_nll(log_probs.detach(), out.habits, y))
        if epoch < warm_up_length(cfg):
            short = torch.relu(cfg.fixed_diagonal * log_probs.shape[1] - out.habits.trace())
            return (losses.label_mean(-fixed.log_likelihood(log_probs, y), y, weight)
                    + losses.label_mean(short, y) + explain)
        loss = losses.label_mean(-out.habits.log_likelihood(log_probs, y), y, weight) + explain
        if cfg.trace_weight:
            loss = loss + cfg.trace_weight * losses.label_mean(out.habits.trace(), y, weight)
        hinge = losses.dominance_penalty(out.habits, log_probs.exp(), "pixel", cfg.dominance_margin, weight.mean(0))
        return loss + cfg.dominance_weight * hinge
    if kind == "habits" and epoch < warm_up_length(cfg):
        nll = losses.label_mean(-fixed.log_likelihood(log_probs, y), y, weight)
        return nll + explain + losses.label_mean(-out.habits.log_likelihood(log_probs.detach(), y), y, weight)
    if kind in ("habits", "habits+dom"):
        return losses.label_mean(-out.habits.log_likelihood(log_probs, y), y, weight) + explain
    if kind == "fixed":
        return losses.label_mean(-fixed.log_likelihood(log_probs, y), y, weight) + explain
    if kind == "vote":
        return losses.label_mean(-log_probs.gather(1, y.clamp_min(0)), y, weight) + explain
    if kind == "coupled":  # paper's coupled per-pixel matrices on raw labels, truth held by weighted calibrated labels
        return losses.label_mean(-fixed.log_likelihood(log_probs, y), y, weight) + losses.annotator_nll(log_probs, matrices(out), batch["labels"])
    if kind == "hard":  # weighted majority per pixel of calibrated labels
        votes = torch.stack([((y == c) * weight[(...,) + (None,) * (y.dim() - 2)]).sum(1) for c in range(log_probs.shape[1])], 1)
        seen = votes.sum(1) > 1e-6
        loss = -log_probs.gather(1, votes.argmax(1, keepdim=True)).squeeze(1)
        return (loss * seen).sum() / seen.sum().clamp_min(1) + explain
    raise ValueError(kind)


def matrices(out: models.Prediction) -> Confusion:
    """The annotators of a prediction that has some."""
    assert out.confusion is not None, "this loss needs a model with annotators"
    return out.confusion


def trace_weight(cfg: ExperimentConfig, epoch: int) -> float:
    """λ at `epoch` (from 0): during warm-up it is 0 ("hold") or −λ ("maximise", paper 1.5)."""
    if epoch >= cfg.warm_up_epochs or cfg.warm_up == "none":
        return cfg.trace_weight
    return 0.0 if cfg.warm_up == "hold" else -cfg.trace_weight


def vote_weight(cfg: ExperimentConfig, epoch: int) -> float:
    """The weight of the labels as they are, at `epoch` (from 0): linear until half time."""
    left = max(0.0, 1 - epoch / (cfg.epochs / 2))
    return cfg.vote_weight + left * (cfg.vote_start - cfg.vote_weight)


def validation_loss(out: models.Prediction, batch: dict[str, Tensor]) -> Tensor:
    """How well a batch is explained, without truth: NLL of the labels, or CE to the target."""
    if out.latent is not None:
        return out.latent.loss(batch["labels"])
    log_probs = out.logits.log_softmax(1)
    if out.confusion is None:
        return losses.soft_cross_entropy(log_probs, batch["target"])
    return losses.annotator_nll(log_probs, out.confusion, batch["labels"])
