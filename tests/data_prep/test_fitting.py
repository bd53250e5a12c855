"""Padding, cropping and windows against NumPy by hand, and one way from a file to the network."""

import numpy as np
import pytest
import torch
from PIL import Image

import noisyseg as ns
from data_prep.fitting import fit, fit_image, predict_fitted, windows
from data_prep.folders import own
from noisyseg.models import PixelHead, SegmentationModel, UNet
from noisyseg.predict import predict_image
from noisyseg.report import make
from noisyseg.report.skills import estimate


def network(channels=1):
    torch.manual_seed(0)
    trunk = UNet(channels, 4, 2)
    return SegmentationModel(trunk, 2, PixelHead(trunk, 2, 2, 1.0)).eval()


@pytest.mark.parametrize("have", [(3, 5), (4, 4), (9, 2), (12, 11)])
def test_the_middle_is_kept_and_the_rest_filled(have):
    array = np.arange(np.prod(have)).reshape(have) + 1
    (got,) = fit(array, (6, 5), -1)
    assert got.shape == (6, 5)
    kept = tuple(min(h, w) for h, w in zip(have, (6, 5), strict=True))
    assert (got >= 0).sum() == np.prod(kept)
    starts = [max(0, h - w) // 2 for h, w in zip(have, (6, 5), strict=True)]
    inside = array[starts[0] : starts[0] + kept[0], starts[1] : starts[1] + kept[1]]
    np.testing.assert_array_equal(got[got >= 0].reshape(kept), inside)
    above, below = (got >= 0).any(1).argmax(), (got >= 0)[::-1].any(1).argmax()
    assert below - above in (0, 1)


@pytest.mark.parametrize("space", [(6, 5), (3, 4), (13, 5), (17, 23)])
def test_windows_cover_everything_and_end_with_the_middle(space):
    parts = list(windows(space, (6, 5)))
    seen = np.zeros(space, int)
    for part in parts:
        lengths = [w.stop - w.start for w in part]
        assert lengths == [min(s, n) for s, n in zip((6, 5), space, strict=True)]
        seen[part] += 1
    assert seen.min() == 1
    image = np.random.default_rng(0).normal(size=(2, *space)).astype(np.float32)
    np.testing.assert_array_equal(fit_image(image, (6, 5), parts[-1]), fit_image(image, (6, 5)))


@pytest.mark.parametrize("space", [(9, 11), (16, 12), (23, 16), (3, 9, 11)])
def test_the_answer_is_that_of_the_padded_image_to_the_bit(space):
    net = network()
    image = np.random.default_rng(1).normal(size=(1, *space)).astype(np.float32)
    found = predict_fitted(net, image, (16, 16))
    assert found.probs.shape == (2, *space) and found.noisy_probs.shape == (2, 2, *space)
    padded = fit_image(image, (16, 16))
    with torch.no_grad():
        by_hand = [net(torch.from_numpy(row)[None]).logits.softmax(1)[0].numpy() for row in padded]
    places = fit(np.arange(np.prod(space[-2:])).reshape(space[-2:]), (16, 16), -1)[0]
    for n, probs in enumerate(by_hand):
        whole = (found.probs[:, n] if len(space) == 3 else found.probs).reshape(2, -1)
        np.testing.assert_array_equal(whole[:, places[places >= 0]], probs[:, places >= 0])


def unlike(folder, sizes=((20, 28), (28, 17), (13, 13), (28, 28), (22, 25), (15, 27)), seed=0):
    """Pictures of several sizes with a bright box, outlined by two annotators."""
    rng = np.random.default_rng(seed)
    for n, size in enumerate(sizes):
        mask = np.zeros(size, np.uint8)
        mask[3:10, 4:11] = 255
        image = (40 + mask / 2 + rng.normal(0, 12, size)).clip(0, 255).astype(np.uint8)
        for name, array in {"images": image, "anna": mask, "ben": mask}.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / f"c{n}.png")
    return folder


def test_the_page_and_the_predictions_are_one_for_images_of_unlike_sizes(tmp_path):
    raw = unlike(tmp_path / "raw")
    own.prepare_own(raw, tmp_path / "prepared", origin="simulated")
    config = make.own_config(tmp_path / "prepared", "calibrated", 4)
    run = ns.run(config.replace(width=4, depth=2))
    own.predict_own(run, raw, tmp_path / "out")
    found = estimate(run)
    for n, name in enumerate(i.split("/")[0] for i in found.data.image_ids):
        there = tmp_path / "out" / name
        truth, grey = (np.array(Image.open(there / f"{k}.png")) for k in ("truth", "uncertainty"))
        assert truth.shape == np.array(Image.open(raw / "images" / f"{name}.png")).shape
        where = fit(np.arange(truth.size).reshape(truth.shape), found.data.space, -1)[0]
        np.testing.assert_array_equal(found.truth[n][where >= 0], truth.ravel())
        seen = predict_image(run.model(), found.data.images[n]).uncertainty[where >= 0]
        np.testing.assert_array_equal((255 * seen).round().astype(np.uint8), grey.ravel())


def test_padding_is_not_labelled_by_anybody(tmp_path):
    raw = unlike(tmp_path / "raw")
    own.prepare_own(raw, tmp_path / "prepared", origin="simulated")
    data = ns.load_dataset(tmp_path / "prepared")
    for n, name in enumerate(i.split("/")[0] for i in data.image_ids):
        mask = np.array(Image.open(raw / "anna" / f"{name}.png")) > 0
        for labels in np.asarray(data.labels[n]):
            assert (labels >= 0).sum() == mask.size
            np.testing.assert_array_equal(labels[labels >= 0], mask.ravel())
