"""The figure of `make bench` shows what the table holds."""

import pandas as pd
import pytest

from noisyseg.plots import costs

COLUMNS = ["part", "case", "what", "quantity", "value", "unit", "target"]


def table(*rows):
    return pd.DataFrame(rows, columns=COLUMNS)


def test_each_case_has_a_panel_and_each_head_a_bar_with_its_number():
    unit = "x plain U-Net"
    found = table(
        ["step", "small", "plain", "time", 80.0, "ms", None],
        ["step", "small", "global", "time", 1.04, unit, 1.02],
        ["step", "small", "literal", "time", 3.5, unit, None],
        ["step", "small", "global", "memory", 9.0, unit, None],
        ["step", "large", "per pixel", "time", 1.2, unit, 1.15],
        ["fusion", "masks", "STAPLE", "time", 0.2, "x SimpleITK", 1.0],
    )
    figure = costs.step_ratios(found)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["small", "large"]
    small, large = figure.axes
    assert sorted(bar.get_width() for bar in small.patches) == [1.04, 3.5]
    assert [text.get_text().strip() for text in large.texts] == ["1.20"]
    # The plain network's line and the one target of each.
    assert [line.get_xdata()[0] for line in large.lines] == [1, 1.15]


def test_an_empty_table_names_the_command():
    with pytest.raises(ValueError, match="benchmarks/bench.py --parts step"):
        costs.step_ratios(table())


def test_the_committed_table_is_drawn_and_holds_what_was_asked(root):
    found = pd.read_csv(root / "figures" / "source_data" / "bench.csv")
    assert list(found.columns) == COLUMNS
    assert {"step", "labels", "fusion", "start"} <= set(found.part)
    assert (found.value > 0).all() and found.target.notna().sum() >= 8
    assert len(costs.step_ratios(found).axes) == 6
    ratios = found[(found.quantity == "time") & (found.unit == "x per pixel")]
    assert (ratios.what == "literal").all() and (ratios.value > 1).all()
