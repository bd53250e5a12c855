"""The next annotator: measured as by hand, the same in the browser, saved as a report reads it."""

import base64
import json

import numpy as np
import pytest
from browser import chromium, needs_browser
from PIL import Image
from scipy import ndimage
from sklearn.metrics import confusion_matrix, f1_score

from noisyseg import calibrated
from noisyseg.data.folder import write_prepared
from noisyseg.report import biases, make, widths
from noisyseg.report.bootstrap import resample
from noisyseg.report.skills import annotator_report
from noisyseg.widgets import newcomer as module
from noisyseg.widgets.annotate import NextAnnotator, file_name, next_annotator
from noisyseg.widgets.bake import source

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def tasks(tiny_folder):
    return [module.task_of(name, 4) for name in (str(tiny_folder), "mnist", "lidc", "ms")]


@pytest.fixture
def painted(tasks):
    """A newcomer who drew two digits one pixel too wide."""
    found = module.Newcomer(tasks[1])
    for k in range(2):
        found.paint(k, ndimage.binary_dilation(found.task.truth[k]).astype(np.int8))
    return found


def everybody(found):
    return np.concatenate([found.task.labels, found.masks[:, None]], 1)


def mask_of(answer, name, shape):
    return np.array([*answer["fusions"][name]["mask"]], int).reshape(shape)


def test_offsets_are_those_of_a_calibration_of_everybody(painted):
    whole = calibrated.calibrate(painted.task.images, everybody(painted), 2)
    answer = painted.measure(1)
    expected = [None if np.isnan(v) else v for v in whole.relative()[:, 1]]
    assert answer["relative"] == pytest.approx(expected) and answer["relative"][-1] >= 0
    assert answer["shift"] == whole.shift()[-1, 1]
    assert answer["weight"] == pytest.approx(whole.weight()[-1])


def test_matrices_vote_and_dice_by_hand(painted):
    answer, task = painted.measure(1), painted.task
    truth = task.truth[:2].ravel()
    columns = confusion_matrix(painted.masks[:2].ravel(), truth)
    assert np.allclose(answer["true"], columns / columns.sum(0))
    labels = everybody(painted)[1]
    vote = np.zeros(labels.shape[1:], int)
    for y, x in np.ndindex(vote.shape):
        vote[y, x] = 2 * labels[:, y, x].sum() > len(labels)
    assert np.array_equal(mask_of(answer, "majority", vote.shape), vote)
    found = answer["fusions"]["majority"]
    assert found["with_truth"] == pytest.approx(f1_score(task.truth[1].ravel(), vote.ravel()))
    assert found["with_newcomer"] == pytest.approx(f1_score(labels[-1].ravel(), vote.ravel()))
    assert answer["dice"][0] == 1.0, "good writes the truth"


def test_the_words_are_those_of_the_report(painted):
    """The report has an interval or says that there are too few cases; a live sentence neither."""
    task, rows = painted.task, [0, 1]
    names = {"classes": task.classes, "annotators": [*task.annotators, "newcomer"]}
    labels, truth = everybody(painted)[rows], task.truth[rows]
    report = annotator_report(
        truth, labels, images=task.images[rows], image_ids=["a", "b"], resamples=5, **names
    )
    mine = report.biases[report.biases.annotator == "newcomer"]
    told = mine[mine.beside == biases.OTHERS].text.str.replace(r" \(.*\)", "", regex=True)
    said = painted.measure(0)["words"]
    assert any("larger than the others" in text for text in said)
    assert set(said[1:]) <= set(told)
    offset = widths.intervals(task.images, everybody(painted), 2, [*"abcd"], 5)[0, -1, 1]
    assert np.isfinite(offset) and said[0] in (
        widths.in_words(offset, np.nan, ""),
        widths.SAME_EDGES.format(""),
    )


def test_beside_the_others_without_interval_is_the_first_row_of_the_bootstrap(painted):
    labels, task = everybody(painted)[:2], painted.task
    size, shift = biases.beside_others_now(labels, 1)
    counts = np.zeros((2, labels.shape[1], 2, 2), int)
    table = biases.biases(
        task.truth[:2],
        labels,
        counts,
        resample(["a", "b"], 3, 0),
        classes=task.classes,
        annotators=[*map(str, range(6))],
    )
    rows = table[table.beside == biases.OTHERS]
    sizes = rows[rows.kind.isin(("over", "under"))].amount
    assert np.allclose(100 * size, sizes)
    largest = np.abs(shift).max(1)
    assert np.allclose(rows[rows.kind == "shift"].amount.abs(), largest[np.isfinite(largest)])


def test_nothing_painted_says_nothing_and_taking_back_forgets(tasks):
    found = module.Newcomer(tasks[0])
    empty = found.measure(0)
    assert empty["words"] == [] and empty["true"] is None and empty["relative"][-1] is None
    found.paint(0, found.task.truth[0])
    found.paint(0, None)
    assert found.measure(0) == empty
    found.paint(0, 0 * found.task.truth[0])
    assert found.measure(0)["words"] == ["never writes object"]


def scribbles(task, rng):
    """Masks as a hand might draw them, and as it never would."""
    truth = task.truth[int(rng.integers(4))]
    yield from (truth, 0 * truth, np.roll(truth, (1, 2), (0, 1)), rng.random(truth.shape) < 0.3)
    yield ndimage.binary_dilation(truth, iterations=2)
    yield ndimage.binary_erosion(truth)
    yield np.ones_like(truth)


COMPUTE = """async ({code, listed, pixels, written, rules, jobs}) => {
  const view = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const address = URL.createObjectURL(new Blob([code], {type: "text/javascript"}));
  const {Newcomer, tasksOf} = await import(address);
  const tasks = tasksOf(listed, view(pixels), view(written));
  const found = tasks.map((task) => new Newcomer(task, rules));
  return jobs.map(([t, k, mask]) => {
    const start = performance.now();
    found[t].paint(k, Uint8Array.from(mask, Number));
    return {answer: found[t].measure(k), ms: performance.now() - start};
  });
}"""


def assert_same(ours, theirs, path=""):
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), path
        for key in ours:
            assert_same(ours[key], theirs[key], f"{path}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), path
        for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(a, b, f"{path}/{k}")
    else:
        assert ours == (pytest.approx(theirs, abs=1e-6) if type(ours) is float else theirs), path


@needs_browser
def test_the_browser_computes_the_same(tasks, measured):
    rng = np.random.default_rng(0)
    found, jobs, answers = [module.Newcomer(task) for task in tasks], [], []
    for t, task in enumerate(tasks):
        for mask in scribbles(task, rng):
            k = int(rng.integers(4))
            found[t].paint(k, mask.astype(np.int8))
            answers.append(json.loads(json.dumps(found[t].measure(k))))
            jobs.append([t, k, "".join(map(str, mask.astype(int).ravel()))])
    listed, *arrays = module.coded(tasks)
    pixels, written = (base64.b64encode(a).decode() for a in arrays)
    given = {
        "code": source("newcomer"),
        "listed": listed,
        "pixels": pixels,
        "written": written,
        "rules": module.rules(),
        "jobs": jobs,
    }
    with chromium() as browser:
        page = browser.new_page()
        got = page.evaluate(COMPUTE, given)
    for ours, theirs, job in zip(answers, got, jobs, strict=True):
        assert_same(ours, theirs["answer"], f"{tasks[job[0]].name}, image {job[1]}")
    took = sorted(g["ms"] for g in got)
    measured(f"a newcomer measured in the browser: median {took[len(took) // 2]:.1f} ms")


def test_painting_answers_and_the_state_survives(tasks, measured):
    widget = NextAnnotator(tasks[:2])
    assert widget.answer["n"] == 0 and widget.answer["words"] == []
    truth = tasks[1].truth[2]
    widget.paint(truth, image=2, task=1)
    assert widget.answer["n"] == 1 and widget.answer["dice"][-1] == 1.0
    assert np.array_equal(widget.mask(2, 1), truth) and widget.mask(0, 1) is None
    widget.paint(None, image=2, task=1)
    assert widget.masks == {} and widget.answer["painted"] == []
    bundle = widget._repr_mimebundle_()
    assert "image/png" in bundle[0] and "0x" not in repr(widget)


def test_a_mask_of_another_size_is_a_message(tasks):
    widget = NextAnnotator(tasks[:2])
    widget.masks = {"0:0": base64.b64encode(bytes(3)).decode()}
    widget.at = {"task": 0, "image": 0, "n": 7}
    assert widget.answer["n"] == 7 and "24 bits does not fit" in widget.answer["error"]
    widget.masks = {}
    widget.at = {"task": 0, "image": 0, "n": 8}
    assert "error" not in widget.answer


def test_saved_folders_are_read_by_the_report(tmp_path):
    widget = next_annotator("mnist", 9, tmp_path / "mine")
    widget.asked = 1
    assert "nothing is painted" in widget.said["error"]
    truth = widget.newcomers[0].task.truth
    for k in range(8):
        widget.paint(ndimage.binary_dilation(truth[k]).astype(np.int8), k)
    widget.name = "Zoë"
    widget.asked = 2
    folder = tmp_path / "mine" / "mnist"
    assert f"--data {folder}" in widget.said["text"]
    names = {path.name for path in folder.iterdir()}
    assert names == {"images", "Zoë", "good", "over", "under", "wrong", "blank"}
    assert len([*(folder / "images").iterdir()]) == 9 and len([*(folder / "Zoë").iterdir()]) == 8
    mask = np.array(Image.open(folder / "Zoë" / "test-00000.png"))
    assert np.array_equal(mask, 255 * ndimage.binary_dilation(truth[0]))
    page = make.build(folder, tmp_path / "out", steps=2, resamples=5).read_text("utf-8")
    assert "Zoë" in page
    widget.paint(None, 0)
    widget.save()
    assert not (folder / "Zoë" / "test-00000.png").exists()


@pytest.mark.parametrize("name", ["over", "OVER", "images", "../good", ""])
def test_a_name_that_is_taken_or_none_is_refused(tmp_path, name):
    widget = next_annotator("mnist", 2, tmp_path)
    widget.paint(widget.newcomers[0].task.truth[0])
    widget.name = name
    with pytest.raises(ValueError, match="name"):
        widget.save()
    assert not [*tmp_path.rglob("*.png")]


def test_a_file_name_stays_in_its_folder():
    assert file_name("../../etc/passwd") == "etc_passwd" and file_name(".hidden") == "hidden"
    assert len(file_name("x" * 999)) == 60


def test_names_are_text_in_the_page(tmp_path):
    rng = np.random.default_rng(0)
    truth = np.zeros((6, 20, 20), np.int8)
    truth[:, 5:15, 5:15] = 1
    path = write_prepared(
        tmp_path / "odd",
        rng.random((6, 1, 20, 20), np.float32),
        truth[:, None].repeat(2, 1),
        truth,
        split=["train"] * 3 + ["val"] + ["test"] * 2,
        classes=["none", "</script><b>"],
        annotators=[EVIL, "b"],
        origin="simulated",
    )
    piece = next_annotator(str(path)).fragment()
    assert EVIL not in piece and "</script><b>" not in piece
    if not chromium_is_there():
        return
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{piece}")
    with chromium() as browser:
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        page.get_by_test_id("annotate-others").click()
        assert EVIL in page.get_by_test_id("annotate").inner_text()
        assert not page.locator("[data-testid=annotate] img, [data-testid=annotate] li b b").count()


def chromium_is_there():
    return not needs_browser.args[0]


def test_what_cannot_be_painted_on_is_refused(tiny_folder, tasks):
    with pytest.raises(ValueError, match="nothing to paint on"):
        NextAnnotator([])
    with pytest.raises(ValueError, match="two classes"):
        module.task_of("brats")
    many = tasks[0]._replace(annotators=tuple(map(str, range(16))))
    with pytest.raises(ValueError, match="at most 15"):
        module.coded([many])
