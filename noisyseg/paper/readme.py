"""`figures/README.md`: the tables of `figures/*.csv` as one page that a code host shows.

Notebook 91 writes the section between the two marks; the rest of the file belongs to others.
"""

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

from noisyseg import storage
from noisyseg.plots.style import LABELLINGS, PEOPLE, title_of

BEGIN, END = "<!-- tables: written by notebook 91 -->", "<!-- end of tables -->"
PAPER = {
    "table1_mnist": "Table 1, MNIST",
    "table2_mnist": "Table 2, MNIST",
    "table1_ms": "Table 1, MS lesions (stand-ins)",
    "table2_ms": "Table 2, MS lesions (stand-ins)",
    "table4_brats": "Table 4, BraTS' core (stand-ins)",
    "table5_brats": "Table 5, BraTS' core (stand-ins)",
    "table4_lidc": "Table 4, LIDC (real outlines, rendered CT)",
    "table5_lidc": "Table 5, LIDC (real outlines, rendered CT)",
}
SHOWN = ["claim", "reading", "paper", "ours", "interval", "data", "verdict"]  # of verdicts.csv


def section() -> str:
    """The section of tables, from the CSV files beside it.

    Raises FileNotFoundError naming the file that is missing and what makes it.
    """
    verdicts = _read("verdicts")[SHOWN].rename(columns={"ours": "here"})
    people = _by_title(_read("people").drop(columns="data"))
    people = people.rename(columns=_words)
    parts = [BEGIN, "## Every claim of the paper, judged", markdown(verdicts)]
    parts += ["## Real people: Dice in %, mean (range) over seeds", markdown(people)]
    for name, title in PAPER.items():
        labelling = LABELLINGS["dense" if title[6] in "14" else "one"]
        table = _by_title(_read(name))
        table = table.rename(columns=lambda head: head.replace(", ours", ", here"))
        parts += [f"## {title}: {labelling}", markdown(table)]
    return "\n\n".join([*parts, END])


def write() -> None:
    """Put `section()` into `README.md` of the folder of figures, or begin the file with it."""
    path = storage.figures_root() / "README.md"
    text = path.read_text("utf-8") if path.exists() else "# Figures and tables\n"
    old = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if old.search(text):
        text = old.sub(lambda _: section(), text)
    else:
        title, _, rest = text.partition("\n")
        text = f"{title}\n\n{section()}\n{rest}"
    storage.write_bytes(path, text.encode())


def markdown(table: pd.DataFrame) -> str:
    r"""A table as Markdown; the index is left out, and empty cells are empty.

    >>> print(markdown(pd.DataFrame({"a": [1, None], "b": ["x|y", "z"]}, dtype=object)))
    | a | b |
    |---|---|
    | 1 | x\|y |
    |  | z |
    """

    def line(cells: Iterable[Any]) -> str:
        texts = ["" if pd.isna(cell) else str(cell).replace("|", "\\|") for cell in cells]
        return f"| {' | '.join(texts)} |"

    rows = table.itertuples(index=False, name=None)
    return "\n".join([line(table.columns), "|" + "---|" * table.shape[1], *map(line, rows)])


def _read(name: str) -> pd.DataFrame:
    path = storage.figures_root() / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"no {path}: run notebook 91 (`make figures ONLY=91_tables`)")
    return pd.read_csv(path, dtype=str)


def _by_title(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(method=table.method.map(title_of))


def _words(head: str) -> str:
    """For example "crowd workers, one label an image" for "people_crowd one"."""
    name, _, labelling = head.partition(" ")
    kind = {"dense": "all label", "one": "one label an image"}.get(labelling, "")
    return f"{PEOPLE[name]}, {kind}" if name in PEOPLE else head
