"""Every method end to end on what is unlike MNIST: 3-D, three classes, missing labels, bf16."""

import numpy as np
import pytest
import torch

import noisyseg as ns
from noisyseg import build
from noisyseg.methods import METHODS


def small(folder, method, **overrides):
    sizes = dict(width=4, depth=2, epochs=1, batch_size=4, activation="prelu")
    return ns.ExperimentConfig.preset(
        "odd", "smoke", method, dataset=str(folder), **sizes | overrides
    )


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    """Three classes in 3-D, four annotators: one labelled half the images, one half of each."""
    rng = np.random.default_rng(0)
    n, space = 12, (6, 9, 10)
    truth = np.zeros((n, *space), np.int8)
    truth[:, 1:4, 2:6, 2:6], truth[:, 2:5, 4:8, 5:9] = 1, 2
    labels = np.repeat(truth[:, None], 4, 1)
    labels[:, 1][rng.random(truth.shape) < 0.1] = 0
    labels[::2, 2] = -1
    labels[:, 3, :3] = -1
    images = rng.normal(size=(n, 2, *space)).astype(np.float32) + truth[:, None]
    return ns.write_prepared(
        tmp_path_factory.mktemp("odd") / "odd", images, labels, truth,
        split=["train"] * 6 + ["val"] * 3 + ["test"] * 3, origin="simulated",
        classes=["background", "core", "rim"], channels=["a", "b"],
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::noisyseg.train.SwapWarning")  # one epoch finds nothing
@pytest.mark.parametrize("labelling", ["dense", "one"])
@pytest.mark.parametrize("method", METHODS)
def test_three_classes_in_3d_with_missing_labels(method, labelling, odd_folder):
    run = ns.run(small(odd_folder, method, labelling=labelling))
    classes = set(run.metrics.query("metric == 'dice'")["class"])
    assert classes == {"background", "core", "rim", "all"}
    assert run.metrics.query("metric == 'dice'").value.between(0, 1).all()
    if METHODS[method].loss != "none":
        assert np.isfinite(run.history.to_numpy()).all()


@pytest.mark.filterwarnings("ignore::noisyseg.train.SwapWarning")  # one epoch finds nothing
@pytest.mark.parametrize("method", ["calibrated", "trace_low_rank"])
def test_bf16_trains_to_finite_weights(method, tiny_folder):
    run = ns.run(small(tiny_folder, method, precision="bf16-mixed"))
    weights = torch.load(run.path / "model.pt", weights_only=True)
    assert all(torch.isfinite(w).all() for w in weights.values())


def test_known_matrices_are_the_annotators_error_rates(tiny_folder):
    data = ns.load_dataset(tiny_folder).split("train")
    known = build.known_matrices(data)
    truth, wide = data.read_truth(), data.read_labels()[:, 1]
    rate = ((wide == 1) & (truth == 0)).sum() / (truth == 0).sum()
    assert float(known[1, 1, 0]) == pytest.approx(rate, abs=1e-3)
    torch.testing.assert_close(known.sum(1), torch.ones(3, 2))


def test_initial_weights_depend_on_the_seed_alone(tiny_folder):
    shape = build.model_shape(ns.load_dataset(tiny_folder))
    torch.manual_seed(99)
    a = build.build_model(small(tiny_folder, "calibrated"), shape).state_dict()
    torch.rand(7)
    b = build.build_model(small(tiny_folder, "calibrated"), shape).state_dict()
    c = build.build_model(small(tiny_folder, "calibrated", seed=1), shape).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["segmentation.weight"], c["segmentation.weight"])


def test_the_training_view_gets_the_truth_only_where_the_method_is_defined_by_it(tiny_folder):
    data = ns.load_dataset(tiny_folder).split("train")
    for method, row in METHODS.items():
        view = build.training_view(small(tiny_folder, method), data)
        fused = view[0].get("target")
        if row.target in ("labels", "calibrated"):
            assert fused is None
            assert ("calibrated" in view[0]) is (row.target == "calibrated")
        else:
            assert fused.shape == (2, *data.space)
            exact = torch.equal(fused.argmax(0), torch.from_numpy(data.read_truth()[0]))
            assert exact or row.target != "truth"
