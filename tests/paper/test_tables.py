"""Tables for a page: titles, order, and the line above a figure."""

import pandas as pd

from noisyseg.methods import METHODS
from noisyseg.paper import tables


def rows(values, labelling="dense", dataset="mnist"):
    return pd.DataFrame(
        [
            {"method": method, "labelling": labelling, "seed": seed, "value": value}
            for method, line in values.items()
            for seed, value in enumerate(line)
        ]
    ).assign(dataset=dataset, metric="dice", annotator="all", **{"class": "all"})


def test_a_readable_table_has_titles_in_the_order_of_figures_and_changes_nothing():
    table = pd.DataFrame({"Dice %, ours": ["1", "2"]}, index=["calibrated", "clean"])
    styled = tables.readable(table, "Table 1 <data>")
    assert list(styled.data.index) == [METHODS[m].title for m in ("clean", "calibrated")]
    assert list(styled.data["Dice %, here"]) == ["2", "1"]
    assert "Table 1" in styled.to_html() and list(table) == ["Dice %, ours"]


def test_a_headline_has_the_mean_of_each_labelling():
    data = pd.concat([rows({"mode": [0.8, 0.9], "trace": [0.9]}), rows({"mode": [0.5]}, "one")])
    said = tables.in_short(data, ("trace", "mode", "clean"))
    assert said == (
        "Dice: paper, Theorem 1 held 90.0 %, majority labels 85.0 / 50.0 %, "
        "with all labels / one label an image"
    )


def test_a_headline_names_only_the_labellings_that_there_are():
    assert tables.in_short(rows({"mode": [0.5]}), ["mode"]).endswith("50.0 %, with all labels")
