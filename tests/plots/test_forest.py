"""The forest plot draws each difference where it is, and says which claims hold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from noisyseg.plots import forest, style

PANELS = {"digits": {"mnist": "MNIST"}, "drawn": {"ms": "MS", "lidc": "LIDC"}}
READINGS = {"held": "trace", "printed": "trace_printed"}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def found(**changed):
    row = {"claim": "a beats b", "reading": "held", "dataset": "mnist", "mean": 3.0, "low": 1.0}
    return row | {"high": 5.0, "printed": 7.0, "holds": True} | changed


def lines(axis):
    """Marks and intervals of a panel without the line at zero."""
    return [line for line in axis.lines if list(line.get_xdata()) != [0, 0]]


def test_a_row_is_an_interval_a_mark_and_a_cross():
    figure = forest.forest(pd.DataFrame([found()]), PANELS, READINGS)
    digits, drawn = figure.axes
    interval, mark, cross = lines(digits)
    assert list(interval.get_xdata()) == [1, 5]
    assert list(mark.get_xdata()) == [3] and list(cross.get_xdata()) == [7]
    assert {line.get_color() for line in (interval, mark)} == {style.colour_of("trace")}
    assert not lines(drawn)
    assert [text.get_text() for text in digits.get_yticklabels()] == ["a beats b"]


def test_what_does_not_hold_is_hollow_and_one_seed_has_no_interval():
    row = found(holds=False, low=-np.inf, high=np.inf, printed=np.nan)
    (mark,) = lines(forest.forest(pd.DataFrame([row]), PANELS, READINGS).axes[0])
    assert mark.get_markerfacecolor() == "white"


def test_readings_stand_apart_around_the_row_of_their_claim():
    rows = pd.DataFrame([found(), found(reading="printed", mean=-3.0), found(claim="c")])
    digits = forest.forest(rows, PANELS, READINGS).axes[0]
    marks = [line for line in digits.lines if line.get_marker() == "o"]
    heights = [line.get_ydata()[0] for line in marks]
    assert heights[0] + heights[1] == pytest.approx(0) and heights[0] != heights[1]
    assert heights[2] == 1, "alone in its row it stands in the middle"


def test_data_sets_of_one_panel_have_markers_of_their_own():
    rows = pd.DataFrame([found(dataset="ms"), found(dataset="lidc")])
    figure = forest.forest(rows, PANELS, READINGS)
    markers = {line.get_marker() for line in lines(figure.axes[1])} - {"None", "x"}
    assert len(markers) == 2
    (legend,) = figure.legends
    assert {"MS", "LIDC", "holds", "printed"} <= {t.get_text() for t in legend.get_texts()}


def test_without_a_claim_it_says_what_to_do():
    with pytest.raises(ValueError, match="make figures"):
        forest.forest(pd.DataFrame(), PANELS, READINGS)
