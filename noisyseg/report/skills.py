"""A report on annotators: how wide they draw, skill, systematic bias, labels to look at again.

How wide each annotator draws is measured against the others, by the edges of the images. The rest
compares what each annotator wrote with an *estimate* of the truth (a model's, or a fusion's);
where annotators err together the estimate errs with them. Numbers only; no truth is read.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from noisyseg import build, calibrated, diagnostics, metrics
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.report.biases import LEAST_CASES, Sample, batches, biases, resample
from noisyseg.runs import Run

LISTED = 10
ASSESSED = 200
LEAST_OFFSET_PX = 0.5  # a smaller one is no difference in how wide somebody draws
OFFSETS = ["annotator", "class", "offset", "low", "high", "offset_mm", "clear", "text"]


class AnnotatorReport(NamedTuple):
    """Four tables, see `annotator_report`."""

    offsets: pd.DataFrame
    skills: pd.DataFrame
    biases: pd.DataFrame
    relabel: pd.DataFrame


class Estimate(NamedTuple):
    """A model's truth (N, *space) of `data`, and each label's mean negative log-likelihood
    per pixel (N, annotator), NaN where not labelled; None of a model without annotators."""

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
    each with _low and _high), images, cases. `biases`: annotator, class, kind (over, under,
    shift, swap), amount, low, high, unit (%, px, mm), clear, text, see `biases.biases`.
    `relabel`: image_id, annotator,
    surprise, dice, text, worst first: what exceeds the annotator's own median most, by
    `surprise` (mean negative log-likelihood a pixel) or else by 1 − Dice. Raises ValueError
    for shapes that do not fit.
    """
    if labels.shape != (len(image_ids), len(annotators), *truth.shape[1:]):
        raise ValueError(
            f"labels {labels.shape} do not fit {len(image_ids)} images, {len(annotators)} "
            f"annotators and a truth {truth.shape}"
        )
    cases = image_ids if case_ids is None else case_ids
    counts = np.concatenate([_counts(t, y, len(classes)) for t, y in batches(truth, labels)])
    sample = resample(cases, resamples, seed)
    names = {"classes": classes, "annotators": annotators}
    found = biases(truth, labels, counts, sample, **names, spacing_mm=spacing_mm)
    relabel = _relabel(counts, surprise, image_ids, annotators)
    skills = _skills(counts, sample, classes, annotators)
    width = pd.DataFrame(columns=OFFSETS)
    if images is not None:
        width = offsets(
            images, labels, cases, **names, spacing_mm=spacing_mm, resamples=resamples, seed=seed
        )
    return AnnotatorReport(width, skills, found, relabel)


def offsets(
    images: Float[ndarray, "image channel *space"],
    labels: Int[ndarray, "image annotator *space"],
    case_ids: Sequence[str] | ndarray,
    *,
    classes: Sequence[str],
    annotators: Sequence[str],
    spacing_mm: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How many pixels wider than the others each annotator draws each class, in words as well.

    Columns: annotator, class, offset with low and high (95 %, bootstrap over cases; negative =
    narrower), offset_mm (NaN unless the spacing is known and the same along all axes), clear, text.
    The edges of the images tell the annotators' outlines apart (`calibrated.calibrate`); what all
    annotators do alike cannot be seen. NaN for whoever follows no edge, or has nobody to be
    compared with. Images are read one at a time, and their order plays no part.
    """
    found = intervals(images, labels, len(classes), case_ids, resamples, seed)
    if len(set(case_ids)) < LEAST_CASES:
        found[1:] = np.nan
    follows = np.isfinite(found[0])
    found[:, :, follows.sum(0) < 2] = np.nan
    anywhere = (0, *range(2, labels.ndim))
    labelled = np.asarray((labels >= 0).any(anywhere))
    written = np.stack([(labels == c).any(anywhere) for c in range(len(classes))], 1)
    square = spacing_mm is not None and np.allclose(spacing_mm, spacing_mm[0])
    mm = float(spacing_mm[0]) if square and spacing_mm is not None else np.nan
    rows = []
    for r, name in enumerate(annotators):
        for c, klass in enumerate(classes[1:], start=1):
            if not labelled[r]:
                continue
            what = "" if len(classes) == 2 else klass
            offset, low, high = (float(v) for v in found[:, r, c])
            clear = abs(offset) >= LEAST_OFFSET_PX and (low > 0 or high < 0)
            if not written[r, c]:
                text = f"never writes {klass}"
            elif np.isfinite(offset):
                text = _width(offset, low, high, mm, what)
            else:
                text = _no_width(what, alone=bool(follows[r, c]))
            rows.append((name, klass, offset, low, high, offset * mm, clear, text))
    return pd.DataFrame(rows, columns=OFFSETS)


def intervals(
    images: Float[ndarray, "image channel *space"],
    labels: Int[ndarray, "image annotator *space"],
    n_classes: int,
    case_ids: Sequence[str] | ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> Float[ndarray, "3 annotator class"]:
    """`calibrated.Calibration.relative` with its 95 % interval: value, low, high.

    Percentile bootstrap over cases: images of one case stay together. NaN where the share of
    resamples without a clear peak exceeds a half.
    """
    cases, of_image = np.unique(np.asarray(case_ids), return_inverse=True)
    by_case = np.zeros((len(cases), 3, labels.shape[1], n_classes, len(calibrated.LEVELS) + 1))
    for case, image, label in zip(of_image, images, labels, strict=True):
        by_case[case] += calibrated.contrast_sums(image, label, n_classes)
    draws = np.random.default_rng(seed).multinomial(
        len(cases), np.full(len(cases), 1 / len(cases)), resamples
    )
    flat = by_case.reshape(len(cases), -1)
    drawn = [calibrated.from_sums((d @ flat).reshape(by_case.shape[1:])).relative() for d in draws]
    spread = np.stack(drawn)
    unclear = np.isnan(spread).mean(0) > 0.5
    spread[:, unclear] = 0
    low, high = np.nanquantile(spread, (0.025, 0.975), axis=0)
    value = calibrated.from_sums(by_case.sum(0)).relative()
    return np.where(unclear | np.isnan(value), np.nan, np.stack([value, low, high]))


def _width(offset: float, low: float, high: float, mm: float, what: str) -> str:
    """An offset from the others in words; `what` is the class, empty if there is only one."""
    draws = f"draws {what}" if what else "draws"
    if abs(offset) < LEAST_OFFSET_PX or low <= 0 <= high:
        return f"{draws} as wide as the others"
    way, sign = ("wider", 1) if offset > 0 else ("narrower", -1)
    beside = "too few cases for an interval"
    if np.isfinite(low):
        ends = sorted((sign * low, sign * high))
        beside = f"{ends[0]:.1f} to {ends[1]:.1f}"
    size = f"{sign * offset:.1f} px ({beside})"
    if np.isfinite(mm):
        size += f", or {sign * offset * mm:.1f} mm,"
    return f"{draws} {size} {way} than the others"


def _no_width(what: str, alone: bool) -> str:
    """Why nothing can be said about how wide somebody draws."""
    where = f" when drawing {what}" if what else ""
    if alone:
        return (
            f"is the only one who follows an edge in the image{where}, so there is nobody to "
            "compare how wide they draw with"
        )
    return f"follows no edge in the image{where}, so nothing can be said about how wide they draw"


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


def _relabel(
    counts: ndarray,
    surprise: ndarray | None,
    image_ids: Sequence[str] | ndarray,
    annotators: Sequence[str],
) -> pd.DataFrame:
    dice = _image_dice(counts)
    measure = 1 - dice if surprise is None else np.where(np.isnan(dice), np.nan, surprise)
    labelled = np.isfinite(measure).any(0)
    usual, usual_dice = (np.full(len(annotators), np.nan) for _ in range(2))
    usual[labelled] = np.nanmedian(measure[:, labelled], 0)
    usual_dice[labelled] = np.nanmedian(dice[:, labelled], 0)
    # A careful label by a careless annotator surprises as well, and needs no second look.
    worse = np.isfinite(measure - usual) & (dice <= usual_dice)
    excess = np.where(worse, measure - usual, -np.inf)
    rows = []
    for flat in np.argsort(-excess, axis=None, kind="stable")[:LISTED]:
        n, r = np.unravel_index(flat, excess.shape)
        if not excess[n, r] > 0:
            break
        text = f"Dice {dice[n, r]:.2f} with the estimate (usual: {usual_dice[r]:.2f})"
        if surprise is not None:
            text += f", {excess[n, r]:.2f} nats a pixel less likely than usual"
        value = float(measure[n, r])
        rows.append((image_ids[n], annotators[r], value, float(dice[n, r]), text))
    return pd.DataFrame(rows, columns=["image_id", "annotator", "surprise", "dice", "text"])


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


@torch.no_grad()
def estimate(run: Run) -> Estimate:
    """What the finished `run` says of every image of its data set; the truth is not read.

    Where annotators were simulated, of its test images. ValueError for a run without network.
    """
    data = load_dataset(run.config.dataset)
    if data.labels is None:
        data = build.load_splits(run.config, data).test
    model = run.model()
    truth, surprise = [], []
    for images, labels in batches(data.images, data.labels):  # type: ignore[arg-type]
        out = model(torch.from_numpy(np.array(images, np.float32)))
        truth.append(out.logits.argmax(1).to(torch.int8).numpy())
        if out.confusion is not None:
            y = torch.from_numpy(np.array(labels, np.int64))
            nll = -out.confusion.log_likelihood(out.logits.log_softmax(1), y).double()
            seen = (y >= 0).flatten(2)
            total = torch.where(seen, nll.flatten(2), 0.0).sum(2) / seen.sum(2)
            surprise.append(total.numpy())
    return Estimate(data, np.concatenate(truth), np.concatenate(surprise) if surprise else None)


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
