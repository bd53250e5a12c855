"""The book: built without a warning, every link leads somewhere, nothing is asked of a network.

Builds it once as `make book` does, and reads its pages over http as a reader would.
"""

import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import chromium, needs_browser, screen

import noisyseg as ns
from noisyseg.storage import project_root

ROOT = project_root()
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
HOME = "notebooks/book/index.html"
TAKEN_BY_FURO = {"index.html"}  # the redirect to HOME has no furniture


class Page(HTMLParser):
    """What a page links, loads, names and writes."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.names, self.tags = [], [], [], Counter()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags[tag] += 1
        self.names += [given["id"]] if given.get("id") else []
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img" and not given.get("alt", "").strip():
            self.tags["img without alt"] += 1
        loaded = given.get("src") or (given.get("href") if tag == "link" else None)
        self.loads += [loaded] if loaded else []


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The folder of the site, built by the recipe of the Makefile."""
    out = tmp_path_factory.mktemp("book") / "site"
    make = ["make", "-n", "-s", "book", f"BOOK={out}", f"PY={sys.executable}"]
    recipe = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = [line for line in recipe.splitlines() if "sphinx" in line]
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def pages(book):
    return {path.relative_to(book).as_posix(): Page(path) for path in book.rglob("*.html")}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(book):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(book)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def test_every_notebook_is_a_page(pages):
    assert {f"notebooks/{name}.html" for name in CHAPTERS} <= set(pages)


def test_the_course_comes_first_and_in_order(pages):
    order = [Path(urlsplit(link).path).stem[:2] for link in pages[HOME].links if "_" in link]
    course = [number for number in dict.fromkeys(order) if number.isdigit()]
    assert [n for n in course if n in ("00", "01", "02", "03")] == ["00", "01", "02", "03"]
    for name in CHAPTERS:
        assert any(name in link for link in pages[HOME].links), f"{name} is not in the contents"


def test_every_internal_link_leads_to_a_page_and_to_a_place_on_it(book, pages):
    lost = []
    for name, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = book / Path(name).parent / unquote(parts.path) if parts.path else book / name
            target = target.resolve()
            if not target.exists():
                lost.append(f"{name}: {link}")
            elif parts.fragment and target.suffix == ".html" and parts.fragment != "":
                there = pages[target.relative_to(book.resolve()).as_posix()].names
                if unquote(parts.fragment) not in there:
                    lost.append(f"{name}: {link} (no such place)")
    assert not lost, "\n".join(lost)


def test_no_page_loads_anything_from_elsewhere(book, pages):
    outside = [
        (name, load) for name, page in pages.items() for load in page.loads if "//" in load[:8]
    ]
    assert not outside
    for style in book.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", style.read_text("utf-8")), style


def test_formulas_are_drawn_without_a_script(pages):
    assert pages["notebooks/02_model_and_loss.html"].tags["math"] >= 10
    assert not [load for page in pages.values() for load in page.loads if "mathjax" in load.lower()]


def test_the_reference_has_every_public_name(pages):
    page = pages["notebooks/book/reference.html"]
    tables = {"METHODS", "SEEDS"}
    missing = [n for n in ns.__all__ if f"noisyseg.{n}" not in page.names and n not in tables]
    assert not missing, f"add {missing} to notebooks/book/reference.md"
    assert page.tags["table"] >= len(tables)


@needs_browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("width", [1400, 390])
def test_pages_are_quiet_and_fit(site, pages, browser, tmp_path, width):
    names = sorted(set(pages) - TAKEN_BY_FURO)
    with screen(browser, tmp_path, f"book-{width}", width, 844) as page:
        said, broken = [], []
        page.page.on("console", lambda message: said.append((name, message.text)))
        page.page.on("response", lambda r: broken.append(r.url) if r.status >= 400 else None)
        wide = []
        for name in names:
            page.page.goto(site + name, wait_until="load")
            over = page.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            wide += [(name, over)] if over > 0 else []
        assert not said and not page.errors and not broken
        assert not wide, "wide things scroll inside themselves"
        outside = [u for u in page.requests if not u.startswith((site, "data:", "blob:"))]
        assert not outside


@needs_browser
@pytest.mark.timeout(120)
def test_search_and_the_first_page(site, book, browser, tmp_path):
    with screen(browser, tmp_path, "book-search") as page:
        page.page.goto(site)
        page.page.wait_for_url(f"**/{HOME}")
        assert page.page.locator("h1").count() == 1
        page.page.goto(site + "search.html?q=STAPLE")
        page.page.locator("#search-results li a").first.wait_for()
        assert page.page.locator("#search-results li a[href*='03_label_fusion']").count()
        page.page.goto((book / HOME).as_uri())
        assert page.page.locator("img").first.evaluate("image => image.naturalWidth") > 200
        assert not page.errors


@needs_browser
@pytest.mark.timeout(120)
def test_a_formula_has_a_size_and_checks_are_folded(site, browser, tmp_path):
    with screen(browser, tmp_path, "book-02") as page:
        page.page.goto(site + "notebooks/02_model_and_loss.html")
        box = page.page.locator(".formula math").first.bounding_box()
        assert box["width"] > 60 and box["height"] > 15
        assert page.page.locator(".formula .number").first.inner_text() == "(1)"
        assert not page.page.locator("details >> text=EM by hand").count()
        folded = page.page.locator("details:has(pre)").last
        assert folded.get_attribute("open") is None


def test_a_formula_that_cannot_be_drawn_is_an_error_with_its_text(book):
    folder = ROOT / "notebooks" / "book"
    code = "import formulas; formulas.mathml(r'\\nonsense{x}', True)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode and "nonsense" in done.stderr and "other commands" in done.stderr
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
