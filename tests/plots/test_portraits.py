"""Figures of annotators: what they show is what the tables say, and odd input is drawn too."""

import io

import numpy as np
import pandas as pd
import pytest

from noisyseg import calibrated
from noisyseg.plots import portraits
from noisyseg.report import widths
from noisyseg.report.skills import annotator_report


@pytest.fixture
def drawn():
    truth = np.zeros((4, 30, 30), np.int8)
    for n, (y, x) in enumerate([(8, 8), (20, 9), (9, 20), (14, 14)]):
        truth[n, y : y + 6, x : x + 6] = 1
    wide = truth | np.roll(truth, 2, 2)
    narrow = truth & np.roll(truth, 2, 1)
    labels = np.stack([truth, wide, narrow, np.full_like(truth, -1)], 1)
    return truth, labels


def saved(figure):
    file = io.BytesIO()
    figure.savefig(file, dpi=40)
    return file.getvalue()


@pytest.fixture
def edges():
    """A bright square, outlined exactly twice, a pixel too wide, and not at all."""
    image = np.zeros((3, 1, 20, 20))
    image[..., 7:13, 7:13] = 1
    true = image[:, 0].astype(int)
    wide = np.zeros_like(true)
    wide[:, 6:14, 6:14] = 1
    return image, np.stack([true, true, wide, np.zeros_like(true)], 1), list("abcd")


def test_a_profile_an_annotator_with_its_peak_marked(edges):
    image, labels, names = edges
    found = calibrated.calibrate(image, labels, 2)
    figure = portraits.offset_profiles(found, names)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["a: +0.0 px", "b: +0.0 px", "c: +1.0 px", "d: no offset"]
    lines = [line for line in figure.axes[2].lines if len(line.get_xdata()) > 2]
    np.testing.assert_array_equal(lines[0].get_ydata(), found.profile[2, 1])
    dots = [[ln for ln in axis.lines if ln.get_marker() == "o"] for axis in figure.axes]
    assert [len(d) for d in dots] == [1, 1, 1, 0]
    assert dots[2][0].get_ydata()[0] == pytest.approx(found.profile[2, 1].max())
    assert saved(figure)


def test_the_width_chart_shows_values_intervals_and_who_has_none(edges):
    image, labels, names = edges
    values = widths.intervals(image, labels, 2, list("xyz"), resamples=20)
    values[1:, 2, 1] = 0.5, 1.5
    figure = portraits.relative_widths(values, names, ["none", "box"])
    (axis,) = figure.axes
    dots = next(line for line in axis.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(dots.get_xdata(), values[0, :, 1])
    spans = [path.vertices[:, 0].tolist() for path in axis.collections[0].get_paths()]
    assert [0.5, 1.5] in spans
    assert [t.get_text().strip() for t in axis.texts] == ["no offset"]
    assert saved(figure)


def test_a_width_chart_of_nobody(edges):
    figure = portraits.relative_widths(np.full((3, 2, 3), np.nan), ["a", "b"], ["none", "x", "y"])
    assert len(figure.axes[0].texts) == 4 and figure.axes[0].get_legend() and saved(figure)


def test_steps_show_each_annotator_before_and_after(edges):
    image, labels, names = edges
    found = calibrated.calibrate(image, labels, 2)
    moved = calibrated.calibrated_labels(labels, found.shift())
    figure = portraits.calibration_steps(image[0, 0], labels[0], moved[0], names)
    axes = np.array(figure.axes).reshape(2, 5)
    assert [a.get_title() for a in axes[0]] == [*names, "together"]
    assert [len(a.collections) for a in axes[0]] == [1, 1, 1, 0, 3]
    width = [np.ptp(a.collections[0].get_paths()[0].vertices[:, 0]) for a in axes[:, 2]]
    assert width == [8, 6] and saved(figure)


def test_mean_errors_are_where_they_are_made(drawn):
    truth, labels = drawn
    extra, missed, middle = portraits.mean_errors(truth, labels, size=20)
    rows, columns = np.nonzero(middle == 1)  # every object is moved to the same place
    assert (rows.min(), columns.min()) == (7, 7) and (middle > 0).sum() == 36
    assert not extra[0].any() and not missed[0].any()
    assert (extra[1] == 1).sum() == 12 and set(np.nonzero(extra[1])[1]) == {13, 14}
    assert (missed[2] == 1).sum() == 12 and set(np.nonzero(missed[2])[0]) == {7, 8}
    assert not extra[3].any() and not missed[3].any(), "who labelled nothing errs nowhere"


def test_mean_errors_without_any_object(drawn):
    truth, labels = drawn
    for array in portraits.mean_errors(np.zeros_like(truth), labels, size=20):
        assert not array.any()


def test_an_object_at_the_rim_is_cut_and_not_wrapped():
    truth = np.zeros((1, 20, 20), np.int8)
    truth[0, :3, :3] = 1
    extra, _, middle = portraits.mean_errors(truth, truth[:, None], size=12)
    assert middle.sum() == 9 and not extra.any()


def test_the_skill_chart_shows_every_number(drawn):
    truth, labels = drawn
    names = ["exact", "wide", "narrow"]
    skills = annotator_report(
        truth, labels[:, :3], classes=["none", "box"], annotators=names, image_ids=list("abcd")
    ).skills
    figure = portraits.skill_chart(skills)
    shown = [line.get_xdata() for line in figure.axes[0].lines]
    assert np.allclose(shown[0], 100 * skills[skills["class"] == "box"].sensitivity)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == names
    assert saved(figure)


def test_intervals_that_are_missing_leave_the_dot(drawn):
    truth, labels = drawn
    skills = annotator_report(
        truth[:2], labels[:2, :1], classes=["none", "box"], annotators=["a"], image_ids=list("ab")
    ).skills
    assert np.isnan(skills.sensitivity_low).all() and saved(portraits.skill_chart(skills))


def test_a_portrait_an_annotator_and_an_outline_a_class(drawn):
    truth, labels = drawn
    figure = portraits.bias_portrait(truth, labels, list("abcd"))
    titles = [axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert titles == list("abcd")
    red = figure.axes[1].images[0].get_array()
    assert ((red[..., 0] > 0.5) & (red[..., 1] < 0.5)).sum() == 12


def test_sheet_and_estimates(drawn):
    truth, labels = drawn
    images = np.random.default_rng(0).random((4, 30, 30))
    relabel = pd.DataFrame({"image_id": ["a", "b"], "annotator": ["wide", "x"], "dice": [0.8, 0.1]})
    named = {"a": images[0], "b": images[1]}
    masks = {"a": truth[0], "b": truth[1]}
    figure = portraits.relabel_sheet(
        named, masks, {"a|wide": labels[0, 1], "b|x": truth[1]}, relabel
    )
    assert "wide, Dice 0.80" in figure.axes[0].get_title()
    assert saved(figure)
    shown = portraits.estimates(images, truth, labels, np.zeros((4, 30, 30)), list("abcd"))
    assert len(shown.axes) == 12 and saved(shown)


def test_an_empty_sheet(drawn):
    empty = pd.DataFrame({"image_id": [], "annotator": [], "dice": []})
    assert saved(portraits.relabel_sheet({}, {}, {}, empty))
