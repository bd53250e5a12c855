"""The small training: only on the button, the same as `ns.run`, stoppable, and watched."""

import threading

import pytest
import torch

import noisyseg as ns
from noisyseg.paper.ablations import ANNOTATOR_SETS
from noisyseg.widgets import training as module
from noisyseg.widgets.training import small_training


@pytest.fixture
def explorer(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISYSEG_RUNS", str(tmp_path))
    explorer = small_training()
    explorer.digits.value, explorer.epochs.value = 100, 2
    yield explorer
    explorer.stopping.set()
    if explorer.thread:
        explorer.thread.join(60)


def press(explorer, wait=True):
    explorer.start.click()
    if wait:
        explorer.thread.join(120)
        assert not explorer.thread.is_alive()


def test_nothing_trains_before_the_button(monkeypatch):
    monkeypatch.setattr(module, "run", lambda *a: pytest.fail("it trains"))
    explorer = small_training()
    explorer.method.value, explorer.weight.value = "trace", 0.7
    explorer.annotators.value = "unfaithful"
    assert explorer.thread is None and len(explorer.results()) == 0


def test_it_trains_what_the_controls_say_and_equals_run(explorer):
    explorer.method.value, explorer.weight.value = "trace", 0.3
    explorer.labels.value, explorer.annotators.value = "one", "four"
    cfg = explorer.config()
    assert (cfg.method, cfg.trace_weight, cfg.labelling) == ("trace", 0.3, "one")
    assert (cfg.n_train, cfg.epochs, cfg.annotators) == (100, 2, ANNOTATOR_SETS["four"])
    empty = explorer.curve.value
    press(explorer)
    (shown,) = explorer.results().to_dict("records")
    assert shown["Dice %"] == f"{100 * ns.run(cfg).value('dice'):.1f}"
    assert shown["CM error"] == f"{ns.run(cfg).value('cm_rmse'):.3f}"
    assert explorer.curve.value != empty and len(explorer.history) == 2
    assert "Dice" in explorer.table.value and len(explorer.pictures.children) == 3


@pytest.mark.parametrize("method", module.CHOICES)
def test_choosing_a_method_brings_its_settings_along(method):
    explorer = small_training()
    assert explorer.config().method == "calibrated"
    explorer.weight.value, explorer.warm_up.value = 1.3, 20
    explorer.method.value = "clean" if method == "calibrated" else "calibrated"
    explorer.method.value = method
    own = ns.ExperimentConfig.preset("mnist", "smoke", method)
    asked = explorer.config()
    matrices = ns.METHODS[method].head != "none"
    assert explorer.weight.disabled == (method not in module.WITH_WEIGHT)
    assert explorer.warm_up.disabled == (not matrices)
    assert explorer.weight.value == (own.trace_weight if method in module.WITH_WEIGHT else 0)
    assert explorer.warm_up.value == (100 * own.warm_up_share if own.warm_up == "fixed" else 0)
    for field in ("trace_weight", "warm_up", "warm_up_share", "dominance_weight"):
        assert getattr(asked, field) == getattr(own, field)
    told = explorer.brought.value
    assert (f"λ = {own.trace_weight:g}" in told) == matrices
    assert ("first 50 % of the epochs" in told) == (own.warm_up == "fixed")


def test_the_warm_up_can_be_taken_away():
    explorer = small_training()
    explorer.method.value = "trace_printed"
    assert explorer.weight.value == 0.7 and explorer.warm_up.value == 50
    explorer.warm_up.value = 0
    assert (explorer.config().warm_up, explorer.config().warm_up_share) == ("none", 0.0)
    explorer.warm_up.value = 30
    assert (explorer.config().warm_up, explorer.config().warm_up_share) == ("fixed", 0.3)


def test_every_light_is_explained_with_the_thresholds_of_the_monitor():
    told = module.meaning_of_lights()
    for word in ("grey", "yellow", "green", "red", f"{module.diagnostics.OUTVOTED:.0%}"):
        assert word in told
    assert any("What the light means" in getattr(c, "value", "") for c in small_training().children)


def test_the_same_settings_load_at_once(explorer, monkeypatch):
    press(explorer)
    monkeypatch.setattr(torch.Tensor, "backward", lambda *a: pytest.fail("it trains again"))
    press(explorer)
    assert 'data-state="ready"' in explorer.status.value and len(explorer.results()) == 1
    assert len(explorer.history) == 2


def test_stop_ends_after_the_epoch_and_train_goes_on_to_the_same_result(explorer):
    explorer.epochs.value = 3
    passed = threading.Event()
    after = explorer._after_epoch

    def stop_after_first(epoch):
        explorer.end.click()
        passed.set()
        return after(epoch)

    explorer._after_epoch = stop_after_first
    press(explorer)
    assert passed.is_set() and "stopped after epoch 1 of 3" in explorer.status.value
    assert len(explorer.results()) == 0 and not explorer.start.disabled
    explorer._after_epoch = after
    press(explorer)
    stopped = ns.run(explorer.config()).value("dice")
    fresh = ns.run(explorer.config().replace(experiment="whole")).value("dice")
    assert stopped == fresh


def test_two_presses_start_one_training(explorer, monkeypatch):
    release, started = threading.Event(), []

    def waits(cfg, on_epoch):
        started.append(cfg)
        release.wait(60)
        raise module.TrainingStopped("stopped after epoch 1 of 2")

    monkeypatch.setattr(module, "run", waits)
    press(explorer, wait=False)
    assert explorer.start.disabled and not explorer.end.disabled
    explorer.train()
    assert "a training is running" in explorer.status.value
    release.set()
    explorer.thread.join(60)
    assert len(started) == 1 and not explorer.start.disabled and explorer.end.disabled


def test_an_error_in_the_thread_is_a_message(explorer, monkeypatch):
    def breaks(cfg, on_epoch):
        raise FloatingPointError("the loss is no longer finite")

    monkeypatch.setattr(module, "run", breaks)
    press(explorer)
    assert 'data-state="error"' in explorer.status.value
    assert "no longer finite" in explorer.status.value and not explorer.start.disabled


def test_the_light_says_what_the_monitor_sees(explorer):
    good = {"class_margin": 0.5, "off_pixel": 0.0, "smallest_class": 0.13, "ignorant": 0.2}
    explorer._watch(good, "trace")
    assert 'data-light="green"' in explorer.light.value
    explorer._watch(good | {"smallest_class": 0.0}, "trace")
    assert 'data-light="red"' in explorer.light.value and "vanished" in explorer.light.value
    explorer._watch(good | {"unmarked": 0.6}, "trace")
    assert (
        'data-light="red"' in explorer.light.value and "half a label swap" in explorer.light.value
    )
    # Matrices that ignore the truth leave it undetermined only where it is learned through them.
    explorer._watch(good | {"ignorant": 1.0}, "trace")
    assert 'data-light="red"' in explorer.light.value
    explorer._watch(good | {"ignorant": 1.0}, "calibrated")
    assert 'data-light="green"' in explorer.light.value
    explorer.method.value = "mode"
    press(explorer)
    assert 'data-light="none"' in explorer.light.value
    (shown,) = explorer.results().to_dict("records")
    assert shown["CM error"] == "" and shown["λ"] == ""


def test_carries_a_still_picture(explorer):
    assert "image/png" in explorer._repr_mimebundle_()
