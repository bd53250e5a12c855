"""Pictures of maps and outlines: what is drawn is what was given."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from noisyseg.plots import maps, scores


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def exhibit(classes=4, annotators=3, n=2, channels=2):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(classes), (n, 8, 9)).transpose(0, 3, 1, 2)
    noisy = rng.dirichlet(np.ones(classes), (n, annotators, 8, 9)).transpose(0, 1, 4, 2, 3)
    return {
        "image": rng.normal(size=(n, channels, 8, 9)) * 40,
        "labels": rng.integers(0, classes, (n, annotators, 8, 9)),
        "truth": rng.integers(0, classes, (n, 8, 9)),
        "probs": probs,
        "noisy_probs": noisy,
    }


def shown(axis):
    return axis.get_images()[0].get_array()


def test_class_colours_are_different_and_too_many_classes_are_named():
    colours = maps.class_map(np.arange(8)[None])[0]
    assert len({tuple(c) for c in colours}) == 8
    assert (maps.class_map(np.array([[-1]])) == 0).all()
    with pytest.raises(ValueError, match="class 8"):
        maps.class_map(np.array([[8]]))


def test_class_maps_show_labels_truth_and_predictions():
    one = exhibit()
    figure = maps.class_maps(one, 1, ["a", "b", "c"], ["flair", "t1"], "title")
    axes = np.array(figure.axes).reshape(3, 4)
    assert [a.get_title() for a in axes[1]] == ["a", "b", "c", "truth"]
    np.testing.assert_array_equal(shown(axes[1, 3]), maps.class_map(one["truth"][1]))
    expected = maps.class_map(one["noisy_probs"][1, 2].argmax(0))
    np.testing.assert_array_equal(shown(axes[2, 2]), expected)
    assert not axes[0, 2].get_visible() and shown(axes[0, 0]).max() <= 1


def test_methods_side_by_side_in_the_order_of_the_tables():
    figure = maps.compare_maps({"calibrated": exhibit(), "clean": exhibit()}, [0, 1])
    assert [a.get_title().replace("\n", " ") for a in figure.axes[:4]][2:] == [
        "network on the truth",
        "calibrated (ours)",
    ]


def test_outlines_leave_out_what_is_empty_and_say_so():
    one = exhibit(2, 2)
    one["labels"][0, 1] = 0
    agreements = {"written": [0.25], "predicted": [0.5]}
    figure = maps.contours(one, [0], ["a", "b"], agreements)
    legend = [t.get_text() for t in figure.axes[2].get_legend().get_texts()]
    assert legend == ["a", "b: nothing"]
    assert figure.axes[2].get_xlabel() == "agreement 25 %"
    assert figure.axes[3].get_xlabel() == "agreement 50 %"


def test_the_line_through_the_scatter_is_least_squares():
    rng = np.random.default_rng(1)
    x = rng.random(50)
    images = pd.DataFrame({"predicted_agreement": x, "agreement": 0.8 * x})
    images.loc[0, "agreement"] = np.nan
    figure = scores.agreement_scatter(images)
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "y = 0.80 x"
    r = stats.pearsonr(x[1:], 0.8 * x[1:]).statistic
    assert f"r = {r:.2f}" in figure.axes[0].get_title()
    assert f"mean {x[1:].mean():.0%} predicted" in figure.axes[0].get_title()


def test_the_same_agreement_predicted_everywhere_has_no_correlation():
    images = pd.DataFrame({"predicted_agreement": [0.9] * 4, "agreement": [0.2, 0.4, 0.6, 0.8]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = scores.agreement_scatter(images)
    assert "r = undefined" in figure.axes[0].get_title()


def test_bars_are_means_of_their_group():
    images = pd.DataFrame(
        {
            "name": ["trace"] * 4 + ["mode"] * 4,
            "agreement": [0.4, 0.6, 0.7, 0.1] * 2,
            "dice": [0.2, 0.4, 0.9, 0.0, 0.1, 0.1, 0.1, 0.1],
        }
    )
    printed = pd.DataFrame({"method": "trace", "metric": ["dice_low", "dice"], "value": [0.5, 0.9]})
    figure = scores.by_agreement(images, printed)
    _, ours = figure.axes[0].containers  # majority labels come first
    assert [bar.get_height() for bar in ours] == pytest.approx([0.3, 0.9])
    assert "2 images" in figure.axes[0].get_xticklabels()[0].get_text()
    crosses = np.concatenate(
        [li.get_ydata() for li in figure.axes[0].lines if li.get_marker() == "x"]
    )
    assert crosses[np.isfinite(crosses)].tolist() == [0.5]  # at the method it was printed for
