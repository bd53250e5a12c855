"""`python notebooks/run_all.py` on throwaway notebooks: runs, resumes, goes on after a failure."""

import importlib
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = 'profile = "smoke"\nseed = 0\noverrides = {}'


def write(folder, name, *sources, parameters=PARAMETERS):
    cells = [new_markdown_cell(f"# {name}\n\nWhy?"), *map(new_code_cell, (parameters, *sources))]
    cells[1].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    book = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(book, folder / f"{name}.ipynb")


@pytest.fixture
def books(tmp_path):
    folder = tmp_path / "books"
    folder.mkdir()
    return folder


@pytest.fixture
def call(root, books, tmp_path):
    """Run the command on `books`, in a copy of the library that nobody edits meanwhile."""
    shutil.copytree(root / "noisyseg", tmp_path / "noisyseg")
    (tmp_path / "pyproject.toml").touch()  # figures/ and data/ are looked for beside it
    (tmp_path / "figures").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "IPYTHONDIR": str(tmp_path / "ipy")}
    for name in ("NOISYSEG_DATA", "NOISYSEG_FIGURES"):
        environment.pop(name, None)

    def run(*args):
        command = [sys.executable, str(root / "notebooks" / "run_all.py"), *args]
        if "--help" not in args:
            command += ["--notebooks", str(books), "--out", str(tmp_path / "out")]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture
def run_all(root, monkeypatch):
    """The module itself."""
    monkeypatch.syspath_prepend(root / "notebooks")
    return importlib.import_module("run_all")


def outputs(tmp_path, name):
    book = nbformat.read(tmp_path / "out" / f"{name}.ipynb", 4)
    return "".join(o.get("text", "") for c in book.cells for o in c.get("outputs", []))


def test_parameters_reach_the_notebooks_and_the_second_time_nothing_runs(call, books, tmp_path):
    write(books, "00_a", "print(profile, seed, overrides)", "import os; print(os.getcwd())")
    before = (books / "00_a.ipynb").read_bytes()
    args = "--profile", "reduced", "--seed", "3", "--set", "epochs=2", "method=trace"
    first = call(*args)
    assert first.returncode == 0, first.stderr
    assert "reduced 3 {'epochs': 2, 'method': 'trace'}" in outputs(tmp_path, "00_a")
    assert str(books) in outputs(tmp_path, "00_a")
    assert (books / "00_a.ipynb").read_bytes() == before
    executed = tmp_path / "out" / "00_a.ipynb"
    written = executed.stat().st_mtime_ns
    assert "unchanged" in call(*args).stdout
    assert executed.stat().st_mtime_ns == written
    assert "done" in call(*args, "--force").stdout


def test_pictures_of_the_text_are_found_from_the_copy(call, books, tmp_path):
    write(books, "00_a", "print('../figures/a.png')")
    book = nbformat.read(books / "00_a.ipynb", 4)
    text = "![a](../figures/a.png) ![b](https://x.org/../b.png) [c](01_b.ipynb) ../d"
    book.cells.append(new_markdown_cell(text))
    nbformat.write(book, books / "00_a.ipynb")
    assert call().returncode == 0
    shown = nbformat.read(tmp_path / "out" / "00_a.ipynb", 4).cells[-1].source
    link = shown.split("![a](")[1].split(")")[0]
    assert (tmp_path / "out" / link).resolve() == tmp_path / "figures" / "a.png"
    assert shown.endswith(text.split(" ", 1)[1])
    assert "../figures/a.png" in outputs(tmp_path, "00_a")


def test_pictures_are_kept_whatever_backend_the_caller_has(call, books, tmp_path):
    assert os.environ["MPLBACKEND"] == "Agg"
    write(books, "00_a", "import matplotlib.pyplot as plt", "plt.plot([1]);")
    assert call().returncode == 0
    cell = nbformat.read(tmp_path / "out" / "00_a.ipynb", 4).cells[-1]
    assert ["image/png" in output.data for output in cell.outputs] == [True]


def test_a_notebook_runs_again_when_what_it_depends_on_changes(run_all, books, monkeypatch):
    """Its text, its parameters, the library; exported tables only where they are drawn."""
    for name in ("noisyseg", "figures/source_data", "data/mnist"):
        (books / name).mkdir(parents=True)
    for name in ("project_root", "figures_root", "data_root"):
        folder = books / name.split("_")[0] if name != "project_root" else books
        monkeypatch.setattr(run_all, name, lambda folder=folder: folder)
    write(books, "10_mnist", "1")
    write(books, "90_figures", "1")
    both = [books / "10_mnist.ipynb", books / "90_figures.ipynb"]

    def stamps(**parameters):
        return [run_all.stamp(path, parameters) for path in both]

    first = stamps(seed=0)
    assert stamps(seed=0) == first
    assert not set(stamps(seed=1)) & set(first)
    for name in ("noisyseg/train.py", "data/mnist/meta.json", "constraints.txt"):
        (books / name).write_text("changed")
        now = stamps(seed=0)
        assert not set(now) & set(first), name
        first = now
    (books / "figures" / "source_data" / "mnist.smoke.csv").write_text("changed")
    assert [a == b for a, b in zip(stamps(seed=0), first, strict=True)] == [True, False]
    write(books, "10_mnist", "2")
    assert stamps(seed=0)[0] != first[0]


def test_a_failure_names_the_cell_and_the_others_go_on(call, books, tmp_path):
    write(books, "00_bad", "x = 1", "y = 1 / 0")
    write(books, "01_good", "print('alive')")
    write(books, "90_figures", "print('drawn')")
    result = call()
    assert result.returncode == 1
    assert "FAILED 00_bad: cell [4]: ZeroDivisionError: division by zero" in result.stdout
    assert str(tmp_path / "out" / "00_bad.ipynb") in result.stdout
    assert "alive" in outputs(tmp_path, "01_good") and "drawn" in outputs(tmp_path, "90_figures")
    assert sorted(p.stem for p in (tmp_path / "out").glob("*.ok")) == ["01_good", "90_figures"]


def test_a_cell_that_takes_too_long_fails_and_is_not_stamped(call, books, tmp_path):
    write(books, "00_slow", "import time; time.sleep(60)")
    result = call("--cell-timeout", "1")
    assert result.returncode == 1
    assert "CellTimeoutError" in result.stdout
    assert not (tmp_path / "out" / "00_slow.ok").exists()


def test_figure_notebooks_run_after_the_others_and_again_when_tables_change(call, books, tmp_path):
    table = tmp_path / "figures" / "source_data" / "mnist.smoke.csv"
    table.parent.mkdir()
    write(books, "10_mnist", f"import time; time.sleep(0.5); open({str(table)!r}, 'w').write('1')")
    write(books, "90_figures", f"print('read', open({str(table)!r}).read())")
    assert call().returncode == 0
    assert "read 1" in outputs(tmp_path, "90_figures")
    table.write_text("2")
    result = call()
    assert "read 2" in outputs(tmp_path, "90_figures")
    assert result.stdout.count("unchanged") == 2  # of notebook 10: its line and the closing table


def test_an_unknown_parameter_is_an_error_before_anything_runs(call, books, tmp_path):
    write(books, "00_good", "print(1)")
    write(books, "01_old", "print(1)", parameters='profile = "smoke"\nseed = 0')
    result = call()
    assert result.returncode != 0
    assert "01_old.ipynb: unknown parameter overrides" in result.stderr
    assert "profile, seed" in result.stderr
    assert not (tmp_path / "out").exists()


def test_help_is_quick_to_import_and_lists_every_option(root, call):
    result = call("--help")
    assert result.returncode == 0
    options = "profile only seed set jobs out force list".split()
    assert all(f"--{option}" in result.stdout for option in options)
    code = "import sys; sys.argv[0] = 'x'; import run_all; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=root / "notebooks", capture_output=True, text=True
    )
    assert loaded.returncode == 0, loaded.stderr
    assert not {"torch", "papermill", "pandas", "numpy"} & set(loaded.stdout.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "00_a", "77_none"], "no notebook '77_none'"),
        (["--set", "epochs"], "write KEY=VALUE"),
        (["--set", "epochs=[1,"], "neither a literal nor a word"),
        (["--profile", "huge"], "invalid choice: 'huge'"),
        (["--jobs", "0"], "--jobs is 0"),
    ],
)
def test_a_wrong_command_line_says_what_is_allowed(args, message, call, books):
    write(books, "00_a", "print(1)")
    result = call(*args)
    assert result.returncode == 2
    assert message in result.stderr
    if "--only" in args:
        assert "there are 00_a" in result.stderr


def test_only_takes_names_beginnings_commas_and_spaces(call, books):
    for name in ("00_a", "01_b", "10_c", "11_d", "helper"):
        write(books, name, "print(1)")
    listed = call("--list", "--only", "00_a.ipynb,1").stdout.split()
    assert [word for word in listed if word[:2].isdigit() and "_" in word][::2] == [
        "00_a", "10_c", "11_d",
    ]  # fmt: skip
    assert "helper" not in call("--list").stdout
