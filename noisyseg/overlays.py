"""Overlays: pictures of class maps and contours for data with anatomy in them.

The paper's BraTS figure (maps of four classes), its LIDC figures (contours of the annotators
and of the model on the slice, agreement, Dice by agreement). Arrays and tables in, figures out.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from noisyseg.plotting import METHOD_STYLE, grey, method_order, panel

# Background, then the paper's BraTS colours: core red, oedema green, enhancing blue; then more.
CLASS_COLOURS = np.array(
    ["#000000", "#e8443a", "#3fa34d", "#3d7de0", "#e0b93d", "#9b5de5", "#2ec4b6", "#f4a261"]
)
ANNOTATOR_COLOURS = ("#ffd23f", "#3bceac", "#ee6c4d", "#7b9ef0", "#e07be0", "#cccccc")
# Groups of the paper's bar chart: how far the annotators agree on an image.
GROUPS = {"low": (0.30, 0.65), "middle": (0.65, 0.75), "high": (0.75, 0.90)}


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
    labels = one["labels"].astype(int)
    rows = [
        [(name, grey(picture)) for name, picture in zip(channels, one["image"], strict=True)],
        [*zip(annotators, map(class_map, labels), strict=True),
         ("truth", class_map(one["truth"].astype(int)))],
        [*zip([""] * len(annotators), map(class_map, one["noisy_probs"].argmax(1)), strict=True),
         ("", class_map(one["probs"].argmax(0)))],
    ]  # fmt: skip
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
    """Several methods' class maps side by side: a row an image, a column a method."""
    names = method_order(exhibits)
    base = exhibits[names[0]]
    figure, axes = plt.subplots(
        len(indices), 2 + len(names), squeeze=False,
        figsize=(1.05 * (2 + len(names)), 1.15 * len(indices) + 0.6),
    )  # fmt: skip
    figure.subplots_adjust(left=0.01, right=0.97, bottom=0.01, top=0.78, wspace=0.06, hspace=0.06)
    for row, index in zip(axes, indices, strict=True):
        panel(row[0], grey(np.asarray(base["image"][index, channel], float)), cmap="gray")
        panel(row[1], class_map(base["truth"][index].astype(int)))
        for axis, name in zip(row[2:], names, strict=True):
            panel(axis, class_map(exhibits[name]["probs"][index].argmax(0)))
    titles = ["input", "truth", *(METHOD_STYLE[n][0] for n in names)]
    for axis, text in zip(axes[0], titles, strict=True):
        axis.set_title(text, rotation=35, ha="left", x=0.2, fontsize=8)
    return figure


def outlines(axis: Axes, masks: Mapping[str, Float[ndarray, "h w"]], legend: bool = True) -> None:
    """The outline of each named mask (0…1, cut at 1/2) in a colour of its own."""
    for (name, mask), colour in zip(masks.items(), ANNOTATOR_COLOURS * 3, strict=False):
        if mask.max() > 0.5 >= mask.min():
            axis.contour(mask, [0.5], colors=colour, linewidths=1.1)
        axis.plot([], [], color=colour, label=name if mask.max() > 0.5 else f"{name}: nothing")
    if legend:
        axis.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=6, ncols=2, frameon=False,
                    handlelength=1, columnspacing=0.8)  # fmt: skip


def contours(
    exhibit: Mapping[str, ndarray],
    indices: Sequence[int],
    annotators: Sequence[str],
    agreements: Mapping[str, Sequence[float]],
) -> Figure:
    """The paper's LIDC figure: a row an image with two classes.

    Columns: the reference, our segmentation, the annotators' outlines, the outlines the model
    expects of them; under the last two the agreement (intersection over union).
    `agreements`: "written" and "predicted", a value for each of `indices`.
    """
    figure, axes = plt.subplots(
        len(indices), 4, figsize=(6.4, 1.95 * len(indices)), squeeze=False, layout="tight"
    )
    for row, index in enumerate(indices):
        one = {name: np.asarray(array[index], float) for name, array in exhibit.items()}
        written = dict(zip(annotators, (one["labels"] == 1).astype(float), strict=True))
        expected = dict(zip(annotators, one["noisy_probs"][:, 1], strict=True))
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


def agreement_scatter(images: pd.DataFrame) -> Figure:
    """Predicted against written agreement, a dot an image, with the line fitted through 0."""
    kept = images[["predicted_agreement", "agreement"]].dropna()
    x, y = kept.predicted_agreement, kept.agreement
    slope = (x * y).sum() / max((x * x).sum(), 1e-9)
    figure, axis = plt.subplots(figsize=(3.4, 3.2), layout="tight")
    axis.plot([0, 1], [0, 1], color="#bbbbbb", lw=0.8)
    axis.plot(x, y, "o", ms=3, alpha=0.4, color=METHOD_STYLE["calibrated"][1])
    axis.plot([0, 1], [0, slope], color="#c0392b", lw=1, label=f"y = {slope:.2f} x")
    axis.set(xlabel="agreement as predicted", ylabel="agreement as written", xlim=(0, 1),
             ylim=(0, 1))  # fmt: skip
    means = f"mean {x.mean():.0%} predicted, {y.mean():.0%} written"
    r = f"{x.corr(y):.2f}".replace("nan", "undefined")  # the same agreement predicted everywhere
    axis.set_title(f"{means}; r = {r}", fontsize=8)
    axis.legend()
    return figure


def by_agreement(images: pd.DataFrame, printed: pd.DataFrame) -> Figure:
    """Mean Dice of each method (column `name`) in groups of agreement; `printed` as crosses.

    `printed` as in figures/printed.csv (metrics dice_low, …), each at the method it belongs to.
    The number of images stands under each group; 95 % intervals over images.
    """
    paper = printed.set_index(["method", "metric"]).value
    names = method_order(images.name.unique())
    figure, axis = plt.subplots(figsize=(6.4, 2.8), layout="tight")
    for k, name in enumerate(names):
        label, colour = METHOD_STYLE.get(name, (name, None))
        rows = images[images.name == name]
        groups = [rows[rows.agreement.between(*span)].dice for span in GROUPS.values()]
        at = np.arange(len(GROUPS)) + (k - (len(names) - 1) / 2) * 0.8 / len(names)
        error = [1.96 * g.sem() if len(g) > 1 else 0 for g in groups]
        axis.bar(at, [g.mean() for g in groups], 0.75 / len(names), yerr=error, color=colour,
                 label=label, error_kw={"lw": 0.8})  # fmt: skip
        crosses = [paper.get((name, f"dice_{group}"), np.nan) for group in GROUPS]
        axis.plot(at, crosses, "x", color="#444444", ms=5)
    axis.plot([], [], "x", color="#444444", ms=5, label="printed, on real CT")
    first = images[images.name == names[0]].agreement
    counts = [first.between(*span).sum() for span in GROUPS.values()]
    axis.set_xticks(
        range(len(GROUPS)),
        [f"{name}\n{100 * low:.0f}–{100 * high:.0f} %\n{n} images"
         for (name, (low, high)), n in zip(GROUPS.items(), counts, strict=True)],
    )  # fmt: skip
    left = len(first) - sum(counts)
    axis.set(ylabel="Dice", xlabel=f"agreement ({left} images outside); lines: 95 % over images")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=7)
    return figure
