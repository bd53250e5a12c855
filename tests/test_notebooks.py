"""Every notebook has the same skeleton, keeps what it printed, and hides nothing.

Reads the JSON and runs nothing: `make test` executes the notebooks through nbval, which
compares nothing in a cell without execution count or stored output (checked here).
"""

import ast
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PARAMETERS = {"profile": "smoke", "seed": 0, "overrides": {}}
# Pages that show what comes with the repository, and train it only when asked to.
SHOWN = PARAMETERS | {"profile": "reduced", "fresh": False}
TRAIN_LIVE = ("00_", "01_", "02_", "03_", "40_", "90_", "91_")
TEACH = ("00_", "01_", "02_", "03_", "30_")  # exercises with folded solutions
PLAY = ("50_",)  # explorers, and no takeaway of their own
TEACHES_BY_DEFINING = ("02_",)  # where a function definition is the lesson
NEVER = {
    "installs a package": r"\bpip3?\s+install|\bconda\s+install",
    "changes the directory": r"\bos\.chdir|^\s*%cd\b",
    "silences warnings": r"\bwarnings\.(?:filterwarnings|simplefilter)",
    "has a relative path": r"""["']\.{1,2}/|\bopen\(\s*["'](?!/)""",
    "runs a shell": r"^\s*(?:!|%%(?:bash|sh)\b)",
}

pytestmark = pytest.mark.parametrize("book", NOTEBOOKS, ids=lambda path: path.stem, indirect=True)


@pytest.fixture
def book(request):
    content = json.loads(request.param.read_text("utf-8"))
    for cell in content["cells"]:
        cell["text"] = "".join(cell["source"])
        cell["tags"] = cell["metadata"].get("tags", [])
    return content | {"path": request.param}


def code(book):
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def tagged(book, tag):
    return [cell for cell in code(book) if tag in cell["tags"]]


def python(cell):
    """The syntax tree of a cell, without lines that are IPython's own."""
    return ast.parse(re.sub(r"^\s*[%!?].*$", "pass", cell["text"], flags=re.M))


def imports(cell):
    return [n for n in ast.walk(python(cell)) if isinstance(n, ast.Import | ast.ImportFrom)]


def test_is_numbered_and_stores_a_python_kernel(book):
    assert re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", book["path"].name)
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    assert book["nbformat"] == 4


def test_opens_with_title_question_and_cost(book):
    first = book["cells"][0]
    assert first["cell_type"] == "markdown"
    title, *rest = first["text"].splitlines()
    assert title.startswith(f"# {book['path'].name[:2]} · ")
    text = " ".join(rest)
    assert "**Question" in text and "?" in text
    for word in ("*Covers:*", "*Run time:*", "*Data:*"):
        assert word in text, f"say {word} in the first cell"


def test_parameters_are_literals_with_comments(book):
    (cell,) = tagged(book, "parameters")
    assert cell is code(book)[0], "the parameters come before any other code"
    lines = cell["text"].strip().splitlines()
    found = {n.targets[0].id: ast.literal_eval(n.value) for n in python(cell).body}
    wanted = PARAMETERS if book["path"].name.startswith(TRAIN_LIVE) else SHOWN
    assert found == wanted and [*found] == [*wanted]
    assert len(lines) == len(wanted) and all(re.search(r"\S  # \w", line) for line in lines)


def test_all_imports_are_in_one_cell_after_the_parameters(book):
    where = [number for number, cell in enumerate(code(book)) if imports(cell)]
    assert where == [1], f"code cells {where} import"


def test_checks_something_and_keeps_what_it_printed(book):
    (cell,) = tagged(book, "checks")
    assert "nbval-check-output" in cell["tags"], "nbval-lax compares tagged cells only"
    assert cell is code(book)[-1]
    printed = [line for out in cell["outputs"] for line in "".join(out.get("text", "")).split("\n")]
    assert any(printed), "a checked cell without stored output is compared with nothing"
    assert not any(re.search(r"\bFalse\b", line) for line in printed), "a stored check has failed"
    assert not any(re.search(r"\d\.\d{4}", line) for line in printed), "round what is compared"


def test_closes_with_what_to_try_next(book):
    last = book["cells"][-1]
    assert last["cell_type"] == "markdown"
    assert "what to try next" in last["text"].lower()


def test_cells_are_short_and_the_lessons_are_told(book):
    sizes = [len(cell["text"].splitlines()) for cell in code(book)]
    assert max(sizes) <= 25
    assert len(sizes) > 2
    # A reader never meets more than three cells of code without a word in between.
    kinds = "".join(cell["cell_type"][0] for cell in book["cells"])
    assert "cccc" not in kinds[3:]


def test_defines_nothing(book):
    if book["path"].name.startswith(TEACHES_BY_DEFINING):
        pytest.skip("here the definitions are the lesson")
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    found = [n.name for cell in code(book) for n in ast.walk(python(cell)) if isinstance(n, kinds)]
    assert not found, "put it into the library"


def test_was_executed_in_order_without_errors(book):
    counts = [cell["execution_count"] for cell in code(book) if cell["text"].strip()]
    assert counts == list(range(1, len(counts) + 1))
    errors = [o for cell in code(book) for o in cell["outputs"] if o["output_type"] == "error"]
    assert not errors
    stderr = [o for c in code(book) for o in c["outputs"] if o.get("name") == "stderr"]
    assert not stderr, f"a warning was stored: {stderr[0]['text'] if stderr else ''}"


def test_outputs_are_small(book):
    assert book["path"].stat().st_size <= 300_000
    for cell in code(book):
        lines = sum("".join(o.get("text", "")).count("\n") for o in cell["outputs"])
        assert lines <= 100, cell["text"][:60]


def test_has_a_takeaway_and_its_checks_are_out_of_sight(book):
    if book["path"].name.startswith(PLAY):
        pytest.skip("this notebook is there to play with")
    assert "**Takeaway: " in book["cells"][0]["text"]
    (checks,) = tagged(book, "checks")
    assert checks["metadata"]["jupyter"] == {"outputs_hidden": True, "source_hidden": True}
    assert "hide-cell" in checks["tags"], "the book folds it by this tag"


def test_parameters_and_imports_are_folded_in_the_book(book):
    for cell in code(book)[:2]:
        assert "hide-input" in cell["tags"]


def test_what_teaches_has_exercises_with_folded_solutions(book):
    if not book["path"].name.startswith(TEACH):
        pytest.skip("this notebook shows results")
    exercises = book["cells"][-1]["text"].partition("## Exercises")[2]
    for grade in ("Easy", "Medium", "Hard"):
        task = exercises.partition(f"**{grade}.**")[2].partition("\n**")[0]
        assert "<details><summary>Solution</summary>\n\n" in task, f"{grade}: fold a solution"
    assert exercises.count("<details>") == exercises.count("</details>")


def test_pages_of_results_check_their_takeaway(book):
    if not re.match("[1239]", book["path"].name):
        pytest.skip("no page of results")
    (checks,) = tagged(book, "checks")
    assert "takeaway: " in checks["text"]


def test_pictures_have_a_hundred_dots_an_inch(book):
    sizes = re.findall(r"figure\.dpi\W+=\s*(\d+)", "".join(cell["text"] for cell in code(book)))
    assert all(int(size) >= 100 for size in sizes)


def test_holds_no_timing_noise(book):
    noise = [key for key in ("papermill", "widgets") if key in book["metadata"]]
    cells = [k for c in book["cells"] for k in ("papermill", "execution") if k in c["metadata"]]
    assert not noise + cells, "run make strip"


def test_holds_a_picture_where_a_live_widget_would_need_a_kernel(book):
    stored = [o.get("data", {}) for cell in code(book) for o in cell["outputs"]]
    assert not any("application/vnd.jupyter.widget-view+json" in data for data in stored)


@pytest.mark.parametrize("what", NEVER)
def test_never(what, book):
    found = [m[0] for cell in code(book) for m in re.finditer(NEVER[what], cell["text"], re.M)]
    assert not found, f"{what}: {found}"


def test_links_lead_somewhere(book):
    text = "\n".join(c["text"] for c in book["cells"] if c["cell_type"] == "markdown")
    targets = [t for t in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in t]
    assert all((FOLDER / target).exists() for target in targets), targets
