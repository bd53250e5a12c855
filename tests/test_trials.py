"""The reliability table is what the trials wrote, nothing in it is lost, and a trial can fail."""

import numpy as np
import pandas as pd
from trials import __main__ as command
from trials import common, prepared

from noisyseg.data import checks


def test_the_page_shows_the_table_and_nothing_is_lost_or_wrong(root):
    rows = pd.read_csv(root / "figures" / "source_data" / "reliability.csv")
    assert rows.columns.tolist() == command.COLUMNS and len(rows) == rows.fault.nunique()
    required = dict(command.TRIALS.values())
    assert all(row.tries >= required[row.fault] for row in rows.itertuples())
    assert not rows.lost.any() and not rows.wrong.any()
    assert command.section().rstrip() in (root / "figures" / "README.md").read_text("utf-8")


def test_the_section_replaces_itself_and_leaves_the_rest(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISYSEG_FIGURES", str(tmp_path))
    command.enter("a Dask worker killed while it trains", common.Counts(6, 0, 0))
    (tmp_path / "README.md").write_text("# Mine\n\nbefore\n")
    command.write_section()
    with (tmp_path / "README.md").open("a") as page:
        page.write("\nafter\n")
    command.enter("two processes write one folder", common.Counts(50, 1, 0))
    command.write_section()
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Mine\n\nbefore\n") and text.endswith("\nafter\n")
    assert text.count("<!-- reliability -->") == 1 and text.index("| 50 | 1 | 0 |") < text.index(
        "| 6 | 0"
    )


def turn_truth(folder):
    np.save(folder / "truth.npy", np.load(folder / "truth.npy")[::-1])


def test_a_trial_sees_what_is_taken_for_data(tmp_path, monkeypatch):
    source = common.write(tmp_path / "source" / "tiny")
    swapped = prepared.Damage("swapped", turn_truth)
    assert prepared.try_one(source, tmp_path / "place", swapped) == "refused"
    monkeypatch.setattr(checks, "check_seal", lambda path, meta: [])
    assert prepared.try_one(source, tmp_path / "place", swapped) == "changed"
