"""Exported tables: contract columns, growth by key, the best profile, clear failures."""

import pandas as pd
import pytest

import noisyseg as ns
from noisyseg import results


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
    path = results.export(runs(tiny_folder))
    assert path == figures / "tiny.smoke.csv"
    table = pd.read_csv(path)
    assert list(table.columns) == results.COLUMNS
    assert set(table.origin) == {"simulated"} and set(table.profile) == {"smoke"}
    assert table.value.between(0, 2).all() and (table.n_images > 0).all()


def test_a_table_grows_and_replaces_by_key(tiny_folder, figures):
    first, second = runs(tiny_folder)
    results.export([first])
    results.export([second])
    both = pd.read_csv(results.export([first, second]))
    assert set(both.method) == {"majority_fusion", "staple_fusion"}
    assert not both.duplicated(results.KEY + ["metric", "class", "annotator"]).any()
    results.export(runs(tiny_folder, seed=1))
    assert set(results.source_data("tiny").seed) == {0, 1}


def test_ablations_append_their_columns(tiny_folder, figures):
    results.export(runs(tiny_folder), extra=["trace_weight"])
    assert list(results.source_data("tiny").columns) == [*results.COLUMNS, "trace_weight"]


def test_the_best_profile_wins(figures):
    figures.mkdir()
    for profile in ("smoke", "reduced"):
        pd.DataFrame({"profile": [profile]}).to_csv(figures / f"tiny.{profile}.csv", index=False)
    assert results.source_data("tiny").profile.item() == "reduced"
    assert results.source_data("tiny", "smoke").profile.item() == "smoke"


def test_a_missing_table_says_how_to_make_it(figures):
    with pytest.raises(FileNotFoundError, match="make figures"):
        results.source_data("nothing")


def test_an_unknown_metric_names_those_there_are(tiny_folder):
    with pytest.raises(KeyError, match="dice"):
        runs(tiny_folder)[0].value("dcie")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    results.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        results.write_json(path, {"a": object()})
    assert path.read_text() == '{\n "a": 1\n}\n' and list(tmp_path.iterdir()) == [path]


def test_summaries_give_mean_sd_and_count():
    rows = [("dense", "mode", v) for v in (0.8, 0.9)]
    data = pd.DataFrame(rows, columns=["labelling", "method", "value"])
    data["metric"], data["class"], data["annotator"] = "dice", "all", "all"
    row = results.summarise(data, "dice").iloc[0]
    assert (row["mean"], row["count"]) == (pytest.approx(0.85), 2)
    assert row["std"] == pytest.approx(0.0707, abs=1e-4)
