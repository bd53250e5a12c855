"""Standings: ranks, differences and the best other network against literal loops."""

import numpy as np
import pandas as pd
import pytest
from rows import rows_of
from scipy import stats

from noisyseg.methods import METHODS
from noisyseg.paper import standings


def test_the_best_other_network_is_found_among_those_that_compete():
    values = {
        "calibrated": [0.80, 0.82, 0.84], "staple": [0.85, 0.86, 0.87], "mode": [0.7, 0.7, 0.7],
        "clean": [0.9, 0.9, 0.9], "oracle": [0.95, 0.95, 0.95], "staple_fusion": [1.0, 1.0, 1.0],
        "calibrated_image": [0.99, 0.99, 0.99], "trace_printed": [0.0, 0.0, 0.0],
    }  # fmt: skip
    data = rows_of(values)
    row = standings.beside_best(data, "dense")
    assert row["best other"] == "staple" and row["its Dice"] == "86.0 (85.0–87.0)"
    assert row["ours"] == "82.0 (80.0–84.0)"
    t = stats.ttest_rel(values["calibrated"], values["staple"]).confidence_interval(0.95)
    assert row["difference"] == f"-4.0 ({100 * t.low:+.1f} to {100 * t.high:+.1f})"
    assert row["network on the truth"] == "90.0 (90.0–90.0)"
    assert row[METHODS["trace_printed"].title] == "0.0 (0.0–0.0)"
    assert row[METHODS["trace"].title] == ""
    lucky = data[data.method == "mode"].head(1).assign(method="mean", value=0.99)
    assert standings.beside_best(pd.concat([data, lucky]), "dense")["best other"] == "staple"
    one = standings.beside_best(data[data.seed == 0], "dense")
    assert one["difference"] == "-5.0 (1 seed)"


def test_another_method_can_stand_for_ours():
    data = rows_of({"calibrated_image": [0.8, 0.9], "mode": [0.7, 0.7], "calibrated": [1.0, 1.0]})
    row = standings.beside_best(data, "dense", ours="calibrated_image")
    assert (row["ours"], row["best other"]) == ("85.0 (80.0–90.0)", "mode")


@pytest.mark.parametrize("methods", [["clean"], ["mode"], ["calibrated"], []])
def test_rows_that_are_not_there_yet_leave_cells_empty(methods):
    data = pd.concat(
        [rows_of({"mode": [0.7]}, labelling="one"), rows_of({m: [1] for m in methods})]
    )
    row = standings.beside_best(data, "dense")
    assert row["difference"] == "" and (row["ours"] != "") == ("calibrated" in methods)
    assert row["best other"] == ("mode" if methods == ["mode"] else "")


@pytest.mark.parametrize("metric", ["dice", "cm_rmse"])
def test_ranks_are_those_of_a_literal_loop(metric):
    rng = np.random.default_rng(0)
    names = ["clean", "mode", "trace", "calibrated", "staple_fusion", "separate"]
    data = {}
    for dataset, labelling in (("ms", "dense"), ("ms", "one"), ("lidc", "dense")):
        values = {m: rng.random(3) for m in names if (m, labelling) != ("separate", "one")}
        rows = rows_of(values, dataset, labelling, metric)
        data[dataset] = pd.concat([data[dataset], rows]) if dataset in data else rows
    table = standings.ranks(data, metric)
    sign = 1 if metric == "dice" else -1
    worst, gaps = {}, {}
    for dataset, labelling in (("ms", "dense"), ("ms", "one"), ("lidc", "dense")):
        part = data[dataset][data[dataset].labelling == labelling]
        means = {m: part[part.method == m].value.mean() for m in part.method.unique()}
        ranked = [m for m in means if m not in ("clean", "staple_fusion")]
        for m in means:
            assert table.loc[m, (dataset, labelling, "mean")] == pytest.approx(means[m])
        for m in ranked:
            rank = 1 + sum(sign * means[other] > sign * means[m] for other in ranked)
            assert table.loc[m, (dataset, labelling, "rank")] == rank
            worst[m] = max(worst.get(m, 0), rank)
            best = max(ranked, key=lambda other: sign * means[other])
            gaps[m] = max(gaps.get(m, 0), abs(means[best] - means[m]))
    assert table["worst rank"].dropna().to_dict() == worst
    assert table["largest gap"].dropna().to_dict() == pytest.approx(gaps)
    assert table["ranked in"].dropna().to_dict() == {
        "mode": 3, "trace": 3, "calibrated": 3, "separate": 2
    }  # fmt: skip
    assert list(table["worst rank"].dropna()) == sorted(worst.values())
    assert set(table.index[-2:]) == {"clean", "staple_fusion"}  # in the table, without a rank


def test_a_table_of_several_data_sets_is_ranked_by_data_set():
    two = pd.concat(
        [rows_of({"mode": [v], "trace": [0.5]}, d) for d, v in (("a", 0.4), ("b", 0.6))]
    )
    table = standings.ranks({"people": two, "ms": rows_of({"mode": [0.1], "trace": [0.1]})})
    first = {name for name, *_ in table.columns}
    assert {"a", "b", "ms"} <= first and "people" not in first
    assert table.loc["mode", [(d, "dense", "rank") for d in ("a", "b", "ms")]].tolist() == [2, 1, 1]


def test_differences_are_pooled_over_data_set_and_seed():
    a = {"calibrated": [0.80, 0.82], "mode": [0.79, 0.79], "trace": [0.7]}
    b = {"calibrated": [0.9, 0.95, 0.97], "mode": [0.91, 0.94]}  # the third has no partner
    data = pd.concat([rows_of(a, "a"), rows_of(b, "b"), rows_of({"trace": [0.5]}, "b", "one")])
    table = standings.ahead(data).set_index("difference")
    assert list(table.index) == ["calibrated − mode", "trace − mode"]
    ours, other = [80, 82, 90, 95], [79, 79, 91, 94]
    t = stats.ttest_rel(ours, other).confidence_interval(0.95)
    row = table.loc["calibrated − mode"]
    assert row.pooled == f"+1.0 ({t.low:+.1f} to {t.high:+.1f})" and row.pairs == 4
    low, high = stats.ttest_rel([80, 82], [79, 79]).confidence_interval(0.95)
    assert row.a == f"+2.0 ({low:+.1f} to {high:+.1f})"
    assert table.loc["trace − mode", ["pooled", "a", "b"]].tolist() == ["-9.0 (1 seed)"] * 2 + [""]
    assert standings.ahead(data[data.method == "mode"]).empty
