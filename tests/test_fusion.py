"""Fusion against SimpleITK and literal EM; degenerate annotators by name."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from noisyseg import fusion
from noisyseg import staple as staple_module


def blobs(n_classes=2, images=3, size=24, annotators=5, seed=0):
    """Smooth masks (images, size, size) and annotators who blur their borders differently."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(images, size, size)), (0, 3, 3))
    edges = np.quantile(noise, np.linspace(0.5, 0.9, n_classes - 1))
    labels = []
    for r in range(annotators):
        own = ndimage.gaussian_filter(rng.normal(size=noise.shape), (0, 1, 1))
        labels.append(np.digitize(noise + (0.02 + 0.03 * r) * own / own.std(), edges))
    return torch.from_numpy(np.stack(labels, 1))


def test_binary_staple_is_simpleitks():
    labels = blobs()
    ours = fusion.staple(labels, 2, iterations=1000, tolerance=1e-12)
    for n in range(len(labels)):
        images = [sitk.GetImageFromArray(m.numpy().astype(np.uint8)) for m in labels[n]]
        theirs = sitk.STAPLEImageFilter()
        theirs.SetForegroundValue(1)
        posterior = sitk.GetArrayFromImage(theirs.Execute(images))
        np.testing.assert_allclose(ours.posterior[n, 1], posterior, atol=1e-4)
        np.testing.assert_allclose(ours.confusion[n, :, 1, 1], theirs.GetSensitivity(), atol=1e-4)
        np.testing.assert_allclose(ours.confusion[n, :, 0, 0], theirs.GetSpecificity(), atol=1e-4)


def test_multi_class_staple_decides_as_simpleitk_on_tie_free_data():
    labels = blobs(n_classes=3, images=4, size=32, seed=1)
    votes = torch.stack([(labels == k).sum(1) for k in range(3)], 1)
    tied = (votes == votes.amax(1, keepdim=True)).sum(1) > 1
    for n in range(len(labels)):
        keep = ~tied[n]
        line = labels[n][:, keep].to(torch.uint8).numpy()[:, None]  # one row without ties
        ours = fusion.staple(torch.from_numpy(line.astype(np.int64))[None], 3)
        theirs = sitk.MultiLabelSTAPLEImageFilter()
        theirs.SetLabelForUndecidedPixels(255)
        decided = sitk.GetArrayFromImage(theirs.Execute([sitk.GetImageFromArray(m) for m in line]))
        assert (ours.posterior[0].argmax(0).numpy() == decided).mean() > 0.995


def slow_staple(labels, n_classes, iterations):
    """The E and M steps of Warfield et al. 2004 with loops over pixels and annotators."""
    annotators, pixels = labels.shape
    prior = np.array([(labels == k).sum() for k in range(n_classes)], float)
    prior /= prior.sum()
    off = 0.00001 / (n_classes - 1)
    matrices = np.tile(np.where(np.eye(n_classes), 0.99999, off), (annotators, 1, 1))

    def expect():
        weights = np.empty((pixels, n_classes))
        for x in range(pixels):
            for j in range(n_classes):
                seen = [r for r in range(annotators) if labels[r, x] >= 0]
                weights[x, j] = prior[j] * np.prod([matrices[r, labels[r, x], j] for r in seen])
            weights[x] /= weights[x].sum()
        return weights

    for _ in range(iterations):
        weights = expect()
        for r in range(annotators):
            for j in range(n_classes):
                seen = labels[r] >= 0
                for i in range(n_classes):
                    matrices[r, i, j] = weights[labels[r] == i, j].sum() / weights[seen, j].sum()
    return expect(), matrices


@pytest.mark.parametrize("n_classes", [2, 3])
def test_staple_is_the_literal_em_with_missing_labels(n_classes):
    labels = blobs(n_classes, images=2, size=8, annotators=4)
    labels[:, 1, :3] = -1
    labels[0, 3] = -1
    ours = fusion.staple(labels[:1, :3], n_classes, iterations=12, tolerance=0)
    weights, matrices = slow_staple(labels[0, :3].reshape(3, -1).numpy(), n_classes, 12)
    np.testing.assert_allclose(ours.posterior[0].reshape(n_classes, -1).T, weights, atol=1e-5)
    np.testing.assert_allclose(ours.confusion[0], matrices, atol=1e-5)


@pytest.mark.parametrize("fuse", fusion.FUSIONS.values(), ids=fusion.FUSIONS)
def test_images_are_fused_one_by_one(fuse):
    labels = blobs(n_classes=3)
    labels[1, 2] = -1
    whole = fuse(labels, 3)
    for n in range(len(labels)):
        torch.testing.assert_close(
            whole.posterior[n : n + 1], fuse(labels[n : n + 1], 3).posterior, atol=2e-3, rtol=0
        )


@pytest.mark.parametrize("fuse", fusion.FUSIONS.values(), ids=fusion.FUSIONS)
def test_a_missing_annotator_is_no_annotator(fuse):
    labels = blobs(annotators=4)
    with_gap = torch.cat((labels, torch.full_like(labels[:, :1], -1)), 1)
    torch.testing.assert_close(fuse(with_gap, 2).posterior, fuse(labels, 2).posterior)


@pytest.mark.parametrize("fuse", fusion.FUSIONS.values(), ids=fusion.FUSIONS)
def test_a_single_annotator_is_believed(fuse):
    labels = blobs(annotators=1)
    fused = fuse(labels, 2)
    assert torch.isfinite(fused.posterior).all()
    assert torch.equal(fused.posterior.argmax(1), labels[:, 0])


@pytest.mark.parametrize("fuse", fusion.FUSIONS.values(), ids=fusion.FUSIONS)
def test_all_agree(fuse):
    labels = blobs(annotators=1).expand(-1, 3, -1, -1)
    assert torch.equal(fuse(labels, 2).posterior.argmax(1), labels[:, 0])


@pytest.mark.parametrize("fuse", fusion.FUSIONS.values(), ids=fusion.FUSIONS)
def test_all_background_stays_background(fuse):
    fused = fuse(torch.zeros(2, 3, 6, 6, dtype=torch.long), 2)
    assert (fused.posterior[:, 0] > 0.99).all()


@pytest.mark.parametrize("fuse", fusion.FUSIONS.values(), ids=fusion.FUSIONS)
def test_pixels_nobody_labelled_stay_finite_and_sum_to_one(fuse):
    labels = blobs()
    labels[:, :, :5] = -1
    posterior = fuse(labels, 2).posterior
    torch.testing.assert_close(posterior.sum(1), torch.ones(3, 24, 24))


@pytest.mark.parametrize("name", ["mean", "majority"])
def test_a_pixel_nobody_labelled_is_uniform_for_votes(name):
    nobody = torch.full((1, 3, 2, 2), -1)
    assert (fusion.FUSIONS[name](nobody, 4).posterior == 0.25).all()


def test_a_blank_annotator_is_found_out():
    labels = blobs(annotators=4)
    labels = torch.cat((labels, torch.zeros_like(labels[:, :1])), 1)
    matrix = fusion.staple(labels, 2).confusion[:, 4]
    torch.testing.assert_close(matrix[:, 0], torch.ones(3, 2))


def test_ties_are_split_and_argmax_takes_the_lowest_class():
    labels = torch.tensor([1, 2]).view(1, 2, 1, 1)
    posterior = fusion.majority_vote(labels, 3).posterior
    assert posterior.flatten().tolist() == [0, 0.5, 0.5]
    assert int(posterior.argmax(1)) == 1


def test_mean_is_the_share_of_those_present():
    labels = torch.tensor([1, 1, 0, -1]).view(1, 4, 1, 1)
    assert fusion.mean_labels(labels, 2).posterior.flatten().tolist() == pytest.approx(
        [1 / 3, 2 / 3]
    )


def test_many_annotators_need_no_table_of_all_patterns():
    labels = blobs(images=1, annotators=30, size=12)  # 3^30 patterns, 144 pixels
    ours = fusion.staple(labels, 2, iterations=5, tolerance=0)
    weights, matrices = slow_staple(labels[0].reshape(30, -1).numpy(), 2, 5)
    np.testing.assert_allclose(ours.posterior[0].reshape(2, -1).T, weights, atol=1e-5)
    np.testing.assert_allclose(ours.confusion[0], matrices, atol=1e-5)


def test_spatial_staple_sees_annotators_who_guess_on_one_side_only():
    torch.manual_seed(0)
    truth = (torch.rand(1, 40, 40) < 0.5).long()
    labels = truth[:, None].repeat(1, 6, 1, 1)
    guesses = (torch.rand(1, 6, 40, 40) < 0.5).long()
    labels[:, :3, :, :20], labels[:, 3:, :, 20:] = guesses[:, :3, :, :20], guesses[:, 3:, :, 20:]
    spatial, whole = fusion.spatial_staple(labels, 2), fusion.staple(labels, 2)
    right = [(f.posterior.argmax(1) == truth).float().mean() for f in (spatial, whole)]
    assert right[0] > right[1] + 0.05


def test_windows_in_3d_and_even_windows():
    labels = torch.randint(0, 2, (1, 3, 5, 6, 7))
    assert fusion.spatial_staple(labels, 2, window_px=3).posterior.shape == (1, 2, 5, 6, 7)
    with pytest.raises(ValueError, match="odd number"):
        fusion.spatial_staple(labels, 2, window_px=4)


def test_window_sums_are_scipys():
    values = torch.rand(1, 1, 1, 1, 9, 8)
    ours = staple_module._window_sums(values, 5)[0, 0, 0, 0]
    theirs = ndimage.uniform_filter(values[0, 0, 0, 0].numpy(), 5, mode="constant") * 25
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
