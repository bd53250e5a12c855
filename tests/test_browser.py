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
        done = "text=the panel knows the five annotators: True"  # the last one: all cells have run
        page.page.wait_for_selector(done, timeout=300_000)
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
    took = page.slider(frame, "px", 5)
    after = [images.nth(k).get_attribute("src") for k in range(images.count())]
    assert sum(a != b for a, b in zip(before, after, strict=True)) >= 1
    text, state = page.status(frame)
    assert state == "ready" and "mnist (real)" in text
    measured(f"studio: {kernel_ms(text)} ms in the kernel, {took:.0f} ms on the page")
    assert dragged(page, frame) >= 2, "it answers before the slider is let go"
    frame.screenshot(path=pictures / "studio.png")
    for box in frame.locator("input[type=checkbox]").all():
        if box.is_checked() and box.is_enabled():
            box.uncheck()
    frame.locator('.noisyseg-status[data-state="error"]').wait_for()
    assert "at least one annotator" in page.status(frame)[0]
    frame.locator("input[type=checkbox]").first.check()
    frame.locator('.noisyseg-status[data-state="ready"]').wait_for()


def dragged(page, frame):
    """How often the studio answered while its first degree was dragged and not yet let go."""
    answers = frame.locator(".noisyseg-status")
    before = int(answers.get_attribute("data-answer"))
    handle = page.control(frame, "slider", "px").locator(".noUi-handle").bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    for step in range(1, 11):
        page.page.mouse.move(x + 3 * step, y)
        page.page.wait_for_timeout(100)
    found = int(answers.get_attribute("data-answer")) - before
    page.page.mouse.up()
    return found


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
    """Both explorers with pictures are there; `test_browser_annotate` drives them."""
    frame = page.page.get_by_test_id("explorer")
    frame.scroll_into_view_if_needed()
    page.page.wait_for_selector('[data-testid="explorer-where"] >> text=row 10, column 12')
    assert frame.locator(".nl-card").count() == 5
    frame.screenshot(path=pictures / "explorer.png")
    painter = page.page.get_by_test_id("annotate")
    painter.get_by_text("image 1 of 6").wait_for()
    assert "newcomer" in painter.inner_text(), "the checks of the notebook painted"
    painter.screenshot(path=pictures / "annotate.png")


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
        new_code_cell("widgets.small_training()"),
    ])  # fmt: skip
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    file = place / "app.ipynb"
    nbformat.write(book, file)
    with voila(place, file) as address, screen(browser, pictures, "voila") as page:
        page.page.goto(address)
        frame = page.explorer("Annotator studio")
        took = page.slider(frame, "px", 3)
        assert page.status(frame)[1] == "ready"
        measured(f"studio in Voila: {took:.0f} ms on the page")
        page.shot("voila")
        page.page.set_viewport_size({"width": 390, "height": 1400})
        page.choose(frame, "data", "brats")
        for title in ("Annotator studio", "Small training"):
            part = page.explorer(title)
            page.page.wait_for_timeout(300)
            part.screenshot(path=pictures / f"{title.split()[-1]}-390.png")
            over = part.evaluate("part => part.scrollWidth - part.clientWidth")
            assert over <= 0, f"{title} scrolls sideways by {over} px"


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
