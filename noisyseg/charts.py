"""Charts of studies: exported tables in, matplotlib Figures out. Prints and saves nothing.

Colours and names of methods are those of `plotting`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from noisyseg.methods import METHODS
from noisyseg.plotting import METHOD_STYLE, TITLES, method_order

OTHERS = ("#2e86c1", "#c0392b", "#7d3c98", "#0e9bb9", "#5d6d7e", "#d2719f")
LOST = 0.5  # a Dice below this is no segmentation: swapped, or a class has vanished


def against(
    panels: Mapping[str, pd.DataFrame],
    x: str,
    xlabel: str,
    metric: str = "dice",
    by: str = "method",
    percent: bool = True,
) -> Figure:
    """A metric over the column `x`: a panel for each table, a line for each value of `by`.

    Tables in the exported columns. Values of `x` stand at equal distances, so that 0 and
    powers of ten fit one axis; a dot is a seed, a line their mean. Rows without an `x`
    (methods that do not have it) are level dashed lines.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.5 * len(panels) + 1.3, 2.9), sharey=True, squeeze=False,
        layout="tight",
    )  # fmt: skip
    drawn: dict[str, Any] = {}
    scale = 100 if percent else 1
    names = method_order(sorted({n for data in panels.values() for n in data[by].dropna()}))
    strange = [name for name in names if name not in METHOD_STYLE]
    style = METHOD_STYLE | {n: (n, OTHERS[k % len(OTHERS)]) for k, n in enumerate(strange)}
    for axis, (title, data) in zip(axes[0], panels.items(), strict=True):
        rows = data[(data.metric == metric) & (data["class"] == "all") & (data.annotator == "all")]
        ticks = sorted(rows[x].dropna().unique())
        for name in method_order(rows[by].unique()):
            part = rows[rows[by] == name]
            label, colour = style[name]
            if part[x].isna().all():
                line = axis.axhline(scale * part.value.mean(), color=colour, ls="--", lw=1.2)
            else:
                at = np.searchsorted(ticks, part[x])
                mean = part.groupby(x).value.mean()
                (line,) = axis.plot(np.searchsorted(ticks, mean.index), scale * mean, color=colour)
                axis.plot(at, scale * part.value, "o", color=colour, ms=3, alpha=0.55)
            drawn.setdefault(label, line)
        axis.set_xticks(range(len(ticks)), [f"{t:g}" for t in ticks], fontsize=7)
        axis.set(title=title, xlabel=xlabel)
        axis.grid(axis="y", color="#eeeeee")
    axes[0, 0].set_ylabel(TITLES.get(metric, metric) + (" (%)" if percent else ""))
    axes[0, -1].legend(drawn.values(), drawn.keys(), loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def lost_seeds(data: pd.DataFrame, rows: Iterable[str], columns: str) -> pd.DataFrame:
    """How many seeds lost the truth (Dice below `LOST`), as "2 of 3": rows × columns."""
    dice = data[(data.metric == "dice") & (data["class"] == "all") & (data.annotator == "all")]
    lost = (dice.value < LOST).groupby([dice[c] for c in (*rows, columns)], dropna=False)
    text = lost.agg(lambda v: f"{v.sum()} of {len(v)}")
    return text.unstack(columns).fillna("")


def prediction(
    tables: Mapping[str, pd.DataFrame], chosen: Mapping[str, Mapping[str, str]]
) -> Figure:
    """What an objective will choose before any training: a panel for each set of annotators.

    `tables`: `diagnostics.assess` by name of the set, "truth" among the candidates. A dot is
    a candidate truth: across, its mean trace less that of the real truth (the objective
    prefers the left); up, its Dice with the real truth. `chosen[set]` maps what chooses
    ("no dominance", …) to the candidate it takes.
    """
    figure, axes = plt.subplots(
        1, len(tables), figsize=(4.1 * len(tables), 3.9), sharey=True, squeeze=False, layout="tight"
    )
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        rows = table.set_index("candidate")
        across = rows.trace - rows.trace["truth"]
        axis.axvline(0, color="#dddddd", lw=1, zorder=0)
        axis.plot(across, rows.dice, "o", color="#999999", ms=4)
        for k, (who, candidate) in enumerate(chosen[name].items()):
            axis.plot(across[candidate], rows.dice[candidate], "o", mfc="none", mec=OTHERS[k],
                      ms=10 + 4 * k, mew=1.8, label=f"{who}: {candidate}")  # fmt: skip
        height = -1.0
        for candidate, dice in rows.dice.sort_values().items():
            height = max(height + 0.085, dice)  # names do not overlap
            axis.annotate(candidate, (across[candidate], dice), xytext=(0.055, height), va="center",
                          fontsize=7, color="#444444", arrowprops=dict(arrowstyle="-", lw=0.4,
                          color="#bbbbbb"))  # fmt: skip
        axis.set_xscale("symlog", linthresh=0.05, linscale=2)
        axis.set_xticks([-0.5, -0.05, 0, 0.05], ["−0.5", "−0.05", "0", "0.05"])
        axis.set(title=name, xlabel="mean trace − that of the truth", xlim=(-1.2, 0.5))
        axis.set_ylim(-0.06, 1.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=7.5)
    axes[0, 0].set_ylabel("Dice of the candidate with the truth")
    return figure


def trace_lines(data: pd.DataFrame) -> pd.DataFrame:
    """`ablation_trace` with a column `line`: what each row is called in a figure.

    Rows that vary something else (warm-up, edges, support) are left out.
    """
    near, level = data.start == "near identity", data.dominance_level
    chosen = METHODS["dominant"].settings | {"edge_weight": 0.1, "dominance_support": 0.3}
    ours = level == "support"
    for name in ("edge_weight", "dominance_support", "vote_start", "vote_weight", "common_columns"):
        ours &= data[name] == chosen[name]
    usual = data.warm_up.isin(["none", "maximise 1"])
    paper = (data.method == "trace") & (data.warm_up == "maximise 1")
    line = data.method.where(data.method.isin(["clean", "mode"]))
    line = line.mask(paper & near, "trace").mask(paper & ~near, "paper, default start")
    released = data.method == "released"
    line = line.mask(released & ~near, "released").mask(released & near, "released, near identity")
    line = line.mask(level == "pixel", "pixel hinge").mask(level == "class", "class hinge")
    line = line.mask(ours & ~near, "dominant").mask(ours & near, "ours, near identity")
    return data.assign(line=line)[line.notna() & usual]
