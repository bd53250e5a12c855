"""Scorecard: the metrics of a whole test set, gathered batch by batch, as table rows.

Dice, IoU and energy distance are means over images; confusion matrices are pooled over
all test images before their error is taken (`cm_rmse`), and also scored image by image
(`cm_rmse_image`). Knows arrays and names, no model and no path.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from noisyseg import metrics

Row = dict[str, Any]


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
        there = torch.stack([(truth == c).flatten(1).any(1) for c in range(n)], 1)
        self._keep(there=there)
        self._keep(dice=metrics.dice(prediction, truth, n), iou=metrics.iou(prediction, truth, n))

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
        """One row a value: metric, class, annotator, value, n_images."""
        kept = {name: torch.cat(parts) for name, parts in self.images.items()}
        count = len(next(iter(kept.values())))
        rows: list[Row] = []

        def say(metric: str, value: Tensor, klass: str = "all", annotator: str = "all") -> None:
            row = {"metric": metric, "class": klass, "annotator": annotator}
            rows.append(row | {"value": float(value), "n_images": count})

        for metric in [m for m in ("dice", "iou") if m in kept]:
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
        """One row an image: foreground `dice`, `ged`, and the annotators' `agreement`, theirs
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
