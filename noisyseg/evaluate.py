"""From a model and a test set to numbers: the metrics of all images as table rows.

Dice, IoU and energy distance are means over images; confusion matrices are pooled over
all test images before their error is taken (`cm_rmse`), and also scored image by image
(`cm_rmse_image`). Labels and truth of the test split are read here and nowhere else.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from noisyseg import baselines, build, config, metrics
from noisyseg.config import ExperimentConfig
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.data.views import unpadded
from noisyseg.runs import Run

Row = dict[str, Any]
OVERLAP = {name: metric.of for name, metric in metrics.METRICS.items() if metric.of is not None}


class Scorecard:
    """Add batches with `add` or `add_fused`, then read `rows()`."""

    def __init__(self, classes: Sequence[str], annotators: Sequence[str]) -> None:
        self.classes, self.annotators = list(classes), list(annotators)
        self.images: dict[str, list[Tensor]] = {}
        self.bins: Tensor | None = None

    def _keep(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.images.setdefault(name, []).append(value.double().cpu())

    def _overlap(self, prediction: Tensor, truth: Tensor) -> None:
        n = len(self.classes)
        prediction = torch.where(truth < 0, -1, prediction)  # nothing is known of the padding
        there = torch.stack([(truth == c).flatten(1).any(1) for c in range(n)], 1)
        self._keep(there=there)
        self._keep(**{name: of(prediction, truth, n) for name, of in OVERLAP.items()})

    def add(
        self,
        probs: Float[Tensor, "batch true *space"],
        labels: Int[Tensor, "batch annotator *space"],
        truth: Int[Tensor, "batch *space"] | None,
        noisy_probs: Float[Tensor, "batch annotator reported *space"] | None,
        confusion: Float[Tensor, "batch annotator reported true *space"] | None,
        samples: Int[Tensor, "batch sample *space"] | None = None,
    ) -> None:
        """Score a batch of predictions.

        The annotators' predicted labels are what the energy distance is taken of; without
        annotators the `samples` of a generative model, or else p itself. Without a `truth`
        nothing is said of overlap and matrices.
        """
        n, prediction = len(self.classes), probs.argmax(1)
        if truth is not None:
            self._overlap(prediction, truth)
        self._keep(agreement=metrics.agreement(labels))
        if noisy_probs is not None:
            samples = noisy_probs.argmax(2)
            self._keep(predicted_agreement=metrics.agreement(samples))
        samples = prediction[:, None] if samples is None else samples
        self._keep(ged=metrics.generalised_energy_distance(samples, labels, n))
        if confusion is not None and truth is not None:
            self._keep(
                estimated=metrics.confusion_sums(confusion, truth, labels),
                true=metrics.label_counts(labels, truth, n),
            )
        if noisy_probs is not None:
            bins = torch.stack(
                [
                    metrics.calibration_bins(noisy_probs[:, r], labels[:, r])
                    for r in range(labels.shape[1])
                ]
            )
            self.bins = bins.double().cpu() + (0 if self.bins is None else self.bins)

    def add_fused(
        self,
        posterior: Float[Tensor, "batch true *space"],
        labels: Int[Tensor, "batch annotator *space"],
        truth: Int[Tensor, "batch *space"],
    ) -> None:
        """Score fused labels; the estimated matrices are counts weighted by the posterior."""
        n = len(self.classes)
        self._overlap(posterior.argmax(1), truth)
        reported = (labels[:, :, None] == torch.arange(n).view(-1, *[1] * truth[0].dim())).double()
        sums = torch.einsum("nrix,njx->nrij", reported.flatten(3), posterior.double().flatten(2))
        self._keep(estimated=sums, true=metrics.label_counts(labels, truth, n))

    def rows(self) -> list[Row]:
        """One row per value: metric, class, annotator, value, n_images."""
        kept = {name: torch.cat(parts) for name, parts in self.images.items()}
        count = len(next(iter(kept.values())))
        rows: list[Row] = []

        def say(metric: str, value: Tensor, klass: str = "all", annotator: str = "all") -> None:
            row = {"metric": metric, "class": klass, "annotator": annotator}
            rows.append(row | {"value": float(value), "n_images": count})

        for metric in [name for name in OVERLAP if name in kept]:
            means = kept[metric].mean(0)
            for klass, value in zip(self.classes, means, strict=True):
                say(metric, value, klass)
            say(metric, means[1:].mean())  # "all" is the mean over foreground classes
        if "dice" in kept:
            there = kept["there"]
            means = (kept["dice"] * there).sum(0) / there.sum(0)  # NaN where no image holds it
            for klass, value in zip(self.classes, means, strict=True):
                say("dice_present", value, klass)
            say("dice_present", means[1:].nanmean())
        if "ged" in kept:
            say("ged", kept["ged"].mean())
        if "estimated" in kept:
            for annotator, value in self._matrix_errors(kept).items():
                say("cm_rmse", value, annotator=annotator)
            say("cm_rmse_image", self._image_error(kept))
            traces = metrics.normalise_columns(kept["estimated"].sum(0)).diagonal(dim1=1, dim2=2)
            for annotator, value in zip(self.annotators, traces.sum(-1), strict=True):
                say("trace", value, annotator=annotator)
        if self.bins is not None:
            for annotator, bins in zip(self.annotators, self.bins, strict=True):
                say("ece", metrics.ece_from_bins(bins), annotator=annotator)
            say("ece", metrics.ece_from_bins(self.bins.sum(0)))
        return rows

    def per_image(self) -> pd.DataFrame:
        """One row per image: foreground `dice`, `ged`, and the annotators' `agreement`, theirs
        and as predicted."""
        kept = {name: torch.cat(parts).numpy() for name, parts in self.images.items()}
        overlap = {"dice": kept["dice"][:, 1:].mean(1)} if "dice" in kept else {}
        table = pd.DataFrame(overlap, index=range(len(next(iter(kept.values())))))
        names = ("ged", "agreement", "predicted_agreement")
        return table.assign(**{name: kept[name] for name in names if name in kept})

    def _matrix_errors(self, kept: dict[str, Tensor]) -> dict[str, Tensor]:
        estimated, true = (metrics.normalise_columns(kept[k].sum(0)) for k in ("estimated", "true"))
        errors = dict(zip(self.annotators, metrics.cm_rmse(estimated, true), strict=True))
        return errors | {"all": metrics.cm_rmse_all(estimated, true)}

    def _image_error(self, kept: dict[str, Tensor]) -> Tensor:
        estimated, true = (metrics.normalise_columns(kept[k]) for k in ("estimated", "true"))
        return metrics.cm_rmse_all(estimated, true).nanmean()


COLUMNS = "labelling method averaged_over network dice dice_present left_empty".split()


def alone_and_averaged(runs: Iterable[Run]) -> pd.DataFrame:
    """Dice on the test images of each network and of the mean of their probabilities.

    One row a network: labelling, method, averaged_over, network, then (0…1), for the class that
    the paper reports, the Dice over all images (one without the class scores 1 when left empty,
    else 0), the Dice over those that hold it, and the share of the others that is left empty.

    A run of `separate` averages over its annotators; the other methods average over their seeds,
    where they have several. Raises ValueError for a run that trained nothing, and for runs of
    several data sets.
    """
    runs = list(runs)
    names = {run.config.dataset for run in runs}
    if len(names) != 1:
        raise ValueError(f"give runs of one data set, not of {sorted(names)}")
    groups: dict[tuple[str, str, str], dict[str, nn.Module]] = {}
    for run in runs:
        cfg, model = run.config, run.model()
        if isinstance(model, baselines.SeparateModel):
            members = zip(run.provenance["shape"]["annotators"], model.members, strict=True)
            groups[cfg.labelling, cfg.method, f"annotators, seed {cfg.seed}"] = dict(members)
        else:
            groups.setdefault((cfg.labelling, cfg.method, "seeds"), {})[f"seed {cfg.seed}"] = model
    test = build.load_splits(cfg, load_dataset(cfg.dataset)).test
    rows = []
    for group, networks in groups.items():
        probs = {name: _probs(network, test) for name, network in networks.items()}
        if len(probs) > 1:
            probs[f"average of {len(probs)}"] = torch.stack([*probs.values()]).mean(0)
        rows += [(*group, name, *_scores(p, test)) for name, p in probs.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


@torch.no_grad()
def _probs(network: nn.Module, test: SegmentationDataset) -> Tensor:
    batches = torch.from_numpy(test.read_images()).split(32)  # memory
    return torch.cat([network.eval()(image).logits.softmax(1) for image in batches])


def _scores(probs: Tensor, test: SegmentationDataset) -> tuple[float, ...]:
    truth, target = torch.from_numpy(test.read_truth()), config.TARGET.get(test.name)
    chosen = [test.classes.index(target)] if target else list(range(1, test.n_classes))
    dice = metrics.dice(probs.argmax(1), truth, test.n_classes)[:, chosen].mean(1)
    present = torch.isin(truth, torch.tensor(chosen)).flatten(1).any(1)
    return tuple(float(part.mean()) for part in (dice, dice[present], dice[~present]))


EVALUATION_BATCH = 250
EXHIBITS = 8


class Evaluation(NamedTuple):
    """Rows of metrics.csv, the exhibits, and one row per image (images.csv)."""

    rows: list[dict[str, Any]]
    exhibits: dict[str, np.ndarray]
    images: pd.DataFrame


@torch.no_grad()
def evaluate(model: nn.Module, test: SegmentationDataset) -> Evaluation:
    """Every metric of `METRICS` that applies, on all test images, and the exhibits.

    The model is scored on the device it is on; labels and truth are read here and nowhere
    else after training. A data set without a truth is scored by its labels alone.
    """
    model.eval()
    device = next(model.parameters()).device
    images, labels = test.read_images(), test.read_labels()
    truth = None if test.truth is None else _known_truth(test.read_truth(), images, labels)
    score = Scorecard(test.classes, test.annotators)
    for start in range(0, len(test), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        image, y = (torch.from_numpy(a[part]).to(device) for a in (images, labels))
        t = None if truth is None else torch.from_numpy(truth[part]).to(device)
        out = model(image)
        probs = out.logits.softmax(1)
        noisy = None if out.confusion is None else out.confusion.apply(probs)
        dense = None if out.confusion is None else out.confusion.dense()
        score.add(probs, y, t, noisy, dense, out.samples)
    return Evaluation(score.rows(), exhibits_of(model, test), _named(score, test))


@torch.no_grad()
def exhibits_of(model: nn.Module, test: SegmentationDataset) -> dict[str, np.ndarray]:
    """The first test images with everything that `model` predicts for them (`Run.exhibits`)."""
    model.eval()
    first, device = slice(0, EXHIBITS), next(model.parameters()).device
    image = torch.from_numpy(test.read_images()[first])
    labels = torch.from_numpy(test.read_labels()[first])
    truth = None if test.truth is None else torch.from_numpy(test.read_truth()[first])
    out = model(image.to(device))
    probs = out.logits.softmax(1)
    if out.confusion is None:
        return _exhibits(image, labels, truth, probs, None, None)
    noisy, dense = out.confusion.apply(probs), out.confusion.dense()
    return _exhibits(image, labels, truth, probs, noisy, dense)


def _known_truth(truth: np.ndarray, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`truth` with −1 in the padding, which is scored nowhere."""
    known = np.full_like(truth, -1)
    for new, old, image, label in zip(known, truth, images, labels, strict=True):
        inside = unpadded(image, label)
        new[inside] = old[inside]
    return known


def evaluate_fusion(cfg: ExperimentConfig, test: SegmentationDataset) -> Evaluation:
    """Fused labels of the *test* images against their truth: no network, no generalisation."""
    kept = test.drop_labels(cfg.labelling, cfg.seed)
    labels, truth = (torch.from_numpy(a) for a in (kept.read_labels(), kept.read_truth()))
    fused = build.fused_labels(cfg, kept)
    score = Scorecard(test.classes, test.annotators)
    score.add_fused(fused.posterior, labels, truth)
    image = torch.from_numpy(test.read_images()[:EXHIBITS])
    exhibits = _exhibits(image, labels, truth, fused.posterior, None, None)
    return Evaluation(score.rows(), exhibits, _named(score, test))


def _named(score: Scorecard, test: SegmentationDataset) -> pd.DataFrame:
    return score.per_image().assign(image_id=test.image_ids, case_id=test.case_ids)


def _exhibits(*tensors: Tensor | None) -> dict[str, np.ndarray]:
    """The first test images: image, labels, truth, probs, noisy_probs, confusion (float16)."""
    names = ("image", "labels", "truth", "probs", "noisy_probs", "confusion")
    arrays = {}
    for name, tensor in zip(names, tensors, strict=True):
        if tensor is not None:
            dtype = torch.float16 if tensor.is_floating_point() else torch.int8
            arrays[name] = tensor[:EXHIBITS].to("cpu", dtype).numpy()
    return arrays
