"""Figures of one's annotators: skill, how wide they draw, where they err, labels to look at again.

Arrays and DataFrames in, matplotlib Figures out; prints and saves nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray
from scipy import ndimage

from noisyseg.calibrated import LEVELS, Calibration
from noisyseg.plots import style
from noisyseg.plots.style import ESTIMATE, annotator_colour, class_colour

COLUMNS = {"sensitivity": "sensitivity, %", "dice": "Dice with the estimate, %"}


def skill_chart(skills: pd.DataFrame) -> Figure:
    """Sensitivity and Dice with 95 % intervals: one row per annotator, one colour per class.

    `skills`: as in `report.skills.annotator_report`; the background is left out.
    """
    names = list(dict.fromkeys(skills.annotator))
    classes = list(dict.fromkeys(skills["class"]))[1:]
    figure = Figure(figsize=(7.0, 0.9 + 0.34 * len(names)), layout="constrained")
    titles, step = style.legible(classes), 0.6 / max(len(classes), 2)
    for axis, column in zip(figure.subplots(1, 2, sharey=True), COLUMNS, strict=True):
        for k, klass in enumerate(classes):
            rows = skills[skills["class"] == klass].set_index("annotator").loc[names]
            place = np.arange(len(names)) + (k - (len(classes) - 1) / 2) * step
            low, high = rows[f"{column}_low"], rows[f"{column}_high"]
            colour = class_colour(k)
            axis.hlines(place, 100 * low, 100 * high, color=colour, linewidth=2)
            axis.plot(100 * rows[column], place, "o", color=colour, label=titles[k])
        axis.set(xlim=(-2, 102), xlabel=COLUMNS[column], yticks=range(len(names)))
        axis.set_yticklabels(style.legible(names))
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    figure.axes[0].set_ylim(len(names) - 0.5, -0.5)
    if len(classes) > 1:
        figure.axes[0].legend(fontsize=7)
    return figure


def offset_profiles(found: Calibration, annotators: Sequence[str], klass: int = 1) -> Figure:
    """How much the image changes at each level of an annotator's outlines: a panel for each.

    Level 0 (dotted) is where the outline was drawn; positive levels lie inside of it. The dot
    marks the offset: the level at which the image changes most. Grey: the image's mean contrast.
    """
    figure = Figure(figsize=(1.6 * len(annotators), 2.2), layout="constrained")
    axes = figure.subplots(1, len(annotators), sharex=True, sharey=True, squeeze=False)[0]
    for r, (axis, name) in enumerate(zip(axes, style.legible(annotators), strict=True)):
        axis.axhline(1, color="#bbbbbb", linewidth=0.8)
        axis.axvline(0, color="#888888", linewidth=0.8, linestyle=":")
        axis.plot(LEVELS, found.profile[r, klass], color=class_colour(klass - 1))
        clear = found.sharpness[r, klass] > 0
        if clear:
            at = found.offset[r, klass]
            height = np.interp(at, LEVELS, found.profile[r, klass])
            axis.plot([at], [height], "o", color=ESTIMATE, markersize=5)
        said = f"{found.offset[r, klass]:+.1f} px".replace("-", "−") if clear else "no offset"
        axis.set_title(f"{name}: {said}")
    axes[0].set_ylabel("contrast / mean")
    figure.supxlabel("level in the annotator's outlines, pixels (positive: inside)")
    return figure


def relative_widths(
    values: Float[ndarray, "3 annotator class"], annotators: Sequence[str], classes: Sequence[str]
) -> Figure:
    """Who draws wider than the others: one row per annotator, a colour a foreground class.

    `values`: value, low and high as `report.widths.intervals` gives them; where they are NaN the
    row says that there is no offset. `classes` names the background first.
    """
    figure = Figure(figsize=(5.2, 0.9 + 0.32 * len(annotators)), layout="constrained")
    axis = figure.subplots()
    step = 0.6 / max(len(classes) - 1, 2)
    for k, name in enumerate(style.legible(classes[1:])):
        value, low, high = values[:, :, k + 1]
        place = np.arange(len(annotators)) + (k - (len(classes) - 2) / 2) * step
        axis.hlines(place, low, high, color=class_colour(k), linewidth=2)
        axis.plot(value, place, "o", color=class_colour(k), label=name)
        for y in place[np.isnan(value)]:
            axis.text(0, y, " no offset", va="center", color="#666666")
    axis.axvline(0, color="#888888", linewidth=0.8, linestyle=":")
    reach = max(1.0, 1.15 * np.nanmax(np.abs(values), initial=0))
    axis.set(xlim=(-reach, reach), ylim=(len(annotators) - 0.5, -0.5))
    axis.set_yticks(range(len(annotators)), style.legible(annotators))
    axis.set_xlabel("pixels  (negative: narrower than the others; positive: wider)")
    if len(classes) > 2:
        axis.legend(fontsize=7)
    return figure


def calibration_steps(
    image: Float[ndarray, "h w"],
    labels: Int[ndarray, "annotator h w"],
    calibrated: Int[ndarray, "annotator h w"],
    annotators: Sequence[str],
) -> Figure:
    """One image's outlines as they were written (above) and as they were moved (below).

    One column per annotator; the last shows all of them together.
    """
    columns = len(annotators) + 1
    figure = Figure(figsize=(1.3 * columns, 2.9), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    steps = {"as written": labels, "moved": calibrated}
    for row, (name, masks) in zip(axes, steps.items(), strict=True):
        for axis in row:
            style.panel(axis, style.grey(image), cmap="gray")
        for r, mask in enumerate(masks):
            for axis in (row[r], row[-1]):
                outline(axis, mask, annotator_colour(r))
        row[0].set_ylabel(name)
    for axis, name in zip(axes[0], [*style.legible(annotators), "together"], strict=True):
        axis.set_title(name)
    return figure


def mean_errors(
    truth: Int[ndarray, "image h w"],
    labels: Int[ndarray, "image annotator h w"],
    klass: int = 1,
    size: int = 48,
) -> tuple[
    Float[ndarray, "annotator size size"],
    Float[ndarray, "annotator size size"],
    Float[ndarray, "size size"],
]:
    """Where annotators write class `klass` too much and too little, averaged over images.

    Each image is moved so that the estimated object's centroid is in the middle of `size`
    x `size` pixels. Returns extra and missed (share of the annotator's images, 0…1) and the
    mean object; images without the class are left out, zeros where none is left.
    """
    extra, missed = (np.zeros((labels.shape[1], size, size)) for _ in range(2))
    seen, middle, count = np.zeros(labels.shape[1]), np.zeros((size, size)), 0
    for true, written in zip(truth == klass, labels, strict=True):
        if not true.any():
            continue
        place = [int(c + 0.5) - size // 2 for c in ndimage.center_of_mass(true)]
        true = _window(true, place, size)
        middle, count = middle + true, count + 1
        for r, label in enumerate(written):
            if (label >= 0).any():
                marked, known = (_window(m, place, size) for m in (label == klass, label >= 0))
                extra[r] += marked & ~true
                missed[r] += true & known & ~marked
                seen[r] += 1
    share = np.maximum(seen, 1)[:, None, None]
    return extra / share, missed / share, middle / max(count, 1)


def _window(mask: ndarray, place: Sequence[int], size: int) -> ndarray:
    """The `size` x `size` pixels of `mask` from `place` on; False outside of it."""
    out = np.zeros((size, size), bool)
    ends = [min(p + size, length) for p, length in zip(place, mask.shape, strict=True)]
    starts = [max(p, 0) for p in place]
    inside = tuple(slice(s - p, e - p) for s, e, p in zip(starts, ends, place, strict=True))
    out[inside] = mask[tuple(slice(s, e) for s, e in zip(starts, ends, strict=True))]
    return out


def bias_portrait(
    truth: Int[ndarray, "image h w"],
    labels: Int[ndarray, "image annotator h w"],
    annotators: Sequence[str],
    klass: int = 1,
) -> Figure:
    """For each annotator where they write more (red) and less (blue) of a class, on average.

    White: the mean object. Objects are moved to the middle; the estimate is not the truth.
    """
    size = int(min(48, *truth.shape[1:]))
    extra, missed, middle = mean_errors(truth, labels, klass, size)
    pictures = {}
    for name, more, less in zip(style.legible(annotators), extra, missed, strict=True):
        colours = (middle - less)[..., None] * style.WHITE
        colours = colours + more[..., None] * style.RED + less[..., None] * style.BLUE
        pictures[name] = np.clip(colours, 0, 1)
    return _pictures(pictures, columns=5)


def _pictures(pictures: Mapping[str, ndarray], columns: int) -> Figure:
    rows = -(-len(pictures) // columns)
    width = min(columns, len(pictures))
    figure = Figure(figsize=(1.4 * width, 1.6 * rows), layout="constrained")
    axes = figure.subplots(rows, width, squeeze=False).ravel()
    for axis in axes[len(pictures) :]:
        axis.set_visible(False)
    for axis, (title, picture) in zip(axes, pictures.items(), strict=False):
        style.panel(axis, picture, title)
    return figure


def relabel_sheet(
    images: Mapping[str, Float[ndarray, "h w"]],
    truth: Mapping[str, Int[ndarray, "h w"]],
    labels: Mapping[str, Int[ndarray, "h w"]],
    relabel: pd.DataFrame,
) -> Figure:
    """The labels to look at again: the annotator's outline (yellow) on the estimate's (pink).

    `images` by image id, `truth` by image id, `labels` by "image id|annotator";
    `relabel`: as in `report.skills.annotator_report`.
    """
    columns = min(5, max(len(relabel), 1))
    rows = -(-max(len(relabel), 1) // columns)
    figure = Figure(figsize=(1.7 * columns, 2.05 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(relabel) :]:
        axis.set_visible(False)
    for axis, line in zip(axes, relabel.itertuples(), strict=False):
        image = str(line.image_id)
        style.panel(axis, style.grey(images[image]), cmap="gray")
        outline(axis, truth[image], ESTIMATE)
        outline(axis, labels[f"{image}|{line.annotator}"], style.ANNOTATOR_COLOURS[0])
        short = image.removesuffix("/image")
        short = short if len(short) <= 22 else f"…{short[-21:]}"
        short, who = style.legible([short, str(line.annotator)])
        axis.set_title(f"{short}\n{who}, {_fits(line)}", fontsize=7)
    return figure


def _fits(line: Any) -> str:
    """The Dice that put a label on the list: with the others, or with the estimate."""
    agreed = getattr(line, "agreement", np.nan)
    return f"Dice {agreed if np.isfinite(agreed) else line.dice:.2f}"


def outline(axis: Axes, mask: Int[ndarray, "h w"], colour: str) -> None:
    """The outline of every class of `mask` but the background in one colour."""
    for klass in range(1, int(mask.max(initial=0)) + 1):
        if (mask == klass).any() and not (mask == klass).all():
            axis.contour(mask == klass, [0.5], colors=colour, linewidths=1.2)


def estimates(
    images: Float[ndarray, "image h w"],
    truth: Int[ndarray, "image h w"],
    labels: Int[ndarray, "image annotator h w"],
    uncertainty: Float[ndarray, "image h w"],
    annotators: Sequence[str],
) -> Figure:
    """Some images: all annotators' outlines, the estimated truth, and how uncertain it is.

    `uncertainty` is the entropy of p as a share of the largest possible, 0…1.
    """
    figure = Figure(figsize=(1.35 * len(images), 4.4), layout="constrained")
    axes = figure.subplots(3, len(images), squeeze=False)
    for n, column in enumerate(axes.T):
        for axis in column[:2]:
            style.panel(axis, style.grey(images[n]), cmap="gray")
        for r in range(labels.shape[1]):
            outline(column[0], labels[n, r], annotator_colour(r))
        outline(column[1], truth[n], ESTIMATE)
        style.panel(column[2], uncertainty[n], cmap="magma")
    for axis, text in zip(axes[:, 0], ("written", "estimate", "uncertainty"), strict=True):
        axis.set_ylabel(text)
    for r, name in enumerate(style.legible(annotators)):
        axes[0, 0].plot([], [], color=annotator_colour(r), label=name)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(6, len(annotators)),
        fontsize=8,
        frameon=False,
    )
    return figure
