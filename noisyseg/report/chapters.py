"""The chapters of the report on annotators, each a few pieces of HTML.

Shows a finished run, its estimate and its tables; computes no statistic of its own and writes
no file.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

from noisyseg import diagnostics
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.data.views import unpadded
from noisyseg.methods import METHODS
from noisyseg.plots import portraits, scores, style
from noisyseg.predict import predict_image
from noisyseg.report import page
from noisyseg.report.biases import ESTIMATE, OTHERS, one_sided
from noisyseg.report.skills import AnnotatorReport, Estimate, agreement, sentences
from noisyseg.runs import Run

SHOWN = 8
LONGEST = 30  # rows of a table; its file has all


def about(done: Run, found: Estimate) -> list[str]:
    """What the data are, who labelled how much, and which run this is."""
    data, cfg = found.data, done.config
    assert data.has_label is not None
    labelled = data.has_label.sum(0)
    rows = {
        "annotator": data.annotators,
        "images labelled": labelled,
        "of all": [f"{100 * n / len(data):.0f} %" for n in labelled],
    }
    versions, size = done.provenance["versions"], " x ".join(map(str, data.space))
    learned = "all labelled images" if cfg.train_on == "all" else "the training images"
    return [
        page.paragraph(
            f"{len(data)} images of {len(set(data.case_ids))} cases, {size} pixels, classes "
            f"{', '.join(data.classes)}; data: {data.origin}. Method: {METHODS[cfg.method].title}, "
            f"{cfg.epochs} epochs on {learned}, seed {cfg.seed}."
        ),
        *_simulated(done),
        page.table(pd.DataFrame(rows)),
        *_unreadable([*data.annotators, *data.classes]),
        page.paragraph(
            f"noisyseg {version('noisyseg')}, torch {versions['torch']}, Python "
            f"{versions['python']}, trained in {done.provenance['wall_seconds']:.0f} s on "
            f"{done.provenance['device']}; run {done.path.name}.",
            "note",
        ),
    ]


def _unreadable(names: Sequence[str]) -> list[str]:
    """What charts write for names that no font of this computer has."""
    shown = [f"{text} for {name}" for text, name in style.illegible(names).items()]
    return [page.paragraph(f"Charts write {', '.join(shown)}.", "note")] if shown else []


def _simulated(done: Run) -> list[str]:
    """A warning where the annotators are no people: the data set has no labels of its own."""
    if load_dataset(done.config.dataset).labels is not None:
        return []
    return [page.paragraph("The annotators of these images are simulated: no people.", "warn")]


def offsets(report: AnnotatorReport) -> list[str]:
    """How wide each annotator draws compared with the others, in words and numbers."""
    table = report.offsets
    shown = pd.DataFrame(
        {
            "annotator": table.annotator,
            "class": table["class"],
            "offset, px": [_pixels(v) for v in table.offset],
            "95 % interval": [
                f"{_pixels(low)} to {_pixels(high)}" if np.isfinite(low) else "–"
                for low, high in zip(table.low, table.high, strict=True)
            ],
        }
    )
    if table.offset_mm.notna().any():
        shown["offset, mm"] = [_pixels(v) for v in table.offset_mm]
    words = [f"{row.annotator} {row.text}" for row in table.itertuples()]
    return [
        page.heading("How wide each annotator draws"),
        page.items(words),
        page.paragraph(
            "Measured by the images, without any training: how far outside or inside of each "
            "annotator's outlines the images change most. Of several offsets that fit nearly as "
            "well the smallest is given. Only differences between annotators are shown, because "
            "the group as a whole is taken to draw where it should: what all of them do alike "
            "cannot be seen."
        ),
        page.table(shown),
    ]


def _pixels(value: float) -> str:
    """A signed number with one digit; a dash for none."""
    return f"{value + 0.0:+.1f}" if np.isfinite(value) else "–"


def before(data: SegmentationDataset, report: AnnotatorReport) -> list[str]:
    """What the labels alone say: how far the annotators agree, and what a vote would lose."""
    table = agreement(data).round(1).reset_index(names="if this were the truth")
    return [
        page.heading("Before any training: how far the annotators agree"),
        *_pairs(data, report.pairs),
        page.paragraph(
            "If the mask in the first column were the truth, this share of all labels would be "
            "right. Eq. 4 of the paper alone prefers the smallest share, which is the label swap. "
            "The default method here starts from the labels and holds the assumption of the "
            "paper's Theorem 1, which keeps it away from the swap."
        ),
        page.table(table),
    ]


def _pairs(data: SegmentationDataset, pairs: pd.DataFrame) -> list[str]:
    """Dice and area ratio of every two annotators, a table for each class."""
    if pairs.empty:
        return []
    sections = [
        page.paragraph(
            "Every two annotators beside each other, without any estimate. Dice is pooled over "
            "the pixels of all images that both labelled. The area ratio is that of the annotator "
            "in the row to the one in the column, over the same pixels: 1.20 means 20 % larger."
        )
    ]
    for klass in data.classes[1:]:
        rows = pairs[pairs["class"] == klass]
        for column, title, digits in (
            ("dice", "Dice, %", lambda v: f"{100 * v:.0f}"),
            ("area_ratio", "area ratio", lambda v: f"{v:.2f}"),
        ):
            square = rows.pivot(index="annotator", columns="other", values=column)
            square = square.reindex(index=data.annotators, columns=data.annotators)
            shown = square.map(lambda v, digits=digits: digits(v) if np.isfinite(v) else "–")
            title = title if len(data.classes) == 2 else f"{title}, {klass}"
            sections.append(page.table(shown.rename_axis(columns=None).reset_index(names=title)))
    return sections


def _labels(data: SegmentationDataset, rows: ndarray | list[int]) -> ndarray:
    """The labels of some images in memory (image, annotator, *space)."""
    assert data.labels is not None
    return np.stack([np.array(data.labels[n], np.int64) for n in rows])


def _flat(array: ndarray, pictures: int) -> ndarray:
    """The middle slice of volumes; pictures, with `pictures` axes in front, as they are."""
    return array if array.ndim == pictures + 2 else array[..., array.shape[-3] // 2, :, :]


def examples(done: Run, found: Estimate) -> list[str]:
    """Some images with all outlines, the estimate and its uncertainty."""
    data = found.data
    wanted = np.argsort([-(truth > 0).sum() for truth in found.truth], kind="stable")
    rows = np.sort(wanted[: max(1, len(wanted) // 2)][:: max(1, len(wanted) // 2 // SHOWN)][:SHOWN])
    return [
        page.heading("The estimated truth"),
        page.picture(
            _outlines(done, found, rows),
            f"{len(rows)} images with the outlines of {', '.join(data.annotators)}, the estimated "
            "outline, and the uncertainty of the estimate",
            "Top: what the annotators wrote. Middle: the estimate, learned from their masks "
            "alone. Bottom: its uncertainty (bright = uncertain).",
        ),
    ]


def _outlines(done: Run, found: Estimate, rows: ndarray) -> Figure:
    """Images `rows` with what was written, the estimate and its uncertainty; no padding."""
    data = found.data
    images = np.stack([np.array(data.images[n], np.float32) for n in rows])
    labels, uncertainty = _labels(data, rows), _uncertainty(done, images)
    truth, shown = found.truth[rows].copy(), images[:, 0].copy()
    for n, image in enumerate(images):
        padding = np.ones(data.space, bool)
        padding[unpadded(image, labels[n])] = False
        truth[n][padding], shown[n][padding], uncertainty[n][padding] = 0, np.nan, np.nan
    return portraits.estimates(
        _flat(shown, 1), _flat(truth, 1), _flat(labels, 2), _flat(uncertainty, 1), data.annotators
    )


def _uncertainty(done: Run, images: Float[ndarray, "image channel *space"]) -> ndarray:
    """Entropy of p as a share of the largest possible (image, *space)."""
    model = done.model()
    return np.stack([predict_image(model, image).uncertainty for image in images])


def _percent(rows: pd.DataFrame, column: str) -> pd.Series:
    def text(row: pd.Series) -> str:
        if not np.isfinite(row[column]):
            return "–"
        low, high = row[f"{column}_low"], row[f"{column}_high"]
        between = f" ({100 * low:.0f}–{100 * high:.0f})" if np.isfinite(low) else ""
        return f"{100 * row[column]:.0f}{between}"

    return rows.apply(text, axis=1)


def skills(found: Estimate, report: AnnotatorReport) -> list[str]:
    """Sensitivity and Dice of each annotator with intervals, as chart and table."""
    rows = report.skills[report.skills["class"] != found.data.classes[0]]
    shown = pd.DataFrame(
        {
            "annotator": rows.annotator,
            "class": rows["class"],
            "sensitivity, %": _percent(rows, "sensitivity"),
            "Dice with the estimate, %": _percent(rows, "dice"),
            "images": rows.images,
        }
    )
    return [
        page.heading("Skill of each annotator"),
        page.paragraph(
            "Sensitivity: how much of what the estimate marks the annotator marks as well. Both "
            "it and Dice are pooled over the pixels of all images that the annotator labelled. In "
            "brackets 95 % intervals (bootstrap over cases)."
        ),
        page.picture(
            portraits.skill_chart(report.skills),
            "Sensitivity and Dice of each annotator with intervals; numbers in the table below",
        ),
        page.table(shown),
    ]


def biases(found: Estimate, report: AnnotatorReport) -> list[str]:
    """Each annotator's clear biases in words, and where they err in pictures."""
    data = found.data
    sections = [
        page.heading("Systematic errors"),
        page.paragraph(
            "Listed is what is clear: the interval excludes no bias and the amount matters (5 % "
            "of the size, a quarter of a pixel). What is said relative to the others comes first "
            "and needs no estimate: larger than the others means larger than at least half of "
            "them, by at least so much. What is said relative to the estimate is listed only "
            "where it holds relative to the others as well."
        ),
        *(page.paragraph(text, "warn") for text in one_sided(report.biases)),
        *_sizes(report.biases),
    ]
    for name in data.annotators:
        sections += [page.heading(name, 3), page.items(sentences(report, name))]
    labels = np.asarray(data.read_labels())
    for klass, title in enumerate(data.classes[1:], start=1):
        figure = portraits.bias_portrait(
            _flat(found.truth, 1), _flat(labels, 2), data.annotators, klass
        )
        text = f"{title}: mean estimate in white, more than it in red, less than it in blue."
        sections.append(page.picture(figure, f"Where each annotator errs about {title}", text))
    return sections


def _sizes(table: pd.DataFrame) -> list[str]:
    """Sizes beside the others and beside the estimate, all annotators together."""
    rows = table[table.kind.isin(("over", "under"))]
    if rows.empty:
        return []
    columns = [w for w in (OTHERS, ESTIMATE) if (rows.beside == w).any()]
    shown = []
    for (name, klass), group in rows.groupby(["annotator", "class"], sort=False):
        values = {row.beside: _signed(row) for row in group.itertuples()}
        sizes = {f"size beside {w}, %": values.get(w, "–") for w in columns}
        shown.append({"annotator": name, "class": klass} | sizes)
    return [page.table(pd.DataFrame(shown))]


def _signed(row: Any) -> str:
    numbers = row.amount, row.low, row.high
    amount, low, high = (f"{round(v):+d}" if np.isfinite(v) else "" for v in numbers)
    between = f" ({low} to {high})" if low else ""
    return f"{amount}{between}".replace("-", "−")


def failures(done: Run, found: Estimate, report: AnnotatorReport) -> list[str]:
    """The images at which the estimate is wrong and not the annotators; nothing for none."""
    failed = report.failed
    if failed.empty:
        return []
    place = {image: n for n, image in enumerate(found.data.image_ids)}
    rows = np.array([place[image] for image in failed.image_id[:SHOWN]])
    text = (
        f"The estimate failed on {len(failed)} of {len(found.data)} images: there all annotators "
        "agree with each other and none of them with the estimate. Their labels are not to "
        "blame, and are compared with each other only. More --steps may help. The numbers above "
        "that compare with the estimate hold these images as well."
    )
    table = pd.DataFrame(
        {
            "image": failed.image_id.map(_short),
            "best Dice with the estimate": failed.dice.round(2),
            "mean Dice with each other": failed.agreement.round(2),
        }
    )
    return [
        page.heading("Where the estimate failed"),
        page.paragraph(text, "warn"),
        page.picture(_outlines(done, found, rows), "Images at which the estimate failed"),
        page.table(table[:LONGEST]),
    ]


def again(found: Estimate, report: AnnotatorReport) -> list[str]:
    """The labels that fit worse than is usual for their annotator."""
    data, table = found.data, report.relabel
    title = page.heading("Labels most worth a second look")
    if table.empty:
        return [title, page.paragraph("No label stands out from its annotator's usual ones.")]
    place = {image: n for n, image in enumerate(data.image_ids)}
    images, truth, labels = {}, {}, {}
    for row in table.itertuples():
        n, r = place[row.image_id], data.annotators.index(row.annotator)
        image, written = np.array(data.images[n], np.float32), _labels(data, [n])[0]
        inside = unpadded(image, written)
        images[row.image_id] = _flat(image[0][inside], 0)
        truth[row.image_id] = _flat(found.truth[n][inside], 0)
        labels[f"{row.image_id}|{row.annotator}"] = _flat(written[r][inside], 0)
    figure = portraits.relabel_sheet(images, truth, labels, table)
    shown = table[["image_id", "annotator", "text"]].rename(columns={"text": "why"})
    return [
        title,
        page.paragraph(
            "Ranked by how much less a label agrees with the others' on its image than this "
            "annotator's labels usually do, so a bad day is listed and a habit is not. The "
            "estimate is the second witness: it must not fit the label better than most on the "
            "image. Dice here is that of the single image, the mean over the others."
        ),
        page.picture(figure, "The listed labels", "Yellow: what was written. Pink: the estimate."),
        page.table(shown.assign(image_id=shown.image_id.map(_short))),
    ]


def _short(image_id: str) -> str:
    """The name of the image; a picture's only slice is called image."""
    return image_id.removesuffix("/image")


def training(done: Run) -> list[str]:
    """The curve, what the swap monitor says, and Dice with a reference if there is one."""
    among = ", which are learned from as well" if done.config.train_on == "all" else ""
    wanted = {"train_loss": "training loss", "val_loss": "NLL of validation labels"}
    figure: Figure = scores.curves({done.config.method: done.history}, wanted)
    plt.close(figure)
    last = done.history.iloc[-1].to_dict()
    said = None
    if "class_margin" in last:
        coupled = METHODS[done.config.method].loss != "calibrated"
        said = diagnostics.warning(last, needs_matrices=coupled)
        verdict = said or "The swap monitor found nothing: no class vanished."
    else:
        verdict = (
            "This method has no annotators' matrices, so the swap monitor has nothing to watch."
        )
    sections = [
        page.heading("Training"),
        page.paragraph(verdict, "warn" if said else "good"),
        page.picture(
            figure,
            "Training loss and validation likelihood by epoch",
            f"NLL: mean negative log-likelihood of the labels of the validation images{among}.",
        ),
    ]
    if (done.metrics.metric == "dice").any():
        sections.append(
            page.paragraph(
                f"Against the reference of the test images, which nothing above has used: "
                f"foreground Dice {100 * done.value('dice'):.1f} % (mean over images)."
            )
        )
    return sections


def limits(done: Run, data: SegmentationDataset) -> list[str]:
    """What the numbers cannot say."""
    alone = len(data.annotators) == 1
    together = (
        "The group as a whole stays where it is. Annotators are compared with each other, so what "
        "all of them do alike, drawing two pixels too wide for example, cannot be seen here."
    )
    if done.config.anchor == "image":
        together = (
            "Outlines were moved to the images' edges before the estimate was learned. That "
            "assumes that objects end where the image changes most; where they do not, the "
            "estimate is wrong everywhere in the same way."
        )
    return [
        page.heading("What these numbers can and cannot say"),
        page.items(
            [
                together,
                "The estimate is no truth. Where most annotators err alike it errs with them, and "
                "whoever is right looks wrong.",
                "Intervals tell how much the numbers would change with other cases of this kind, "
                "not how far the estimate is from the truth.",
                "A network learns with the images it is scored on here; on new images the "
                "annotators' errors are estimated less well.",
                *(["With one annotator there is nothing to compare."] if alone else []),
            ]
        ),
    ]


def reading(out: Path) -> list[str]:
    """How the files of a raw folder were read, and what was left out; nothing without notes."""
    file = out / "notes.txt"
    if not file.exists():
        return []
    return [
        page.heading("How the files were read"),
        page.items(file.read_text("utf-8").splitlines()),
    ]


def files(out: Path) -> list[str]:
    """The files beside the page that are there."""
    known = {
        "predictions": "truth, every annotator's expected mask and uncertainty of each image",
        "offsets.csv": "how wide each annotator draws compared with the others",
        "skills.csv": "the table of skills",
        "biases.csv": "every bias, also those that are not clear",
        "pairs.csv": "Dice and area ratio of every two annotators",
        "relabel.csv": "the labels to look at again",
        "failed.csv": "the images at which the estimate failed",
        "prepared": "the data as arrays; `dataset=` takes its path",
    }
    there = [f"{name}: {text}" for name, text in known.items() if (out / name).exists()]
    return [page.heading("Files beside this page"), page.items(there)]
