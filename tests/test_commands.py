"""Every command of the project says what it does, and what it does not know."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def commands():
    """Modules and scripts that run as a program."""
    for folder in ("noisyseg", "data_prep", "notebooks", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "__main__" in path.name or '\nif __name__ == "__main__":' in path.read_text("utf-8"):
                yield path


def words(path, *options):
    if path.parts[-2] in ("notebooks", "benchmarks"):
        return [sys.executable, str(path), *options]
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    return [sys.executable, "-m", module, *options]


def call(path, *options):
    return subprocess.run(words(path, *options), cwd=ROOT, capture_output=True, text=True)


each = pytest.mark.parametrize("path", [*commands()], ids=lambda p: str(p.relative_to(ROOT)))


def test_there_are_some():
    assert len(list(commands())) > 10


@each
def test_help(path):
    done = call(path, "--help")
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.startswith("usage: ") and len(done.stdout.splitlines()) > 5
    described = ast.get_docstring(ast.parse(path.read_text("utf-8"))).split()[0]
    assert described in done.stdout, "the module's own description is shown"


@each
def test_an_unknown_option_is_refused(path):
    done = call(path, "--no-such-option")
    assert done.returncode == 2 and "usage: " in done.stderr
    assert "Traceback" not in done.stderr


def test_progress_bars_are_quiet_where_nobody_looks():
    loud = []
    for folder in ("noisyseg", "data_prep", "notebooks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "tqdm":
                    if "disable" not in {k.arg for k in node.keywords}:
                        loud.append(f"{path.name}:{node.lineno}")
    assert not loud


def test_a_command_in_a_pipe_prints_no_bar(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "data_prep.folders", "--images", tmp_path, "--labels",
         f"a={tmp_path}", "--out", tmp_path / "out"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "\r" not in done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


# What trains at once, or publishes weights, needs it in any case.
WITH_TORCH = {"benchmarks", "notebooks", "widgets", "published.py"}


@pytest.mark.parametrize(
    "path",
    [p for p in commands() if not WITH_TORCH & set(p.relative_to(ROOT).parts)],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_help_waits_for_no_torch(path):
    """Torch takes seconds to import; `-X importtime` lists what is imported."""
    command = [sys.executable, "-X", "importtime", *words(path, "--help")[1:]]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    assert "argparse" in listed and " torch\n" not in listed
