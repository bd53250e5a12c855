"""The film: recording changes nothing, what is shown is what was trained, and it stays small."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import TraitError

from noisyseg import build, diagnostics
from noisyseg.data.dataset import load_dataset
from noisyseg.storage import project_root
from noisyseg.train import SwapWarning, fit
from noisyseg.widgets import footage
from noisyseg.widgets.film import gif, light_of, source_of, swap_film
from noisyseg.widgets.footage import Footage

TINY = {"epochs": 2, "n_train": 16, "n_val": 4, "n_test": 8, "width": 4, "depth": 2}
STORED = project_root() / "figures" / "explorers"


@pytest.fixture(scope="module")
def tiny():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SwapWarning)  # two epochs teach nothing
        return footage.record(**TINY)


@pytest.fixture(scope="module")
def stored():
    return footage.load(STORED / "swap.npz")


def test_recording_does_not_change_what_is_learned(tiny):
    dataset = load_dataset("mnist")
    for m, method in enumerate(footage.CAST):
        cfg = footage.config(method, **TINY)
        splits = build.load_splits(cfg, dataset)
        model = build.build_model(cfg, build.model_shape(splits.train))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SwapWarning)
            train, val = build.training_view(cfg, splits.train), splits.val
            fit(model, train, build.validation_view(cfg, val), cfg)
        with torch.no_grad():
            out = model.eval()(torch.from_numpy(splits.test.read_images()))
        probs = out.logits.softmax(1)
        shown = footage.grey(probs[list(footage.DIGITS), 1].numpy())
        assert (tiny.estimate[m, -1] == shown).all()
        row = diagnostics.watch(out.confusion, probs)
        assert tiny.watched[m, -1, 1:] == pytest.approx(
            [row[name] for name in footage.WATCHED[1:]], abs=1e-5
        )
        expected = out.confusion.apply(probs)[list(footage.DIGITS), :, 1]
        assert (
            np.abs(tiny.expected[m, -1] / 255 - expected.numpy()).max()
            <= 0.5 / footage.LEVELS + 0.01
        )
        assert (tiny.matrices[m, -1] == footage.eight_bits(mean_by_hand(out, probs))).mean() > 0.95


def mean_by_hand(out, probs):
    """Each annotator's matrix, a column the mean over the pixels where its class is, in a loop."""
    dense = out.confusion.dense().double().numpy()
    weight = probs.double().numpy()
    result = np.zeros(dense.shape[1:4])
    for r, i, j in np.ndindex(result.shape):
        result[r, i, j] = (dense[:, r, i, j] * weight[:, j]).sum() / weight[:, j].sum()
    return result


def test_the_first_frame_is_before_training_and_phases_are_named(tiny):
    assert tiny.estimate.shape == (3, 3, 3, 28, 28) and tiny.matrices.shape == (3, 3, 5, 2, 2)
    assert tiny.about["warm_up"] == [0, 1, 1], "a short warm-up for the loss as printed"
    assert light_of(tiny, 0, 0) == "off" and light_of(tiny, 1, 1) == "off"
    assert light_of(tiny, 1, 2) in ("red", "green")


def test_a_recording_comes_back_as_it_was(tiny, tmp_path):
    for name in ("a.npz", "b.npz"):
        footage.save(tiny, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = footage.load(tmp_path / "a.npz")
    for name in Footage._fields[:-1]:
        assert np.array_equal(getattr(again, name), getattr(tiny, name)), name
    assert again.about == tiny.about
    with pytest.raises(FileNotFoundError, match="python -m noisyseg.widgets"):
        footage.load(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", image=tiny.image)
    with pytest.raises(ValueError, match="truth"):
        footage.load(tmp_path / "d.npz")


def test_the_stored_recording_shows_the_swap_and_two_cures(stored):
    assert (STORED / "swap.npz").stat().st_size < 300_000
    dice = stored.watched[:, -1, 0]
    assert dice[0] < 0.1 and (dice[1:] > 0.85).all()
    assert stored.watched[0, stored.about["warm_up"][0], 0] > 0.5, "it was found before the release"
    assert [light_of(stored, m, stored.about["sizes"]["epochs"]) for m in range(3)] == [
        "red",
        "green",
        "green",
    ]
    # The swap explains the labels no worse: what is expected of the annotators hardly differs.
    written = stored.written.astype(float) / 255
    error = np.abs(stored.expected[:, -1].astype(float) / 255 - written).mean((1, 2, 3, 4))
    assert error.max() < 0.1
    assert "seed 0" in source_of(stored) and "smoke" in source_of(stored)


def test_the_stored_film_is_drawn_from_it_and_small(stored):
    content = gif(stored)
    assert len(content) <= 400_000
    with Image.open(STORED / "swap.gif") as kept, Image.open(io.BytesIO(content)) as drawn:
        assert kept.n_frames == drawn.n_frames == stored.estimate.shape[1]
        assert kept.size == drawn.size
        kept.seek(kept.n_frames - 1)
        drawn.seek(drawn.n_frames - 1)
        pair = [np.asarray(frame.convert("RGB"), float) for frame in (kept, drawn)]
    assert np.abs(pair[0] - pair[1]).mean() < 3, "draw it again: python -m noisyseg.widgets --draw"


def test_the_widget_names_what_was_not_recorded(stored):
    film = swap_film(STORED / "swap.npz", epoch=3, digit=1)
    assert "epoch 3" in film.told() and repr(film) == "Film: The swap, as a film"
    for name, value in (("epoch", 99), ("digit", 3)):
        with pytest.raises(TraitError, match=f"{name} {value} was not recorded"):
            setattr(film, name, value)
    assert len(film.fragment()) < 1_000_000
