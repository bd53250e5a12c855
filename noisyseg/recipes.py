"""From a row of METHODS and a config to data, model and objective.

The one place where annotators are simulated for a data set that has none, labels are
dropped, targets fused and networks assembled. Trains nothing and writes nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noisyseg import dominant, fusion, losses, metrics, models, prob_unet
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


def training_view(cfg: ExperimentConfig, data: SegmentationDataset) -> TrainingView:
    """What training may see of `data`: the truth only for the method that is defined by it."""
    target = METHODS[cfg.method].target
    if target == "labels":
        return data.training_view()
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
            return models.SegmentationModel(trunk, classes, own)
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
