"""A real browser on JupyterLab, Voila and files: servers of their own, waits that hold.

Debian's chromium and the PyPI package playwright (which carries its own driver). What waits and
why was measured: JupyterLab asks for a kernel if Run is clicked before the status bar says Idle.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
]  # fmt: skip
IDLE = "#jp-main-statusbar >> text=/\\) \\| Idle/"
WAIT_MS = 60_000


def why_not():
    """Why no browser test can run here; empty where they can."""
    if not CHROMIUM:
        return "no chromium, chromium-browser or google-chrome on the PATH"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "the package playwright is not installed"
    return ""


needs_browser = pytest.mark.skipif(bool(why_not()), reason=f"browser test: {why_not()}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(command, ready, folder, log):
    """A server process, killed with its kernels in the end; yields when `ready` answers."""
    names = ("CONFIG", "DATA", "RUNTIME")
    environment = os.environ | {f"JUPYTER_{n}_DIR": str(folder / n.lower()) for n in names}
    environment |= {"IPYTHONDIR": str(folder / "ipython"), "OMP_NUM_THREADS": "1"}
    environment |= {
        f"JUPYTERLAB_{n}_DIR": str(folder / n.lower()) for n in ("SETTINGS", "WORKSPACES")
    }
    environment.pop("MPLBACKEND", None)
    notes = folder / "settings" / "@jupyterlab" / "apputils-extension"
    notes.mkdir(parents=True, exist_ok=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (notes / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, cwd=folder, start_new_session=True
        )
    try:
        wait_for(ready, process, log)
        yield
    finally:
        for sign, seconds in ((signal.SIGTERM, 8), (signal.SIGKILL, 5)):
            try:
                os.killpg(process.pid, sign)
                process.wait(seconds)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        process.wait(5)


def wait_for(address, process, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it refuses, so it is up
        except OSError:
            assert process.poll() is None, f"the server ended:\n{Path(log).read_text()[-2000:]}"
            time.sleep(0.3)
    raise AssertionError(f"no answer from the server:\n{Path(log).read_text()[-2000:]}")


@contextmanager
def jupyter_lab(folder, notebooks):
    """JupyterLab on loopback, serving `notebooks`; yields the address of a notebook by name."""
    port, token = free_port(), secrets.token_hex(8)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={notebooks}",
    ]  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    with server(command, f"{base}/api?token={token}", folder, folder / "lab.log"):
        yield lambda name: f"{base}/lab/tree/{name}?reset&token={token}"


@contextmanager
def voila(folder, notebook):
    """Voila on loopback showing one notebook; yields its address."""
    port = free_port()
    command = [
        sys.executable, "-m", "voila", "--no-browser", "--Voila.ip=127.0.0.1",
        f"--port={port}", "--VoilaConfiguration.show_tracebacks=True", str(notebook),
    ]  # fmt: skip
    # Its own page would start a kernel for every question whether it is up.
    static = f"http://127.0.0.1:{port}/voila/static/nothing"
    with server(command, static, folder, folder / "voila.log"):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def chromium():
    """A headless browser that tells on failure what its console said."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Screen:
    """One page: what a reader does with it, and what is then on it."""

    def __init__(self, page, pictures):
        self.page, self.pictures = page, Path(pictures)
        self.errors, self.requests = [], []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def shot(self, name):
        """A picture of what is seen, kept in the folder of screenshots; its path."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def open_lab(self, address, run=True):
        """Open a notebook in JupyterLab and run all its cells."""
        self.page.goto(address)
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        if run:
            self.page.wait_for_selector(IDLE)
            self.page.click('.lm-MenuBar-itemLabel:text-is("Run")')
            self.page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')

    def explorer(self, title):
        """The frame of the explorer whose heading begins with `title`, once it is there."""
        frame = self.page.locator(".noisyseg-explorer", has_text=re.compile(title)).first
        frame.wait_for(state="visible")
        frame.locator(".noisyseg-status").wait_for(state="attached")
        frame.scroll_into_view_if_needed()
        return frame

    def status(self, frame):
        """Text and state of the message line."""
        line = frame.locator(".noisyseg-status")
        return line.text_content(), line.get_attribute("data-state")

    def changed(self, frame, act, until=""):
        """Milliseconds from `act()` until the message line answers (and says `until`)."""
        line = frame.locator(".noisyseg-status")
        before, start = line.get_attribute("data-answer"), time.perf_counter()
        act()
        while line.get_attribute("data-answer") == before or until not in line.text_content():
            assert time.perf_counter() - start < WAIT_MS / 1000, f"still {self.status(frame)}"
            self.page.wait_for_timeout(10)
        return 1000 * (time.perf_counter() - start)

    def control(self, frame, kind, name):
        """The first slider or dropdown of this name."""
        label = self.page.locator(f'label:text-is("{name}")')
        return frame.locator(f".widget-{kind}", has=label).first

    def move(self, frame, name, steps):
        """Move a slider by arrow keys only."""
        self.control(frame, "slider", name).locator(".noUi-handle").focus()
        for _ in range(abs(steps)):
            self.page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")

    def slider(self, frame, name, steps=1):
        """`move`, and the milliseconds until the explorer has answered."""
        return self.changed(frame, lambda: self.move(frame, name, steps))

    def choose(self, frame, name, value):
        """Pick from a list; milliseconds until the explorer has answered."""
        box = frame.locator(
            ".widget-dropdown", has=self.page.locator(f'label:text-is("{name}")')
        ).first
        return self.changed(frame, lambda: box.locator("select").select_option(label=value))


@contextmanager
def screen(browser, pictures, name, width=1280, height=1000):
    """A fresh page; when the test fails, where its picture is and what the page complained of."""
    page = browser.new_page(viewport={"width": width, "height": height})
    shown = Screen(page, pictures)
    try:
        yield shown
    except BaseException:
        print(f"screenshot of the failure: {shown.shot(f'failed-{name}')}")
        print("errors of the page:", *shown.errors[:5], sep="\n  ")
        raise
    finally:
        page.close()
