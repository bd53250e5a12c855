"""Pictures of images, labels, estimates and confusion matrices: arrays in, Figure out.

Spatial confusion matrices use the paper's code (Fig. 2 of arXiv 2007.15963): white = true
positive, red = false positive, blue = false negative. Class maps and contours are those of its
BraTS and LIDC figures. Prints and saves nothing.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from noisyseg.plots.style import (
    ANNOTATOR_COLOURS,
    BLUE,
    CLASS_COLOURS,
    RED,
    WHITE,
    grey,
    legible,
    method_order,
    panel,
    title_of,
)

COLUMN_LETTERS = 12  # that fit over a picture of 1.05 inches


def picture_row(pictures: Mapping[str, ndarray], size: float = 1.3) -> Figure:
    """Named pictures (height, width) or (height, width, 3) in one row."""
    figure, axes = plt.subplots(
        1, len(pictures), figsize=(size * len(pictures), size * 1.2), squeeze=False, layout="tight"
    )
    for axis, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        panel(axis, np.asarray(picture, float), title)
    return figure


def zoomed(
    exhibit: Mapping[str, ndarray], around: Int[ndarray, "h w"], margin: int = 8
) -> dict[str, ndarray]:
    """Arrays whose last axes are those of `around`, cut to a square about its foreground.

    `margin`: pixels on each side. Other arrays, and all where there is no foreground, stay.

    >>> mask = np.pad(np.ones((2, 4), int), 20)
    >>> {k: a.shape for k, a in zoomed({"truth": mask[None], "name": np.zeros(3)}, mask).items()}
    {'truth': (1, 20, 20), 'name': (3,)}
    """
    rows, columns = np.nonzero(around)
    if not len(rows):
        return dict(exhibit)
    reach = int(max(np.ptp(rows), np.ptp(columns))) + 1 + 2 * margin
    height, width = (
        _span(at, reach, size) for at, size in zip((rows, columns), around.shape, strict=True)
    )
    return {
        name: array[..., height, width] if array.shape[-2:] == around.shape else array
        for name, array in exhibit.items()
    }


def _span(at: ndarray, reach: int, size: int) -> slice:
    """`reach` pixels about the middle of `at`, inside 0 … `size`."""
    start = (int(at.min()) + int(at.max()) + 1 - reach) // 2
    start = min(max(start, 0), max(size - reach, 0))
    return slice(start, start + reach)


def spatial_matrix(
    confusion: Float[ndarray, "reported true h w"], probs: Float[ndarray, "true h w"]
) -> Float[ndarray, "h w 3"]:
    """Two-class matrices as the paper's picture: white TP, red FP, blue FN.

    Class 1 is the foreground. Each pixel shows A[1, 1]·p(1), A[1, 0]·p(0) and A[0, 1]·p(1).
    """
    if confusion.shape[:2] != (2, 2):
        raise ValueError(f"a spatial matrix picture needs 2 classes, not {confusion.shape[0]}")
    hit = confusion[1, 1] * probs[1]
    extra, missed = confusion[1, 0] * probs[0], confusion[0, 1] * probs[1]
    colours = hit[..., None] * WHITE + extra[..., None] * RED + missed[..., None] * BLUE
    return np.clip(colours, 0, 1)


def true_spatial_matrix(
    label: Int[ndarray, "h w"], truth: Int[ndarray, "h w"]
) -> Float[ndarray, "h w 3"]:
    """The same picture for what an annotator really did with this image."""
    one_hot = np.stack([truth == 0, truth == 1]).astype(float)
    reported = np.stack([label == 0, label == 1]).astype(float)
    return spatial_matrix(np.broadcast_to(reported[:, None], (2, 2, *truth.shape)), one_hot)


def disentangled(
    exhibit: Mapping[str, ndarray], index: int, annotators: Sequence[str], title: str = ""
) -> Figure:
    """The paper's MNIST figure for one test image (Fig. 2 there).

    Left: input, truth, estimated truth. Rows: what each annotator wrote, what the model
    says they write, their true spatial confusion matrices, the estimated ones. The last
    column is the mean over annotators. `exhibit`: a run's exhibits.
    """
    one = {name: np.asarray(array[index], float) for name, array in exhibit.items()}
    labels, truth = one["labels"].astype(int), one["truth"].astype(int)
    true_cms = [true_spatial_matrix(label, truth) for label in labels]
    cms = [spatial_matrix(a, one["probs"]) for a in one["confusion"]]
    rows = {
        "labels": [*labels, labels.mean(0)],
        "predicted labels": [*one["noisy_probs"][:, 1], one["noisy_probs"][:, 1].mean(0)],
        "true CMs": [*true_cms, np.mean(true_cms, 0)],
        "estimated CMs": [*cms, np.mean(cms, 0)],
    }
    columns = [*legible(annotators), "average"]
    figure = plt.figure(figsize=(1.15 * (len(columns) + 1.55), 5.0))
    grid = figure.add_gridspec(
        4,
        len(columns) + 2,
        width_ratios=[1.25, 0.15, *[1] * len(columns)],
        left=0.01,
        right=0.99,
        bottom=0.01,
        top=0.88 if title else 0.95,
        wspace=0.08,
        hspace=0.08,
    )
    left = grid[:, 0].subgridspec(3, 1, hspace=0.25)
    for row, (name, picture) in enumerate(
        {"input": grey(one["image"][0]), "truth": truth, "estimated truth": one["probs"][1]}.items()
    ):
        panel(figure.add_subplot(left[row]), picture, name)
    for row, (name, pictures) in enumerate(rows.items()):
        for column, picture in enumerate(pictures):
            axis = figure.add_subplot(grid[row, column + 2])
            panel(axis, picture, columns[column] if row == 0 else "")
            if column == 0:
                axis.set_ylabel(name)
    figure.suptitle(title, y=0.99, fontsize=10)
    return figure


def _grid(rows: int, columns: int) -> tuple[Figure, Any]:
    """Small square panels close to each other, with room for titles above."""
    size = (1.05 * columns, 1.15 * rows + 0.6)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, wspace=0.06, hspace=0.06)
    return figure, axes


def comparison(
    exhibits: Mapping[str, Mapping[str, ndarray]], indices: Sequence[int], first: int = 2
) -> Figure:
    """Predictions of several methods side by side: one row per image, one column per method."""
    names = list(exhibits)
    base = exhibits[names[0]]
    figure, axes = _grid(len(indices), first + len(names))
    for row, index in zip(axes, indices, strict=True):
        panel(row[0], grey(base["image"][index, 0].astype(float)))
        panel(row[1], base["truth"][index].astype(float))
        for axis, name in zip(row[first:], names, strict=True):
            panel(axis, exhibits[name]["probs"][index, 1].astype(float))
    titles = ["input", "truth", *(title_of(n) for n in names)]
    _name_columns(figure, axes[0], titles)
    return figure


def _name_columns(figure: Figure, axes: Iterable[Axes], names: Iterable[str]) -> None:
    """Titles in lines as narrow as their columns, with room for the longest above the pictures."""
    titles = [textwrap.fill(name, COLUMN_LETTERS) for name in names]
    for axis, text in zip(axes, titles, strict=True):
        axis.set_title(text)
    lines = max(text.count("\n") + 1 for text in titles)
    figure.subplots_adjust(top=1 - (0.1 + 0.17 * lines) / figure.get_figheight())


def matrices(
    values: Float[ndarray, "annotator reported true"], names: Sequence[str], classes: Sequence[str]
) -> Figure:
    """Confusion matrices with their numbers: rows = reported, columns = truth."""
    size = (1.5 * len(names), 2.2)
    figure, axes = plt.subplots(
        1, len(names), figsize=size, sharey=True, squeeze=False, layout="tight"
    )
    for axis, matrix, name in zip(axes[0], values, names, strict=True):
        matrix_panel(axis, matrix, name, classes)
    axes[0, 0].set_ylabel("reported")
    return figure


def matrix_panel(
    axis: Any, matrix: Float[ndarray, "reported true"], title: str, classes: Sequence[str]
) -> None:
    """One confusion matrix with its numbers on `axis`; NaN (never observed) stays empty."""
    axis.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(matrix.shape):
        if np.isfinite(matrix[i, j]):
            axis.text(
                j,
                i,
                f"{matrix[i, j]:.2f}",
                ha="center",
                va="center",
                color="white" if matrix[i, j] > 0.6 else "#222222",
            )
    axis.set(xticks=range(len(classes)), yticks=range(len(classes)), title=title, xlabel="truth")
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticklabels(legible(classes), **(slanted if max(map(len, classes)) > 5 else {}))
    axis.set_yticklabels(legible(classes))


def class_map(classes: Int[ndarray, "h w"]) -> Float[ndarray, "h w 3"]:
    """Class indices as colours; ValueError for more classes than there are colours."""
    if classes.max(initial=0) >= len(CLASS_COLOURS):
        raise ValueError(f"class {classes.max()}: there are {len(CLASS_COLOURS)} colours")
    table = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in CLASS_COLOURS])
    return table[np.maximum(classes, 0)]


def class_maps(
    exhibit: Mapping[str, ndarray],
    index: int,
    annotators: Sequence[str],
    channels: Sequence[str],
    title: str = "",
) -> Figure:
    """One test image as the paper's BraTS figure: modalities, labels, what the model says.

    Rows: the input's channels; what each annotator wrote and the truth; what the model says
    they write and its truth. `exhibit`: a run's exhibits, of a model with annotators.
    """
    one = {name: np.asarray(array[index], float) for name, array in exhibit.items()}
    labels, inputs = one["labels"].astype(int), zip(legible(channels), one["image"], strict=True)
    rows = [
        [(name, grey(picture)) for name, picture in inputs],
        [
            *zip(legible(annotators), map(class_map, labels), strict=True),
            ("truth", class_map(one["truth"].astype(int))),
        ],
        [
            *zip([""] * len(annotators), map(class_map, one["noisy_probs"].argmax(1)), strict=True),
            ("", class_map(one["probs"].argmax(0))),
        ],
    ]
    columns = max(map(len, rows))
    figure, axes = plt.subplots(3, columns, figsize=(1.3 * columns, 4.6), layout="tight")
    for row, name, pictures in zip(axes, ("input", "written", "predicted"), rows, strict=True):
        for axis in row[len(pictures) :]:
            axis.set_visible(False)
        for axis, (text, picture) in zip(row, pictures, strict=False):
            panel(axis, picture, text, cmap="gray")
        row[0].set_ylabel(name)
    figure.suptitle(title, fontsize=10)
    return figure


def compare_maps(
    exhibits: Mapping[str, Mapping[str, ndarray]], indices: Sequence[int], channel: int = 0
) -> Figure:
    """Several methods' class maps side by side: one row per image, one column per method."""
    names = method_order(exhibits)
    base = exhibits[names[0]]
    figure, axes = _grid(len(indices), 2 + len(names))
    for row, index in zip(axes, indices, strict=True):
        panel(row[0], grey(np.asarray(base["image"][index, channel], float)), cmap="gray")
        panel(row[1], class_map(base["truth"][index].astype(int)))
        for axis, name in zip(row[2:], names, strict=True):
            panel(axis, class_map(exhibits[name]["probs"][index].argmax(0)))
    titles = ["input", "truth", *(title_of(n) for n in names)]
    _name_columns(figure, axes[0], titles)
    return figure


def outlines(axis: Axes, masks: Mapping[str, Float[ndarray, "h w"]], legend: bool = True) -> None:
    """The outline of each named mask (0…1, cut at 1/2) in a colour of its own."""
    for (name, mask), colour in zip(masks.items(), ANNOTATOR_COLOURS * 3, strict=False):
        if mask.max() > 0.5 >= mask.min():
            axis.contour(mask, [0.5], colors=colour, linewidths=1.1)
        axis.plot([], [], color=colour, label=name if mask.max() > 0.5 else f"{name}: nothing")
    if legend:
        axis.legend(
            loc="upper left",
            bbox_to_anchor=(0, -0.16),
            fontsize=6,
            ncols=2,
            frameon=False,
            handlelength=1,
            columnspacing=0.8,
        )


def contours(
    exhibit: Mapping[str, ndarray],
    indices: Sequence[int],
    annotators: Sequence[str],
    agreements: Mapping[str, Sequence[float]],
) -> Figure:
    """The paper's LIDC figure: one row per image with two classes.

    Columns: the reference, our segmentation, the annotators' outlines, the outlines the model
    expects of them; under the last two the agreement (intersection over union).
    `agreements`: "written" and "predicted", a value for each of `indices`.
    """
    figure, axes = plt.subplots(
        len(indices), 4, figsize=(6.4, 1.95 * len(indices)), squeeze=False, layout="tight"
    )
    for row, index in enumerate(indices):
        one = {name: np.asarray(array[index], float) for name, array in exhibit.items()}
        written = dict(zip(legible(annotators), (one["labels"] == 1).astype(float), strict=True))
        expected = dict(zip(legible(annotators), one["noisy_probs"][:, 1], strict=True))
        shown = {
            "reference": {"": one["truth"]},
            "ours": {"": one["probs"][1]},
            "written": written,
            "predicted": expected,
        }
        for axis, (name, masks) in zip(axes[row], shown.items(), strict=True):
            panel(axis, grey(one["image"][0]), name if row == 0 else "", cmap="gray")
            outlines(axis, masks, legend=row == len(indices) - 1 and len(masks) > 1)
            if name in agreements:
                value = agreements[name][row]
                axis.set_xlabel(f"agreement {100 * value:.0f} %", fontsize=7)
    return figure
