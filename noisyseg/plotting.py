"""Figures: arrays and DataFrames in, matplotlib Figures out. Prints and saves nothing.

The colours and order of methods stand here and nowhere else. Spatial confusion matrices
use the paper's code (Fig. 2 of arXiv 2007.15963): white = true positive, red = false
positive, green = false negative. Imports no other module of ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from numpy import ndarray

# name -> (label in figures, colour); the order is that of every table and legend.
METHOD_STYLE: dict[str, tuple[str, str]] = {
    "clean": ("network on the truth", "#222222"),
    "oracle": ("known CMs (oracle)", "#6b6b6b"),
    "mean": ("mean labels", "#c6a15b"),
    "mode": ("majority labels", "#a6761d"),
    "separate": ("separate networks", "#7f5d2e"),
    "staple": ("network on STAPLE", "#7fb3d5"),
    "spatial_staple": ("network on Spatial STAPLE", "#2e86c1"),
    "majority_fusion": ("majority vote (fusion only)", "#c9c3dd"),
    "staple_fusion": ("STAPLE (fusion only)", "#a99bd1"),
    "spatial_staple_fusion": ("Spatial STAPLE (fusion only)", "#7d68b8"),
    "prob_unet": ("Probabilistic U-Net", "#8e6fae"),
    "global_cm": ("global CMs", "#66a182"),
    "released": ("loss as released", "#e79a8b"),
    "trace_printed": ("Eq. 4 as printed", "#d6604d"),
    "no_trace": ("paper, no trace", "#f0b429"),
    "trace_low_rank": ("paper, low rank", "#b0413e"),
    "trace": ("paper, Theorem 1 held", "#e1702c"),
    "calibrated_fusion": ("calibrated vote (fusion only)", "#7fc8a9"),
    "calibrated": ("calibrated (ours)", "#117a53"),
    "calibrated_image": ("calibrated to the image (ours)", "#0b4f6c"),
}
TITLES = {  # of the axis of a metric
    "dice": "foreground Dice",
    "cm_rmse": "error of the confusion matrices (RMSE)",
    "ged": "generalised energy distance",
}
PICTURES = {  # data set of `ablation_lidc` -> whose boundary its rendered pictures show
    "lidc_mean": "the readers’ mean",
    "lidc_reader": "one reader’s",
    "lidc_shifted": "the mean, moved by up to 2 px",
    "lidc_shuffled": "the mean, readers shuffled",
}
PEOPLE = {"people_crowd": "crowd workers", "people_persons": "four persons"}  # of `people`
LABELLINGS = {"dense": "all annotators label each image", "one": "one label an image"}
WHITE, RED, GREEN = np.array([[1.0, 1, 1], [0.9, 0.1, 0.1], [0.15, 0.75, 0.25]])


def method_order(methods: Iterable[str]) -> list[str]:
    """`methods` in the order of METHOD_STYLE; unknown names come last."""
    order = list(METHOD_STYLE)
    return sorted(methods, key=lambda m: order.index(m) if m in order else len(order))


def stamp(figure: Figure, origin: str, profile: str, seeds: int, more: str = "") -> Figure:
    """Write under the figure what it stands on: data origin, profile, number of seeds."""
    text = f"data: {origin} · profile: {profile} · seeds: {seeds}" + (f" · {more}" if more else "")
    figure.text(0.5, -0.01, text, ha="center", va="top", fontsize=7, color="#666666")
    return figure


def panel(axis: Any, picture: ndarray, title: str = "", **kwargs: Any) -> None:
    """One picture without ticks; grey values are shown from 0 to 1."""
    axis.imshow(picture, **({"vmin": 0, "vmax": 1} | kwargs))
    axis.set(xticks=[], yticks=[])
    axis.set_title(title)
    for spine in axis.spines.values():
        spine.set(visible=True, color="#bbbbbb", linewidth=0.6)


def grey(picture: Float[ndarray, "h w"]) -> Float[ndarray, "h w"]:
    """A picture in any unit as grey values 0…1: its 1st to its 99th percentile.

    What lies within 0…1 already stays as it is.
    """
    if picture.min() >= 0 and picture.max() <= 1:
        return picture
    low, high = np.percentile(picture, (1, 99))
    return np.clip((picture - low) / max(high - low, 1e-6), 0, 1)


def picture_row(pictures: Mapping[str, ndarray], size: float = 1.3) -> Figure:
    """Named pictures (height, width) or (height, width, 3) in one row."""
    figure, axes = plt.subplots(
        1, len(pictures), figsize=(size * len(pictures), size * 1.2), squeeze=False, layout="tight"
    )
    for axis, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        panel(axis, np.asarray(picture, float), title)
    return figure


def spatial_matrix(
    confusion: Float[ndarray, "reported true h w"], probs: Float[ndarray, "true h w"]
) -> Float[ndarray, "h w 3"]:
    """Two-class matrices as the paper's picture: white TP, red FP, green FN.

    Class 1 is the foreground. Each pixel shows A[1, 1]·p(1), A[1, 0]·p(0) and A[0, 1]·p(1).
    """
    if confusion.shape[:2] != (2, 2):
        raise ValueError(f"a spatial matrix picture needs 2 classes, not {confusion.shape[0]}")
    hit = confusion[1, 1] * probs[1]
    extra, missed = confusion[1, 0] * probs[0], confusion[0, 1] * probs[1]
    colours = hit[..., None] * WHITE + extra[..., None] * RED + missed[..., None] * GREEN
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
    columns = [*annotators, "average"]
    figure = plt.figure(figsize=(1.15 * (len(columns) + 1.55), 5.0))
    grid = figure.add_gridspec(
        4, len(columns) + 2, width_ratios=[1.25, 0.15, *[1] * len(columns)],
        left=0.01, right=0.99, bottom=0.01, top=0.88, wspace=0.08, hspace=0.08,
    )  # fmt: skip
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


def comparison(
    exhibits: Mapping[str, Mapping[str, ndarray]], indices: Sequence[int], first: int = 2
) -> Figure:
    """Predictions of several methods side by side: a row an image, a column a method."""
    names = list(exhibits)
    base = exhibits[names[0]]
    figure, axes = plt.subplots(
        len(indices), first + len(names),
        figsize=(1.05 * (first + len(names)), 1.15 * len(indices) + 0.5), squeeze=False,
    )  # fmt: skip
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.8, wspace=0.06, hspace=0.06)
    for row, index in zip(axes, indices, strict=True):
        panel(row[0], grey(base["image"][index, 0].astype(float)))
        panel(row[1], base["truth"][index].astype(float))
        for axis, name in zip(row[first:], names, strict=True):
            panel(axis, exhibits[name]["probs"][index, 1].astype(float))
    titles = ["input", "truth", *(METHOD_STYLE[n][0] for n in names)]
    for axis, text in zip(axes[0], titles, strict=True):
        axis.set_title(text, rotation=35, ha="left", x=0.2, fontsize=8)
    return figure


def matrices(
    values: Float[ndarray, "annotator reported true"], names: Sequence[str], classes: Sequence[str]
) -> Figure:
    """Confusion matrices with their numbers: rows = reported, columns = truth."""
    size = (1.5 * len(names), 1.9)
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
            axis.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center",
                      color="white" if matrix[i, j] > 0.6 else "#222222")  # fmt: skip
    axis.set(xticks=range(len(classes)), yticks=range(len(classes)), title=title, xlabel="truth")
    axis.set_xticklabels(classes)
    axis.set_yticklabels(classes)


def scores(
    data: pd.DataFrame,
    metric: str,
    printed: pd.DataFrame | None = None,
    percent: bool = True,
    klass: str = "all",
    by: str = "labelling",
    panels: Mapping[str, str] = LABELLINGS,
) -> Figure:
    """A dot a seed for each method, a bar at the mean, and the paper's printed value beside it.

    `data` in the exported columns, of which `klass` is shown; `panels` names the values of the
    column `by` that get one each, and their titles; `printed` as in figures/printed.csv.
    """
    rows = data[(data.metric == metric) & (data["class"] == klass) & (data.annotator == "all")]
    paper = data[:0] if printed is None else printed[printed.metric == metric]
    methods, scale = method_order(rows.method.unique()), 100 if percent else 1
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.2 * len(panels) + 4.4, 0.27 * len(methods) + 0.9),
        sharex=True, sharey=True, squeeze=False, layout="tight",
    )  # fmt: skip
    for axis, (shown, title) in zip(axes[0], panels.items(), strict=True):
        for y, method in enumerate(methods):
            values = scale * rows[(rows.method == method) & (rows[by] == shown)].value
            colour = METHOD_STYLE[method][1]
            axis.plot(values, np.full(len(values), y), "o", color=colour, ms=4, alpha=0.75)
            axis.plot([values.mean()] * 2, [y - 0.32, y + 0.32], color=colour)
            hit = paper[(paper.method == method) & (paper[by] == shown)]
            axis.plot(scale * hit.value, [y] * len(hit), "x", color="#999999", ms=5)
        axis.set_title(title)
        name = TITLES.get(metric, metric) if klass == "all" else f"{metric.title()} of the {klass}"
        axis.set_xlabel(name + (" (%)" if percent else ""))
        axis.grid(axis="x", color="#eeeeee")
    axes[0, 0].set_yticks(range(len(methods)), [METHOD_STYLE[m][0] for m in methods])
    axes[0, 0].invert_yaxis()
    if printed is not None:
        axes[0, -1].plot([], [], "x", color="#999999", label="printed, on the paper’s data")
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def curves(histories: Mapping[str, pd.DataFrame], columns: Mapping[str, str]) -> Figure:
    """Training histories: a panel for each column (name -> axis label), a line a method."""
    figure, axes = plt.subplots(
        1, len(columns), figsize=(3.6 * len(columns), 2.5), squeeze=False, layout="tight"
    )
    for axis, (column, label) in zip(axes[0], columns.items(), strict=True):
        for name, history in histories.items():
            if column in history:
                text, colour = METHOD_STYLE.get(name, (name, None))
                axis.plot(history.epoch, history[column], color=colour, label=text)
        axis.set(xlabel="epoch", ylabel=label)
    axes[0, 0].legend()
    return figure
