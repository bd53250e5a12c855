"""The confusion explorer shows the model's matrices at the pixel that was clicked."""

import re

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backend_bases import MouseEvent
from sklearn.metrics import confusion_matrix

import noisyseg as ns
from noisyseg.widgets.explorer import confusion_explorer


@pytest.fixture(scope="module")
def runs(tiny_folder):
    cfg = ns.ExperimentConfig.preset(
        "tiny", "smoke", "calibrated", 0, dataset=str(tiny_folder), width=4, depth=2, epochs=10,
        batch_size=4, activation="prelu",
    )  # fmt: skip
    return {"ours": ns.run(cfg), "majority": ns.run(cfg.replace(method="mode"))}


@pytest.fixture
def explorer(runs):
    return confusion_explorer(runs)


def mouse(explorer, kind, x, y):
    explorer.canvas.draw()
    at = explorer.axis.transData.transform((x, y))
    MouseEvent(f"{kind}_event", explorer.canvas, *at, 1)._process()


def click(explorer, x, y):
    mouse(explorer, "button_press", x, y)
    mouse(explorer, "button_release", x, y)


def predicted(run, folder, image):
    data = ns.load_dataset(folder).split("test")
    with torch.no_grad():
        out = run.model()(torch.from_numpy(data.read_images()[image : image + 1]))
    return out.logits.softmax(1)[0].numpy(), out.confusion.dense()[0].numpy()


def numbers(html):
    return [float(x) for x in re.findall(r">(\d\.\d\d)</td>", html)]


def card(explorer, name):
    return explorer.answer.value.split(f"<b>{name}</b>")[1].split("<p style")[0]


def test_a_click_shows_matrix_belief_product_and_label(explorer, runs, tiny_folder, measured):
    click(explorer, 9, 15)
    assert (explorer.row.value, explorer.column.value) == (15, 9)
    probs, confusion = predicted(runs["ours"], tiny_folder, 0)
    assert f"object {probs[1, 15, 9]:.2f}" in explorer.answer.value
    data = ns.load_dataset(tiny_folder).split("test")
    for r, name in enumerate(data.annotators):
        here, html = confusion[r, :, :, 15, 9], card(explorer, name)
        assert numbers(html)[:4] == pytest.approx(here.ravel(), abs=0.0051)
        expected = here @ probs[:, 15, 9]
        assert f"object {expected[1]:.2f}" in html
        written = data.classes[data.read_labels()[0, r, 15, 9]]
        assert f"{written} ← written" in html
    measured(f"confusion explorer: {explorer.reaction_ms[-1]:.0f} ms")


def test_the_true_matrix_is_counted_over_the_image(explorer, tiny_folder):
    data = ns.load_dataset(tiny_folder).split("test")
    explorer.image.value = 2
    labels, truth = data.read_labels()[2], data.read_truth()[2]
    counts = confusion_matrix(labels[1].ravel(), truth.ravel())
    assert numbers(card(explorer, "wide"))[4:] == pytest.approx(
        (counts / counts.sum(0)).ravel(), abs=0.0051
    )


def test_sliders_do_what_a_click_does(explorer):
    click(explorer, 4, 7)
    clicked = explorer.answer.value
    click(explorer, 20, 20)
    assert explorer.answer.value != clicked
    explorer.row.value, explorer.column.value = 7, 4
    assert explorer.answer.value == clicked


def test_a_dragged_rectangle_is_averaged_and_so_is_the_area_slider(explorer, runs, tiny_folder):
    probs, confusion = predicted(runs["ours"], tiny_folder, 0)
    mouse(explorer, "button_press", 3, 5)
    mouse(explorer, "motion_notify", 8, 11)
    mouse(explorer, "button_release", 8, 11)
    assert explorer.box == (5, 3, 12, 9) and "mean over 42 pixels" in explorer.status.value
    mean = confusion[0, :, :, 5:12, 3:9].mean((2, 3))
    assert numbers(card(explorer, "exact"))[:4] == pytest.approx(mean.ravel(), abs=0.0051)
    explorer.area.value = 2
    y, x = explorer.row.value, explorer.column.value
    assert explorer.box == (y - 2, x - 2, y + 3, x + 3)
    assert f"object {probs[1, y - 2 : y + 3, x - 2 : x + 3].mean():.2f}" in explorer.answer.value


def test_the_area_stays_in_the_picture(explorer):
    explorer.row.value = explorer.column.value = 0
    explorer.area.value = 5
    assert explorer.box == (0, 0, 6, 6)
    mouse(explorer, "button_release", -5, -5)  # beside the picture
    assert 'data-state="ready"' in explorer.status.value


def test_every_picture_and_one_annotator(explorer):
    explorer.annotator.value, seen = "wide", set()  # the first one writes the reference
    for name in explorer.shown.options:
        explorer.shown.value = name
        seen.add(explorer.axis.images[0].get_array().tobytes())
    assert len(seen) == len(explorer.shown.options)
    explorer.annotator.value = "narrow"
    assert "narrow" in explorer.axis.get_title() and "<b>wide</b>" not in explorer.answer.value


def test_a_run_without_matrices_says_so(explorer):
    explorer.run.value = "majority"
    assert "no confusion matrices" in explorer.answer.value
    explorer.shown.value = "CMs"
    assert explorer.axis.get_title() == "input" and 'data-state="ready"' in explorer.status.value
    assert len(explorer.still().axes) == 1


def test_a_run_whose_model_is_gone_is_a_message(runs, tmp_path):
    from dataclasses import replace

    explorer = confusion_explorer({"fine": runs["ours"], "gone": replace(runs["ours"])})
    object.__setattr__(explorer.runs["gone"], "path", tmp_path)
    explorer.run.value = "gone"
    assert 'data-state="error"' in explorer.status.value
    explorer.run.value = "fine"
    assert 'data-state="ready"' in explorer.status.value


def test_carries_a_still_picture_and_asks_for_a_run(explorer, runs):
    assert "image/png" in explorer._repr_mimebundle_()
    assert len(explorer.still().axes) == 4
    with pytest.raises(ValueError, match="no run to explore"):
        confusion_explorer({})
    one = confusion_explorer(runs["ours"], image=1)
    assert one.run.options == ("calibrated",) and np.isfinite(one.reaction_ms[-1])


def test_other_figures_keep_their_backend(explorer):
    assert matplotlib.get_backend().lower() == "agg"
    assert type(explorer.canvas).__module__ == "ipympl.backend_nbagg"
