"""The chapters of the report on annotators, each a few pieces of HTML.

Shows a finished run, its estimate and its tables; computes no statistic of its own and writes
no file.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

from noisyseg import diagnostics
from noisyseg.data.dataset import SegmentationDataset
from noisyseg.methods import METHODS
from noisyseg.metrics import entropy
from noisyseg.plots import portraits, scores, style
from noisyseg.report import page
from noisyseg.report.skills import AnnotatorReport, Estimate, agreement, sentences
from noisyseg.runs import Run

SHOWN = 8


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
    return [
        page.paragraph(
            f"{len(data)} images of {len(set(data.case_ids))} cases, {size} pixels, classes "
            f"{', '.join(data.classes)}; data: {data.origin}. Method: {METHODS[cfg.method].title}, "
            f"{cfg.epochs} epochs, seed {cfg.seed}."
        ),
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


def before(data: SegmentationDataset) -> list[str]:
    """What the labels alone say: how far the annotators agree, and what a vote would lose."""
    table = agreement(data).round(1).reset_index(names="if this were the truth")
    return [
        page.heading("Before any training: how far the annotators agree"),
        page.paragraph(
            "If the mask in the first column were the truth, this share of all labels would be "
            "right. Eq. 4 of the paper alone prefers the smallest share, which is the label swap. "
            "The default method here starts from the labels and holds the assumption of the "
            "paper's Theorem 1, which keeps it away from the swap."
        ),
        page.table(table),
    ]


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
    images = np.stack([np.array(data.images[n], np.float32) for n in rows])
    labels = _labels(data, rows)
    figure = portraits.estimates(
        _flat(images[:, 0], 1), _flat(found.truth[rows], 1), _flat(labels, 2),
        _flat(_uncertainty(done, images), 1), data.annotators,
    )  # fmt: skip
    return [
        page.heading("The estimated truth"),
        page.picture(
            figure,
            f"{len(rows)} images with the outlines of {', '.join(data.annotators)}, the estimated "
            "outline, and the uncertainty of the estimate",
            "Top: what the annotators wrote. Middle: the estimate, learned from their masks "
            "alone. Bottom: its uncertainty (bright = uncertain).",
        ),
    ]


@torch.no_grad()
def _uncertainty(done: Run, images: Float[ndarray, "image channel *space"]) -> ndarray:
    """Entropy of p as a share of the largest possible (image, *space)."""
    uncertainty: ndarray = entropy(done.model()(torch.from_numpy(images)).logits.softmax(1)).numpy()
    return uncertainty


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
            "Sensitivity: how much of what the estimate marks the annotator marks as well. In "
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
            "of the size, a quarter of a pixel). Sizes are relative to the estimate."
        ),
    ]
    for name in data.annotators:
        sections += [page.heading(name, 3), page.items(sentences(report, name))]
    labels = np.asarray(data.read_labels())
    for klass, title in enumerate(data.classes[1:], start=1):
        figure = portraits.bias_portrait(
            _flat(found.truth, 1), _flat(labels, 2), data.annotators, klass
        )
        text = f"{title}: mean object in white, too much in red, missing in blue."
        sections.append(page.picture(figure, f"Where each annotator errs about {title}", text))
    return sections


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
        images[row.image_id] = _flat(np.array(data.images[n], np.float32)[0], 0)
        truth[row.image_id] = _flat(found.truth[n], 0)
        mask = _labels(data, [n])[0, r]
        labels[f"{row.image_id}|{row.annotator}"] = _flat(mask, 0)
    figure = portraits.relabel_sheet(images, truth, labels, table)
    shown = table[["image_id", "annotator", "text"]].rename(columns={"text": "why"})
    return [
        title,
        page.paragraph(
            "Ranked by how much worse a label fits than this annotator's labels usually do, so a "
            "bad day is listed and a habit is not."
        ),
        page.picture(figure, "The listed labels", "Yellow: what was written. Pink: the estimate."),
        page.table(shown),
    ]


def training(done: Run) -> list[str]:
    """The curve, what the swap monitor says, and Dice with a reference if there is one."""
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
        page.picture(figure, "Training loss and validation likelihood by epoch"),
    ]
    if (done.metrics.metric == "dice").any():
        sections.append(
            page.paragraph(
                f"Against the reference of the test images, which nothing above has used: "
                f"foreground Dice {100 * done.value('dice'):.1f} %."
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
        "relabel.csv": "the labels to look at again",
        "prepared": "the data as arrays; `dataset=` takes its path",
    }
    there = [f"{name}: {text}" for name, text in known.items() if (out / name).exists()]
    return [page.heading("Files beside this page"), page.items(there)]
