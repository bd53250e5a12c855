"""Pages of text are what the committed tables say, and are written without harm to the rest."""

import pandas as pd
import pytest

from noisyseg.paper import pages


def test_the_committed_page_is_that_of_the_committed_tables(root):
    text = (root / "figures" / "README.md").read_text("utf-8")
    shown = text.split("<!-- tables -->\n")[1].split("<!-- /tables -->")[0]
    assert shown == pages.tables_page().rstrip() + "\n"


def test_every_committed_figure_is_listed_once(root):
    drawn = {f.stem for f in (root / "figures").glob("*.png") if not f.stem.endswith(".smoke")}
    assert drawn == set(pages.FIGURES)


def test_a_part_is_replaced_and_the_rest_stays(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("# Title\n\n<!-- one -->\nold\n<!-- /one -->\n\nafter\n", "utf-8")
    pages.put(file, "one", "new\n")
    pages.put(file, "two", "more")
    pages.put(file, "one", "newer")
    assert file.read_text("utf-8") == (
        "# Title\n\n<!-- one -->\nnewer\n<!-- /one -->\n\nafter\n\n"
        "<!-- two -->\nmore\n<!-- /two -->\n"
    )


def test_a_page_with_one_comment_alone_is_refused(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("<!-- one -->\nold\n", "utf-8")
    with pytest.raises(ValueError, match="page.md: only one of .* write both"):
        pages.put(file, "one", "new")
    assert file.read_text("utf-8") == "<!-- one -->\nold\n"


def test_bars_in_cells_do_not_break_a_row():
    assert pages.markdown(pd.DataFrame({"a|b": ["c|d"]})) == "| a\\|b |\n| --- |\n| c\\|d |\n"


def test_a_missing_table_is_named_with_what_makes_it(tmp_path, monkeypatch, root):
    for file in (root / "figures").glob("*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "source_data").symlink_to(root / "figures" / "source_data")
    monkeypatch.setenv("NOISYSEG_FIGURES", str(tmp_path))
    (tmp_path / "people.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"people\.csv.*ONLY=91_tables"):
        pages.tables_page()
