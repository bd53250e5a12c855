"""The annotator studio shows what the library computes, at once, and survives bad input."""

import io
import re

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from sklearn.metrics import confusion_matrix, f1_score

from noisyseg import simulate
from noisyseg.data.dataset import load_dataset
from noisyseg.data.folder import write_prepared
from noisyseg.widgets.parts import Explorer
from noisyseg.widgets.studio import annotator_studio


@pytest.fixture
def studio():
    return annotator_studio("mnist")


def state(explorer):
    return re.search(r'data-state="(\w+)"', explorer.status.value)[1]


def shown(picture):
    return imread(io.BytesIO(picture.image.value))[..., :3]


def test_moving_a_degree_changes_mask_matrix_and_dice(studio, measured):
    before = studio.masks["over"].image.value
    studio.degree["over"].value = 3.4
    assert studio.masks["over"].image.value != before
    truth = np.array(studio.test.truth[0])
    (label,) = simulate.simulate_labels(truth[None], studio.test.image_ids[:1], ["over@3.4"], 0)[0]
    right = (label == 1) & (truth == 1)
    assert np.array_equal((shown(studio.masks["over"]) > 0.95).all(2), right)
    dice = 100 * f1_score(truth.ravel(), label.ravel())
    assert f"Dice {dice:.0f} %" in studio.masks["over"].caption.value
    columns = confusion_matrix(label.ravel(), truth.ravel())
    for value in (columns / columns.sum(0)).ravel():
        assert f">{value:.2f}<" in studio.tables["over"].value
    measured(f"studio: {studio.reaction_ms[-1]:.0f} ms")
    assert studio.reaction_ms[-1] < 1000


def test_vote_is_that_of_those_switched_on(studio):
    for kind in ("under", "wrong", "blank"):
        studio.used[kind].value = False
    labels = simulate.simulate_labels(
        np.array(studio.test.truth[:1]), studio.test.image_ids[:1], studio.names(), 0
    )[0]
    assert studio.names() == ["good", "over@1.7"]
    vote = labels.sum(0) > 1  # a tie is background
    marked = shown(studio.pictures["majority vote"])[..., 0] > 0.8  # white or red
    assert np.array_equal(marked, vote)


def test_another_image_another_seed(studio):
    first = shown(studio.masks["wrong"])
    studio.seed.value = 5
    assert not np.array_equal(first, shown(studio.masks["wrong"]))
    studio.image.value = 4
    truth = np.array(studio.test.truth[4])
    assert np.array_equal(shown(studio.pictures["truth"])[..., 0] > 0.5, truth == 1)
    assert studio.test.image_ids[4] in studio.status.value


def test_only_what_changed_is_computed_again(studio, monkeypatch):
    written = []
    simulated = simulate.simulate_labels
    monkeypatch.setattr(
        simulate,
        "simulate_labels",
        lambda truth, ids, names, seed: written.append(names) or simulated(truth, ids, names, seed),
    )
    studio.degree["over"].value = 2.9
    studio.used["wrong"].value = False
    assert written == [["over@2.9"]]
    studio.degree["over"].value = 1.7
    assert len(written) == 1, "what was seen before is remembered"
    assert studio.degree["over"].continuous_update


def test_nobody_switched_on_is_a_message_and_no_end(studio):
    for switch in studio.used.values():
        switch.value = False
    assert state(studio) == "error" and "at least one annotator" in studio.status.value
    studio.used["good"].value = True
    assert state(studio) == "ready"


def test_a_missing_data_set_is_a_message_with_the_remedy(studio, tmp_path):
    studio.dataset.options = [*studio.dataset.options, str(tmp_path / "gone")]
    studio.dataset.value = str(tmp_path / "gone")
    assert state(studio) == "error" and "gone" in studio.status.value
    studio.dataset.value = studio.dataset.options[0]
    assert state(studio) == "ready"


def test_large_pictures_with_several_classes(tmp_path, measured):
    rng = np.random.default_rng(0)
    truth = np.zeros((6, 192, 192), np.int8)
    truth[:, 60:130, 50:120], truth[:, 80:110, 70:100] = 1, 2
    images = rng.random((6, 1, 192, 192), np.float32)
    split, names = ["train", "train", "val", "test", "test", "test"], ["none", "rim", "core"]
    truth[4] = np.minimum(truth[4], 1)  # the first test image lacks a class
    path = write_prepared(
        tmp_path / "big", images, None, truth, split=split, classes=names, origin="simulated"
    )
    studio = annotator_studio(load_dataset(path))
    assert studio.order.tolist() == [0, 2, 1]
    studio.image.value = 1
    assert studio.number == 2
    assert studio.cards["class_swap"].layout.display == "flex"
    studio.used["class_swap"].value = True
    studio.degree["wrong"].value = 2.5
    assert state(studio) == "ready" and len(studio.names()) == 6
    measured(f"studio, 192 x 192, three classes: {studio.reaction_ms[-1]:.0f} ms")
    assert studio.reaction_ms[-1] < 3000


def test_carries_a_still_picture(studio):
    bundle = studio._repr_mimebundle_()
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    assert isinstance(studio, Explorer) and len(studio.still().axes) == 4 + len(studio.names())


def test_training_is_out_of_reach(studio, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", lambda *a: pytest.fail("it trains"))
    studio.degree["under"].value = 2
    assert state(studio) == "ready"
