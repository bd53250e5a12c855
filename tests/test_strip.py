"""Stripping a notebook: what goes, what stays, and that a second time changes nothing."""

import base64
import io
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat import v4
from PIL import Image

SCRIPT = Path(__file__).resolve().parent.parent / "notebooks" / "strip.py"
VIEW = "application/vnd.jupyter.widget-view+json"


PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def picture(data):
    return Image.open(io.BytesIO(base64.b64decode(data["image/png"])))


@pytest.fixture
def book(tmp_path):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "png")
    png = base64.b64encode(file.getvalue()).decode()
    still = {VIEW: {"model_id": "a"}, "image/png": png, "text/plain": "Explorer()"}
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
    found = nbformat.read(book, 4)
    (cell,) = found.cells
    assert not {"widgets", "papermill"} & set(found.metadata)
    assert cell.metadata == {"tags": ["checks"]} and cell.execution_count == 3
    still, stream = cell.outputs  # a live view without a picture leaves nothing to see
    assert set(still.data) == {"image/png", "text/plain"}
    assert stream.text == "kept\n"


def test_pictures_keep_their_size_and_nearly_their_colours(book):
    strip(book)
    stored = picture(nbformat.read(book, 4).cells[0].outputs[0].data)
    assert stored.mode == "P" and len(stored.getcolors()) <= 256 and stored.size == (60, 40)
    far = np.abs(np.asarray(stored.convert("RGB"), int) - PIXELS)
    assert far.mean() < 32  # noise of all colours is the worst there is


def test_a_second_time_changes_nothing(book):
    strip(book)
    before = book.read_bytes()
    second = strip(book)
    assert (second.returncode, second.stdout) == (0, "")
    assert book.read_bytes() == before


def test_a_notebook_that_ran_again_and_shows_the_same_is_the_same(tmp_path):
    code = "import pandas as pd; pd.DataFrame({'a': [1]}).style.set_properties(color='red')"
    books = []
    for name in ("a", "b"):
        cells = [v4.new_code_cell(code, id="one"), v4.new_code_cell(code, id="two")]
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(v4.new_notebook(cells=cells), path)
        command = [sys.executable, "-m", "jupyter", "execute", "--inplace", path]
        subprocess.run(command, check=True, capture_output=True)
        strip(path)
        books.append(path.read_text("utf-8"))
    assert books[0] == books[1]
    first, second = (c.outputs[0].data for c in nbformat.reads(books[0], 4).cells)
    assert 'id="T_00000"' in first["text/html"] and "#T_00001_row0_col0" in second["text/html"]
    assert "Styler>" in first["text/plain"]
