"""Notebook 40, cell by cell through papermill, on the kinds of data that users have."""

import papermill
import pytest

from data_prep import examples
from noisyseg.paths import data_root, project_root

pytestmark = pytest.mark.timeout(600)
BOOK = project_root() / "notebooks" / "40_your_own_data.ipynb"


def cells(folder, dataset, monkeypatch):
    """The executed notebook's printed lines; its ten cells of code all ran."""
    monkeypatch.setenv("NOISYSEG_DATA", str(data_root()))
    monkeypatch.setenv("NOISYSEG_RUNS", str(folder / "runs"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    done = papermill.execute_notebook(
        BOOK, folder / "out.ipynb", {"overrides": {"dataset": str(dataset)}}, cwd=BOOK.parent,
        kernel_name="python3", progress_bar=False, log_output=False, start_timeout=120,
    )  # fmt: skip
    code = [c for c in done.cells if c.cell_type == "code"]
    injected = [c for c in code if "injected-parameters" in c.metadata.get("tags", [])]
    assert len(code) - len(injected) == 10 and all(c.execution_count for c in code)
    outputs = [o for c in code for o in c.outputs]
    assert not [o for o in outputs if o.get("name") == "stderr"]
    return "".join(o.get("text", "") for o in outputs)


# Jupyter's own packages warn about each other; the notebook's warnings are looked for above.
@pytest.mark.filterwarnings("ignore")
def test_the_readers_outlines_as_a_prepared_folder(tmp_path, monkeypatch):
    text = cells(tmp_path, data_root() / "lidc", monkeypatch)
    assert "888 images" in text and text.count(": True") == 4
    for reader in range(1, 5):
        assert f"reader {reader}: " in text


@pytest.mark.filterwarnings("ignore")
def test_oblique_volumes_of_four_readers(tmp_path, monkeypatch):
    examples.write_nifti(tmp_path / "nodules", volumes=30)
    text = cells(tmp_path, tmp_path / "nodules", monkeypatch)
    assert "'images': 30" in text and "predictions: True" in text and text.count(": True") == 5
    written = list((tmp_path / "runs").rglob("annotator_reader4.nii.gz"))
    assert len(written) == 30


def test_png_with_an_annotator_of_a_third_is_the_stored_one():
    """The third kind is the notebook's own example, executed by nbval in `make test`."""
    stored = BOOK.read_text("utf-8")
    assert "'anna': 600, 'ben': 600, 'cleo': 200" in stored
    assert "anna: draws foreground" in stored and "cleo: no clear bias found" in stored
