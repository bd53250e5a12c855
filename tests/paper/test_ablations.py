"""Studies: every run of a table has its own key, names mean what they say, columns fit."""

import math

import pandas as pd
import pytest

from noisyseg.config import PAPER, ExperimentConfig
from noisyseg.methods import METHODS
from noisyseg.paper import ablations, plan, source_data
from noisyseg.plots import ladder
from noisyseg.simulate import ANNOTATORS, simulate_labels


@pytest.mark.parametrize("profile", ["smoke", "reduced"])
@pytest.mark.parametrize("experiment", ablations.STUDIES)
def test_every_run_has_its_own_row(experiment, profile):
    configs = plan.study_configs(experiment, profile)
    keys = [
        (*(getattr(c, k) for k in source_data.KEY), str(ablations.columns(c))) for c in configs
    ]  # NaN is no key, its text is
    assert len(set(keys)) == len(keys) == len(configs) > 3
    assert {c.experiment for c in configs} == {experiment}


@pytest.mark.parametrize("experiment", ablations.STUDIES)
def test_bounds_and_ours_stand_in_every_study(experiment):
    methods = {c.method for c in plan.study_configs(experiment, "reduced")}
    if experiment == "ablation_warm_up":  # one method over its settings, beside the main tables
        assert methods == {"trace"}
        return
    assert {"clean", "mode"} <= methods
    assert "calibrated" in methods <= METHODS.keys()


def test_people_are_two_data_sets_each_at_its_own_size():
    configs = plan.study_configs("people", "reduced")
    epochs = {(c.dataset, c.epochs) for c in configs}
    assert epochs == {("people_crowd", 40), ("people_persons", 50)}
    for cfg in configs:
        assert (cfg.n_train, cfg.n_val, cfg.n_test) == (None, None, None)
        assert (cfg.batch_size, cfg.learning_rate) == (8, 4e-3)
        assert cfg.activation == "prelu" and cfg.flip
    rows = {(c.dataset, c.labelling, c.seed): set() for c in configs}
    for cfg in configs:
        rows[cfg.dataset, cfg.labelling, cfg.seed].add(cfg.method)
    assert len(rows) == 2 * 2 * 3 and len(set(map(frozenset, rows.values()))) == 1


def test_a_study_knows_every_annotator_set_it_uses():
    for experiment in ("ablation_trace", "ablation_noise"):
        for cfg in plan.study_configs(experiment, "reduced"):
            if cfg.method != "clean":
                assert ablations.columns(cfg)["annotator_set"] in ablations.ANNOTATOR_SETS


def test_the_paper_and_ours_are_tried_at_every_trace_weight():
    seeds = {}
    for cfg in plan.study_configs("ablation_trace", "reduced"):
        own = ablations.columns(cfg)
        if own["annotator_set"] == "five" and own["warm_up"] == "fixed 0.5":
            key = cfg.method, cfg.labelling, cfg.dominance_weight, cfg.trace_weight
            seeds.setdefault(key, set()).add(cfg.seed)
    for weight in ablations.TRACE_WEIGHTS:
        assert seeds["trace", "dense", 5.0, weight] == seeds["trace", "dense", 0.0, weight]
        for labelling in ("dense", "one"):
            assert seeds["calibrated", labelling, 5.0, weight] == {0, 1, 2}


def test_the_ladder_has_runs_for_every_step():
    configs = plan.study_configs("ablation_trace", "reduced")
    rows = [ablations.columns(c) | {k: getattr(c, k) for k in source_data.KEY} for c in configs]
    table = pd.DataFrame(rows).assign(metric="dice", annotator="all", value=0.5, **{"class": "all"})
    seeds = ladder.ladder(table).groupby("step", observed=False).seed.nunique()
    assert dict(seeds) == dict.fromkeys(ladder.LADDER, 3)


def test_plateau_and_cliff_vary_two_settings_around_the_paper_s_method():
    runs = {}
    closer = ablations.FIRST["fixed_diagonal"]
    grid = plan.study_configs("ablation_warm_up", "reduced")
    for cfg in [c for c in grid if c.dataset in PAPER and c.fixed_diagonal != closer]:
        key = cfg.trace_weight, cfg.warm_up_share, cfg.dominance_weight
        runs.setdefault((cfg.dataset, *key), set()).add(cfg.seed)
        assert ablations.columns(cfg)["start"] == "near identity"
    assert {name for name, *_ in runs} == {"mnist", "ms", "brats", "lidc"}
    assert {w for _, w, share, _ in runs if share == 0.5} == {0.0, 0.1, 0.3, 0.7, 1.5}
    assert {share for _, w, share, _ in runs if w == 0.1} == {0.0, 0.25, 0.5, 0.75}
    for (_, weight, share, _), seeds in runs.items():
        corner = weight in (0.1, 0.7) and share in (0.0, 0.5)
        assert seeds == ({0, 1, 2} if corner else {0})


def test_variants_change_the_first_setting_and_stand_in_its_study():
    study = plan.study_configs("ablation_warm_up", "reduced")
    first = {"warm_up_share": 0.5, "dominance_weight": 5.0, "dominance_margin": 0.1}
    first |= {"dominance_level": "pixel"} | ablations.FIRST
    for variant in ablations.VARIANTS.values():
        runs = [c for c in study if all(getattr(c, k) == v for k, v in (first | variant).items())]
        assert len(variant) <= 2 and "people_crowd" in {c.dataset for c in runs}
        for dataset, seeds in ablations.VARIED_ON.items():
            assert set(seeds) <= {c.seed for c in runs if c.dataset == dataset}


def test_the_first_phase_in_a_word():
    cases = {
        "fixed 0.5": {}, "none": {"warm_up_share": 0.0},
        "maximise 3": {"warm_up": "maximise", "warm_up_epochs": 3, "warm_up_share": 0.0},
    }  # fmt: skip
    for word, changes in cases.items():
        cfg = ExperimentConfig.preset("ablation_trace", "smoke", "trace", dataset="mnist")
        assert ablations.columns(cfg.replace(**changes))["warm_up"] == word


def test_the_pool_has_twenty_different_annotators_and_begins_with_the_papers_kinds():
    assert len(set(ablations.POOL)) == 20
    kinds = {name.split("@")[0].split("#")[0] for name in ablations.POOL[:5]}
    assert kinds == set(ablations.FIVE) <= ANNOTATORS.keys()


def test_degree_one_writes_nearly_what_the_plain_names_write():
    import numpy as np

    truth = np.zeros((6, 20, 20), int)
    truth[:, 6:14, 5:15] = 1
    ids = [str(k) for k in range(6)]
    plain = simulate_labels(truth, ids, ablations.ANNOTATOR_SETS["unfaithful"], 0)
    named = simulate_labels(
        truth, ids, ablations.noisy(ablations.ANNOTATOR_SETS["unfaithful"], 1), 0
    )
    area = [x.sum((0, 2, 3)) / truth.sum() for x in (plain, named)]
    assert area[0] == pytest.approx(area[1], rel=0.1)  # other random patches, equal degree
    none = simulate_labels(truth, ids, ("over@0", "under@0"), 0)
    assert (none == truth[:, None]).all()


def test_columns_do_not_claim_settings_a_baseline_lacks():
    own = {c.method: ablations.columns(c) for c in plan.study_configs("ablation_trace", "smoke")}
    assert math.isnan(own["mode"]["trace_weight"]) and own["mode"]["start"] == "none"
    assert own["trace"]["start"] == "near identity" and own["trace"]["dominance_level"] == "pixel"
    assert own["trace_printed"]["dominance_level"] == "none"
    assert own["trace_printed"]["trace_weight"] == 0.7 and own["calibrated"]["trace_weight"] == 0


def test_the_tables_of_the_paper_have_no_further_columns():
    assert ablations.columns(plan.table_configs("mnist", "smoke")[0]) == {}
