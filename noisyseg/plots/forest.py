"""A forest plot: many differences with their intervals on one page. Tables in, Figure out."""

import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from noisyseg.plots.style import colour_of

MARKERS = "osD^v"
LINEAR = 10  # points around zero that the axis shows evenly; beyond, it is logarithmic
TICKS = (-100, -10, 0, 10, 100)
ROW_INCHES = 0.42
LETTERS = 46  # of a claim in one line
BETWEEN = 0.2  # of a row: how far the readings of one claim stand apart


def forest(
    found: pd.DataFrame, panels: Mapping[str, Mapping[str, str]], readings: Mapping[str, str]
) -> Figure:
    """One row for each claim, a mark for each reading and data set, a line over its interval.

    Args:
        found: the columns claim, reading, dataset, mean, low, high, printed and holds.
        panels: title of a panel -> data set -> its name in the legend; a marker for each.
        readings: reading -> the method whose colour it has; others are not drawn.

    A full mark is a claim that holds, a hollow one a claim that does not; a cross is what the
    paper prints. An infinite interval (one seed) has no line. Raises ValueError without rows.
    """
    if found.empty:
        raise ValueError("no claim has rows in the exported tables: run `make figures` first")
    claims = list(dict.fromkeys(found.claim))
    size = (2.1 * len(panels) + 3.9, ROW_INCHES * len(claims) + 1.4)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (title, datasets) in zip(axes[0], panels.items(), strict=True):
        axis.axvline(0, color="#999999", lw=1)
        for marker, dataset in zip(MARKERS, datasets, strict=False):
            rows = found[(found.dataset == dataset) & found.reading.isin(readings)]
            _marks(axis, rows, claims, marker, readings)
        _axis(axis, title)
    written = [textwrap.fill(claim, LETTERS) for claim in claims]
    axes[0, 0].set_yticks(range(len(claims)), written)
    axes[0, 0].set_ylim(len(claims) - 0.5, -0.5)
    figure.supxlabel("ahead by, points", fontsize=10)
    figure.tight_layout()
    _legend(figure, panels, readings)
    return figure


def _marks(
    axis: Any, rows: pd.DataFrame, claims: list[str], marker: str, readings: Mapping[str, str]
) -> None:
    """The rows of one data set."""
    places = {name: place for place, name in enumerate(readings)}
    middle = rows.groupby("claim").reading.agg(lambda names: names.map(places).mean())
    for _, row in rows.iterrows():
        colour = colour_of(readings[row.reading])
        aside = BETWEEN * (places[row.reading] - middle[row.claim])
        y = claims.index(row.claim) + aside
        if np.isfinite([row.low, row.high]).all():
            axis.plot([row.low, row.high], [y, y], color=colour, lw=1.4, alpha=0.7)
        face = colour if row.holds else "white"
        axis.plot(row["mean"], y, marker, color=colour, mfc=face, ms=6)
        if np.isfinite(row.printed):
            axis.plot(row.printed, claims.index(row.claim), "x", color="#777777", ms=5)


def _axis(axis: Any, title: str) -> None:
    axis.set_xscale("symlog", linthresh=LINEAR)
    axis.set_xlim(-130, 130)
    axis.set_xticks(TICKS, [f"{tick:+d}" if tick else "0" for tick in TICKS])
    axis.minorticks_off()
    axis.set_title(title)
    axis.grid(axis="y", color="#eeeeee")
    axis.tick_params(axis="y", length=0)


def _legend(
    figure: Figure, panels: Mapping[str, Mapping[str, str]], readings: Mapping[str, str]
) -> None:
    """Colours are readings, shapes are data sets, full or hollow is the verdict."""
    entries = [Line2D([], [], color=colour_of(m), lw=3, label=r) for r, m in readings.items()]
    plain: dict[str, Any] = {"ls": "", "color": "#555555", "ms": 6}
    for datasets in panels.values():
        if len(datasets) > 1:
            entries += [
                Line2D([], [], marker=marker, label=name, **plain)
                for marker, name in zip(MARKERS, datasets.values(), strict=False)
            ]
    entries += [
        Line2D([], [], marker="o", label="holds", **plain),
        Line2D([], [], marker="o", mfc="white", label="does not hold", **plain),
        Line2D([], [], marker="x", label="printed in the paper", **plain),
    ]
    columns = (len(entries) + 1) // 2
    figure.legend(handles=entries, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=columns)
