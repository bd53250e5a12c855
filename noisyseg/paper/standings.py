"""Standings: which method is ahead of which, by how much, on which data.

From exported tables to the comparisons that notebooks 21, 90, 91 and the README show. Knows
tables; reads no run and knows no model.
"""

from collections.abc import Iterable, Mapping

import pandas as pd

from noisyseg.methods import METHODS
from noisyseg.paper import source_data, tables
from noisyseg.storage import figures_root

OURS = "calibrated"


def beside_best(data: pd.DataFrame, labelling: str, ours: str = OURS) -> dict[str, str]:
    """`ours` beside the best other network in one table: Dice %, mean (range) over seeds.

    Left out are what sees the truth, what fuses the labels of the test images, ours with another
    anchor, and what has fewer seeds than others (a lucky seed is no mean). The difference has its
    95 % t interval over seeds; without two common seeds it says so. Cells whose rows are not in
    the table yet are empty.
    """
    rows = tables.reported(data[data.labelling == labelling], "dice")
    wide = 100 * rows.pivot_table(index="seed", columns="method", values="value")
    left_out = {m for m in METHODS if METHODS[m].sees_truth or METHODS[m].loss == "none"}
    left_out |= {m for m in METHODS if METHODS[m].loss == METHODS[ours].loss}
    rivals = wide.drop(columns=[*left_out, ours], errors="ignore")
    full = rivals.loc[:, rivals.count() == rivals.count().max()].mean()
    best = str(full.idxmax()) if len(full) else ""

    def shown(method: str) -> str:
        return tables.mean_and_range(wide[method].dropna()) if method in wide else ""

    return {
        "data": f"{data.dataset.iloc[0]} ({data.origin.iloc[0]}), {data.profile.iloc[0]}",
        "labelling": labelling,
        "ours": shown(ours),
        "best other": best,
        "its Dice": shown(best),
        "difference": tables.difference(wide[ours], wide[best]) if ours in wide and best else "",
        **{METHODS[m].title: shown(m) for m in ("trace", "mode", "clean", "trace_printed")},
    }


def ranks(sources: Mapping[str, pd.DataFrame], metric: str = "dice") -> pd.DataFrame:
    """Every trained method on every table: mean over seeds, rank (1 is best), and the worst rank.

    `sources`: exported tables by the name they get here; a table of several data sets is split by
    its column `dataset`. One row per method, sorted by its worst rank; what sees the truth and what
    fuses test labels has a mean and no rank. Columns are (name, labelling, "mean" | "rank"), then
    the worst and the mean rank, the largest distance from the best ranked method (ranks alone make
    much of hundredths), and in how many columns the method has a rank: one that was trained on few
    data sets had few occasions to be bad.
    """
    means = {}
    for name, data in sources.items():
        for (dataset, labelling), part in data.groupby(["dataset", "labelling"]):
            label = name if data.dataset.nunique() == 1 else str(dataset)
            rows = tables.reported(part, metric)
            means[label, str(labelling)] = rows.groupby("method").value.mean()
    table = pd.DataFrame(means).reindex(list(METHODS))
    ranked = [m for m in METHODS if not METHODS[m].sees_truth and METHODS[m].loss != "none"]
    values, more_is_better = table.loc[ranked], metric.startswith("dice")
    rank = values.rank(ascending=not more_is_better, method="min")
    gap = (values - (values.max() if more_is_better else values.min())).abs().max(axis=1)
    rank.columns = pd.MultiIndex.from_tuples([(*c, "rank") for c in rank])
    table.columns = pd.MultiIndex.from_tuples([(*c, "mean") for c in table])
    both = table.join(rank).dropna(how="all")
    both = both.reindex(
        columns=[c for m in table.columns for c in (m, (*m[:2], "rank")) if c in both]
    )
    both["worst rank", "", ""] = rank.max(axis=1)
    both["mean rank", "", ""] = rank.mean(axis=1)
    both["largest gap", "", ""] = gap
    both["ranked in", "", ""] = rank.count(axis=1).reindex(both.index)
    return both.sort_values([("worst rank", "", ""), ("mean rank", "", "")], na_position="last")


def ahead(
    data: pd.DataFrame, methods: Iterable[str] = (OURS, "trace"), other: str = "mode"
) -> pd.DataFrame:
    """How far `methods` are ahead of `other` in one table of several data sets, in Dice points.

    One row for each labelling and method: the mean difference and its 95 % t interval over the
    pairs (data set, seed) that both have, the number of pairs, and the difference on each data set
    alone. The interval takes the pairs for independent: it speaks for these data sets under other
    seeds, not for other data sets. Rows without a pair are left out.
    """
    dice = 100 * pd.concat(
        [
            tables.reported(part, "dice")
            .set_index(["labelling", "method", "dataset", "seed"])
            .value
            for _, part in data.groupby("dataset")
        ]
    )
    rows = []
    for labelling in dice.index.unique("labelling"):
        by_method = dice[labelling].unstack("method")
        for method in methods:
            if not {method, other} <= {*by_method}:
                continue
            pairs = by_method[[method, other]].dropna()
            if len(pairs):
                row = {"labelling": labelling, "difference": f"{method} − {other}"}
                row |= {
                    "pooled": tables.difference(pairs[method], pairs[other]),
                    "pairs": len(pairs),
                }
                for dataset, part in pairs.groupby("dataset"):
                    row[str(dataset)] = tables.difference(part[method], part[other])
                rows.append(row)
    return pd.DataFrame(rows).fillna("")


def of_class(data: pd.DataFrame) -> pd.DataFrame:
    """Dice over all test images and over those that hold the class of the paper: one row per run.

    Columns: labelling, method, seed, dice, dice_present, left_empty, source. `data` is the
    exported table of one data set. Its older rows have no `dice_present`: those come, whole, from
    `figures/<data set>_averages.csv`, written by `evaluate.alone_and_averaged`, if it has them.
    Only that file knows `left_empty`; in rows of the table it is NaN.
    """
    dice, present = (
        tables.reported(data, metric).set_index(["labelling", "method", "seed"]).value
        for metric in ("dice", "dice_present")
    )
    found = pd.DataFrame({"dice": dice, "dice_present": present}).dropna().reset_index()
    found = found.assign(left_empty=float("nan"), source="exported table")
    path = figures_root() / f"{data.dataset.iloc[0]}_averages.csv"
    if not path.exists():
        return found
    runs = _single_runs(pd.read_csv(path)).assign(source=path.name)
    runs = runs[runs.data.str.endswith(data.profile.iloc[0])]
    both = pd.concat([found, runs[[*found]]], ignore_index=True)
    return both.drop_duplicates(["labelling", "method", "seed"], ignore_index=True)


def _single_runs(networks: pd.DataFrame) -> pd.DataFrame:
    """The rows of `alone_and_averaged` that are a run's own result, with its `seed`."""
    averaged = networks.averaged_over.str.extract(r"annotators, seed (\d+)", expand=False)
    averaged = averaged.where(networks.network.str.startswith("average"))
    seed = averaged.fillna(networks.network.str.extract(r"^seed (\d+)$", expand=False))
    return networks.assign(seed=seed).dropna(subset="seed").astype({"seed": int})


GLANCE = ("clean", "mode", "separate", "staple", "trace_printed", "no_trace", "trace", "calibrated")
GLANCE_DATA = {
    "mnist": "MNIST",
    "ms": "MS lesions",
    "brats": "BraTS, slices with a core",
    "lidc": "LIDC",
    "people_crowd": "cells, five crowd workers",
    "people_persons": "cells, four students",
}


def at_a_glance() -> str:
    """The README's table in Markdown: Dice in % of seven methods, all labels / one an image.

    Means over the seeds of the best committed profile. On BraTS over the slices that hold a core,
    which older rows do not have: theirs come from `brats_averages.csv`.
    """
    sources = {name: source_data.read(name) for name in ("mnist", "ms", "brats", "lidc", "people")}
    cells: dict[str, list[str]] = {m: [] for m in GLANCE}
    for dataset in GLANCE_DATA:
        data = sources[dataset.split("_")[0]]
        data = data[data.dataset == dataset]
        for method in GLANCE:
            rows = data[data.method == method]
            shown = [_glance(rows[rows.labelling == kind]) for kind in ("dense", "one")]
            cells[method].append(" / ".join(shown).removesuffix(" / –"))
    head = ["", *GLANCE_DATA.values()]
    rows = [[METHODS[m].title, *cells[m]] for m in GLANCE]
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _glance(rows: pd.DataFrame) -> str:
    """Mean Dice in % of the rows of one method; a dash where there are none."""
    if not len(rows):
        return "–"
    found = tables.reported(rows, "dice").value
    if rows.dataset.iloc[0] == "brats":
        runs = of_class(rows)
        own = (runs.method == rows.method.iloc[0]) & (runs.labelling == rows.labelling.iloc[0])
        found = runs[own].dice_present
    return f"{100 * found.mean():.1f}" if len(found) else "–"
