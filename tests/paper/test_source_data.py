"""Exported tables: contract columns, growth by key, the best profile, clear failures."""

import numpy as np
import pandas as pd
import pytest
from rows import rows_of
from scipy import stats

import noisyseg as ns
from noisyseg.paper import plan, source_data, tables


@pytest.fixture
def figures(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISYSEG_FIGURES", str(tmp_path))
    return tmp_path / "source_data"


def runs(folder, **overrides):
    return [
        ns.run(ns.ExperimentConfig.preset("tiny", "smoke", m, dataset=str(folder), **overrides))
        for m in ("majority_fusion", "staple_fusion")
    ]


def test_columns_are_the_contracts(tiny_folder, figures):
    path = source_data.export(runs(tiny_folder))
    assert path == figures / "tiny.smoke.csv"
    table = pd.read_csv(path)
    assert list(table.columns) == source_data.COLUMNS
    assert set(table.origin) == {"simulated"} and set(table.profile) == {"smoke"}
    assert table.value.between(0, 2).all() and (table.n_images > 0).all()


def test_a_table_grows_and_replaces_by_key(tiny_folder, figures):
    first, second = runs(tiny_folder)
    source_data.export([first])
    source_data.export([second])
    both = pd.read_csv(source_data.export([first, second]))
    assert set(both.method) == {"majority_fusion", "staple_fusion"}
    assert not both.duplicated(source_data.KEY + ["metric", "class", "annotator"]).any()
    source_data.export(runs(tiny_folder, seed=1))
    assert set(source_data.read("tiny").seed) == {0, 1}


def test_ablations_append_their_columns(tiny_folder, figures):
    cfgs = [r.config.replace(experiment="ablation_annotators") for r in runs(tiny_folder)]
    source_data.export([ns.run(cfg) for cfg in cfgs])
    source_data.export([ns.run(cfgs[0])])  # again: replaced, not doubled
    data = source_data.read("ablation_annotators")
    assert list(data.columns) == [*source_data.COLUMNS, "n_annotators"]
    assert not data.duplicated(
        [*source_data.KEY, "n_annotators", "metric", "class", "annotator"]
    ).any()


def test_runs_of_two_tables_are_refused_and_no_table_changes(tiny_folder, figures):
    first, second = runs(tiny_folder)
    before = source_data.export([first]).read_bytes()
    other = ns.run(second.config.replace(experiment="ablation_annotators"))
    with pytest.raises(ValueError, match=r"2 tables \(ablation_annotators.*, tiny.*alone"):
        source_data.export([first, other])
    with pytest.raises(ValueError, match="0 tables"):
        source_data.export([])
    assert (figures / "tiny.smoke.csv").read_bytes() == before
    assert len(list(figures.iterdir())) == 1


def test_what_a_table_lacks_is_found_without_its_runs(tiny_folder, figures):
    cfgs = [r.config for r in runs(tiny_folder)]
    assert plan.missing(cfgs) == cfgs  # no table yet
    source_data.export([ns.run(cfgs[0])])
    assert plan.missing(cfgs) == cfgs[1:]
    changed = cfgs[0].replace(labelling="one")
    assert plan.missing([changed]) == [changed]


def test_data_that_are_not_here_stop_no_other_run(tiny_folder, figures, tmp_path, capsys):
    here = [r.config for r in runs(tiny_folder)]
    away = [cfg.replace(dataset=str(tmp_path / "people_nowhere")) for cfg in here]
    assert plan.missing(away + here) == here
    (line,) = capsys.readouterr().out.splitlines()
    assert "people_nowhere: no prepared data, so 2 runs" in line and "README" in line


def test_one_table_holds_two_data_sets_apart(tiny_folder, figures, tmp_path):
    arrays = [np.load(tiny_folder / f"{name}.npy") for name in ("images", "labels", "truth")]
    other = ns.write_prepared(
        tmp_path / "other", arrays[0], 1 - arrays[1], 1 - arrays[2], classes=["a", "b"],
        split=["train"] * 12 + ["val"] * 4 + ["test"] * 4, origin="simulated",
    )  # fmt: skip
    cfgs = [run.config for folder in (tiny_folder, other) for run in runs(folder)]
    source_data.export(map(ns.run, cfgs[:2]))
    assert plan.missing(cfgs) == cfgs[2:]
    source_data.export(map(ns.run, cfgs[2:]))
    assert plan.missing(cfgs) == []
    data = source_data.read("tiny")
    assert set(data.dataset) == {"tiny", "other"}
    assert list(tables.summarise(data[data.dataset == "tiny"], "dice")["count"]) == [1, 1]
    with pytest.raises(ValueError, match="several data sets .other, tiny.*choose"):
        tables.summarise(data, "dice")


@pytest.mark.parametrize("experiment", ["mnist", "ms", "brats", "lidc", "ablation_lidc", "people"])
def test_every_committed_row_is_of_a_run_that_can_be_had_today(experiment):
    """Rows of settings that are gone would stand beside rows they cannot be compared with."""
    study = experiment in plan.STUDIES
    cfgs = (plan.study_configs if study else plan.table_configs)(experiment, "reduced")
    if experiment == "people" and len(plan.prepared(cfgs)) < len(cfgs):
        pytest.skip("the images of the people are not here, see data_prep/README.md")
    data = {name: ns.load_dataset(name) for name in {c.dataset for c in cfgs}}
    archives = [d for d in data.values() if d.origin == "real" and d.name != "mnist"]
    if archives and experiment != "people":
        pytest.skip("data/ holds a real archive; the committed tables stand on stand-ins")
    known = {(c.labelling, c.digest(data[c.dataset].fingerprint)) for c in cfgs}
    assert source_data.held(experiment, "reduced") <= known


def test_training_curves_come_back_by_name(tiny_folder, figures):
    cfg = ns.ExperimentConfig.preset(
        "tiny", "smoke", "mode", dataset=str(tiny_folder), epochs=2, width=4, depth=2
    )
    run = ns.run(cfg)
    source_data.export({"a": run, "b": run}, "history")
    back = source_data.read("tiny", kind="history")
    assert list(back) == ["a", "b"]
    pd.testing.assert_frame_equal(back["a"].drop(columns="name"), run.history)


def test_the_best_profile_wins(figures):
    figures.mkdir()
    for profile in ("smoke", "reduced"):
        pd.DataFrame({"profile": [profile]}).to_csv(figures / f"tiny.{profile}.csv", index=False)
    assert source_data.read("tiny").profile.item() == "reduced"
    assert source_data.read("tiny", "smoke").profile.item() == "smoke"


def test_a_missing_table_says_how_to_make_it(figures):
    with pytest.raises(FileNotFoundError, match="make figures"):
        source_data.read("nothing")


def test_the_interval_is_scipys():
    differences = np.array([0.1, 0.2, 0.4, 0.15])
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert tables.interval(differences) == pytest.approx((expected.low, expected.high))


def test_the_target_class_is_reported_in_both_kinds_of_dice():
    for metric in ("dice", "dice_present"):
        rows = [rows_of({"mode": [v]}, "brats", metric=metric, klass=k)
                for k, v in (("all", 0.1), ("necrotic core", 0.9))]  # fmt: skip
        assert tables.reported(pd.concat(rows), metric).value.tolist() == [0.9]


def test_a_difference_pairs_common_seeds_only():
    ours = pd.Series({0: 90.0, 1: 92.0, 2: 10.0})
    other = pd.Series({1: 91.0, 0: 87.0, 3: 99.0})
    t = stats.ttest_rel([90.0, 92.0], [87.0, 91.0]).confidence_interval(0.95)
    assert tables.difference(ours, other) == f"+2.0 ({t.low:+.1f} to {t.high:+.1f})"
    assert tables.difference(ours[[2]], other) == ""


def test_summaries_give_mean_sd_and_count():
    rows = [("dense", "mode", v) for v in (0.8, 0.9)]
    data = pd.DataFrame(rows, columns=["labelling", "method", "value"])
    data = data.assign(metric="dice", annotator="all", dataset="mnist", **{"class": "all"})
    row = tables.summarise(data, "dice").iloc[0]
    assert (row["mean"], row["count"]) == (pytest.approx(0.85), 2)
    assert row["std"] == pytest.approx(0.0707, abs=1e-4)
