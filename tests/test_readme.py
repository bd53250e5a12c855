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
    data, shown = tables.source_data("mnist", "reduced"), rows_of(readme(root))
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
