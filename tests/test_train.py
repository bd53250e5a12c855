"""Training: truth cannot leak, runs resume bit for bit, bad runs say so.

`tiny_folder` is the small synthetic prepared folder of conftest (3 annotators, truth).
"""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import noisyseg as ns
from noisyseg.methods import METHODS
from noisyseg.runs import read_config
from noisyseg.train import SwapWarning, TrainingStopped

# Nine steps of a tiny network may find nothing yet, and it says so.
pytestmark = pytest.mark.filterwarnings("ignore::noisyseg.train.SwapWarning")
TRAINED = [name for name, method in METHODS.items() if method.loss != "none"]


def config(folder, method="calibrated", **overrides):
    # With "relu" all features of so small a network can be zero in the object, for good.
    small = dict(width=4, depth=2, epochs=3, batch_size=4, learning_rate=2e-2, activation="prelu")
    return ns.ExperimentConfig.preset(
        "tiny", "smoke", method, dataset=str(folder), **small | overrides
    )


def weights(run):
    return torch.load(run.path / "model.pt", weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def corrupted(folder, target):
    """A copy of the prepared folder whose truth is inverted in train and val."""
    data = ns.load_dataset(folder)
    truth = np.array(data.truth)
    truth[data.split_of != "test"] = 1 - truth[data.split_of != "test"]
    meta = {k: v for k, v in data.meta.items() if k != "name"}
    return ns.write_prepared(
        target, data.images, data.labels, truth, data.case_ids, data.split_of,
        image_ids=data.image_ids, **meta,
    )  # fmt: skip


@pytest.mark.parametrize("method", TRAINED)
def test_no_weight_depends_on_the_truth(method, tiny_folder, tmp_path):
    honest = ns.run(config(tiny_folder, method))
    changed = ns.run(config(corrupted(tiny_folder, tmp_path / "tiny"), method))
    assert honest.path != changed.path
    assert same(weights(honest), weights(changed)) is not METHODS[method].sees_truth


@pytest.mark.parametrize("method", [m for m in METHODS if m not in TRAINED])
def test_fusion_rows_train_nothing(method, tiny_folder):
    run = ns.run(config(tiny_folder, method))
    assert 0.5 < run.value("dice") <= 1
    with pytest.raises(ValueError, match="trains no network"):
        run.model()


@pytest.mark.parametrize("labelling", ["dense", "one", "k2"])
def test_every_labelling_trains(labelling, tiny_folder):
    run = ns.run(config(tiny_folder, labelling=labelling))
    assert np.isfinite(run.history.to_numpy()).all()
    assert len(run.history) == 3


@pytest.mark.parametrize("stop_after", [1, 2])
@pytest.mark.parametrize("method", ["calibrated", "trace", "mode", "prob_unet"])
def test_a_resumed_run_is_bit_identical(method, stop_after, tiny_folder, tmp_path, monkeypatch):
    whole = ns.run(config(tiny_folder, method, flip=True))
    monkeypatch.setenv("NOISYSEG_RUNS", str(tmp_path))
    cfg = config(tiny_folder, method, flip=True)
    with pytest.raises(TrainingStopped):
        ns.run(cfg, on_epoch=lambda row: row["epoch"] == stop_after)
    resumed = ns.run(cfg)
    assert resumed.path.parent == tmp_path / "tiny"
    assert same(weights(whole), weights(resumed))
    assert resumed.history.equals(whole.history)
    assert resumed.metrics.equals(whole.metrics)


SCRIPT = """
import sys, time
import noisyseg as ns
cfg = ns.ExperimentConfig.preset("tiny", "smoke", "calibrated", dataset=sys.argv[1],
                                 width=4, depth=2, epochs=6, batch_size=4, learning_rate=2e-2,
                                 activation="prelu")
slow = (lambda row: time.sleep(0.3)) if sys.argv[2] == "slow" else None
print(ns.run(cfg, on_epoch=slow).value("dice"), flush=True)
"""


def start(folder, runs, pace):
    environment = os.environ | {"NOISYSEG_RUNS": str(runs), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), pace],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(runs, name, process):
    while not list(runs.rglob(name)):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def test_kill_9_during_a_run_loses_one_epoch_at_most(tiny_folder, tmp_path, monkeypatch):
    process = start(tiny_folder, tmp_path, "slow")
    wait_for(tmp_path, "checkpoint.pt", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(tmp_path.rglob("DONE"))
    monkeypatch.setenv("NOISYSEG_RUNS", str(tmp_path))
    epochs = []
    cfg = config(tiny_folder, epochs=6)
    resumed = ns.run(cfg, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs[0] > 1
    monkeypatch.setenv("NOISYSEG_RUNS", str(tmp_path / "whole"))
    assert same(weights(resumed), weights(ns.run(cfg)))


def test_two_processes_on_one_store_do_no_damage(tiny_folder, tmp_path):
    both = [start(tiny_folder, tmp_path, "slow") for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    (folder,) = (p.parent for p in tmp_path.rglob("DONE"))
    assert not list(folder.glob("*.part")) and not (folder / "checkpoint.pt").exists()


def test_a_finished_run_is_loaded_not_trained(tiny_folder):
    cfg = config(tiny_folder)
    first = ns.run(cfg)
    written = (first.path / "model.pt").stat().st_mtime_ns
    again = ns.run(cfg, on_epoch=lambda row: pytest.fail("trained again"))
    assert (again.path / "model.pt").stat().st_mtime_ns == written


def test_the_model_comes_back_as_it_was(tiny_folder):
    run = ns.run(config(tiny_folder))
    with torch.no_grad():
        out = run.model()(torch.from_numpy(run.exhibits["image"]).float())
    probs = torch.from_numpy(run.exhibits["probs"]).float()
    torch.testing.assert_close(out.logits.softmax(1), probs, atol=2e-3, rtol=0)  # kept as float16


def test_the_run_folder_is_the_contracts(tiny_folder):
    run = ns.run(config(tiny_folder))
    expected = "config.json provenance.json history.csv metrics.csv images.csv exhibits.npz"
    assert {p.name for p in run.path.iterdir()} - {".lock"} == {
        *expected.split(),
        "model.pt",
        "DONE",
    }
    assert read_config(run.path) == run.config
    assert run.path.name == f"tiny-calibrated-s0-{run.config.digest(run.provenance['fingerprint'])}"


def test_a_diverging_run_names_the_remedy(tiny_folder):
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        ns.run(config(tiny_folder, learning_rate=1e20, schedule="constant"))


def test_the_warm_up_holds_or_maximises_the_trace():
    from noisyseg.build import trace_weight

    for kind, expected in (("none", 0.3), ("hold", 0.0), ("maximise", -0.3)):
        cfg = ns.ExperimentConfig.preset(
            trace_weight=0.3, warm_up=kind, warm_up_epochs=2, warm_up_share=0.0
        )
        assert [trace_weight(cfg, e) for e in range(3)] == [expected, expected, 0.3]


@pytest.mark.parametrize(("share", "epochs", "length"), [(0.5, 8, 4), (0.5, 3, 2), (0.0, 8, 0)])
def test_the_first_phase_has_its_share_of_the_epochs(share, epochs, length):
    from noisyseg.build import warm_up_epochs

    cfg = ns.ExperimentConfig.preset(method="trace", epochs=epochs, warm_up_share=share)
    assert warm_up_epochs(cfg) == length


def test_the_matrices_stay_near_the_identity_until_they_are_released(tiny_folder):
    run = ns.run(config(tiny_folder, "trace", epochs=20, trace_weight=0.5))
    traces = run.history.mean_trace
    assert (traces[:10] > 1.85).all() and traces.iloc[-1] < traces[:10].min()


def test_sweep_gives_the_same_in_this_process_and_on_dask(tiny_folder, tmp_path, monkeypatch):
    configs = [config(tiny_folder, method) for method in ("mode", "majority_fusion")]
    here = ns.sweep(configs, workers=1)
    monkeypatch.setenv("NOISYSEG_RUNS", str(tmp_path))
    there = ns.sweep(configs, workers=2)
    assert [r.config for r in there] == configs
    for a, b in zip(here, there, strict=True):
        assert a.path != b.path and a.metrics.equals(b.metrics)


SWAPS = dict(trace_weight=2.0, init_diagonal=0.0, epochs=30, learning_rate=2e-2)


def test_training_that_ends_in_the_swap_warns_and_records_it(tiny_folder):
    cfg = config(tiny_folder, "trace_printed", warm_up="none", **SWAPS)
    with pytest.warns(SwapWarning, match=r"trace_printed: label swap\? At \d+% of the pixels"):
        run = ns.run(cfg)
    assert run.history.class_margin.iloc[-1] < 0 and run.value("dice") < 0.1
    watched = {"mean_trace", "off_pixel", "ignorant", "smallest_class", "unmarked"}
    assert watched <= set(run.history)


@pytest.mark.parametrize("method", ["trace", "calibrated"])
def test_with_the_theorems_assumption_held_the_truth_is_found(method, tiny_folder):
    run = ns.run(config(tiny_folder, method, epochs=30, learning_rate=2e-2))
    assert run.history.class_margin.iloc[-1] > 0 and run.value("dice") > 0.8


def test_a_run_keeps_one_row_an_image(tiny_folder):
    run = ns.run(config(tiny_folder))
    test = ns.load_dataset(tiny_folder).split("test")
    assert run.images.image_id.tolist() == test.image_ids.tolist()
    assert run.images.dice.mean() == pytest.approx(run.value("dice"), abs=1e-4)
    assert run.images.ged.mean() == pytest.approx(run.value("ged"), abs=1e-4)
    assert run.images.predicted_agreement.between(0, 1).all()


def test_a_data_set_without_a_truth_trains_and_is_scored_by_its_labels(tiny_folder, tmp_path):
    whole = ns.load_dataset(tiny_folder)
    bare = ns.write_prepared(
        tmp_path / "bare", whole.read_images(), whole.read_labels().astype(np.int8), None,
        split=whole.split_of.tolist(), classes=list(whole.classes),
        annotators=list(whole.annotators), origin="simulated",
    )  # fmt: skip
    cfg = ns.ExperimentConfig.preset(
        "tiny",
        "smoke",
        "calibrated",
        0,
        dataset=str(tiny_folder),
        epochs=4,
        width=4,
        depth=2,
        learning_rate=2e-2,
        activation="prelu",
    )
    with_truth, without = ns.run(cfg), ns.run(cfg.replace(dataset=str(bare)))
    weights = (r.model().state_dict() for r in (with_truth, without))
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))
    assert set(without.metrics.metric) == {"ged", "ece"}
    shared = with_truth.metrics[with_truth.metrics.metric.isin(["ged", "ece"])]
    assert np.allclose(shared.value, without.metrics.value)
    assert "truth" not in without.exhibits and "dice" not in without.images
