"""The confusion explorer: matrices of an area as counted by hand, the same in the browser."""

import base64
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import chromium, needs_browser
from sklearn.metrics import confusion_matrix

import noisyseg as ns
from noisyseg.widgets import explorer as module
from noisyseg.widgets.bake import source
from noisyseg.widgets.explorer import beside, coded, confusion_explorer


@pytest.fixture(scope="module")
def runs(tiny_folder):
    cfg = ns.ExperimentConfig.preset(
        "tiny",
        "smoke",
        "calibrated",
        0,
        dataset=str(tiny_folder),
        width=4,
        depth=2,
        epochs=10,
        batch_size=4,
        activation="prelu",
    )
    return {"ours": ns.run(cfg), "majority": ns.run(cfg.replace(method="mode"))}


@pytest.fixture
def explorer(runs):
    return confusion_explorer(runs)


def go(explorer, run=0, image=0):
    explorer.at = {"run": run, "image": image, "n": explorer.at["n"] + 1}


def test_it_shows_what_the_network_predicts(explorer, runs, tiny_folder):
    data = ns.load_dataset(tiny_folder).split("test")
    go(explorer, 0, 2)
    view = explorer.view()
    with torch.no_grad():
        out = runs["ours"].model()(torch.from_numpy(data.read_images()[2:3]))
    assert np.allclose(view.probs, out.logits.softmax(1)[0])
    assert np.allclose(view.confusion, out.confusion.dense()[0])
    assert np.array_equal(view.labels, data.read_labels()[2])
    (entry,) = explorer.views
    assert (entry["run"], entry["image"], entry["image_id"]) == (0, 2, data.image_ids[2])


def test_only_the_column_of_the_true_class_is_known_at_a_pixel(explorer):
    view = explorer.view()
    for y, x in ((12, 12), (0, 0)):
        for r in range(3):
            found = beside(view, r, (y, x, y + 1, x + 1))
            t = view.truth[y, x]
            assert found.known.tolist() == [t == 0, t == 1]
            assert np.allclose(found.estimated, view.confusion[r, :, :, y, x])
            assert np.isnan(found.true[:, 1 - t]).all()
            assert found.true[:, t].tolist() == [view.labels[r, y, x] == c for c in (0, 1)]
            assert np.allclose(found.expected, found.estimated @ view.probs[:, y, x])


def test_true_and_estimated_stand_for_the_same_pixels(explorer):
    view, (top, left, bottom, right) = explorer.view(), (3, 2, 20, 17)
    for r in range(3):
        found = beside(view, r, (top, left, bottom, right))
        sums, counts = np.zeros((2, 2)), np.zeros(2)
        for y in range(top, bottom):
            for x in range(left, right):
                t = view.truth[y, x]
                sums[:, t] += view.confusion[r, :, t, y, x]
                counts[t] += 1
        assert found.known.all() and np.allclose(found.estimated, sums / counts)
        cut = np.s_[top:bottom, left:right]
        columns = confusion_matrix(view.labels[r][cut].ravel(), view.truth[cut].ravel())
        assert np.allclose(found.true, columns / columns.sum(0))


def test_without_a_truth_the_estimate_says_what_can_be_known(explorer):
    view = explorer.view()._replace(truth=None)
    found = beside(view, 1, (0, 0, 2, 2))
    assert np.isnan(found.true).all()
    likely = view.probs[:, :2, :2].argmax(0)
    assert found.known.tolist() == [bool((likely == c).any()) for c in (0, 1)]
    half = view.labels.copy()
    half[1, :2, :2] = -1
    nothing = beside(view._replace(labels=half, truth=explorer.view().truth), 1, (0, 0, 2, 2))
    assert not nothing.known.any() and nothing.wrote.sum() == 0


COMPUTE = """async ({code, jobs}) => {
  const address = URL.createObjectURL(new Blob([code], {type: "text/javascript"}));
  const {besideArea, pixelsOf, unpackView} = await import(address);
  return jobs.map(([entry, data, classes, annotators, r, box]) => {
    const bytes = new DataView(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer);
    const view = unpackView(entry, bytes, classes, annotators);
    return besideArea(view, r, pixelsOf(box, view.width));
  });
}"""


def a_view(rng, classes, annotators, truth=True, labels=True):
    shape = (9, 11)
    probs = rng.dirichlet(np.ones(classes), shape).transpose(2, 0, 1)
    matrices = rng.dirichlet(np.ones(classes), (annotators, classes, *shape))
    return module.View(
        "x",
        rng.normal(size=shape),
        rng.integers(-1, classes, (annotators, *shape)) if labels else None,
        rng.integers(0, classes, shape) if truth else None,
        probs,
        matrices.transpose(0, 4, 1, 2, 3),
    )


@needs_browser
def test_the_browser_averages_the_same():
    rng, jobs, expected = np.random.default_rng(0), [], []
    for classes, truth, labels in (
        (2, True, True),
        (4, True, True),
        (3, False, True),
        (2, True, False),
    ):
        view = a_view(rng, classes, 3, truth, labels)
        entry, data = coded(view, 0, 0, 4)
        given = base64.b64encode(bytes(4) + data).decode()
        for box in ((0, 0, 9, 11), (2, 3, 3, 4), (1, 1, 5, 2)):
            for r in range(3):
                jobs.append([entry, given, classes, 3, r, box])
                expected.append(beside(view, r, box))
    with chromium() as browser:
        got = browser.new_page().evaluate(COMPUTE, {"code": source("areas"), "jobs": jobs})
    for ours, theirs in zip(expected, got, strict=True):
        assert ours.known.tolist() == theirs["known"]
        for name in ("estimated", "true", "expected", "wrote"):
            there = np.array(theirs[name], float)  # None is NaN
            assert np.allclose(getattr(ours, name), there, atol=1e-4, equal_nan=True), name


def test_a_run_without_matrices_and_one_whose_model_is_gone(runs, tmp_path):
    explorer = confusion_explorer({**runs, "gone": replace(runs["ours"])})
    object.__setattr__(explorer.runs["gone"], "path", tmp_path)
    go(explorer, 1)
    assert not explorer.views[0]["confusion"] and len(explorer.still().axes) == 1
    go(explorer, 2)
    assert explorer.problem["text"].startswith("gone: ") and explorer.problem["n"] == 2
    go(explorer, 0)
    assert explorer.views[0]["n"] == 3


def test_it_begins_at_the_pixel_that_is_disputed_most(explorer):
    view, (top, left, *_) = explorer.view(), explorer.area()
    votes = {p: sum(view.labels[r][p] for r in range(3)) for p in np.ndindex(view.image.shape)}
    assert votes[top, left] in (1, 2) and explorer.views[0]["start"] == (top, left)
    assert module.disputed(view._replace(labels=0 * view.labels)) == (12, 12)


def test_the_area_stays_in_the_picture_and_in_the_still(explorer, runs):
    explorer.box = [-4, 20, 5, 99]
    assert explorer.area() == (0, 20, 5, 24)
    assert "image/png" in explorer._repr_mimebundle_()[0] and len(explorer.still().axes) == 4
    with pytest.raises(ValueError, match="no run to explore"):
        confusion_explorer({})
    one = confusion_explorer(runs["ours"], image=1)
    assert one.names == ["calibrated (ours)"] and one.views[0]["image"] == 1


def test_published_runs_are_there_at_once_and_none_trains(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", lambda *a: pytest.fail("it trains"))
    explorer = confusion_explorer()
    assert {"mnist: calibrated (ours)", "lidc: calibrated (ours)"} <= set(explorer.names)
    assert explorer.run_of(0).provenance["published"]
    lidc = explorer.names.index("lidc: calibrated (ours)")
    assert explorer.listed[lidc]["annotators"] == [f"reader {k}" for k in (1, 2, 3, 4)]
    go(explorer, lidc)
    view = explorer.view()
    hit = 2 * ((view.probs[1] > 0.5) & (view.truth == 1)).sum()
    assert hit / ((view.probs[1] > 0.5).sum() + view.truth.sum()) > 0.8, "a trained network"
    explorer.book({"mnist": 2})
    piece = explorer.fragment()
    assert len(piece) < 1_000_000 and [v["image"] for v in explorer.views] == [0, 1] * 3
