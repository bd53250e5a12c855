"""Tables of the paper from exported rows: means, spreads, differences, beside printed values."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from scipy import stats

from noisyseg.config import TARGET
from noisyseg.paper.source_data import printed
from noisyseg.plots import style

WIDE = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
BRIEF = ("trace", "calibrated", "mode", "clean")  # the methods of a headline


def select(
    data: pd.DataFrame, metric: str, klass: str = "all", annotator: str = "all"
) -> pd.DataFrame:
    """The rows of one metric."""
    return data[(data.metric == metric) & (data["class"] == klass) & (data.annotator == annotator)]


def reported(data: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric that the paper's tables show: of the target class, or of all.

    Raises ValueError for rows of several data sets, whose means would mix them.
    """
    names = data.dataset.unique()
    if len(names) > 1:
        raise ValueError(f"rows of several data sets ({', '.join(names)}): choose those of one")
    dataset = names[0] if len(names) else ""
    of_class = metric in ("dice", "dice_present")
    return select(data, metric, TARGET.get(dataset, "all") if of_class else "all")


def summarise(data: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean, sd, minimum, maximum and count over seeds of one metric, by labelling and method."""
    grouped = reported(data, metric).groupby(["labelling", "method"], sort=False).value
    return grouped.agg(["mean", "std", "min", "max", "count"]).reset_index()


def beside_printed(data: pd.DataFrame, number: int, dataset: str, labelling: str) -> pd.DataFrame:
    """A table of the paper beside ours: one row per method, Dice in %, CM error as RMSE.

    Ours as mean ± sd over seeds. The paper leaves open whether its STAPLE rows are fusion
    or networks (paper section 4), so its number stands beside both kinds.
    """
    paper = printed().query("table == @number and dataset == @dataset")
    networks = paper[paper.method.isin(["staple_fusion", "spatial_staple_fusion"])]
    networks = networks.assign(method=networks.method.str.removesuffix("_fusion"))
    paper = pd.concat([paper, networks]).set_index(["metric", "method"])
    table = pd.DataFrame(index=pd.Index(data.method.unique(), name="method"))
    for metric, scale, digits in (("dice", 100, 1), ("cm_rmse", 1, 4)):
        unit = "Dice %" if metric == "dice" else "CM error"
        ours = summarise(data, metric).query("labelling == @labelling").set_index("method")
        table[f"{unit}, ours"] = [
            _plus_minus(ours, m, scale, digits, "mean", "std") for m in table.index
        ]
        rows = paper.loc[metric]
        table[f"{unit}, paper"] = [
            _plus_minus(rows, m, scale, digits, "value", "sd") for m in table.index
        ]
    return table


def readable(table: pd.DataFrame, caption: str) -> Styler:
    """A table by method for a page: titles instead of names, in the order of every figure.

    A column ", ours" becomes ", here": it holds every method as measured here.
    """
    heads = {column: str(column).replace(", ours", ", here") for column in table}
    ordered = table.loc[style.method_order(table.index)]
    shown = ordered.rename(index=style.title_of, columns=heads).rename_axis(index=None)
    shown = shown.map(lambda cell: cell.replace(" ± ", WIDE) if isinstance(cell, str) else cell)
    return captioned(shown, caption)


def captioned(table: pd.DataFrame, caption: str) -> Styler:
    """Any table with what it stands on above it, without a name for every cell: half the size."""
    return Styler(table, cell_ids=False).set_caption(caption)


def in_short(data: pd.DataFrame, methods: Iterable[str] = BRIEF) -> str:
    """The mean Dice of some methods in one line, for the headline of a figure.

    For example "Dice: majority labels 89.0 / 62.9 %, …, with all labels / one label an image".
    A method or a labelling without rows is left out.
    """
    means = 100 * reported(data, "dice").groupby(["method", "labelling"]).value.mean()
    wide = means.unstack().reindex(columns=["dense", "one"]).dropna(axis=1, how="all")
    there = [method for method in methods if method in wide.index]
    values = {m: " / ".join(f"{v:.1f}" for v in wide.loc[m].dropna()) for m in there}
    named = ", ".join(f"{style.title_of(method)} {text} %" for method, text in values.items())
    kinds = {"dense": "all labels", "one": "one label an image"}
    return f"Dice: {named}, with {' / '.join(kinds[kind] for kind in wide)}"


def mean_and_range(values: pd.Series) -> str:
    """Mean (smallest–largest), of one value alone the value, of none nothing."""
    spread = f" ({values.min():.1f}–{values.max():.1f})" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}" if len(values) else ""


def difference(ours: pd.Series, other: pd.Series) -> str:
    """Mean of `ours` − `other` over the seeds (the index) that both have, and its 95 % interval."""
    gain = (ours - other).dropna().to_numpy()
    low, high = interval(gain)
    sure = f"{low:+.1f} to {high:+.1f}" if len(gain) > 1 else "1 seed"
    return f"{gain.mean():+.1f} ({sure})" if len(gain) else ""


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % t interval of the mean; the whole line with fewer than two seeds."""
    if len(differences) < 2:
        return -np.inf, np.inf
    half = stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1)
    return differences.mean() - half, differences.mean() + half


def _plus_minus(
    rows: pd.DataFrame, method: str, scale: float, digits: int, mean: str, sd: str
) -> str:
    if method not in rows.index:
        return ""
    centre, spread = scale * rows.loc[method, mean], scale * rows.loc[method, sd]
    return f"{centre:.{digits}f}" + (f" ± {spread:.{digits}f}" if np.isfinite(spread) else "")
