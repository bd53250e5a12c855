"""Whole volumes against the same model called by hand."""

import numpy as np
import pytest
import torch

import noisyseg as ns
from noisyseg.baselines import SeparateModel
from noisyseg.models import GlobalHead, PixelHead, SegmentationModel, UNet


def model(dims, head=PixelHead, classes=3):
    torch.manual_seed(0)
    trunk = UNet(2, 4, 2, dims)
    own = None if head is None else head(trunk, 2, classes, 1.0)
    return SegmentationModel(trunk, classes, own)


def volume(shape=(2, 9, 10, 7)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_slices_are_those_of_a_loop(axis, batch_size):
    net, image = model(2).eval(), volume()
    got = ns.predict_volume(net, image, axis=axis, batch_size=batch_size)
    assert got.probs.shape == (3, 9, 10, 7) and got.noisy_probs.shape == (2, 3, 9, 10, 7)
    for k in range(image.shape[1:][axis]):
        one = np.take(image, k, axis % 3 + 1)
        with torch.no_grad():
            out = net(torch.from_numpy(one)[None])
            p = out.logits.softmax(1)
            noisy = out.confusion.apply(p)[0].numpy()
        np.testing.assert_allclose(np.take(got.probs, k, axis % 3 + 1), p[0], atol=1e-5)
        np.testing.assert_allclose(np.take(got.noisy_probs, k, axis % 3 + 2), noisy, atol=1e-5)


@pytest.mark.parametrize("head", [None, PixelHead, GlobalHead])
def test_a_volume_in_one_piece_and_in_patches(head):
    net, image = model(3, head).eval(), volume((2, 12, 13, 9))
    whole = ns.predict_volume(net, image)
    with torch.no_grad():
        by_hand = net(torch.from_numpy(image)[None]).logits.softmax(1)[0].numpy()
    np.testing.assert_allclose(whole.probs, by_hand, atol=1e-5)
    one = ns.predict_volume(net, image, patch=(12, 13, 9))
    np.testing.assert_allclose(one.probs, by_hand, atol=1e-5)
    patched = ns.predict_volume(net, image, patch=(8, 8, 8))
    np.testing.assert_allclose(patched.probs.sum(0), 1, atol=1e-5)
    assert (patched.noisy_probs is None) == (head is None) == (patched.annotators is None)


def test_truth_annotators_and_uncertainty():
    got = ns.predict_volume(model(2), volume())
    assert (got.truth == got.probs.argmax(0)).all() and got.truth.dtype == np.int8
    assert (got.annotators == got.noisy_probs.argmax(1)).all()
    assert 0 <= got.uncertainty.min() and got.uncertainty.max() <= 1
    even = got._replace(probs=np.full_like(got.probs, 1 / 3))
    sure = got._replace(probs=np.eye(3, dtype=np.float32)[:, [0], None, None])
    np.testing.assert_allclose(even.uncertainty, 1, atol=1e-6)
    np.testing.assert_allclose(sure.uncertainty, 0, atol=1e-6)


def test_separate_networks_work_too():
    net = SeparateModel([model(2, None), model(2, None)])
    assert ns.predict_volume(net, volume()).noisy_probs.shape == (2, 3, 9, 10, 7)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(volume=volume()[0]), "channel, x, y, z"),
        (dict(volume=volume((2, 0, 5, 5))), "channel, x, y, z"),
        (dict(volume=np.full((2, 9, 9, 9), np.nan, np.float32)), "NaN or infinite"),
        (dict(patch=(8, 8, 8)), "2-D model sees whole slices"),
        (dict(model=torch.nn.Linear(2, 2)), "no segmentation model"),
    ],
)
def test_bad_input_is_named(change, message):
    given = dict(model=model(2), volume=volume()) | change
    with pytest.raises(ValueError, match=message):
        ns.predict_volume(given.pop("model"), given.pop("volume"), **given)
