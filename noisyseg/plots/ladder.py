"""Charts of the trace ablation: the ladder from the released loss to ours, plateau, prediction.

Exported tables in, Figures out. Prints and saves nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from noisyseg.config import PAPER
from noisyseg.methods import METHODS
from noisyseg.plots.scores import OTHERS, overall_rows, say_empty
from noisyseg.plots.style import colour_of, title_of


class Step(NamedTuple):
    """One step of the ladder: what it adds to the step below, and its rows in the table."""

    adds: str
    where: Mapping[str, Any]


_PRINTED = {"method": "trace_printed", "start": "near identity", "trace_weight": 0.7}
_FIXED = {"warm_up": "fixed 0.5", "fixed_diagonal": 0.95}
_HALF = {"method": "trace", "trace_weight": 0.1}


_HINGE = {"dominance_weight": 5.0, "dominance_level": "pixel"}
_RELEASED = {"method": "released", "start": "default", "trace_weight": 0.001}
# From the loss as the authors released it to ours: one thing more on every step.
LADDER: dict[str, Step] = {
    "loss as released": Step("cross-entropy of probabilities as if logits, λ = 0.001", _RELEASED),
    "Eq. 4 alone": Step(
        "the likelihood of Eq. 3, a start near the identity, λ as printed",
        _PRINTED | {"warm_up": "none"},
    ),
    "1 epoch of warm-up": Step(
        "the trace is maximised in the first epoch", _PRINTED | {"warm_up": "maximise 1"}
    ),
    "3 epochs of warm-up": Step("… in the first three", _PRINTED | {"warm_up": "maximise 3"}),
    "5 epochs of warm-up": Step("… in the first five", _PRINTED | {"warm_up": "maximise 5"}),
    "matrices fixed at first": Step(
        "instead: matrices do not move for half of the epochs", _PRINTED | _FIXED
    ),
    "λ = 0.1": Step("a smaller λ", _HALF | _FIXED | {"dominance_weight": 0.0}),
    "Theorem 1 held": Step(
        "a hinge holds the mean matrix dominant at each pixel", _HALF | _FIXED | _HINGE
    ),
    "fixed at 0.8": Step(
        "the diagonal of the fixed matrices is 0.8, not 0.95: the paper's method in our tables",
        _HALF | _FIXED | _HINGE | {"fixed_diagonal": 0.8},
    ),
    "ours": Step(
        "calibrated labels, no trace",
        {"method": "calibrated", "trace_weight": 0.0, "warm_up": "fixed 0.5"},
    ),
}
LADDER_METRICS = {"dice": ("foreground Dice (%)", 100), "cm_rmse": ("CM error (RMSE)", 1)}


PLATEAU_PANELS = {"mnist": "MNIST, main table", "ms": "MS", "brats": "BraTS", "lidc": "LIDC"}
PRINTED_WEIGHTS = {name: values["trace_weight"] for name, values in PAPER.items()}


TICK_INCHES = 0.5  # of a value of λ on the axis
SHORT = "MNIST, short runs"  # of `ablation_trace`, of fewer epochs
# What lies across: its name, its label, and which values of the other setting are which line.
PLATEAU_VIEWS: tuple[tuple[str, str, str, dict[float, str]], ...] = (
    ("trace_weight", "λ", "share", {0.5: "-", 0.0: "--"}),
    ("share", "share of fixed epochs", "trace_weight", {0.1: "-", 0.7: "--"}),
)


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
        1, len(tables), figsize=(4.1 * len(tables), 5.2), sharey=True, squeeze=False, layout="tight"
    )
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        rows = table.set_index("candidate")
        across = rows.trace - rows.trace["truth"]
        axis.axvline(0, color="#dddddd", lw=1, zorder=0)
        axis.plot(across, rows.dice, "o", color="#999999", ms=4)
        for k, (who, candidate) in enumerate(chosen[name].items()):
            axis.plot(
                across[candidate],
                rows.dice[candidate],
                "o",
                mfc="none",
                mec=OTHERS[k],
                ms=10 + 4 * k,
                mew=1.8,
                label=f"{who}: {candidate}",
            )
        height = -1.0
        for candidate, dice in rows.dice.sort_values().items():
            height = max(height + 0.085, dice)  # names do not overlap
            axis.annotate(
                candidate,
                (across[candidate], dice),
                xytext=(0.055, height),
                va="center",
                color="#444444",
                arrowprops=dict(arrowstyle="-", lw=0.4, color="#bbbbbb"),
            )
        axis.set_xscale("symlog", linthresh=0.05, linscale=2)
        axis.set_xticks([-0.5, 0, 0.05, 0.5], ["−0.5", "0", "0.05", "0.5"])
        axis.set(title=name, xlabel="mean trace − that of the truth", xlim=(-1.2, 6))
        axis.set_ylim(-0.06, 1.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), markerscale=0.6)
    axes[0, 0].set_ylabel("Dice of the candidate with the truth")
    return figure


def trace_lines(data: pd.DataFrame) -> pd.DataFrame:
    """`ablation_trace` with a column `line`: what each row is called in a figure over λ.

    Rows that vary something else (first phase, level of the hinge) are left out.
    """
    data = _as_set(data)
    method, half = data.method, data.warm_up == "fixed 0.5"
    held = (data.dominance_weight > 0) & (data.dominance_level == "pixel")
    near, free = data.start == "near identity", data.dominance_weight == 0
    names = {name: method == name for name in ("clean", "mode")}
    names |= {name: (method == name) & half for name in ("calibrated", "calibrated_image")}
    names |= {
        "trace": (method == "trace") & half & held,
        "paper, no hinge": (method == "trace") & half & free,
        "trace_printed": (method == "trace_printed") & half,
        "released": (method == "released") & ~near,
        "released, near identity": (method == "released") & near,
    }
    line = pd.Series(np.nan, data.index, dtype=object)
    for name, rows in names.items():
        line = line.mask(rows, name)
    return data.assign(line=line)[line.notna()]


def _as_set(data: pd.DataFrame) -> pd.DataFrame:
    """Without the rows whose first phase holds other matrices than the method's settings say."""
    own = data.method.map({name: m.settings.get("fixed_diagonal") for name, m in METHODS.items()})
    return data[data.fixed_diagonal.isna() | own.isna() | np.isclose(data.fixed_diagonal, own)]


def ladder(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of `ablation_trace` that stand on `LADDER`, with an ordered column `step`.

    Five annotators who all label, means over classes and annotators. Steps without a row stay
    categories of `step`.
    """
    base = overall_rows(data[(data.annotator_set == "five") & (data.labelling == "dense")])
    parts = [base[_matches(base, s.where)].assign(step=name) for name, s in LADDER.items()]
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(step=pd.Categorical(rows.step, list(LADDER), ordered=True))


def ladder_table(data: pd.DataFrame) -> pd.DataFrame:
    """`ladder` as text: what each step adds, number of seeds, mean and range of both metrics."""
    rows = ladder(data)
    table = pd.DataFrame({name: {"what it adds": s.adds} for name, s in LADDER.items()}).T
    counts = rows[rows.metric == "dice"].groupby("step", observed=False).size()
    table["seeds"] = counts.reindex(table.index)
    for metric, (title, scale) in LADDER_METRICS.items():
        digits = 1 if scale == 100 else 3
        values = scale * rows[rows.metric == metric].set_index("step").value
        table[title] = [_range(values[values.index == name], digits) for name in LADDER]
    return table.rename_axis("step")


def _range(values: pd.Series, digits: int) -> str:
    if values.empty:
        return "no run yet"
    low, mean, high = (f"{v:.{digits}f}" for v in (values.min(), values.mean(), values.max()))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


def ladder_figure(data: pd.DataFrame) -> Figure:
    """The ladder drawn: one dot per seed, a bar at the mean, a step without runs named as such.

    Dashed lines: means of the network on the truth and of the one on majority labels.
    """
    rows, overall = ladder(data), overall_rows(data)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.9), sharey=True, layout="tight")
    for axis, (metric, (title, scale)) in zip(axes, LADDER_METRICS.items(), strict=True):
        for y, name in enumerate(LADDER):
            part = rows[(rows.step == name) & (rows.metric == metric)]
            colour = colour_of(LADDER[name].where["method"])
            if part.empty:
                axis.text(
                    0.5,
                    y,
                    "no run yet",
                    color="#999999",
                    ha="center",
                    va="center",
                    transform=axis.get_yaxis_transform(),
                )
                continue
            axis.plot(scale * part.value, [y] * len(part), "o", color=colour, ms=5, alpha=0.7)
            axis.plot([scale * part.value.mean()] * 2, [y - 0.3, y + 0.3], color=colour)
        for name in ("clean", "mode"):
            bound = overall[(overall.method == name) & (overall.metric == metric)]
            bound = bound[(bound.annotator_set == "five") & (bound.labelling == "dense")]
            if not bound.empty:
                label, colour = title_of(name), colour_of(name)
                axis.axvline(scale * bound.value.mean(), color=colour, ls="--", lw=1, label=label)
        axis.set_xlabel(title)
        axis.grid(axis="x", color="#eeeeee")
    axes[0].set_yticks(range(len(LADDER)), list(LADDER))
    axes[0].set_ylim(len(LADDER) - 0.5, -0.5)
    axes[0].legend(loc="lower left")
    return figure


def plateau_points(
    trace: pd.DataFrame | None,
    warm_up: pd.DataFrame | None = None,
    main: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Runs of the paper's method by `trace_weight`, `share` of fixed epochs and `hinge`.

    `trace`: `ablation_trace`. `warm_up`: `ablation_warm_up`. `main`: the main tables by data set,
    whose `trace` and `trace_printed` are two points. Any may be missing. Column `panel` names
    the data; a run that two tables hold counts once. The main MNIST table stands in a panel of
    its own beside `ablation_warm_up`, because its runs are longer than those of `trace`.
    """
    parts = []
    if trace is not None:
        five = (trace.annotator_set == "five") & trace.method.isin(["trace", "trace_printed"])
        parts.append(_settings(trace[five]).assign(panel=SHORT))
    if warm_up is not None:
        known = warm_up[warm_up.dataset.isin(PLATEAU_PANELS)]
        parts.append(_settings(known).assign(panel=known.dataset.map(PLATEAU_PANELS)))
    long = warm_up is not None and (warm_up.dataset == "mnist").any()
    for name, table in (main or {}).items():
        if name in PLATEAU_PANELS and (name != "mnist" or long):
            parts.append(_as_published(table).assign(panel=PLATEAU_PANELS[name]))
    columns = ["panel", "metric", "seed", "trace_weight", "share", "hinge", "value"]
    if not parts:
        return pd.DataFrame(columns=columns)
    points = overall_rows(pd.concat(parts, ignore_index=True))
    points = points[(points.labelling == "dense") & points.share.notna()][columns]
    return points.drop_duplicates(columns[:-1], ignore_index=True)


def _settings(rows: pd.DataFrame) -> pd.DataFrame:
    """`share` and `hinge` from a study's columns; rows that vary something else go."""
    rows = _as_set(rows[(rows.start == "near identity") & (rows.dominance_level != "class")])
    if "dominance_margin" in rows:
        rows = rows[rows.dominance_margin.isin([0.1]) | rows.dominance_margin.isna()]
    rows = rows[rows.dominance_weight.isin([0.0, 5.0])]
    share = rows.warm_up.str.extract(r"^fixed (.+)$")[0].astype(float)
    share = share.mask(rows.warm_up == "none", 0.0)
    return rows.assign(share=share, hinge=rows.dominance_weight > 0)


def _as_published(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's rows of a main table with their settings as columns."""
    rows = table[table.method.isin(["trace", "no_trace", "trace_printed"])]
    weight = rows.method.map({m: METHODS[m].settings.get("trace_weight") for m in METHODS})
    weight = weight.fillna(rows.dataset.map(PRINTED_WEIGHTS))
    return rows.assign(trace_weight=weight, share=0.5, hinge=rows.method != "trace_printed")


def variants(data: pd.DataFrame, named: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Dice (%) of what was tried for the paper's method: a row each of `named`, a column per data.

    `data`: `ablation_warm_up`; `named`: what each variant sets, by name. The mean over seeds,
    with the lowest in brackets where there are several.
    """
    rows = overall_rows(data)
    rows = rows[rows.metric == "dice"]
    table = {}
    for name, where in named.items():
        hit = rows[_matches(rows, where)].groupby("dataset").value
        text = (100 * hit.mean()).map("{:.1f}".format)
        lowest = (100 * hit.min()).map(" ({:.1f})".format)
        table[name] = text + lowest.where(hit.size() > 1, "")
    return pd.DataFrame(table).T


def plateau(points: pd.DataFrame) -> Figure:
    """Dice and matrix error of `plateau_points` over λ and over the share of fixed epochs.

    One dot per seed, a line through the means, one column per data set; values stand at equal
    distances. A panel without any run says so.
    """
    panels = [p for p in (SHORT, *PLATEAU_PANELS.values()) if (points.panel == p).any()]
    panels = panels or [SHORT]
    views = [view for view in PLATEAU_VIEWS if _varies(points, view[0])] or [PLATEAU_VIEWS[0]]
    count = len(views) * len(LADDER_METRICS)
    there = {name: points[points.panel == name] for name in panels}
    widths = [max(2, *(rows[x].nunique() for x, *_ in views)) for rows in there.values()]
    figure, axes = plt.subplots(
        count,
        len(panels),
        figsize=(TICK_INCHES * sum(widths) + 0.9, 2.1 * count + 0.9),
        sharey="row",
        squeeze=False,
        layout="constrained",
        gridspec_kw={"width_ratios": widths},
    )
    for row, (view, (metric, (title, scale))) in enumerate(
        (v, m) for v in views for m in LADDER_METRICS.items()
    ):
        for axis, name in zip(axes[row], panels, strict=True):
            ticks = sorted(there[name][view[0]].unique())
            part = there[name][there[name].metric == metric]
            _plateau_lines(axis, part.assign(value=scale * part.value), view, ticks)
            if row == 0:
                axis.set_title(name)
        axes[row, 0].set_ylabel(title)
    colours = [Line2D([], [], color=OTHERS[k], marker="o", ms=3) for k in (0, 1)]
    dashes = [Line2D([], [], color="#666666", ls=style) for style in ("-", "--")]
    names = ["with the hinge", "without the hinge"]
    names += [
        f"over λ: {half} epochs fixed; over their share: λ = {weight}"
        for half, weight in (("half of the", 0.1), ("no", 0.7))
    ]
    # Below the stamp.
    figure.legend(colours + dashes, names, loc="upper center", bbox_to_anchor=(0.5, -0.04), ncols=2)
    return figure


def _varies(points: pd.DataFrame, column: str) -> bool:
    """Whether most panels have several values of `column`, so that lines can be drawn over it."""
    return bool((points.groupby("panel")[column].nunique() > 1).mean() > 0.5)


def _plateau_lines(axis: Any, part: pd.DataFrame, view: Any, ticks: list[float]) -> None:
    """The four lines of one panel: with and without the hinge, solid and dashed."""
    x, label, other, styles = view
    for k, hinge in enumerate((True, False)):
        for value, dashes in styles.items():
            line = part[(part.hinge == hinge) & np.isclose(part[other].astype(float), value)]
            mean = line.groupby(x).value.mean()
            full = OTHERS[k] if dashes == "-" else "white"
            dots = dict(marker="o", ls="", color=OTHERS[k], mfc=full, ms=3.5, alpha=0.7)
            axis.plot(np.searchsorted(ticks, line[x].astype(float)), line.value, **dots)
            axis.plot(np.searchsorted(ticks, mean.index), mean, color=OTHERS[k], ls=dashes)
    if part.empty:
        say_empty(axis)
    axis.set_xticks(range(len(ticks)), [f"{t:g}" for t in ticks])
    axis.set(xlabel=label, xlim=(-0.5, max(len(ticks), 1) - 0.5))
    axis.grid(axis="y", color="#eeeeee")


def _matches(data: pd.DataFrame, where: Mapping[str, Any]) -> pd.Series:
    """Whether each row has the values of `where`; numbers to rounding."""
    hit = pd.Series(True, data.index)
    for column, value in where.items():
        same = data[column] == value
        if isinstance(value, float):
            same = pd.Series(np.isclose(data[column].astype(float), value), data.index)
        hit &= same
    return hit
