"""The plan of the house, read from the source: who imports whom, sizes, words that may not occur.

Reads files by `ast` and never imports the library, so that it also judges what cannot run.
"""

import ast
import hashlib
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "noisyseg").rglob("*.py"))
SOURCES = LIBRARY + sorted((ROOT / "data_prep").rglob("*.py"))
EVERY_PY = SOURCES + sorted(
    p for d in ("tests", "notebooks", "benchmarks") for p in (ROOT / d).rglob("*.py")
)
# A module or package imports from lines above its own only; new ones get a place here first.
ORDER = [
    "storage methods limits fused",
    "config simulate confusion metrics",
    "staple likelihood",
    "fusion data models losses",
    "diagnostics baselines predict calibrated runs",
    "build",
    "evaluate",
    "published",
    "train",
    "experiment",
    "sweeps",
    "plots",
    "paper report",
    "widgets",
]
# What the tests compare with is no part of the library; formats belong to data_prep.
NOT_IN_LIBRARY = {
    "data_prep", "monai", "SimpleITK", "sklearn", "torchmetrics", "nibabel", "pydicom",
    "torchvision", "papermill",
}  # fmt: skip
DRAWS = {"config", "paper", "plots", "storage"}  # all that notebooks 90 and 91 may import


def tree(path):
    return ast.parse(path.read_text("utf-8"))


def relative(path):
    return str(path.relative_to(ROOT))


def imported(code):
    """Every dotted name that the syntax tree imports, at any depth; `from a import b` gives a.b."""
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write absolute imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(code):
    """Names of the modules of noisyseg that the syntax tree imports."""
    for name in imported(code):
        package, _, rest = name.partition(".")
        if package == "noisyseg":
            yield rest.split(".")[0]


def functions(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


def tracked():
    """Files of the project: what git tracks or would, else all but what .gitignore names."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    left_out = {".git", ".venv", "data", "runs", "build", "dist"}
    files = [p for p in ROOT.rglob("*") if p.is_file()]
    return [
        p for p in files
        if p.relative_to(ROOT).parts[0] not in left_out and "cache" not in relative(p)
    ]  # fmt: skip


def text_of(path):
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_packages_import_in_one_direction(path):
    place = {name: n for n, line in enumerate(ORDER) for name in line.split()}
    home = path.relative_to(ROOT / "noisyseg").parts[0].removesuffix(".py")
    for other in {home, *ours(tree(path))} - {"__init__"} if home != "__init__" else ():
        assert other in place, f"{other}: name the module, and give it a place in ORDER"
        assert other == home or place[other] < place[home], f"{home} may not import {other}"


@pytest.mark.parametrize("path", sorted((ROOT / "data_prep").rglob("*.py")), ids=relative)
def test_data_prep_imports_the_core_only(path):
    assert not {"plots", "paper", "report", "widgets"} & set(ours(tree(path)))


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_the_library_imports_no_oracle_and_no_file_format(path):
    packages = {name.split(".")[0] for name in imported(tree(path))}
    # MONAI's sliding window is an extra; the report of a raw folder reads and writes its files.
    bought = {"predict": {"monai"}, "make": {"data_prep"}}.get(path.stem, set())
    assert not packages & NOT_IN_LIBRARY - bought


def test_importing_the_package_loads_no_torch():
    code = "import sys, noisyseg, noisyseg.runs, noisyseg.plots.maps; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "noisyseg.plots.maps" in loaded.split()
    assert not {"torch", "seaborn", "torchvision"} & set(loaded.split())


@pytest.mark.parametrize("number", ["90", "91"])
def test_figure_notebooks_import_tables_and_plots_only(number):
    (path,) = ROOT.glob(f"notebooks/{number}_*.ipynb")
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    # Lines of IPython's own are no Python; what follows % or ! imports nothing of ours.
    names = ast.parse(re.sub(r"^[%!].*$", "", code, flags=re.M))
    assert set(ours(names)) <= DRAWS
    assert "torch" not in {name.split(".")[0] for name in imported(names)}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_device_is_named(path):
    found = re.findall(r"""["'](?:cuda|mps|xpu)\b|\.cuda\(""", path.read_text("utf-8"))
    assert not found, f"{found}: tensors follow their inputs, the config names the accelerator"


@pytest.mark.parametrize("path", EVERY_PY, ids=relative)
def test_modules_say_what_they_are(path):
    text = ast.get_docstring(tree(path))
    assert text and text[0].isalnum() | (text[0] in "`'\""), (
        "the first thing in a file is its docstring"
    )
    assert len(text.splitlines()) <= 10, "a few lines: what it is, and what it must not know"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_what_is_public_is_documented(path):
    code = tree(path)
    classes = {n.name: n for n in code.body if isinstance(n, ast.ClassDef)}
    missing = []
    for node in code.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            missing.append(node.name)
        if isinstance(node, ast.ClassDef):
            missing += undocumented_methods(node, classes)
    assert not missing


def undocumented_methods(node, classes):
    """Public methods without a docstring, unless a base class in this file documents them."""
    bases = [classes[b.id] for b in node.bases if isinstance(b, ast.Name) and b.id in classes]
    inherited = {m.name for b in bases for m in b.body if isinstance(m, ast.FunctionDef)}
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            # What `forward` takes and returns stands in its signature.
            if not ast.get_docstring(method) and method.name not in inherited | {"forward"}:
                yield f"{node.name}.{method.name}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_what_is_public_is_typed(path):
    for function in functions(path):
        arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        assert not bare, f"{function.name}: {bare} without a type"
        assert function.returns is not None or function.name == "__init__", function.name


def length(function):
    """Lines of a function without those of its docstring."""
    first = function.body[0]
    told = ast.get_docstring(function) is not None
    return function.end_lineno - function.lineno + 1 - told * (first.end_lineno - first.lineno + 1)


def test_functions_are_short():
    lengths = {f"{p.stem}.{f.name}": length(f) for p in SOURCES for f in functions(p)}
    assert statistics.median(lengths.values()) < 15
    assert not {name: lines for name, lines in lengths.items() if lines > 60}


# Brackets keep these patterns from finding themselves.
BANNED = {
    "a path of one machine": r"(?<![\w.])[/](?:work|root|home|tmp|Users)[/]\w",
    "a host of a registry": r"[p]ypi\.org|[p]ythonhosted|[a]naconda\.org|[n]pmjs\.|[c]rates\.io",
}


@pytest.mark.parametrize("what", BANNED)
def test_no_file_names(what):
    found = {}
    for path in tracked():
        match = re.search(BANNED[what], text_of(path))
        if match:
            found[relative(path)] = match[0]
    assert not found, f"{what}: {found}"


def test_embedded_data_have_checksums_and_a_licence():
    folder = ROOT / "data_prep" / "embedded"
    known = json.loads((folder / "checksums.json").read_text())
    data = {p.name for p in folder.iterdir() if p.suffix not in (".json", ".md", ".txt")}
    assert data and data == set(known)
    for name, checksum in known.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum, name
        licences = folder.glob(f"{name.split('-')[0]}.LICENSE*")
        assert any(len(text_of(p)) > 100 for p in licences), f"no licence beside {name}"


def test_the_files_of_the_project_are_there():
    names = (
        "README.md LICENSE CITATION.cff CHANGELOG.md Makefile .ci/run .pre-commit-config.yaml "
        "pyproject.toml constraints.txt environment.yml notebooks/run_all.py figures/printed.csv"
    )
    assert all((ROOT / name).is_file() for name in names.split())
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run must be executable"
