"""What all live explorers share: the widget's base, and HTML that runs without a kernel."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import traitlets
from browser import chromium, needs_browser
from matplotlib.figure import Figure

from noisyseg.storage import project_root
from noisyseg.widgets import bake as module
from noisyseg.widgets.bake import bake, book_fragments, in_book, source
from noisyseg.widgets.live import Live, packed

WEB = project_root() / "noisyseg" / "widgets" / "web"
MODULES = sorted(p.stem for p in WEB.glob("*.js") if p.stem not in ("common", "shim"))
# Modules that others name in their first line: no explorers, but they import nothing either.
PARTS = {part for name in MODULES for part in module._parts(name)[:-1]}
# An explorer of this test alone: shows what it was given, and tells what it hears.
JS = """
export default { render({ model, el }) {
  const { say, tell } = frame(el, "trial", "Trial");
  const heard = [], listen = (_, value) => heard.push(value);
  const ears = () => tell({ heard, baked: model.get("baked"), name: model.get("name") });
  say(`${model.get("name")} ${unpack(model.get("data"), Float32Array)}`);
  model.on("change:name change:other", listen);
  model.set("name", "second"); model.set("name", "second"); model.set({ other: 3 });
  model.off("change:name", listen);
  model.set("name", "third"); model.save_changes();
  ears();
} };
"""


@pytest.fixture
def trial(monkeypatch):
    """A widget on the module above."""
    real = module.web
    monkeypatch.setattr(module, "web", lambda file: JS if file == "trial.js" else real(file))

    class Trial(Live, module="trial"):
        title = "Trial"
        name = traitlets.Unicode("first").tag(sync=True)
        data = traitlets.Bytes().tag(sync=True)
        kept = traitlets.Int(1)

        def still(self):
            figure = Figure(figsize=(2, 1))
            figure.subplots()
            return figure

        def told(self):
            return 'one "line" & <more>'

    return Trial(data=packed(np.array([1.5, -2.0]), "f4"))


class Parts(HTMLParser):
    """The scripts and pictures of a page, as a browser would find them."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.images, self.within = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "script":
            self.scripts.append("")
            self.within = True
        if tag == "img":
            self.images.append(dict(attributes))

    def handle_endtag(self, tag):
        self.within = None

    def handle_data(self, data):
        if self.within:
            self.scripts[-1] += data


def test_the_stored_output_is_a_picture_and_words_without_an_address(trial):
    data = trial._repr_mimebundle_()[0]
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == repr(trial) == "Trial: Trial"


def test_the_state_is_what_the_module_reads(trial):
    state, buffers = trial.state()
    assert state == {"name": "first", "baked": False}
    assert np.frombuffer(buffers["data"], "<f4").tolist() == [1.5, -2.0]


def test_names_cannot_leave_the_page(trial):
    trial.name = "</script><script>alert(1)</script><!--"
    parts = Parts(trial.fragment())
    assert len(parts.scripts) == 2, "one for the data, one that runs"
    content = json.loads(parts.scripts[0])
    assert content["state"] == {"name": trial.name, "baked": True}
    assert base64.b64decode(content["buffers"]["data"]) == trial.data
    assert content["module"] == source("trial")
    (image,) = parts.images
    assert image["alt"] == trial.told() and image["src"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"module": "nothing"}, "nothing.js"),
        ({"state": {"data": 1}}, "once"),
        ({"buffers": {"data": bytes(800_000)}}, "more than 1,000,000"),
        ({"state": {"x": float("nan")}}, "JSON"),
    ],
)
def test_what_cannot_be_baked_is_named(change, said):
    whole = {"module": MODULES[0], "state": {}, "buffers": {"data": b"1"}, "still": "<p>still</p>"}
    assert "<noscript><p>still</p></noscript>" in bake(**whole)
    with pytest.raises(ValueError, match=said):
        bake(**whole | change)


def test_the_book_knows_its_explorers(monkeypatch):
    monkeypatch.setattr(module, "BOOK", {})
    made = in_book("one")(lambda: "<p>one</p>")
    assert made() == "<p>one</p>" and book_fragments() == {"one": "<p>one</p>"}
    with pytest.raises(ValueError, match="'one' already"):
        in_book("one")(lambda: "")
    with pytest.raises(KeyError, match="there are: one"):
        book_fragments(["two"])


def test_packed_values():
    assert list(packed(np.array([[0, 255]], np.uint8))) == [0, 255]
    assert packed(np.array([1], ">i4"), "i4") == b"\x01\0\0\0"
    for values, said in (([0.0, 1.5], "8 bits hold 0…1;"), ([0, 256], "8 bits hold 0…255;")):
        with pytest.raises(ValueError, match=said):
            packed(np.array(values))


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_nothing_and_know_no_address(name):
    text = source(name)
    assert not re.search(r"^\s*import\b|\bimport\(|https?://|innerHTML", text, re.M)
    assert ("export default { render }" in text) == (name not in PARTS)


def test_a_module_is_put_after_what_it_needs():
    assert module._parts("annotate") == ["calibrate", "newcomer", "picture", "annotate"]
    text = source("annotate")
    order = [text.index(word) for word in ("function make(", "class Newcomer", "class Annotate")]
    assert order == sorted(order) and text.count("class Newcomer") == 1


@needs_browser
def test_the_model_of_a_page_is_that_of_a_kernel(trial, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{trial.fragment()}", "utf-8")
    with chromium() as browser:
        page = browser.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector('[data-ready="yes"]', state="attached")
        assert page.get_by_test_id("trial-status").inner_text() == "first 1.5,-2"
        state = json.loads(page.get_by_test_id("trial").get_attribute("data-state"))
        # What does not change is not told, and who has left hears nothing.
        assert state == {"heard": ["second", 3], "baked": True, "name": "third"}
        assert not said and all(url.startswith(("file:", "blob:")) for url in asked)
        silent = browser.new_context(java_script_enabled=False).new_page()
        silent.goto(file.as_uri())
        assert silent.get_by_alt_text(trial.told()).bounding_box()["width"] > 100
        assert not silent.get_by_test_id("trial").count()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_of_the_page_wins_over_that_of_the_system(trial, tmp_path, scheme):
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{trial.fragment()}", "utf-8")
    script = "element => getComputedStyle(element).backgroundColor"
    with chromium() as browser:
        page = browser.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        shown = page.get_by_test_id("trial")
        paper = {"light": "rgb(255, 255, 255)", "dark": "rgb(23, 24, 28)"}
        assert shown.evaluate(script) == paper[scheme]
        for name, theme, value in (
            ("jpThemeLight", "light", "true"),
            ("jpThemeLight", "dark", "false"),
            ("theme", "light", "light"),
            ("theme", "dark", "dark"),
            ("theme", scheme, "auto"),
        ):
            page.evaluate("([n, v]) => { document.body.dataset[n] = v; }", [name, value])
            assert shown.evaluate(script) == paper[theme], (name, value)
            page.evaluate("n => { delete document.body.dataset[n]; }", name)


@needs_browser
def test_a_module_that_fails_leaves_the_still_picture(trial, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "source", lambda name: "export default { render() { no(); } };")
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{trial.fragment()}", "utf-8")
    with chromium() as browser:
        page = browser.new_page()
        page.goto(file.as_uri())
        page.wait_for_selector('[data-ready="failed"]')
        assert page.get_by_alt_text(trial.told()).is_visible()
