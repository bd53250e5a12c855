"""Figures show what they are given; the colour code is the paper's."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from noisyseg.methods import METHODS
from noisyseg.paper import ablations
from noisyseg.plots import maps, scores, style


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def exhibit():
    rng = np.random.default_rng(0)
    confusion = rng.dirichlet((1, 1), (2, 3, 2, 6, 5)).transpose(0, 1, 5, 2, 3, 4)
    probs = rng.dirichlet((1, 1), (2, 6, 5)).transpose(0, 3, 1, 2)
    return {
        "image": rng.random((2, 1, 6, 5)),
        "labels": rng.integers(0, 2, (2, 3, 6, 5)),
        "truth": rng.integers(0, 2, (2, 6, 5)),
        "probs": probs,
        "noisy_probs": np.einsum("brijyx,bjyx->briyx", confusion, probs),
        "confusion": confusion,
    }


def test_white_is_right_red_is_extra_blue_is_missed():
    truth, label = np.array([[1, 0, 1, 0]]), np.array([[1, 1, 0, 0]])
    picture = maps.true_spatial_matrix(label, truth)[0]
    expected = [style.WHITE, style.RED, style.BLUE, np.zeros(3)]
    np.testing.assert_allclose(picture, expected)


def test_a_spatial_matrix_needs_two_classes():
    with pytest.raises(ValueError, match="2 classes, not 3"):
        maps.spatial_matrix(np.ones((3, 3, 2, 2)) / 3, np.ones((3, 2, 2)) / 3)


def test_the_papers_figure_has_a_panel_for_everything(exhibit):
    figure = maps.disentangled(exhibit, 0, ["a", "b", "c"])
    assert len(figure.axes) == 3 + 4 * (3 + 1)
    titles = {axis.get_title() for axis in figure.axes}
    assert {"input", "truth", "estimated truth", "a", "b", "c", "average"} <= titles


def test_the_comparison_has_a_column_a_method(exhibit):
    figure = maps.comparison({"mode": exhibit, "calibrated": exhibit}, [0, 1])
    assert len(figure.axes) == 2 * (2 + 2)


def dots(axis):
    """Where the dots of a strip lie: (value, row)."""
    return np.concatenate([found.get_offsets() for found in axis.collections])


def test_scores_show_every_seed_and_the_printed_value():
    rows = [
        {"method": m, "labelling": k, "seed": s, "value": 0.5 + 0.1 * s}
        for m in ("mode", "trace")
        for k in ("dense", "one")
        for s in range(3)
    ]
    data = pd.DataFrame(rows).assign(metric="dice", annotator="all", **{"class": "all"})
    printed = pd.DataFrame(
        [{"method": "trace", "labelling": "dense", "metric": "dice", "value": 0.8}]
    )
    axis = scores.scores(data, "dice", printed).axes[0]
    assert set(np.round(dots(axis)[:, 0], 6)) == {50.0, 60.0, 70.0}
    crosses = [line for line in axis.lines if line.get_marker() == "x"]
    assert [tuple(*line.get_xydata()) for line in crosses] == [(80.0, 1.0)]


def test_scores_have_a_panel_for_each_chosen_value_of_a_column():
    data = pd.DataFrame({"method": "mode", "dataset": ["a", "b", "c"], "value": [0.1, 0.2, 0.3]})
    data = data.assign(metric="dice", annotator="all", **{"class": "all"})
    axes = scores.scores(data, "dice", by="dataset", panels={"c": "third", "a": "first"}).axes
    assert [axis.get_title() for axis in axes] == ["third", "first"]
    for axis, value in zip(axes, (30.0, 10.0), strict=True):
        assert np.allclose(dots(axis), [[value, 0]])


def test_every_method_has_a_style_and_every_style_a_method():
    colours = [style.colour_of(name) for name in METHODS]
    assert len(set(colours)) == len(colours)


def test_every_rendered_picture_has_a_name():
    assert tuple(style.PICTURES) == ablations.RENDERED


def test_the_stamp_says_what_the_figure_stands_on():
    figure = style.stamp(plt.figure(), "stand-in", "smoke", 3)
    assert [t.get_text() for t in figure.texts] == ["data: stand-in · profile: smoke · seeds: 3"]


def test_curves_skip_what_a_method_does_not_have():
    history = pd.DataFrame({"epoch": [1, 2], "val_loss": [1.0, 0.5]})
    figure = scores.curves({"mode": history}, {"val_loss": "loss", "mean_trace": "trace"})
    assert [len(axis.lines) for axis in figure.axes] == [1, 0]


def test_zoomed_arrays_hold_the_whole_object_and_stay_square():
    truth = np.zeros((2, 40, 60), int)
    truth[0, 1:4, 50:58] = 1
    image = np.arange(2 * 40 * 60).reshape(2, 1, 40, 60)
    near = maps.zoomed({"truth": truth, "image": image, "other": np.ones(5)}, truth[0], margin=3)
    assert near["truth"].shape == (2, 14, 14) and near["image"].shape == (2, 1, 14, 14)
    assert near["truth"][0].sum() == truth[0].sum(), "nothing of the object is cut off"
    assert (near["image"][0, 0] == image[0, 0, :14, 46:]).all(), "moved inwards at the border"
    assert near["other"].shape == (5,)


def test_zoomed_leaves_all_where_there_is_nothing():
    truth = np.zeros((1, 8, 8), int)
    assert maps.zoomed({"truth": truth}, truth[0])["truth"] is truth
