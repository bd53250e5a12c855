"""The README is true: its numbers are those of the committed tables, its links lead somewhere."""

import re

import pandas as pd

from noisyseg import plotting, tables
from noisyseg.methods import METHODS


def readme(root):
    return (root / "README.md").read_text("utf-8")


def rows_of(text):
    """Cells of every Markdown table row, by the first cell."""
    lines = (line.strip()[1:-1].split("|") for line in text.splitlines() if line.startswith("|"))
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_its_table_is_the_committed_one(root):
    data = tables.source_data("mnist", "reduced")
    shown = rows_of(readme(root).split("## Our numbers beside the paper's")[1].split("\n## ")[0])
    dense, one = (
        tables.beside_printed(data, number, "mnist", kind)
        for number, kind in ((1, "dense"), (2, "one"))
    )
    for method in dense.index:
        cells = shown[plotting.METHOD_STYLE[method][0]]
        expected = [*dense.loc[method], *one.loc[method]]
        assert cells == expected, method


def test_its_verdict_counts_are_the_committed_ones(root):
    verdicts = pd.read_csv(root / "figures" / "verdicts.csv").verdict.value_counts()
    found = re.search(r"(\d+) reproduced, (\d+) not reproduced, (\d+) not testable", readme(root))
    kinds = ("reproduced", "not reproduced", "not testable here")
    assert [int(n) for n in found.groups()] == [verdicts.get(kind, 0) for kind in kinds]


def test_its_links_lead_somewhere(root):
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", readme(root))
    assert links and not [link for link in links if not (root / link).exists()]


def test_it_opens_with_the_two_commands(root):
    assert readme(root).index("make figures") < readme(root).index("make test") < 1200


def test_its_medical_table_is_the_committed_one(root):
    part = readme(root).split("<!-- medical -->")[1].split("<!-- /medical -->")[0]
    shown = [line.strip()[1:-1].split("|") for line in part.strip().splitlines()[2:]]
    shown = [[cell.strip() for cell in cells[2:]] for cells in shown]
    expected = []
    for name in ("ms", "brats", "lidc"):
        data = tables.source_data(name, "reduced")
        for labelling in ("dense", "one"):
            row = tables.beside_best(data, labelling)
            best = plotting.METHOD_STYLE[row["best other"]][0]
            expected.append([
                row["dominant"], f"{best} {row['its Dice']}", row["difference"],
                *(row[METHODS[m].title] for m in ("mode", "clean", "trace")),
            ])  # fmt: skip
    assert shown == expected


def between(root, name):
    """Cells of the rows of the table between two comments, by the first cell."""
    return rows_of(readme(root).split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0])


def test_its_table_of_slices_with_a_core_is_the_committed_one(root):
    data = pd.read_csv(root / "figures" / "brats_averages.csv").query("labelling == 'dense'")
    own = data[data.network.str.startswith("average") == (data.method == "separate")]
    shown = between(root, "core")
    named = {plotting.METHOD_STYLE[m][0]: own[own.method == m] for m in own.method.unique()}
    assert len(set(shown) & set(named)) == len(shown) - 2 >= 8  # two lines are the header
    for name in set(shown) & set(named):
        kinds = ("dice", "dice_present", "left_empty")
        expected = [tables.mean_and_range(100 * named[name][kind]) for kind in kinds]
        assert shown[name] == [*expected, str(len(named[name]))], name


def test_its_table_of_rendered_pictures_is_the_committed_one(root):
    committed = pd.read_csv(root / "figures" / "lidc_rendering.csv", index_col="method")
    shown = list(between(root, "rendering").values())
    assert shown[0] == [name for name in committed if name != "data"]
    assert shown[2:] == committed.drop(columns="data").to_numpy().tolist()


def test_its_shares_of_the_rim_are_the_committed_ones(root):
    shares = pd.read_csv(root / "figures" / "ms_rim.csv", index_col="annotator")
    rim, marked = (
        f"{100 * shares[c].iloc[-1]:.0f} %" for c in ("rim of the lesions", "of the rim")
    )
    text = " ".join(readme(root).split())
    assert f"{rim} of their pixels are rim, and of the rim the annotators mark {marked}" in text
    stripes = shares.loc["alternate@12", "of the rim"]
    assert f"stripes {100 * stripes:.0f} %" in text
