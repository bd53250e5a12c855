"""Figures of the notebooks that teach: the two coupled networks, and the fits of one pixel.

Arrays in, Figure out. Prints and saves nothing, and knows no network: what a diagram shows of
the annotators is computed from the masks it is given.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy import ndarray

from noisyseg.plots import maps, style

INK, SOFT = "#222222", "#666666"
TRUTH_TINT, MATRIX_TINT = "#dcebf5", "#f8e3d3"  # of the two networks' last layers
PRODUCT = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": SOFT}


def coupled_networks(
    image: Float[ndarray, "h w"],
    truth: Int[ndarray, "h w"],
    labels: Int[ndarray, "annotator h w"],
    annotators: Sequence[str],
) -> Figure:
    """The model as a diagram, with one image's own pictures in the places of its arrays.

    A row an annotator: matrices, what they make of the truth, and what was really written.
    `truth` stands where the estimate of a trained model would be.
    """
    figure = plt.figure(figsize=(8.4, 3.9))
    board = figure.add_axes((0, 0, 1, 1))
    board.set(xlim=(0, 8.4), ylim=(0, 3.9))
    board.axis("off")
    _picture(board, image, (0.1, 1.45), 0.95, "image x")
    _box(board, (1.45, 1.45), 1.05, 0.95, "U-Net\n(shared\nfeatures)", "#eeeeee")
    _box(board, (2.9, 2.65), 1.2, 0.75, "last layer\nof the truth, θ", TRUTH_TINT)
    _box(board, (2.9, 0.5), 1.2, 0.95, "last layers\nof the\nannotators, φ", MATRIX_TINT)
    _arrow(board, (1.08, 1.92), (1.42, 1.92))
    _arrow(board, (2.53, 2.1), (2.87, 2.85))
    _arrow(board, (2.53, 1.75), (2.87, 1.1))
    _picture(board, truth, (4.5, 2.6), 0.85, "truth p")
    _arrow(board, (4.13, 3.02), (4.47, 3.02))
    board.text(5.75, 3.1, "kept when the model is used", color=SOFT, va="center")
    rows = np.linspace(1.5, 0.1, len(labels))
    columns = {"matrices A⁽ʳ⁾": 4.5, "expected A⁽ʳ⁾p": 6.0}
    for y, label, name in zip(rows, labels, annotators, strict=True):
        matrix = maps.true_spatial_matrix(label, truth)
        for x, picture in zip((4.57, 6.0, 7.2), (matrix, label, label), strict=True):
            _picture(board, picture, (x, y), 0.62)
        _arrow(board, (4.13, 0.98), (4.53, y + 0.31))
        _arrow(board, (5.24, y + 0.31), (5.95, y + 0.31))
        board.text(5.6, y + 0.31, "×", ha="center", va="center", fontsize=12, bbox=PRODUCT)
        board.text(6.91, y + 0.31, "↔", ha="center", va="center", fontsize=13)
        board.text(7.88, y + 0.31, name, va="center", color=SOFT)
    board.plot([5.35, 5.6, 5.6], [2.85, 2.85, rows[-1] + 0.31], color=INK, linewidth=1, zorder=0)
    for text, x in {**columns, "written": 7.2}.items():
        board.text(x, 2.2, text, va="center")
    return figure


def _picture(
    board: Axes, picture: ndarray, corner: tuple[float, float], size: float, title: str = ""
) -> None:
    """A picture on the board, with its lower left corner and size in inches."""
    x, y = corner
    inset = board.inset_axes((x, y, size, size), transform=board.transData)
    style.panel(inset, np.asarray(picture, float), title)


def _box(
    board: Axes, corner: tuple[float, float], width: float, height: float, text: str, colour: str
) -> None:
    shape = "round,pad=0.02,rounding_size=0.08"
    board.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle=shape, facecolor=colour, edgecolor=SOFT)
    )
    place = (corner[0] + width / 2, corner[1] + height / 2)
    board.text(*place, text, ha="center", va="center", linespacing=1.25)


def _arrow(board: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    board.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
    )


def perfect_fits(
    share: float, paths: Mapping[str, tuple[ndarray, ndarray, str]], ends: Mapping[str, Any]
) -> Figure:
    """Every explanation of one pixel's labels without error, and the ways descents took to it.

    `share` of the annotators wrote class 1. Each of `paths` is p(class 1) and the mean trace at
    each step, and a colour. `ends` names points (p, trace) that theory predicts.

    Labels are certain, so that with 0 < p < 1 only matrices that ignore the truth fit (trace 1).
    With p = 1 the column of class 1 is what was written, and the other is free: the mean trace
    goes from `share` to `share` + 1; with p = 0 from 1 − `share` to 2 − `share`.
    """
    figure, axis = plt.subplots(figsize=(7.4, 4.6), layout="constrained")
    fit: dict[str, Any] = {
        "color": "#c4c4c4",
        "linewidth": 7,
        "solid_capstyle": "round",
        "zorder": 1,
    }
    axis.plot([0, 1], [1, 1], **fit, label="labels explained without error")
    axis.plot([0, 0], [1 - share, 2 - share], **fit)
    axis.plot([1, 1], [share, 1 + share], **fit)
    for name, (p, trace, colour) in paths.items():
        axis.plot(p, trace, color=colour, label=name, zorder=2)
        axis.plot(p[:1], trace[:1], "o", color=colour, markersize=7, zorder=3)
    for text, (p, trace) in ends.items():
        axis.plot([p], [trace], "*", color=INK, markersize=13, zorder=4)
        axis.annotate(text, (p, trace), (12, 0), textcoords="offset points", va="center")
    axis.set(xlabel="p(class 1)", ylabel="mean trace", xlim=(-0.04, 1.3), ylim=(0.25, 2.05))
    axis.set_xticks(np.linspace(0, 1, 6))
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def known_columns(
    values: Float[ndarray, "pixel annotator reported true"],
    known: Mapping[str, int],
    annotators: Sequence[str],
    classes: Sequence[str],
) -> Figure:
    """Confusion matrices at some pixels, with the columns that no label can tell struck out.

    `known` names the pixels and says of each its true class, the one column that is known.
    """
    size = (1.6 * len(annotators) + 0.6, 2.25 * len(known))
    figure, axes = plt.subplots(
        len(known), len(annotators), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    hidden = {"facecolor": "#eeeeee", "edgecolor": "#aaaaaa", "hatch": "///", "linewidth": 0}
    for row, (where, klass), matrices in zip(axes, known.items(), values, strict=True):
        for axis, name, matrix in zip(row, annotators, matrices, strict=True):
            seen = np.where(np.arange(len(classes)) == klass, matrix, np.nan)
            maps.matrix_panel(axis, seen, name, classes)
            for other in set(range(len(classes))) - {klass}:
                axis.axvspan(other - 0.5, other + 0.5, **hidden)
        row[0].set_ylabel(where)
    return figure


def bars(table: pd.DataFrame, label: str, titles: Mapping[str, str] = {}) -> Figure:
    """A panel a column of `table`, a bar a row (a method, in its own colour) with its number."""
    names = [titles.get(name, style.title_of(name)) for name in table.index]
    colours = [style.colour_of(name) for name in table.index]
    size = (2.7 * len(table.columns) + 2.3, 0.38 * len(table) + 1.1)
    figure, axes = plt.subplots(
        1, len(table.columns), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, column in zip(axes[0], table.columns, strict=True):
        drawn = axis.barh(names, table[column], color=colours, height=0.7)
        axis.bar_label(drawn, fmt="%.2f", padding=3)
        axis.set(title=column, xlabel=label, xlim=(0, 1.15), xticks=[0, 0.5, 1])
    axes[0, 0].invert_yaxis()
    return figure
