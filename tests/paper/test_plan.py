"""A page shows the exported table where there is one for its settings, and trains otherwise."""

import pytest

import noisyseg as ns
from noisyseg import experiment
from noisyseg.paper import plan, source_data

pytestmark = pytest.mark.filterwarnings("ignore::noisyseg.train.SwapWarning")
FEW = ("mode", "majority_fusion")


@pytest.fixture
def trained(tiny_folder, tmp_path, monkeypatch):
    """Configs of a tiny table, and a list that grows by the methods that are trained for it."""
    monkeypatch.setenv("NOISYSEG_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("NOISYSEG_RUNS", str(tmp_path / "runs"))
    trained, make = [], experiment._make
    monkeypatch.setattr(
        experiment, "_make", lambda cfg, *rest: (trained.append(cfg.method), make(cfg, *rest))
    )
    small = dict(width=4, depth=2, epochs=1, n_train=8, n_val=4, n_test=4, batch_size=4)
    small |= dict(dataset=str(tiny_folder), seeds=[0], methods=FEW, labellings=("dense",))

    def configs(profile, **changes):
        return plan.table_configs("tiny", profile, **small | changes)

    original = plan.table_configs
    monkeypatch.setattr(
        plan, "table_configs", lambda *a, **k: original(*a, **small | k)
    )  # the plan of this table is the tiny one
    return configs, trained


def test_without_a_table_the_runs_are_trained_and_exported(trained):
    configs, methods = trained
    shown = plan.evidence(configs("reduced"))
    assert methods == list(FEW) and source_data.exists("tiny", "reduced")
    assert shown["mode", "dense", 0].config.method == "mode"
    with pytest.raises(KeyError, match="staple"):
        shown["staple", "dense", 0]


def test_a_table_is_shown_as_it_stands_although_a_run_is_missing(trained):
    configs, methods = trained
    source_data.export([ns.run(configs("reduced")[0])])
    methods.clear()
    plan.evidence(configs("reduced"))
    assert methods == []


def test_a_changed_setting_trains_and_so_does_smoke(trained):
    configs, methods = trained
    source_data.export([ns.run(configs("reduced")[0])])
    source_data.export([ns.run(configs("smoke")[0])])
    methods.clear()
    plan.evidence(configs("reduced", epochs=2))
    assert methods == list(FEW)
    methods.clear()
    plan.evidence(configs("smoke"))
    assert methods == [FEW[1]]  # only what the table lacks


def test_fresh_exports_everything_again(trained):
    configs, _ = trained
    plan.evidence(configs("reduced"))
    path = source_data.figures_root() / "source_data" / "tiny.reduced.csv"
    path.write_text(path.read_text().replace("mode", "mean"))
    plan.evidence(configs("reduced"), fresh=True)
    assert set(FEW) <= set(source_data.read("tiny", "reduced").method)
