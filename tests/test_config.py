"""ExperimentConfig: precedence, unknown names, identity."""

import pytest

import noisyseg as ns
from noisyseg.config import PAPER, PROFILES


def test_precedence_is_defaults_paper_profile_method_overrides():
    cfg = ns.ExperimentConfig.preset("mnist", "paper", "trace")
    assert (cfg.trace_weight, cfg.epochs, cfg.batch_size) == (0.1, 60, 2)  # Table 7, but for λ
    for name, weight in (("mnist", 0.7), ("ms", 0.7), ("brats", 1.5), ("lidc", 0.9), ("own", 0.7)):
        printed = ns.ExperimentConfig.preset(name, "smoke", "trace_printed")
        assert (printed.trace_weight, printed.dominance_weight) == (weight, 0)
    assert (
        ns.ExperimentConfig.preset("mnist", "smoke", "trace").epochs == PROFILES["smoke"]["epochs"]
    )
    assert ns.ExperimentConfig.preset("mnist", "smoke", "no_trace").trace_weight == 0
    assert (
        ns.ExperimentConfig.preset("mnist", "smoke", "no_trace", trace_weight=0.2).trace_weight
        == 0.2
    )
    assert PAPER["brats"]["trace_weight"] == 1.5


def test_replacing_the_method_brings_its_settings_and_drops_the_old_ones():
    trace = ns.ExperimentConfig.preset("mnist", method="trace")
    for method in ns.METHODS:
        assert trace.replace(method=method) == ns.ExperimentConfig.preset("mnist", method=method)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trace_wieght": 1}, "did you mean 'trace_weight'"),
        ({"method": "stable"}, "staple"),
        ({"profile": "tiny"}, "smoke, reduced, full, paper"),
        ({"epochs": 0}, "epochs is 0"),
        ({"trace_weight": -1}, "trace_weight is -1"),
        ({"dominance_level": "image"}, "pixel, class"),
        ({"anchor": "edges"}, "annotators, image"),
        ({"warm_up_share": 1.5}, "warm_up_share is 1.5"),
        ({"activation": "gelu"}, "relu, prelu"),
    ],
)
def test_a_wrong_field_or_value_names_what_is_allowed(fields, message):
    with pytest.raises(ValueError, match=message):
        ns.ExperimentConfig.preset("mnist", **fields)
    if not {"method", "profile"} & fields.keys():
        with pytest.raises(ValueError, match=message):
            ns.ExperimentConfig.preset("mnist").replace(**fields)


def test_identity_leaves_out_what_changes_no_number():
    cfg = ns.ExperimentConfig.preset("mnist", method="trace")
    assert cfg.digest("data") == cfg.replace(accelerator="cpu", progress=True).digest("data")
    assert cfg.digest("data") != cfg.digest("other data")
    for change in ({"seed": 1}, {"width": 9}, {"trace_weight": 0.2}, {"labelling": "one"}):
        assert cfg.digest("data") != cfg.replace(**change).digest("data")


def test_a_field_that_came_later_leaves_old_runs_valid():
    cfg = ns.ExperimentConfig.preset("mnist", "reduced")
    assert "activation" not in cfg.identity()
    assert ns.ExperimentConfig.preset("ms", "reduced").identity()["activation"] == "prelu"
    assert cfg.digest("data") != cfg.replace(activation="prelu").digest("data")


def test_the_network_on_the_truth_is_one_run_for_every_labelling():
    clean = ns.ExperimentConfig.preset("mnist", method="clean")
    assert clean.digest("data") == clean.replace(labelling="one").digest("data")


def test_every_method_of_the_design_is_there():
    design = (
        "clean oracle mean mode separate staple spatial_staple majority_fusion staple_fusion "
        "spatial_staple_fusion global_cm no_trace trace trace_printed trace_low_rank calibrated "
        "calibrated_image calibrated_fusion released prob_unet"
    )
    assert set(design.split()) <= set(ns.METHODS)
