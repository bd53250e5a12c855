"""What the method costs: training steps as ratios to a plain U-Net."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisyseg.plots import style

ORDER = {  # what `benchmarks/bench.py` calls it -> colour, and what the figure calls it
    "shared block alone": ("#c9c9c9", "its shared block alone (the floor)"),
    "global": (style.COLOURS["global_cm"], "one matrix an annotator"),
    "per pixel": (style.COLOURS["trace"], "a matrix at each pixel"),
    "low rank 1": (style.COLOURS["trace_low_rank"], "a matrix of rank 1 at each pixel"),
    "calibrated": (style.COLOURS["calibrated"], "ours: two heads"),
    "as defined": ("#8a8a8a", "a matrix at each pixel, as defined"),
    "literal": ("#444444", "literal version: deep heads, products"),
}


def step_ratios(table: pd.DataFrame) -> Figure:
    """One panel a case: the time of a training step by head, 1 = the same U-Net without a head.

    `table` is that of `benchmarks/bench.py`: part, case, what, quantity, value, unit, target. A
    short line marks what was asked for.

    Examples:
        >>> row = ["step", "28²", "global", "time", 1.04, "x plain U-Net", 1.02]
        >>> columns = ["part", "case", "what", "quantity", "value", "unit", "target"]
        >>> step_ratios(pd.DataFrame([row], columns=columns)).axes[0].get_title(loc="left")
        '28²'
    """
    rows = table[(table.part == "step") & (table.quantity == "time")]
    rows = rows[rows.unit == "x plain U-Net"]
    if rows.empty:
        raise ValueError("no step times in the table: run benchmarks/bench.py --parts step")
    cases = list(dict.fromkeys(rows.case))
    counts = [int((rows.case == case).sum()) for case in cases]
    height = 0.5 * len(cases) + 0.28 * sum(counts) + 1.0
    figure, axes = plt.subplots(
        len(cases),
        1,
        sharex=True,
        squeeze=False,
        layout="none",
        figsize=(7.5, height),
        height_ratios=counts,
    )
    for axis, case in zip(axes[:, 0], cases, strict=True):
        _case(axis, rows[rows.case == case].set_index("what"))
        axis.set_title(case, loc="left", fontsize=9)
    axes[-1, 0].set_xlim(0, 1.1 * rows.value.max())
    axes[-1, 0].set_xlabel(
        "CPU time of a training step, times that of the plain U-Net\n(pink: what was asked for)"
    )
    # Room for the longest label.
    figure.subplots_adjust(left=0.42, right=0.97, top=1 - 0.3 / height, bottom=0.5 / height)
    figure.subplots_adjust(hspace=0.5 * len(cases) / (0.28 * sum(counts)))
    style.headline(figure, "What a confusion head adds to the training of a U-Net")
    return figure


def _case(axis: Axes, rows: pd.DataFrame) -> None:
    names = [name for name in ORDER if name in rows.index][::-1]
    values = rows.value[names].astype(float)
    axis.barh(range(len(names)), values, color=[ORDER[name][0] for name in names], height=0.7)
    axis.axvline(1, color="#222222", linewidth=1)
    for y, name in enumerate(names):
        beyond = max(values[name], rows.target[name]) if rows.target[name] > 0 else values[name]
        axis.text(beyond, y, f" {values[name]:.2f}", va="center", fontsize=8)
        if pd.notna(rows.target[name]):
            axis.plot([rows.target[name]] * 2, [y - 0.45, y + 0.45], color="#d4006a", linewidth=2)
    axis.set_yticks(range(len(names)), [ORDER[name][1] for name in names], fontsize=8)
