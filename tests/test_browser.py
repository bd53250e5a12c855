"""The explorers in JupyterLab and Voila, and the report, in headless Chromium.

Each explorer's reaction time, in the kernel and as a reader sees it, is printed at the end of the
session. Pictures of all go to NOISYSEG_SCREENSHOTS, or to pytest's temporary folder.
"""

import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from browser import chromium, jupyter_lab, needs_browser, screen, voila
from nbformat.v4 import new_code_cell, new_notebook

from data_prep import examples
from noisyseg.report import make
from noisyseg.storage import data_root, project_root

pytestmark = [needs_browser, pytest.mark.timeout(900)]
NOTEBOOKS = project_root() / "notebooks"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    given = os.environ.get("NOISYSEG_SCREENSHOTS")
    return Path(given) if given else tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of the notebooks to run, with the checkout's data and a store of its own."""
    folder = tmp_path_factory.mktemp("browser")
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    for name in ("01_simulated_annotators", "50_playground"):
        shutil.copy(NOTEBOOKS / f"{name}.ipynb", notebooks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISYSEG_DATA", str(data_root()))
        yield folder


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def lab(place):
    with jupyter_lab(place, place / "notebooks") as address:
        yield address


def kernel_ms(text):
    return re.findall(r"(\d+) ms", text)[-1]


def test_playground_in_jupyterlab(lab, browser, pictures, measured):
    with screen(browser, pictures, "playground", height=1500) as page:
        page.open_lab(lab("50_playground.ipynb"))
        page.explorer("Annotators of")  # the last one: all cells have run
        page.page.wait_for_selector("text=the panel knows the five annotators: True")
        for part in (studio, one_pixel, explorer, training):
            part(page, pictures, measured)
        panel = page.explorer("Annotators of")
        took = page.choose(panel, "annotator", "under")
        text, state = page.status(panel)
        assert state == "ready" and "under" in text
        assert "under" in panel.inner_text()
        measured(f"annotator panel: {kernel_ms(text)} ms in the kernel, {took:.0f} ms on the page")
        panel.screenshot(path=pictures / "panel.png")
        warned = page.page.locator(".jp-RenderedText[data-mime-type*=stderr]").all_inner_texts()
        assert all("SwapWarning" in text for text in warned), "the paper's λ swaps, nothing else"


def studio(page, pictures, measured):
    frame = page.explorer("Annotator studio")
    images = frame.locator("img")
    before = [images.nth(k).get_attribute("src") for k in range(images.count())]
    took = page.slider(frame, "degree, px", 5)
    after = [images.nth(k).get_attribute("src") for k in range(images.count())]
    assert sum(a != b for a, b in zip(before, after, strict=True)) >= 1
    text, state = page.status(frame)
    assert state == "ready" and "mnist (real)" in text
    measured(f"studio: {kernel_ms(text)} ms in the kernel, {took:.0f} ms on the page")
    frame.screenshot(path=pictures / "studio.png")
    for box in frame.locator("input[type=checkbox]").all():
        if box.is_checked() and box.is_enabled():
            box.uncheck()
    frame.locator('.noisyseg-status[data-state="error"]').wait_for()
    assert "at least one annotator" in page.status(frame)[0]
    frame.locator("input[type=checkbox]").first.check()
    frame.locator('.noisyseg-status[data-state="ready"]').wait_for()


def one_pixel(page, pictures, measured):
    frame = page.page.get_by_test_id("pixel")
    frame.scroll_into_view_if_needed()
    page.page.wait_for_selector('[data-testid="verdict"]:text-is("The vote")')
    page.page.get_by_test_id("hinge").focus()
    page.page.keyboard.press("Home")  # the checks of the notebook left λ and the hinge high
    page.page.wait_for_selector('[data-testid="verdict"]:text-is("The swap")')
    frame.screenshot(path=pictures / "pixel.png")
    film = page.page.get_by_test_id("film")
    film.get_by_text("After epoch 30 of 30").wait_for()
    film.screenshot(path=pictures / "film.png")


def explorer(page, pictures, measured):
    frame = page.explorer("Confusion explorer")
    took = page.click_picture(frame, 0.45, 0.6)
    text, state = page.status(frame)
    assert state == "ready"
    row, column = map(int, re.search(r"row (\d+), column (\d+)", text).groups())
    assert 10 <= row <= 22 and 8 <= column <= 18, "the pixel under the mouse"
    assert "good: expected to write" in frame.inner_text()
    measured(f"confusion explorer: {kernel_ms(text)} ms in the kernel, {took:.0f} ms on the page")
    page.slider(frame, "row", 1)
    assert f"row {row + 1}, column {column}" in page.status(frame)[0], "by keyboard as by mouse"
    page.click_picture(frame, 0.3, 0.4, to=(0.6, 0.7))
    assert "mean over" in page.status(frame)[0]
    page.choose(frame, "picture", "CMs")
    frame.screenshot(path=pictures / "explorer.png")


def training(page, pictures, measured):
    frame = page.explorer("Small training")
    page.move(frame, "epochs", 14)
    page.changed(frame, frame.locator('button:text-is("Train")').click, until="epoch 2 of")
    stop = frame.locator('button:text-is("Stop")').click
    took = page.changed(frame, stop, until="stopped after epoch")
    measured(f"small training: {took:.0f} ms on the page from Stop to the stopped training")
    page.move(frame, "epochs", -17)
    page.changed(frame, frame.locator('button:text-is("Train")').click, until="done: foreground")
    assert frame.locator("table.dataframe tbody tr").count() == 1
    assert frame.locator(".noisyseg-light").get_attribute("data-light") in ("green", "red")
    frame.screenshot(path=pictures / "training.png")


def test_notebook_01_in_jupyterlab(lab, browser, pictures):
    with screen(browser, pictures, "01") as page:
        page.open_lab(lab("01_simulated_annotators.ipynb"))
        page.page.wait_for_selector("text=order never matters: True")
        frame = page.explorer("Annotator studio")
        page.slider(frame, "image", 2)
        assert page.status(frame)[1] == "ready"
        page.shot("notebook-01")


def test_a_notebook_that_was_not_run_shows_still_pictures(lab, browser, pictures):
    with screen(browser, pictures, "still") as page:
        page.open_lab(lab("50_playground.ipynb?still"), run=False)
        page.page.wait_for_selector(".jp-OutputArea-output img")
        stills = page.page.locator(".jp-RenderedImage img")
        assert stills.first.evaluate("image => image.naturalWidth") > 200
        assert not page.page.locator("text=Error displaying widget").count()


def test_keyboard_alone_reaches_and_moves_a_control(lab, browser, pictures):
    with screen(browser, pictures, "keyboard") as page:
        page.open_lab(lab("01_simulated_annotators.ipynb"))
        frame = page.explorer("Annotator studio")
        frame.locator("select").first.focus()
        for _ in range(12):
            page.page.keyboard.press("Tab")
            if page.page.evaluate("document.activeElement.className").count("noUi-handle"):
                break
        else:
            raise AssertionError("Tab does not reach a slider")
        page.changed(frame, lambda: page.page.keyboard.press("ArrowRight"))
        assert page.status(frame)[1] == "ready"


def test_voila_shows_the_same_explorers(place, browser, pictures, measured):
    book = new_notebook(cells=[
        new_code_cell("from noisyseg import widgets\nwidgets.annotator_studio()"),
        new_code_cell(
            "import noisyseg as ns\ncfg = ns.ExperimentConfig.preset('mnist', 'smoke', "
            "'calibrated', 0, epochs=1, n_train=64)\nwidgets.confusion_explorer(ns.run(cfg))"
        ),
    ])  # fmt: skip
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    file = place / "app.ipynb"
    nbformat.write(book, file)
    with voila(place, file) as address, screen(browser, pictures, "voila") as page:
        page.page.goto(address)
        frame = page.explorer("Annotator studio")
        took = page.slider(frame, "degree, px", 3)
        assert page.status(frame)[1] == "ready"
        measured(f"studio in Voila: {took:.0f} ms on the page")
        frame = page.explorer("Confusion explorer")
        page.click_picture(frame, 0.4, 0.6)
        assert "expected to write" in frame.inner_text()
        page.shot("voila")


@pytest.mark.parametrize("width", [1000, 420])
def test_the_report_is_one_quiet_page(tmp_path, browser, pictures, width):
    examples.write_png(tmp_path / "digits", images=40)
    file = make.build(tmp_path / "digits", tmp_path / "out", steps=20, resamples=50)
    with screen(browser, pictures, "report", width, 900) as page:
        said = []
        page.page.on("console", lambda message: said.append(message.text))
        page.page.goto(file.as_uri())
        assert page.page.locator("h1").inner_text() == "Annotators of digits"
        widths = page.page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) >= 5 and min(widths) > 100
        overflow = page.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, "nothing but tables scrolls sideways"
        outside = [url for url in page.requests if not url.startswith(("file:", "data:"))]
        assert not outside and not said and not page.errors
        page.shot(f"report-{width}")
