"""Exported tables: runs -> figures/source_data -> notebooks, beside the paper's values.

Contract: `figures/source_data/<experiment>.<profile>.csv`, one row a value. `smoke` files
stand beside better ones and never replace them. Knows tables and pictures on disk; trains
nothing and knows no model.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from scipy import stats

from noisyseg import studies
from noisyseg.methods import METHODS
from noisyseg.paths import figures_root
from noisyseg.results import Run, read_values, replacing, write_csv

COLUMNS = (
    "experiment dataset origin profile labelling method seed metric class annotator value "
    "n_images digest"
).split()
KEY = ["experiment", "dataset", "profile", "labelling", "method", "seed"]
# The class whose Dice stands in the paper's tables, where it is not the mean over foreground.
TARGET = {"brats": "necrotic core"}
BEST_FIRST = ("full", "reduced", "smoke")


def table(runs: Iterable[Run]) -> pd.DataFrame:
    """The runs' metrics in the exported columns, then those that `studies` adds."""
    parts, extra = [], {}
    for run in runs:
        cfg = run.config
        fixed = {c: getattr(cfg, c) for c in KEY} | {"dataset": Path(cfg.dataset).name}
        fixed |= {"origin": run.provenance["origin"], "digest": run.path.name[-8:]}
        fixed |= (extra := studies.columns(cfg))
        parts.append(pd.concat([run.metrics, _validation(run)]).assign(**fixed))
    # No value: a column of a matrix that never occurred, e.g. STAPLE of blank masks.
    return pd.concat(parts, ignore_index=True)[[*COLUMNS, *extra]].dropna(subset="value")


def _validation(run: Run) -> pd.DataFrame:
    """The last validation loss on *noisy* labels, the only score a user without truth has."""
    if "val_loss" not in run.history:
        return pd.DataFrame()
    row = {"metric": "val_loss", "class": "all", "annotator": "all"}
    count = run.config.n_val or 0  # 0 stands for all images of the split
    return pd.DataFrame([row | {"value": run.history.val_loss.iloc[-1], "n_images": count}])


def export(runs: Iterable[Run]) -> Path:
    """Write `figures/source_data/<experiment>.<profile>.csv`, keeping rows of other runs.

    Rows are replaced by key (labelling, method, seed and the study's columns), so tables
    grow with a sweep. Returns the path.
    """
    runs = list(runs)
    new, extra = table(runs), list(studies.columns(runs[0].config))
    name = f"{runs[0].config.experiment}.{runs[0].config.profile}.csv"
    path = figures_root() / "source_data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{name}.lock")):
        old = read_values(path) if path.exists() else new[:0]
        if list(old) == list(new):  # a table of an older format is written anew from the runs
            key = pd.MultiIndex.from_frame(old[KEY + extra].astype(str))
            gone = key.isin(pd.MultiIndex.from_frame(new[KEY + extra].astype(str)))
            new = pd.concat([old[~gone], new], ignore_index=True)
        write_csv(path, new.sort_values([*KEY, *extra, "metric", "class", "annotator"]))
    return path


def held(experiment: str, profile: str) -> set[tuple[str, str]]:
    """(labelling, digest) of the runs whose rows the exported table holds; maybe none."""
    path = figures_root() / "source_data" / f"{experiment}.{profile}.csv"
    if not path.exists():
        return set()
    return set(read_values(path)[["labelling", "digest"]].itertuples(index=False, name=None))


def source_data(experiment: str, profile: str | None = None) -> pd.DataFrame:
    """The exported table of `profile`, or of the best profile present (full, reduced, smoke).

    Raises FileNotFoundError naming the notebook command that makes it.
    """
    path = _best(experiment, profile, "csv")
    return read_values(path)


def _best(experiment: str, profile: str | None, suffix: str) -> Path:
    folder = figures_root() / "source_data"
    for name in [profile] if profile else BEST_FIRST:
        path = folder / f"{experiment}.{name}.{suffix}"
        if path.exists():
            return path
    raise FileNotFoundError(
        f"no {experiment}.<profile>.{suffix} in {folder}: run `make figures` to train and export it"
    )


def export_exhibits(runs: Mapping[str, Run], images: int = 4) -> Path:
    """Write the first test images of some runs as `<experiment>.<profile>.exhibits.npz`.

    `runs` maps the name to find them under, e.g. "calibrated" or "calibrated one", to a run.
    """
    cfg = next(iter(runs.values())).config
    path = figures_root() / "source_data" / f"{cfg.experiment}.{cfg.profile}.exhibits.npz"
    arrays = {f"{k}/{n}": a[:images] for k, run in runs.items() for n, a in run.exhibits.items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def source_exhibits(
    experiment: str, profile: str | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """What `export_exhibits` wrote, by name, from the best profile present."""
    exhibits: dict[str, dict[str, np.ndarray]] = {}
    with np.load(_best(experiment, profile, "exhibits.npz")) as arrays:
        for key, array in arrays.items():
            name, field_name = key.split("/")
            exhibits.setdefault(name, {})[field_name] = array
    return exhibits


def export_histories(runs: Mapping[str, Run]) -> Path:
    """Write the training curves of some runs as `<experiment>.<profile>.history.csv`.

    One row an epoch with the columns of `Run.history` behind `name`, the key of `runs`.
    """
    cfg = next(iter(runs.values())).config
    path = figures_root() / "source_data" / f"{cfg.experiment}.{cfg.profile}.history.csv"
    parts = [run.history.assign(name=name) for name, run in runs.items()]
    table = pd.concat(parts, ignore_index=True)
    write_csv(path, table[["name", *(c for c in table if c != "name")]])
    return path


def export_images(runs: Mapping[str, Run]) -> Path:
    """Write one row a test image of some runs as `<experiment>.<profile>.images.csv`."""
    cfg = next(iter(runs.values())).config
    path = figures_root() / "source_data" / f"{cfg.experiment}.{cfg.profile}.images.csv"
    write_csv(path, pd.concat([run.images.assign(name=name) for name, run in runs.items()]))
    return path


def source_images(experiment: str, profile: str | None = None) -> pd.DataFrame:
    """What `export_images` wrote (column `name`), from the best profile present."""
    return pd.read_csv(_best(experiment, profile, "images.csv"))


def source_histories(experiment: str, profile: str | None = None) -> dict[str, pd.DataFrame]:
    """What `export_histories` wrote, by name, from the best profile present."""
    table = pd.read_csv(_best(experiment, profile, "history.csv"))
    return {name: part for name, part in table.groupby("name", sort=False)}


def save_figure(figure: Any, name: str, profile: str) -> Path:
    """`figures/<name>.png`, or `<name>.smoke.png` so that a smoke run replaces no evidence."""
    suffix = ".smoke.png" if profile == "smoke" else ".png"
    path = figures_root() / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
    return path


def printed() -> pd.DataFrame:
    """The paper's printed values: table, dataset, labelling, method, metric, value, sd, …"""
    return pd.read_csv(figures_root() / "printed.csv", keep_default_na=True)


def save_table(table: pd.DataFrame, name: str, profile: str) -> Path:
    """`figures/<name>.csv` (the index becomes the first column); `.smoke.csv` for smoke."""
    path = figures_root() / f"{name}{'.smoke' if profile == 'smoke' else ''}.csv"
    write_csv(path, table.reset_index())
    return path


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
    """A table of the paper beside ours: a row a method, Dice in %, CM error as RMSE.

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


OURS = "calibrated"


def beside_best(data: pd.DataFrame, labelling: str, ours: str = OURS) -> dict[str, str]:
    """`ours` beside the best other network in one table: Dice %, mean (range) over seeds.

    Left out are what sees the truth, what fuses the labels of the test images, ours with another
    anchor, and what has fewer seeds than others (a lucky seed is no mean). The difference has its
    95 % t interval over seeds; without two common seeds it says so. Cells whose rows are not in
    the table yet are empty.
    """
    rows = reported(data[data.labelling == labelling], "dice")
    wide = 100 * rows.pivot_table(index="seed", columns="method", values="value")
    left_out = {m for m in METHODS if METHODS[m].sees_truth or METHODS[m].loss == "none"}
    left_out |= {m for m in METHODS if METHODS[m].loss == METHODS[ours].loss}
    rivals = wide.drop(columns=[*left_out, ours], errors="ignore")
    full = rivals.loc[:, rivals.count() == rivals.count().max()].mean()
    best = str(full.idxmax()) if len(full) else ""

    def shown(method: str) -> str:
        return mean_and_range(wide[method].dropna()) if method in wide else ""

    return {
        "data": f"{data.dataset.iloc[0]} ({data.origin.iloc[0]}), {data.profile.iloc[0]}",
        "labelling": labelling,
        "ours": shown(ours),
        "best other": best,
        "its Dice": shown(best),
        "difference": difference(wide[ours], wide[best]) if ours in wide and best else "",
        **{METHODS[m].title: shown(m) for m in ("trace", "mode", "clean", "trace_printed")},
    }


def ranks(sources: Mapping[str, pd.DataFrame], metric: str = "dice") -> pd.DataFrame:
    """Every trained method on every table: mean over seeds, rank (1 is best), and the worst rank.

    `sources`: exported tables by the name they get here; a table of several data sets is split by
    its column `dataset`. One row a method, sorted by its worst rank; what sees the truth and what
    fuses test labels has a mean and no rank. Columns are (name, labelling, "mean" | "rank"), then
    the worst and the mean rank, the largest distance from the best ranked method (ranks alone make
    much of hundredths), and in how many columns the method has a rank: one that was trained on few
    data sets had few occasions to be bad.
    """
    means = {}
    for name, data in sources.items():
        for (dataset, labelling), part in data.groupby(["dataset", "labelling"]):
            label = name if data.dataset.nunique() == 1 else str(dataset)
            rows = reported(part, metric)
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
            reported(part, "dice").set_index(["labelling", "method", "dataset", "seed"]).value
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
                row |= {"pooled": difference(pairs[method], pairs[other]), "pairs": len(pairs)}
                for dataset, part in pairs.groupby("dataset"):
                    row[str(dataset)] = difference(part[method], part[other])
                rows.append(row)
    return pd.DataFrame(rows).fillna("")


def of_class(data: pd.DataFrame) -> pd.DataFrame:
    """Dice over all test images and over those that hold the class of the paper: a row a run.

    Columns: labelling, method, seed, dice, dice_present, left_empty, source. `data` is the
    exported table of one data set. Its older rows have no `dice_present`: those come, whole, from
    `figures/<data set>_averages.csv`, written by `averages.alone_and_averaged`, if it has them.
    Only that file knows `left_empty`; in rows of the table it is NaN.
    """
    dice, present = (
        reported(data, metric).set_index(["labelling", "method", "seed"]).value
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


GLANCE = ("clean", "mode", "separate", "staple", "trace_printed", "trace", "calibrated")
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
    tables = {name: source_data(name) for name in ("mnist", "ms", "brats", "lidc", "people")}
    cells: dict[str, list[str]] = {m: [] for m in GLANCE}
    for dataset in GLANCE_DATA:
        data = tables[dataset.split("_")[0]]
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
    found = reported(rows, "dice").value
    if rows.dataset.iloc[0] == "brats":
        runs = of_class(rows)
        own = (runs.method == rows.method.iloc[0]) & (runs.labelling == rows.labelling.iloc[0])
        found = runs[own].dice_present
    return f"{100 * found.mean():.1f}" if len(found) else "–"


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
