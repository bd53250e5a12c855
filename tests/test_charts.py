"""Charts show the numbers of the tables they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from noisyseg import charts


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def rows(values):
    """{(method, λ): Dice of each seed} as an exported table."""
    table = [
        {"method": m, "trace_weight": x, "seed": s, "value": v}
        for (m, x), line in values.items()
        for s, v in enumerate(line)
    ]
    return pd.DataFrame(table).assign(metric="dice", annotator="all", **{"class": "all"})


@pytest.fixture
def data():
    return rows({
        ("clean", np.nan): [0.9, 0.92], ("trace", 0.0): [0.5, 0.7], ("trace", 0.7): [0.0, 0.1],
        ("dominant", 0.7): [0.8, 0.9],
    })  # fmt: skip


def test_a_line_is_the_mean_over_seeds_at_equal_distances(data):
    axis = charts.against({"one": data}, "trace_weight", "λ").axes[0]
    line = next(x for x in axis.lines if list(x.get_xdata()) == [0, 1] and x.get_ls() == "-")
    assert list(line.get_ydata()) == pytest.approx([60, 5])
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0", "0.7"]


def test_a_method_without_the_column_is_a_level_line(data):
    axis = charts.against({"one": data}, "trace_weight", "λ").axes[0]
    level = next(x for x in axis.lines if x.get_ls() == "--")
    assert list(level.get_ydata()) == pytest.approx([91, 91])


def test_lost_seeds_are_counted(data):
    counted = charts.lost_seeds(data, ["method"], "trace_weight")
    assert counted.loc["trace", 0.7] == "2 of 2" and counted.loc["trace", 0.0] == "0 of 2"
    assert counted.loc["dominant", 0.0] == ""


def test_prediction_rings_the_chosen_candidate():
    table = pd.DataFrame({"candidate": ["truth", "swap"], "trace": [0.6, 0.4], "dice": [1.0, 0.0]})
    figure = charts.prediction({"five": table}, {"five": {"no dominance": "swap"}})
    ring = next(x for x in figure.axes[0].lines if x.get_label().startswith("no dominance"))
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (pytest.approx(-0.2), 0.0)


def test_lines_of_the_trace_study_leave_variants_out():
    base = dict(method="dominant", start="default", warm_up="none", dominance_level="support",
                dominance_support=0.3, edge_weight=0.1, vote_start=1.0, vote_weight=0.05,
                common_columns=True)  # fmt: skip
    paper = dict(method="trace", start="near identity", warm_up="maximise 1",
                 dominance_level="none")  # fmt: skip
    table = pd.DataFrame([
        base, base | {"edge_weight": 1.0}, base | {"start": "near identity"},
        base | {"dominance_level": "class", "start": "near identity"},
        paper, paper | {"warm_up": "hold 3"}, paper | {"start": "default"},
        {"method": "clean", "start": "none", "warm_up": "none", "dominance_level": "none"},
        base | {"vote_weight": 0.0}, base | {"common_columns": False},
    ])  # fmt: skip
    lines = charts.trace_lines(table).line
    assert dict(lines) == {
        0: "dominant", 2: "ours, near identity", 3: "class hinge", 4: "trace",
        6: "paper, default start", 7: "clean",
    }  # fmt: skip


def test_a_line_has_one_colour_in_every_panel(data):
    left = data.assign(line=data.method.replace({"trace": "b", "dominant": "a"}))
    right = left[left.line != "a"]
    figure = charts.against({"left": left, "right": right}, "trace_weight", "λ", by="line")
    colours = [
        next(x.get_color() for x in axis.lines if list(x.get_ydata()) == pytest.approx([60, 5]))
        for axis in figure.axes
        if any(len(x.get_ydata()) == 2 and x.get_ls() == "-" for x in axis.lines)
    ]
    assert len(colours) == 2 and len(set(colours)) == 1
