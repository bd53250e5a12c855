"""`figures/README.md` says what the CSV files beside it say, and keeps what others wrote."""

import pandas as pd
import pytest

from noisyseg.methods import METHODS
from noisyseg.paper import readme
from noisyseg.storage import figures_root


def test_the_committed_page_is_what_the_committed_tables_make():
    text = (figures_root() / "README.md").read_text("utf-8")
    between = text.partition(readme.BEGIN)[2].partition(readme.END)[0]
    assert readme.BEGIN + between + readme.END == readme.section(), "run notebook 91"


def test_every_verdict_and_every_method_has_a_row():
    section = readme.section()
    claims = pd.read_csv(figures_root() / "verdicts.csv").claim
    judged = section.partition("judged")[2].partition("## ")[0]
    assert all(judged.count(f"| {claim} |") == n for claim, n in claims.value_counts().items())
    assert section.count(f"| {METHODS['calibrated'].title} |") == 1 + len(readme.PAPER)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for file in figures_root().glob("*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("NOISYSEG_FIGURES", str(tmp_path))
    return tmp_path


def test_writing_twice_changes_nothing_and_keeps_other_sections(folder):
    page = folder / "README.md"
    page.write_text("# Figures and tables\n\n## Of others\n\nstays\n")
    readme.write()
    once = page.read_text()
    readme.write()
    assert page.read_text() == once and "## Of others\n\nstays\n" in once
    assert once.startswith("# Figures and tables\n\n<!-- tables")


def test_a_missing_table_is_named_with_what_makes_it(folder):
    (folder / "people.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"people\.csv.*ONLY=91_tables"):
        readme.write()
