"""A report on annotators: skill, systematic bias, labels to look at again.

Compares what each annotator wrote with an *estimate* of the truth (a model's, or a fusion's);
where annotators err together the estimate errs with them. How wide they draw stands in `widths`.
Numbers only; no truth is read.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from noisyseg import build, diagnostics, metrics
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.data.views import unpadded
from noisyseg.predict import predict_image
from noisyseg.report import pairs, widths
from noisyseg.report.biases import batches, biases
from noisyseg.report.bootstrap import Sample, resample
from noisyseg.runs import Run

LISTED = 10
ASSESSED = 200


FAILED = 0.2  # an estimate that agrees so much less with everybody than they with each other
RELABEL = ["image_id", "annotator", "agreement", "surprise", "dice", "text"]


class AnnotatorReport(NamedTuple):
    """Six tables, see `annotator_report`."""

    offsets: pd.DataFrame
    skills: pd.DataFrame
    biases: pd.DataFrame
    relabel: pd.DataFrame
    pairs: pd.DataFrame
    failed: pd.DataFrame


class Estimate(NamedTuple):
    """A model's truth (N, *space) of `data`, background in the padding, and each label's mean
    negative log-likelihood per pixel (N, annotator), NaN where not labelled; None of a model
    without annotators."""

    data: SegmentationDataset
    truth: Int[ndarray, "image *space"]
    surprise: Float[ndarray, "image annotator"] | None


def annotator_report(
    truth: Int[ndarray, "image *space"],
    labels: Int[ndarray, "image annotator *space"],
    *,
    classes: Sequence[str],
    annotators: Sequence[str],
    image_ids: Sequence[str] | ndarray,
    images: Float[ndarray, "image channel *space"] | None = None,
    case_ids: Sequence[str] | ndarray | None = None,
    spacing_mm: Sequence[float] | None = None,
    surprise: Float[ndarray, "image annotator"] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> AnnotatorReport:
    """Skill, bias and the labels most worth another look; `truth` is an estimate.

    `labels`: −1 = not labelled. Intervals are 95 % percentile bootstrap over cases (images
    of one case stay together), NaN with fewer than 3 cases.

    `offsets`: how wide each annotator draws, see `offsets`; empty without `images`.
    `skills`: annotator, class, sensitivity and dice (pooled over the annotator's images,
    each with _low and _high), images, cases. `biases`: see `biases.biases`; `pairs`: see
    `pairs.table`. `relabel`: labels to look at again, see `labels_to_see`; `surprise` (mean
    negative log-likelihood a pixel) is shown there. `failed`: images at which the estimate and
    not the annotators failed, see `failed_images`. Raises ValueError for shapes that do not fit.
    """
    if labels.shape != (len(image_ids), len(annotators), *truth.shape[1:]):
        raise ValueError(
            f"labels {labels.shape} do not fit {len(image_ids)} images, {len(annotators)} "
            f"annotators and a truth {truth.shape}"
        )
    cases = image_ids if case_ids is None else case_ids
    counts = np.concatenate([_counts(t, y, len(classes)) for t, y in batches(truth, labels)])
    joint = pairs.joint_counts(labels, len(classes))
    sample = resample(cases, resamples, seed)
    names = {"classes": classes, "annotators": annotators}
    found = biases(truth, labels, counts, sample, **names, spacing_mm=spacing_mm, joint=joint)
    dice, agreed = _image_dice(counts), pairs.agreement_with_others(joint)
    failed = failed_images(dice, agreed, image_ids)
    relabel = labels_to_see(dice, agreed, image_ids, annotators, failed.image_id, surprise)
    beside = pairs.table(joint, sample, classes, annotators)
    skills = _skills(counts, sample, classes, annotators)
    width = pd.DataFrame(columns=widths.OFFSETS)
    if images is not None:
        width = widths.offsets(
            images, labels, cases, **names, spacing_mm=spacing_mm, resamples=resamples, seed=seed
        )
    return AnnotatorReport(
        widths.beside_sizes(width, found), skills, found, relabel, beside, failed
    )


def _counts(truth: ndarray, labels: ndarray, n_classes: int) -> ndarray:
    """Pixels by (image, annotator, written, estimated)."""
    y, t = (torch.from_numpy(np.array(a, np.int64)) for a in (labels, truth))
    return metrics.label_counts(y, t, n_classes).numpy()


def _skills(
    counts: ndarray, sample: Sample, classes: Sequence[str], annotators: Sequence[str]
) -> pd.DataFrame:
    hits = np.diagonal(counts, axis1=2, axis2=3)
    estimated, written = counts.sum(2), counts.sum(3)
    sensitivity = sample.ratio(hits, estimated)
    dice = sample.ratio(2 * hits, estimated + written)
    labelled = counts.sum((2, 3)) > 0
    rows = []
    for r, name in enumerate(annotators):
        who = {"images": int(labelled[:, r].sum())}
        who["cases"] = len(set(sample.case_of[labelled[:, r]]))
        for c, klass in enumerate(classes):
            row = {"annotator": name, "class": klass}
            for column, values in (("sensitivity", sensitivity), ("dice", dice)):
                shown = values[:, r, c] if c or column == "sensitivity" else np.full(3, np.nan)
                names = (column, f"{column}_low", f"{column}_high")
                row |= dict(zip(names, shown.tolist(), strict=True))
            rows.append(row | who)
    return pd.DataFrame(rows)


def _image_dice(counts: ndarray) -> Float[ndarray, "image annotator"]:
    """Mean over foreground classes that either has; 1 where neither has any, NaN unlabelled."""
    by_class = metrics.dice_of_counts(torch.from_numpy(counts))[..., 1:]
    dice = by_class.nanmean(-1).nan_to_num(1.0).numpy()
    return np.where(counts.sum((2, 3)) > 0, dice, np.nan)


def failed_images(
    dice: Float[ndarray, "image annotator"],
    agreed: Float[ndarray, "image annotator"],
    image_ids: Sequence[str] | ndarray,
) -> pd.DataFrame:
    """Images at which all annotators disagree with the estimate alike: it failed, not they.

    `dice` with the estimate and `agreed`, the mean Dice with the others: every one of them
    agrees better with the others than anybody does with the estimate, by `FAILED` on average.
    Columns image_id, dice (the best with the estimate), agreement (the mean), worst first.
    """
    both = np.isfinite(dice) & np.isfinite(agreed)
    best = np.where(both, dice, -np.inf).max(1)
    least = np.where(both, agreed, np.inf).min(1)
    count = np.maximum(both.sum(1), 1)
    gap = (np.where(both, agreed, 0).sum(1) - np.where(both, dice, 0).sum(1)) / count
    wrong = (both.sum(1) >= 2) & (best < least) & (gap >= FAILED)
    rows = sorted(np.flatnonzero(wrong).tolist(), key=lambda n: -gap[n])
    mean = np.where(both, agreed, 0).sum(1) / count
    values = [(image_ids[n], float(best[n]), float(mean[n])) for n in rows]
    return pd.DataFrame(values, columns=["image_id", "dice", "agreement"])


def labels_to_see(
    dice: Float[ndarray, "image annotator"],
    agreed: Float[ndarray, "image annotator"],
    image_ids: Sequence[str] | ndarray,
    annotators: Sequence[str],
    failed: Sequence[str] | ndarray | pd.Series = (),
    surprise: Float[ndarray, "image annotator"] | None = None,
) -> pd.DataFrame:
    """At most ten labels worth a second look, columns RELABEL, worst first.

    Ranked by how much less a label agrees with the others' on its image than this annotator's
    labels usually do: a bad day is listed, a habit is not. The estimate is a second witness: at
    least half of the labels of the image must fit it as well or better, unless it `failed`
    there. A label that nobody else's can be compared with is judged by the estimate alone.
    """
    alone = np.isnan(agreed)
    excess = np.where(alone, _below_usual(dice, alone), _below_usual(agreed, ~alone))
    some = np.where(np.isfinite(dice).any(1, keepdims=True), dice, 0)
    middle = np.nanmedian(some, 1, keepdims=True)
    trusted = ~np.isin(np.asarray(image_ids).astype(str), [str(i) for i in failed])[:, None]
    excess = np.where(np.isfinite(excess) & (~trusted | (dice <= middle)), excess, -np.inf)
    excess[alone & ~trusted] = -np.inf
    rows = []
    for flat in np.argsort(-excess, axis=None, kind="stable")[:LISTED]:
        n, r = np.unravel_index(flat, excess.shape)
        if not excess[n, r] > 0:
            break
        nats = np.nan if surprise is None else float(surprise[n, r])
        usual = np.nanmedian(dice[:, r] if alone[n, r] else agreed[:, r])
        text = f"Dice {agreed[n, r]:.2f} with the others (usual: {usual:.2f}), "
        if alone[n, r]:
            text = f"Dice {dice[n, r]:.2f} with the estimate (usual: {usual:.2f}), nobody else's"
        elif trusted[n, 0]:
            text += f"{dice[n, r]:.2f} with the estimate"
        else:
            text += "where the estimate failed"
        found = float(agreed[n, r]), nats, float(dice[n, r])
        rows.append((image_ids[n], annotators[r], *found, text))
    return pd.DataFrame(rows, columns=RELABEL)


def _below_usual(
    scores: Float[ndarray, "image annotator"], counted: ndarray
) -> Float[ndarray, "image annotator"]:
    """By how much each score is below the median of its annotator's `counted` ones."""
    usual = np.full(scores.shape[1], np.nan)
    known = counted & np.isfinite(scores)
    for r in np.flatnonzero(known.any(0)):
        usual[r] = np.median(scores[known[:, r], r])
    return usual - scores


def agreement(data: SegmentationDataset) -> pd.DataFrame:
    """From the labels alone: which share of them would be right if a mask were the truth.

    One row per annotator, the majority and the swap of the vote; a column "labels right, %".
    From at most 200 images, evenly spread. ValueError for data without labels.
    """
    rows = np.linspace(0, len(data) - 1, min(ASSESSED, len(data))).astype(int)
    if data.labels is None:
        raise ValueError(f"{data.path} has no labels.npy: nothing to compare")
    labels = torch.from_numpy(np.stack([np.array(data.labels[n], np.int64) for n in rows]))
    kinds = diagnostics.candidates(labels, data.n_classes, names=data.annotators)
    count = len(data.annotators)
    majority = f"at least {count // 2 + 1} of {count}"
    shown = [*data.annotators, majority, "swap of the vote"]
    table = diagnostics.assess(labels, kinds, data.n_classes).set_index("candidate").loc[shown]
    return pd.DataFrame({"labels right, %": 100 * table["trace"]})


def estimate(run: Run) -> Estimate:
    """What the finished `run` says of every image of its data set; the truth is not read.

    Where annotators were simulated, of its test images. ValueError for a run without network.
    """
    data = load_dataset(run.config.dataset)
    if data.labels is None:
        data = build.load_splits(run.config, data).test
    assert data.labels is not None
    model = run.model()
    truth, surprise = [], []
    for n in range(len(data)):
        found = predict_image(model, data.images[n])
        truth.append(_without_padding(found.truth, data.images[n], data.labels[n]))
        if found.noisy_probs is not None:
            surprise.append(_surprise(found.noisy_probs, np.asarray(data.labels[n], np.int64)))
    return Estimate(data, np.stack(truth), np.stack(surprise) if surprise else None)


def _without_padding(truth: ndarray, image: ndarray, labels: ndarray) -> ndarray:
    """`truth` with background in the padding, of which nobody says anything to learn from."""
    inside = unpadded(np.asarray(image), np.asarray(labels))
    kept = np.zeros_like(truth)
    kept[inside] = truth[inside]
    return kept


def _surprise(
    noisy_probs: Float[ndarray, "annotator reported *space"],
    labels: Int[ndarray, "annotator *space"],
) -> Float[ndarray, " annotator"]:
    """Mean −log p(what was written) over the pixels each annotator labelled; NaN for none."""
    seen = labels >= 0
    written = np.take_along_axis(noisy_probs, np.maximum(labels, 0)[:, None], 1)[:, 0]
    nats = -np.log(np.maximum(written.astype(np.float64), np.finfo(np.float32).tiny))
    space = tuple(range(1, labels.ndim))
    with np.errstate(invalid="ignore"):
        return np.where(seen, nats, 0).sum(space) / seen.sum(space)


def report_of_estimate(found: Estimate, resamples: int = 1000) -> AnnotatorReport:
    """`annotator_report` of a model's estimate, with the images, names and spacing of its data."""
    data = found.data
    assert data.labels is not None
    images = data.images if isinstance(data.images, ndarray) else data.read_images()
    return annotator_report(
        found.truth,
        data.read_labels(),
        classes=data.classes,
        annotators=data.annotators,
        image_ids=data.image_ids,
        images=images,
        case_ids=data.case_ids,
        spacing_mm=data.spacing_mm,
        surprise=found.surprise,
        resamples=resamples,
    )


def sentences(report: AnnotatorReport, annotator: str) -> list[str]:
    """How wide `annotator` draws and the clear biases; a sentence says so when there are none."""
    labelled = report.skills.query("annotator == @annotator").images.max()
    if not labelled:
        return ["labelled nothing"]
    width, found = (
        table[table.annotator == annotator] for table in (report.offsets, report.biases)
    )
    said = [*width.text, *found[found.clear.astype(bool)].text]
    if not (width.clear.any() or found.clear.any()):
        said.append("no clear bias found")
    return list(dict.fromkeys(said))  # "never writes lesion" may be in both tables
