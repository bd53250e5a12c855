"""Figures of the notebooks that teach show what they are given, at places that theory names."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from noisyseg.plots import lessons, style


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def words(figure):
    return {text.get_text() for axis in figure.axes for text in axis.texts}


def test_the_diagram_has_a_row_for_each_annotator():
    truth = np.eye(4, dtype=int)
    labels = np.stack([truth, 1 - truth])
    figure = lessons.coupled_networks(np.zeros((4, 4)), truth, labels, ["ann", "bob"])
    (board,) = figure.axes
    assert len(board.child_axes) == 2 + 3 * 2
    assert {"ann", "bob", "written"} <= words(figure)


def test_grey_is_every_fit_without_error():
    figure = lessons.perfect_fits(0.6, {}, {"end": (1, 0.6)})
    middle, left, right = (line.get_xydata() for line in figure.axes[0].lines[:3])
    for p, trace in [*middle, *left, *right]:
        # Column k of every matrix is the label; with 0 < p < 1 both are, else one is free.
        lows = {0.0: (0.4, 1.4), 1.0: (0.6, 1.6)}[p]
        assert trace == pytest.approx(1) or trace in [pytest.approx(low) for low in lows]
    assert words(figure) == {"end"}


def test_columns_that_nobody_can_know_show_no_number():
    values = np.full((2, 3, 2, 2), 0.25)
    values[0, :, :, 1], values[1, :, :, 0] = 0.5, 0.75
    figure = lessons.known_columns(values, {"on": 1, "off": 0}, "abc", ["rest", "digit"])
    shown = [{text.get_text() for text in axis.texts} for axis in figure.axes]
    assert shown == [{"0.50"}] * 3 + [{"0.75"}] * 3


def test_bars_have_the_colours_of_their_methods():
    table = pd.DataFrame({"all": [0.5, 0.75]}, ["trace", "calibrated"])
    figure = lessons.bars(table, "Dice", {"trace": "theirs"})
    (axis,) = figure.axes
    colours = [plt.matplotlib.colors.to_hex(bar.get_facecolor()) for bar in axis.patches]
    assert colours == [style.colour_of("trace"), style.colour_of("calibrated")]
    names = [tick.get_text() for tick in axis.get_yticklabels()]
    assert names == ["theirs", style.title_of("calibrated")]
