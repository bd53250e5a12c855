"""Live explorers in headless Chromium: in JupyterLab, in Voila, and baked into a page alone.

Frames a second are measured and printed at the end of the session. Pictures go to
NOISYSEG_SCREENSHOTS, or to pytest's temporary folder.
"""

import json
import os
from pathlib import Path

import nbformat
import pytest
from browser import chromium, jupyter_lab, needs_browser, screen, voila
from nbformat.v4 import new_code_cell, new_notebook

from noisyseg.widgets import book_fragments

pytestmark = [needs_browser, pytest.mark.timeout(900)]
WIDTHS = {390: 1400, 1400: 1100}
# Moves a slider at every frame the browser draws, and says what it took.
FRAMES = """async ([name, frames]) => {
  const input = document.querySelector(`[data-testid="${name}"]`);
  const root = input.closest(".noisyseg-live"), before = JSON.parse(root.dataset.state).frames;
  const start = performance.now();
  for (let k = 0; k < frames; k++) {
    await new Promise(requestAnimationFrame);
    input.value = Number(input.min) + (input.max - input.min) * (0.5 + 0.5 * Math.sin(k / 10));
    input.dispatchEvent(new Event("input"));
  }
  await new Promise(requestAnimationFrame);
  const took = performance.now() - start, state = JSON.parse(root.dataset.state);
  return { fps: 1000 * frames / took, drawn: state.frames - before, ms: state.ms };
}"""


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
    for name, piece in book_fragments(["pixel", "film"]).items():
        head = (
            "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        )
        (folder / f"{name}.html").write_text(f"{head}<title>{name}</title>{piece}", "utf-8")
    return {file.stem: file for file in folder.glob("*.html")}


def listening(page):
    """What the console says from now on."""
    said = []
    page.page.on("console", lambda message: said.append(message.text))
    return said


def state(page, name):
    return json.loads(page.page.get_by_test_id(name).get_attribute("data-state"))


def until(page, name, key, value):
    """Wait for a value in the explorer's state, and give the whole of it."""
    script = "([n, k, v]) => JSON.stringify(JSON.parse(document.querySelector(" + (
        "`[data-testid=\"${n}\"]`)?.dataset.state ?? '{}')[k]) === JSON.stringify(v)"
    )
    page.page.wait_for_function(script, arg=[name, key, value])
    return state(page, name)


def press(page, test_id, key, times=1):
    page.page.get_by_test_id(test_id).focus()
    for _ in range(times):
        page.page.keyboard.press(key)


@pytest.mark.parametrize("name", ["pixel", "film"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_baked_page_is_whole_quiet_and_fits(pages, browser, pictures, name, scheme, width):
    with screen(browser, pictures, f"baked-{name}", width, WIDTHS[width]) as page:
        said = listening(page)
        page.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.page.goto(pages[name].as_uri())
        page.page.wait_for_selector('[data-ready="yes"]', state="attached")
        page.page.get_by_test_id(f"{name}-status").get_by_text(" ").wait_for()
        overflow = page.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, "nothing scrolls sideways"
        assert not said and not page.errors
        assert all(url.startswith(("file:", "blob:", "data:")) for url in page.requests)
        if name == "pixel":
            until(page, name, "coloured", True)
        page.page.screenshot(path=pictures / f"{name}-{scheme}-{width}.png", full_page=True)


def test_one_pixel_by_mouse(pages, browser, pictures):
    with screen(browser, pictures, "pixel-mouse") as page:
        page.page.goto(pages["pixel"].as_uri())
        assert until(page, "pixel", "outcome", "vote")["end"] > 0.95
        page.page.get_by_test_id("lesson-swap").click()
        assert until(page, "pixel", "outcome", "swap")["end"] < 0.05
        assert page.page.get_by_test_id("verdict").inner_text() == "The swap"
        for cure in ("warm-up", "hinge"):
            page.page.get_by_test_id("lesson-swap").click()
            until(page, "pixel", "outcome", "swap")
            page.page.get_by_test_id(f"lesson-{cure}").click()
            assert until(page, "pixel", "outcome", "vote")["weight"] == 1.4
        page.page.get_by_test_id("lesson-vote").click()
        until(page, "pixel", "weight", 0.7)
        # A vote is dragged down; the start is dragged to the side of the other class.
        knob = page.page.get_by_test_id("vote-1").bounding_box()
        x, y = knob["x"] + knob["width"] / 2, knob["y"]
        page.page.mouse.move(x, y + 12)
        page.page.mouse.down()
        page.page.mouse.move(x, y + knob["height"] - 6, steps=5)
        page.page.mouse.up()
        until(page, "pixel", "votes", [0, 1, 0, 1, 0])
        assert "wrote background" in page.page.get_by_test_id("vote-1").get_attribute("aria-label")
        page.page.get_by_test_id("vote-1").click()
        until(page, "pixel", "votes", [1, 1, 0, 1, 0])
        area = page.page.get_by_test_id("map").bounding_box()
        page.page.mouse.move(area["x"] + area["width"] / 2, area["y"] + 60)
        page.page.mouse.down()
        page.page.mouse.move(area["x"] + 60, area["y"] + area["height"] - 90, steps=20)
        page.page.mouse.up()
        moved = until(page, "pixel", "outcome", "swap")
        assert moved["belief"] < 0.1 and moved["diagonal"] < 0.35 and moved["weight"] == 0.7


def test_one_pixel_by_keyboard(pages, browser, pictures):
    with screen(browser, pictures, "pixel-keyboard") as page:
        page.page.emulate_media(reduced_motion="reduce")
        page.page.goto(pages["pixel"].as_uri())
        until(page, "pixel", "outcome", "vote")
        press(page, "weight", "ArrowRight", 14)
        assert until(page, "pixel", "outcome", "swap")["weight"] == pytest.approx(1.4)
        press(page, "warm-up", "ArrowRight", 2)
        until(page, "pixel", "outcome", "vote")
        press(page, "warm-up", "ArrowLeft", 2)
        until(page, "pixel", "outcome", "swap")
        press(page, "hinge", "ArrowRight", 8)
        assert until(page, "pixel", "outcome", "vote")["hinge"] == 2
        press(page, "vote-5", "ArrowUp")
        until(page, "pixel", "votes", [1, 1, 0, 1, 1])
        press(page, "vote-5", "Space")
        until(page, "pixel", "votes", [1, 1, 0, 1, 0])
        press(page, "map", "ArrowLeft", 3)
        assert until(page, "pixel", "belief", 0.47)["diagonal"] == pytest.approx(0.6)
        press(page, "lesson-vote", "Enter")
        # Where less motion is asked for, nothing walks.
        assert until(page, "pixel", "weight", 0.7)["walking"] is False


def test_one_pixel_moves_at_the_speed_of_the_screen(pages, browser, pictures, measured):
    with screen(browser, pictures, "pixel-frames", 1400, 1000) as page:
        page.page.goto(pages["pixel"].as_uri())
        until(page, "pixel", "coloured", True)
        for name in ("weight", "hinge", "belief"):
            page.page.evaluate(FRAMES, [name, 30])
            found = page.page.evaluate(FRAMES, [name, 120])
            measured(
                f"one pixel, {name} dragged: {found['fps']:.0f} frames a second, of which one "
                f"takes {found['ms']:.1f} ms"
            )
            assert found["drawn"] >= 100, "a picture for nearly every move"
            assert found["fps"] > 5


def test_the_film_by_mouse_and_keyboard(pages, browser, pictures):
    with screen(browser, pictures, "film", 1400, 1300) as page:
        page.page.goto(pages["film"].as_uri())
        last = until(page, "film", "playing", False)
        assert last["epoch"] == 30 and last["lights"] == ["red", "green", "green"]
        assert last["dice"][0] < 0.1 and min(last["dice"][1:]) > 0.85
        assert page.page.get_by_test_id("source").inner_text().startswith("Recorded from real")
        press(page, "scrub", "Home")
        assert until(page, "film", "epoch", 0)["lights"] == ["off", "off", "off"]
        press(page, "scrub", "ArrowRight", 6)
        early = until(page, "film", "epoch", 6)
        assert early["dice"][0] > 0.5, "found before the release"
        assert bright(page, "estimate-trace_printed") < 0.4
        press(page, "scrub", "End")
        until(page, "film", "epoch", 30)
        assert bright(page, "estimate-trace_printed") > 0.6 > bright(page, "estimate-calibrated")
        page.page.get_by_test_id("digit-2").click()
        until(page, "film", "digit", 1)
        page.page.get_by_test_id("play").click()
        page.page.get_by_test_id("play").get_by_text("Pause").wait_for()
        until(page, "film", "epoch", 30)
        page.page.get_by_test_id("play").get_by_text("Play").wait_for()
        area = page.page.get_by_test_id("dice").bounding_box()
        page.page.mouse.click(area["x"] + area["width"] / 2, area["y"] + 40)
        assert 12 <= state(page, "film")["epoch"] <= 18


def bright(page, test_id):
    """The mean grey of a picture on the page, 0…1."""
    script = """canvas => {
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      let sum = 0;
      for (let k = 0; k < data.length; k += 4) sum += data[k];
      return sum / (data.length / 4) / 255;
    }"""
    return page.page.get_by_test_id(test_id).evaluate(script)


def test_both_in_jupyterlab(tmp_path, browser, pictures, measured):
    book = new_notebook(
        cells=[
            new_code_cell("from noisyseg import widgets\npixel = widgets.one_pixel()\npixel"),
            new_code_cell("film = widgets.swap_film()\nfilm"),
            new_code_cell("print('done', pixel.weight)"),
        ]
    )
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    (tmp_path / "books").mkdir()
    nbformat.write(book, tmp_path / "books" / "live.ipynb")
    with jupyter_lab(tmp_path, tmp_path / "books") as lab:
        with screen(browser, pictures, "live-lab", 1400, 1500) as page:
            page.open_lab(lab("live.ipynb"))
            page.page.wait_for_selector("text=done 0.7")
            until(page, "pixel", "outcome", "vote")
            press(page, "weight", "ArrowRight", 14)
            until(page, "pixel", "outcome", "swap")
            found = page.page.evaluate(FRAMES, ["belief", 90])
            measured(f"one pixel in JupyterLab: {found['fps']:.0f} frames a second")
            page.page.get_by_test_id("lesson-hinge").click()
            assert until(page, "pixel", "hinge", 2)["outcome"] == "vote"
            page.page.get_by_test_id("pixel").screenshot(path=pictures / "lab-pixel.png")
            until(page, "film", "epoch", 30)
            press(page, "scrub", "ArrowLeft", 5)
            until(page, "film", "epoch", 25)
            page.page.get_by_test_id("film").screenshot(path=pictures / "lab-film.png")
            asked(page, "print('python hears', pixel.weight, pixel.hinge, film.epoch)")
            page.page.wait_for_selector("text=python hears 1.4 2.0 25")
            asked(page, "pixel.weight = 0.7; pixel.hinge = 0.0; film.epoch = 3")
            until(page, "pixel", "weight", 0.7)
            until(page, "film", "epoch", 3)
            assert not page.errors
            outside = [url for url in page.requests if "127.0.0.1" not in url]
            assert all(url.startswith(("blob:", "data:")) for url in outside), outside


def test_both_in_voila(tmp_path, browser, pictures):
    book = new_notebook(
        cells=[
            new_code_cell("from noisyseg import widgets\nwidgets.one_pixel()"),
            new_code_cell("widgets.swap_film()"),
        ]
    )
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(book, tmp_path / "app.ipynb")
    with voila(tmp_path, tmp_path / "app.ipynb") as address:
        with screen(browser, pictures, "live-voila", 1400, 1500) as page:
            page.page.goto(address)
            until(page, "pixel", "outcome", "vote")
            press(page, "weight", "ArrowRight", 14)
            until(page, "pixel", "outcome", "swap")
            until(page, "film", "epoch", 30)
            press(page, "scrub", "Home")
            until(page, "film", "epoch", 0)
            assert not page.errors
            page.shot("voila-live")


def asked(page, code):
    """Run a line in the last cell of the notebook."""
    cell = page.page.locator(".jp-Notebook .jp-CodeCell").last
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.page.wait_for_timeout(500)
    page.page.keyboard.press("Control+a")
    page.page.keyboard.type(code)
    page.page.keyboard.press("Shift+Enter")
