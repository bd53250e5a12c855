"""Charts of scores: exported tables in, Figure out. Prints and saves nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from noisyseg.plots.style import LABELLINGS, TITLES, colour_of, method_order, title_of


def scores(
    data: pd.DataFrame,
    metric: str,
    printed: pd.DataFrame | None = None,
    percent: bool = True,
    klass: str = "all",
    by: str = "labelling",
    panels: Mapping[str, str] = LABELLINGS,
) -> Figure:
    """One dot per seed for each method, a bar at the mean, and the paper's printed value beside it.

    `data` in the exported columns, of which `klass` is shown; `panels` names the values of the
    column `by` that get one each, and their titles; `printed` as in figures/printed.csv.
    """
    chosen = (data.metric == metric) & (data["class"] == klass) & (data.annotator == "all")
    scale = 100 if percent else 1
    rows = data[chosen].assign(value=scale * data.value)
    paper = data[:0] if printed is None else printed[printed.metric == metric]
    methods = method_order(rows.method.unique())
    size = (2.2 * len(panels) + 2.6, 0.27 * len(methods) + 0.9)
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False, layout="tight"
    )
    title = TITLES.get(metric, metric) if klass == "all" else f"{metric.title()} of the {klass}"
    for axis, (shown, heading) in zip(axes[0], panels.items(), strict=True):
        _strip(axis, rows[rows[by] == shown], methods)
        hit = paper[paper.method.isin(methods) & (paper[by] == shown)]
        axis.plot(scale * hit.value, hit.method.map(methods.index), "x", color="#999999", ms=5)
        axis.set(title=heading, xlabel="", ylabel="")
        axis.grid(axis="x", color="#eeeeee")
    axes[0, 0].set_yticks(range(len(methods)), [title_of(method) for method in methods])
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    figure.supxlabel(f"{title} (%)" if percent else title, fontsize=10, x=0.5)
    if printed is not None:
        (cross,) = axes[0, -1].plot([], [], "x", color="#999999")
        figure.legend([cross], ["printed"], loc="lower left", bbox_to_anchor=(0, 0))
    return figure


def _strip(axis: Any, rows: pd.DataFrame, methods: Sequence[str]) -> None:
    """One dot per seed, and a bar at each method's mean."""
    if rows.empty:
        return
    there = [method for method in methods if (rows.method == method).any()]
    style: dict[str, Any] = {"x": "value", "y": "method", "order": methods, "ax": axis}
    style |= {"hue": "method", "hue_order": there, "orient": "h", "legend": False}
    style |= {"palette": [colour_of(method) for method in there]}
    sns.stripplot(rows, jitter=False, size=6, alpha=0.75, **style)
    sns.pointplot(rows, errorbar=None, linestyle="none", marker="|", markersize=11, **style)


def curves(histories: Mapping[str, pd.DataFrame], columns: Mapping[str, str]) -> Figure:
    """Training histories: a panel for each column (name -> axis label), one line per method.

    Two panels in a row, so that their letters stay legible on a page.
    """
    across = min(len(columns), 2)
    down = -(-len(columns) // 2)
    size = (3.2 * across + 2.0, 2.7 * down)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="tight")
    for axis, (column, label) in zip(axes.flat, columns.items(), strict=False):
        for name, history in histories.items():
            if column in history:
                text, colour = title_of(name), colour_of(name)
                axis.plot(history.epoch, history[column], color=colour, label=text)
        axis.set(xlabel="epoch", ylabel=label)
    for axis in axes.flat[len(columns) :]:
        axis.set_axis_off()
    fullest = max(axes.flat, key=lambda axis: len(axis.lines))
    names = fullest.get_legend_handles_labels()
    axes[0, -1].legend(*names, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


# Groups of the paper's bar chart: how far the annotators agree on an image.
GROUPS = {"low": (0.30, 0.65), "middle": (0.65, 0.75), "high": (0.75, 0.90)}


def agreement_scatter(images: pd.DataFrame) -> Figure:
    """Predicted against written agreement, one dot per image, with the line fitted through 0."""
    kept = images[["predicted_agreement", "agreement"]].dropna()
    x, y = kept.predicted_agreement, kept.agreement
    slope = (x * y).sum() / max((x * x).sum(), 1e-9)
    figure, axis = plt.subplots(figsize=(3.4, 3.2), layout="tight")
    axis.plot([0, 1], [0, 1], color="#bbbbbb", lw=0.8)
    axis.plot(x, y, "o", ms=3, alpha=0.4, color=colour_of("calibrated"))
    axis.plot([0, 1], [0, slope], color="#c0392b", lw=1, label=f"y = {slope:.2f} x")
    axis.set(
        xlabel="agreement as predicted", ylabel="agreement as written", xlim=(0, 1), ylim=(0, 1)
    )
    means = f"mean {x.mean():.0%} predicted, {y.mean():.0%} written"
    r = f"{x.corr(y):.2f}".replace("nan", "undefined")  # the same agreement predicted everywhere
    axis.set_title(f"{means};\nr = {r}")
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
    rows = pd.concat(
        images[images.agreement.between(*span)].assign(group=group)
        for group, span in GROUPS.items()
    )
    colours = [colour_of(name) or OTHERS[0] for name in names]
    sns.barplot(
        rows,
        x="group",
        y="dice",
        hue="name",
        order=list(GROUPS),
        hue_order=names,
        ax=axis,
        palette=colours,
        saturation=1,
        gap=0.06,
        errorbar=("se", 1.96),
        err_kws={"linewidth": 0.8, "color": "black"},
    )
    for k, name in enumerate(names):
        middle = np.arange(len(GROUPS)) + (k - (len(names) - 1) / 2) * 0.8 / len(names)
        crosses = [paper.get((name, f"dice_{group}"), np.nan) for group in GROUPS]
        axis.plot(middle, crosses, "x", color="#444444", ms=5)
    (cross,) = axis.plot([], [], "x", color="#444444", ms=5)
    first = images[images.name == names[0]].agreement
    counts = {group: first.between(*span).sum() for group, span in GROUPS.items()}
    ticks = [
        f"{group}\n{100 * low:.0f}–{100 * high:.0f} %\n{counts[group]} images"
        for group, (low, high) in GROUPS.items()
    ]
    axis.set_xticks(range(len(GROUPS)), ticks)
    left = len(first) - sum(counts.values())
    axis.set(ylabel="Dice", xlabel=f"agreement ({left} images outside); lines: 95 % over images")
    titles = [*map(title_of, names), "printed, on real CT"]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    axis.legend([*(Patch(color=colour) for colour in colours), cross], titles, **place)
    return figure


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

    Names stand at the ends of the lines, where all lines reach the last panel; else in a legend.

    Tables in the exported columns. Values of `x` stand at equal distances, so that 0 and
    powers of ten fit one axis; a dot is a seed, a line their mean. Rows without an `x`
    (methods that do not have it) are level dashed lines.
    """
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(3.5 * len(panels) + 1.3, 2.9),
        sharey=True,
        squeeze=False,
        layout="tight",
    )
    drawn: dict[str, Any] = {}
    scale = 100 if percent else 1
    names = method_order(sorted({n for data in panels.values() for n in data[by].dropna()}))
    strange = [name for name in names if colour_of(name) is None]
    for axis, (title, data) in zip(axes[0], panels.items(), strict=True):
        rows = overall_rows(data[data.metric == metric])
        ticks, ends = sorted(rows[x].dropna().unique()), {}
        rows = rows.assign(at=np.searchsorted(ticks, rows[x]), value=scale * rows.value)
        for name in method_order(rows[by].unique()):
            part = rows[rows[by] == name]
            label, colour = title_of(name), colour_of(name)
            if colour is None:
                colour = OTHERS[strange.index(name) % len(OTHERS)]
            if part[x].isna().all():
                line = axis.axhline(part.value.mean(), color=colour, ls="--", lw=1.2)
            else:
                sns.lineplot(part, x="at", y="value", errorbar=None, color=colour, ax=axis)
                line = axis.lines[-1]
                axis.plot(part["at"], part.value, "o", color=colour, ms=3, alpha=0.55)
            drawn.setdefault(label, line)
            ends[label] = float(line.get_ydata()[-1])
        if rows.empty:
            say_empty(axis)
        axis.set_xticks(range(len(ticks)), [f"{t:g}" for t in ticks])
        axis.set(title=title, xlabel=xlabel, ylabel="")
        axis.grid(axis="y", color="#eeeeee")
    name = TITLES.get(metric, metric)
    axes[0, 0].set_ylabel(f"{name} (%)" if percent else name)
    if not _label_lines(axes[0, -1], ends, drawn):
        axes[0, -1].legend(drawn.values(), drawn.keys(), loc="upper left", bbox_to_anchor=(1, 1))
    return figure


LABEL_SHARE = 0.085  # of the height of an axis: one line of letters


def _label_lines(axis: Any, ends: Mapping[str, float], drawn: Mapping[str, Any]) -> bool:
    """Write each line's name beside its end, apart from each other; False if one has no end here.

    `ends`: name -> where its line ends in this panel, in the axis' unit.
    """
    if not ends or set(ends) != set(drawn):
        return False
    low, high = axis.get_ylim()
    share = {name: (end - low) / (high - low) for name, end in ends.items()}
    height = -LABEL_SHARE
    for name in sorted(share, key=lambda name: share[name]):
        height = max(height + LABEL_SHARE, share[name])
        share[name] = height
    over = max(0.0, height - 1)
    for name, at in share.items():
        axis.annotate(
            name,
            (1, (ends[name] - low) / (high - low)),
            xytext=(1.06, at - over),
            xycoords="axes fraction",
            va="center",
            color=drawn[name].get_color(),
            arrowprops={"arrowstyle": "-", "lw": 0.6, "color": "#bbbbbb", "relpos": (0, 0.5)},
        )
    return True


def lost_seeds(data: pd.DataFrame, rows: Iterable[str], columns: str) -> pd.DataFrame:
    """How many seeds lost the truth (Dice below `LOST`), as "2 of 3": rows × columns."""
    dice = data[(data.metric == "dice") & (data["class"] == "all") & (data.annotator == "all")]
    lost = (dice.value < LOST).groupby([dice[c] for c in (*rows, columns)], dropna=False)
    text = lost.agg(lambda v: f"{v.sum()} of {len(v)}")
    return text.unstack(columns).fillna("")


def say_empty(axis: Any) -> None:
    """Write into an empty panel that there is no run of it yet."""
    axis.text(0.5, 0.5, "no run yet", color="#999999", ha="center", transform=axis.transAxes)


def overall_rows(data: pd.DataFrame) -> pd.DataFrame:
    """The rows that are means over classes and annotators."""
    return data[(data["class"] == "all") & (data.annotator == "all")]


def head_names(table: pd.DataFrame) -> pd.Series:
    """The columns `head` and `rank` in words: "pixel", "low rank 2"."""
    ranks = table["rank"].map(lambda rank: "" if np.isnan(rank) else f" {rank:g}")
    return table["head"].str.replace("_", " ") + ranks


def heads(data: pd.DataFrame, cost: pd.DataFrame) -> Figure:
    """Mean Dice of each head of `ablation_confusion` over the time that a step of it takes.

    Both tables with the columns `task` and `model`. Methods without a head are level lines; heads
    without a run or without a cost are not drawn. Areas of dots go with the parameters.
    """
    dice = data[data.metric == "dice"].groupby(["task", "method", "model"]).value.mean()
    rows = dice.reset_index().merge(cost, "left", ["task", "model"])
    tasks = sorted(rows.task.unique())
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(3.7 * len(tasks) + 1, 2.9), squeeze=False, layout="tight"
    )
    drawn: dict[str, Any] = {}
    for axis, task in zip(axes[0], tasks, strict=True):
        for method, part in rows[rows.task == task].groupby("method", sort=False):
            label, colour = title_of(str(method)), colour_of(str(method))
            if (part["model"] == "none").all():
                drawn[label] = axis.axhline(100 * part.value.mean(), color=colour, ls="--", lw=1.2)
                continue
            drawn[label] = Line2D([], [], color=colour, marker="o", ls="")
            axis.scatter(
                part.step_ratio,
                100 * part.value,
                color=colour,
                alpha=0.6,
                s=20 + part.parameters / 20,
            )
            ordered = part.dropna(subset="step_ratio").sort_values("step_ratio")
            for place, (_, row) in enumerate(ordered.iterrows()):
                above = place % 2 == 1  # in turn, so that names of neighbours stay apart
                axis.annotate(
                    row.model.replace("low rank", "rank"),
                    (row.step_ratio, 100 * row.value),
                    xytext=(0, 10 if above else -10),
                    textcoords="offset points",
                    ha="center",
                    va="bottom" if above else "top",
                )
        axis.set(title=task, xlabel="time of a step / plain U-Net", ylabel="foreground Dice (%)")
        axis.margins(0.25)
        axis.set_xscale("log", base=2)
        axis.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        axis.set_xlim(0.8, max(1.5 * cost[cost.task == task].step_ratio.max(), 2))
        if rows[rows.task == task].step_ratio.isna().all():
            say_empty(axis)
    axes[0, -1].legend(drawn.values(), drawn.keys(), loc="upper left", bbox_to_anchor=(1, 1))
    return figure
