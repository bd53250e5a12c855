"""The next annotator and the confusion explorer in a browser, with a kernel and without.

JupyterLab, Voila and the page of the book, by mouse and by keyboard. Reaction times are printed at
the end of the session. Pictures go to NOISYSEG_SCREENSHOTS, or to pytest's temporary folder.
"""

import json
import os
import statistics
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser import chromium, jupyter_lab, needs_browser, screen, voila
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from noisyseg.storage import data_root
from noisyseg.widgets import book_fragments

# Reactions are printed and not judged here, since other processes share the machine; a page that
# takes this long hangs.
STALLED_MS = 2000
pytestmark = [needs_browser, pytest.mark.timeout(900)]
WIDTHS = {390: 1400, 1400: 1100}
NAMES = ("annotate", "explorer")
CELLS = (
    "from noisyseg import widgets\n"
    "painter = widgets.next_annotator('mnist', 3, folder='drawn')\npainter",
    "explorer = widgets.confusion_explorer()\nexplorer",
    "print('ready', len(explorer.names) > 1)",
)
# Voila's own template asks for them; nothing of ours does.
TEMPLATE = ("https://cdnjs.cloudflare.com/", "https://unpkg.com/", "https://cdn.jsdelivr.net/")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    given = os.environ.get("NOISYSEG_SCREENSHOTS")
    return Path(given) if given else tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The explorers of the book, each on a page of its own; their files by name."""
    folder = tmp_path_factory.mktemp("baked")
    head = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    for name, piece in book_fragments(NAMES).items():
        assert len(piece.encode()) < 1_000_000
        (folder / f"{name}.html").write_text(f"{head}<title>{name}</title>{piece}", "utf-8")
    return {file.stem: file for file in folder.glob("*.html")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a notebook of both explorers, and the checkout's data."""
    folder = tmp_path_factory.mktemp("annotate")
    book = new_notebook(cells=[new_code_cell(text) for text in CELLS])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    (folder / "books").mkdir()
    nbformat.write(book, folder / "books" / "live.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISYSEG_DATA", str(data_root()))
        yield folder


def opened(page, pages, name):
    """Open a baked page; what its console says from then on."""
    said = []
    page.page.on("console", lambda message: said.append(message.text))
    page.page.goto(pages[name].as_uri())
    page.page.wait_for_selector('[data-ready="yes"]', state="attached")
    return said


def state(page, name):
    return json.loads(page.page.get_by_test_id(name).get_attribute("data-state"))


def wait(page, name, test):
    """Wait until `test`, JavaScript on the explorer's state `s`, is true; the state."""
    script = f"""(name) => {{
      const root = document.querySelector(`[data-testid="${{name}}"]`);
      const s = JSON.parse(root?.dataset.state ?? "null");
      return s && ({test});
    }}"""
    page.page.wait_for_function(script, arg=name)
    return state(page, name)


def canvas_of(page, name):
    """How to get from fractions of a canvas to a place on the screen."""
    canvas = page.page.get_by_test_id(f"{name}-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])


def stroke(page, at, points):
    """Paint a line; the milliseconds that each movement took to be answered."""
    took = []
    page.page.mouse.move(*at(*points[0]))
    page.page.mouse.down()
    for point in points[1:]:
        page.page.mouse.move(*at(*point))
        took.append(state(page, "annotate")["ms"])
    page.page.mouse.up()
    return [ms for ms in took if ms is not None]


def line(start, end, steps):
    return [
        tuple(a + (b - a) * t for a, b in zip(start, end, strict=True))
        for t in np.linspace(0, 1, steps)
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_baked_page_is_quiet_and_fits(pages, browser, pictures, name, scheme, width):
    with screen(browser, pictures, f"baked-{name}", width, WIDTHS[width]) as page:
        page.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        said = opened(page, pages, name)
        at = canvas_of(page, name)
        page.page.mouse.move(*at(0.5, 0.5))
        if name == "annotate":
            stroke(page, at, line((0.3, 0.3), (0.6, 0.6), 8))
            page.page.get_by_test_id("annotate-others").click()
            page.page.get_by_test_id("annotate-reveal").click()
        overflow = page.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, "nothing scrolls sideways"
        assert not said and not page.errors
        assert all(url.startswith(("file:", "blob:", "data:")) for url in page.requests)
        page.page.screenshot(path=pictures / f"{name}-{scheme}-{width}.png", full_page=True)


def test_without_javascript_there_is_a_picture(pages, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for name in NAMES:
        page.goto(pages[name].as_uri())
        still = page.locator("noscript img, img").first
        assert still.get_attribute("alt") and still.bounding_box()["width"] > 200
    context.close()


def test_painting_by_mouse_without_a_kernel(pages, browser, pictures, measured):
    with screen(browser, pictures, "annotate-mouse", 1400, 1100) as page:
        opened(page, pages, "annotate")
        assert "Nothing yet" in page.page.get_by_test_id("annotate-words").inner_text()
        at = canvas_of(page, "annotate")
        stroke(page, at, line((0.5, 0.5), (0.6, 0.6), 10))  # the first ones compile the code
        took = stroke(page, at, line((0.35, 0.3), (0.7, 0.4), 60))
        measured(
            f"next annotator without a kernel: median {statistics.median(took):.1f} ms, "
            f"a tenth longer than {np.quantile(took, 0.9):.1f} ms"
        )
        assert statistics.median(took) < STALLED_MS
        now = state(page, "annotate")
        assert now["pixels"] > 20 and any("digit" in text for text in now["words"])
        words = page.page.get_by_test_id("annotate-words").inner_text()
        assert all(text in words for text in now["words"])
        table = page.page.get_by_test_id("annotate-estimated").locator("td").all_inner_texts()
        assert table == [f"{v:.2f}" for row in now["estimated"] for v in row]
        assert not page.page.get_by_test_id("annotate-true").count(), "not before it is revealed"
        page.page.get_by_test_id("annotate-reveal").click()
        assert page.page.get_by_test_id("annotate-true").count()
        assert "good 100 %" in page.page.get_by_test_id("annotate-dice").inner_text()
        page.page.get_by_test_id("annotate-eraser").click()
        stroke(page, at, line((0.35, 0.3), (0.7, 0.4), 20))
        assert state(page, "annotate")["pixels"] < now["pixels"]
        page.page.get_by_test_id("annotate-undo").click()
        assert state(page, "annotate")["pixels"] == now["pixels"]
        page.page.get_by_test_id("annotate-clear").click()
        assert state(page, "annotate")["pixels"] is None
        for task, word in ((1, "nodule"), (2, "lesion")):
            page.page.get_by_test_id(f"annotate-task-{task}").click()
            at = canvas_of(page, "annotate")
            took = stroke(page, at, line((0.3, 0.4), (0.6, 0.6), 40))[5:]
            measured(f"the same on a {word}: median {statistics.median(took):.1f} ms")
            assert statistics.median(took) < STALLED_MS
            assert any(word in text for text in state(page, "annotate")["words"])


def test_painting_by_keyboard_and_downloading_the_mask(pages, browser, pictures):
    with screen(browser, pictures, "annotate-keyboard", 1400, 1100) as page:
        opened(page, pages, "annotate")
        keys = page.page.keyboard
        page.page.get_by_test_id("annotate-canvas").focus()
        for key in ("-", "-", "ArrowUp", "ArrowLeft", "Enter", *["ArrowRight"] * 4, "Enter"):
            keys.press(key)
        found = state(page, "annotate")
        assert (found["pixels"], found["size"]) == (5, 1)
        keys.press("ArrowDown")
        assert state(page, "annotate")["pixels"] == 5, "the pen is up"
        keys.press("ArrowUp")
        keys.press("e")
        keys.press("Space")
        assert (state(page, "annotate")["pixels"], state(page, "annotate")["eraser"]) == (4, True)
        keys.press("u")
        assert state(page, "annotate")["pixels"] == 5
        with page.page.expect_download() as download:
            page.page.get_by_test_id("annotate-save").click()
        mask = np.array(Image.open(download.value.path()).convert("L"))
        assert download.value.suggested_filename == "mnist-test-00000.png"
        assert mask.shape == (28, 28) and set(np.unique(mask)) == {0, 255}
        assert np.count_nonzero(mask) == 5
        keys_of = page.page.get_by_test_id("annotate-canvas")
        keys_of.focus()
        keys.press("]")
        assert state(page, "annotate")["image"] == 1
        keys.press("Tab")
        assert page.page.evaluate("document.activeElement.dataset.testid") == "annotate-brush"


def test_the_explorer_without_a_kernel(pages, browser, pictures, measured):
    with screen(browser, pictures, "explorer", 1400, 1500) as page:
        opened(page, pages, "explorer")
        at, took = canvas_of(page, "explorer"), []
        for point in [(0.5, 0.5)] * 3 + line((0.2, 0.2), (0.8, 0.8), 60):
            page.page.mouse.move(*at(*point))
            took.append(state(page, "explorer")["ms"])
        took = took[10:]
        measured(
            f"confusion explorer without a kernel: median {statistics.median(took):.1f} ms, "
            f"a tenth longer than {np.quantile(took, 0.9):.1f} ms"
        )
        assert statistics.median(took) < STALLED_MS
        pixel = state(page, "explorer")
        assert pixel["box"] == [22, 22, 23, 23]
        cells = page.page.get_by_test_id("explorer-estimated-1").locator("td").all_inner_texts()
        assert cells == [f"{v:.2f}" for row in pixel["found"][1]["estimated"] for v in row]
        known = [one["known"] for one in pixel["found"]]
        assert all(sum(columns) == 1 for columns in known), "one column at a pixel"
        faint = page.page.get_by_test_id("explorer-estimated-1").locator("td.nl-unknown")
        assert faint.count() == 2
        page.page.mouse.move(*at(0.3, 0.3))
        page.page.mouse.down()
        page.page.mouse.move(*at(0.7, 0.5), steps=5)
        page.page.mouse.up()
        area = state(page, "explorer")
        assert area["box"] == [8, 8, 15, 20] and sum(area["found"][0]["known"]) == 2
        where = page.page.get_by_test_id("explorer-where").inner_text()
        assert where.startswith("mean over 84 pixels")
        page.page.mouse.move(0, 0)
        assert state(page, "explorer")["box"] == area["box"], "the area stays when the mouse leaves"


def test_the_explorer_by_keyboard_and_the_readers_one_by_one(pages, browser, pictures):
    with screen(browser, pictures, "explorer-keys", 1400, 1500) as page:
        opened(page, pages, "explorer")
        options = page.page.get_by_test_id("explorer-run").locator("option").all_inner_texts()
        lidc = next(k for k, text in enumerate(options) if text.startswith("lidc"))
        page.page.get_by_test_id("explorer-run").select_option(index=lidc)
        found = wait(page, "explorer", f"s.run === {lidc}")
        names = [page.page.get_by_test_id(f"explorer-annotator-{r}").inner_text() for r in range(4)]
        assert names == [f"reader {r}" for r in (1, 2, 3, 4)]
        page.page.get_by_test_id("explorer-canvas").focus()
        row, column = found["box"][:2]
        for key in ("ArrowRight", "ArrowDown", "Shift+ArrowRight", "2", "]"):
            page.page.keyboard.press(key)
        found = state(page, "explorer")
        assert found["box"] == [row + 1, column + 1, row + 2, column + 3]
        assert found["on"] == [True, False, True, True] and found["image"] == 1
        page.page.get_by_test_id("explorer-annotator-3").press("Enter")
        page.page.get_by_test_id("explorer-labels-opacity").press("End")
        found = state(page, "explorer")
        assert found["on"] == [True, False, True, False] and found["layers"]["labels"] == 1


def assert_close(first, now):
    """What the page said at once is what the kernel says."""
    if first["pixels"] == now["pixels"]:
        assert first["words"] == now["words"]
        assert np.allclose(first["estimated"], now["estimated"], atol=1e-6)


def both(page, measured, where):
    """Paint, explore and save where there is a kernel."""
    kernel = "s.source === 'kernel'"
    wait(page, "annotate", kernel)
    at, here, there = canvas_of(page, "annotate"), [], []
    stroke(page, at, line((0.4, 0.4), (0.6, 0.5), 5))
    for point in line((0.35, 0.3), (0.7, 0.6), 20):
        before = wait(page, "annotate", kernel)
        page.page.mouse.move(*at(*point))
        page.page.mouse.down()
        page.page.mouse.up()
        first = state(page, "annotate")
        now = wait(page, "annotate", kernel)
        assert_close(first, now)
        here.append(now["ms"])
        there += [now["kernel"]] if now["pixels"] != before["pixels"] else []
    measured(
        f"next annotator with a kernel, {where}: the page median {statistics.median(here):.1f} ms, "
        f"the kernel {statistics.median(there):.0f} ms"
    )
    assert statistics.median(here) < STALLED_MS
    painted = wait(page, "annotate", "s.pixels > 20 && s.words.length > 0")
    assert any("digit" in text for text in painted["words"])
    page.page.get_by_test_id("annotate-save").click()
    page.page.get_by_test_id("annotate-status").get_by_text("saved to").wait_for()
    wait(page, "explorer", "s.box")
    at, took = canvas_of(page, "explorer"), []
    for point in line((0.2, 0.2), (0.8, 0.8), 30):
        page.page.mouse.move(*at(*point))
        took.append(state(page, "explorer")["ms"])
    measured(f"confusion explorer with a kernel, {where}: median {statistics.median(took):.1f} ms")
    assert statistics.median(took) < STALLED_MS
    page.page.get_by_test_id("explorer-image").press("ArrowRight")
    shown = wait(page, "explorer", "s.image === 1")
    assert len(shown["found"]) == 5
    page.page.get_by_test_id("explorer-run").select_option(index=1)
    wait(page, "explorer", "s.run === 1 && s.image === 1")


def test_both_in_jupyterlab(place, browser, pictures, measured):
    with jupyter_lab(place, place / "books") as lab:
        with screen(browser, pictures, "annotate-lab", 1400, 1500) as page:
            page.open_lab(lab("live.ipynb"))
            page.page.wait_for_selector("text=ready True")
            both(page, measured, "in JupyterLab")
            saved = place / "books" / "drawn" / "mnist"
            assert np.array(Image.open(saved / "newcomer" / "test-00000.png")).max() == 255
            assert len([*(saved / "images").iterdir()]) == 3
            for name in NAMES:
                part = page.page.get_by_test_id(name)
                part.screenshot(path=pictures / f"lab-{name}.png")
            assert not page.errors
            outside = [url for url in page.requests if "127.0.0.1" not in url]
            assert all(url.startswith(("blob:", "data:")) for url in outside), outside


def test_both_in_voila(place, browser, pictures, measured):
    with voila(place, place / "books" / "live.ipynb") as address:
        with screen(browser, pictures, "annotate-voila", 1000, 1500) as page:
            page.page.goto(address)
            both(page, measured, "in Voila")
            page.shot("voila-annotate")
            assert not page.errors
            outside = [url for url in page.requests if "127.0.0.1" not in url]
            assert all(url.startswith(("blob:", "data:", *TEMPLATE)) for url in outside), outside
