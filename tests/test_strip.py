"""Stripping a notebook: what goes, what stays, and that a second time changes nothing."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

SCRIPT = Path(__file__).resolve().parent.parent / "notebooks" / "strip.py"
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def book(tmp_path):
    still = {VIEW: {"model_id": "a"}, "image/png": "aWNo", "text/plain": "Explorer()"}
    bare = {VIEW: {"model_id": "b"}, "text/plain": "IntSlider()"}
    cell = v4.new_code_cell("x", execution_count=3, outputs=[
        v4.new_output("display_data", data=still), v4.new_output("display_data", data=bare),
        v4.new_output("stream", text="kept\n"),
    ])  # fmt: skip
    cell.metadata["papermill"] = {"duration": 1.5}
    cell.metadata["tags"] = ["checks"]
    path = tmp_path / "a.ipynb"
    meta = {"widgets": {"state": {}}, "papermill": {"duration": 2}}
    nbformat.write(v4.new_notebook(cells=[cell], metadata=meta), path)
    return path


def strip(path):
    return subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True)


def test_noise_and_live_views_go_and_the_rest_stays(book):
    assert strip(book).returncode == 1
    (cell,) = (found := nbformat.read(book, 4)).cells
    assert not {"widgets", "papermill"} & set(found.metadata)
    assert cell.metadata == {"tags": ["checks"]} and cell.execution_count == 3
    still, stream = cell.outputs  # a live view without a picture leaves nothing to see
    assert set(still.data) == {"image/png", "text/plain"} and still.data["image/png"] == "aWNo"
    assert stream.text == "kept\n"


def test_a_second_time_changes_nothing(book):
    strip(book)
    before = book.read_bytes()
    second = strip(book)
    assert (second.returncode, second.stdout) == (0, "")
    assert book.read_bytes() == before
