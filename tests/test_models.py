"""Shapes, sizes and starts of the networks."""

import pytest
import torch

from noisyseg import baselines, models

HEADS = {
    "pixel": lambda trunk: models.PixelHead(trunk, 5, 2, 3.0),
    "global": lambda trunk: models.GlobalHead(trunk, 5, 2, 3.0),
    "low_rank": lambda trunk: models.LowRankHead(trunk, 5, 2, 3.0, 1),
}


@pytest.mark.parametrize("size", [(28, 28), (29, 31), (17, 40), (8, 9)])
def test_any_image_size_keeps_its_size(size):
    trunk = models.UNet(channels=2, width=4, depth=3)
    assert trunk(torch.rand(2, 2, *size)).shape == (2, 4, *size)


@pytest.mark.parametrize("head", HEADS)
def test_three_dimensions_by_one_argument(head):
    trunk = models.UNet(channels=1, width=4, depth=3, dims=3)
    out = models.SegmentationModel(trunk, 2, HEADS[head](trunk))(torch.rand(1, 1, 9, 10, 11))
    assert out.logits.shape == (1, 2, 9, 10, 11)
    assert out.confusion.dense().shape == (1, 5, 2, 2, 9, 10, 11)


@pytest.mark.parametrize(("classes", "annotators"), [(2, 1), (3, 2), (8, 7)])
def test_any_number_of_classes_and_annotators(classes, annotators):
    trunk = models.UNet(channels=1, width=4, depth=2)
    for head in (
        models.PixelHead(trunk, annotators, classes, 3.0),
        models.LowRankHead(trunk, annotators, classes, 3.0, 2),
        models.GlobalHead(trunk, annotators, classes, 3.0),
    ):
        dense = head(trunk(torch.rand(2, 1, 12, 12))).dense()
        assert dense.shape == (2, annotators, classes, classes, 12, 12)
        torch.testing.assert_close(dense.sum(2), torch.ones(2, annotators, classes, 12, 12))


@pytest.mark.parametrize("head", HEADS)
def test_the_start_is_near_the_identity(head):
    torch.manual_seed(0)
    trunk = models.UNet(channels=1, width=8, depth=2)
    with torch.no_grad():
        dense = HEADS[head](trunk)(trunk(torch.rand(4, 1, 16, 16))).dense()
    diagonal = dense.diagonal(dim1=2, dim2=3).mean()
    assert 0.85 < float(diagonal) < 0.99  # e^3 / (e^3 + 1) = 0.953


def test_too_small_an_image_is_named_with_the_remedy():
    with pytest.raises(ValueError, match=r"\(4, 4\) is too small for depth 4: use depth 2 at most"):
        models.UNet(1, 4, 4)(torch.rand(1, 1, 4, 4))
    assert models.UNet(1, 4, 2)(torch.rand(1, 1, 4, 4)).shape == (1, 4, 4, 4)


def test_wrong_number_of_axes_is_named():
    with pytest.raises(ValueError, match="2 axes"):
        models.UNet(1, 4, 2)(torch.rand(1, 1, 8, 8, 8))


def test_the_decoder_uses_every_level_once():
    widths = [block[0].in_channels for block in models.UNet(1, 4, 4).up]
    assert widths == [32 + 16, 16 + 8, 8 + 4]  # the released code concatenates a map with itself


def test_an_annotator_costs_one_row_of_a_1x1_layer():
    def parameters(annotators):
        trunk = models.UNet(1, 12, 3)
        head = models.PixelHead(trunk, annotators, 2, 3.0)
        return sum(p.numel() for p in head.parameters())

    assert parameters(6) - parameters(5) == (12 + 1) * 4


def test_the_whole_image_matters_to_its_centre():
    torch.manual_seed(0)
    trunk = models.UNet(1, 4, 3)
    image = torch.rand(1, 1, 28, 28, requires_grad=True)
    trunk(image)[0, :, 14, 14].sum().backward()
    assert (image.grad.abs() > 0).float().mean() > 0.9


def test_separate_networks_average_and_ignore_the_truth():
    members = [models.SegmentationModel(models.UNet(1, 4, 2), 2) for _ in range(3)]
    model, image = baselines.SeparateModel(members), torch.rand(2, 1, 12, 12)
    out = model(image)
    expected = torch.stack([m(image).logits.softmax(1) for m in members]).mean(0)
    torch.testing.assert_close(out.logits.softmax(1), expected)
    torch.testing.assert_close(out.confusion.trace(), torch.ones(2, 3, 12, 12))


@pytest.mark.parametrize(("activation", "alive"), [("relu", False), ("prelu", True)])
def test_features_that_are_negative_everywhere_still_learn(activation, alive):
    trunk = models.UNet(1, 4, 2, activation=activation)
    with torch.no_grad():
        trunk.up[-1][-2].bias.fill_(-100.0)  # the last norm, before the last activation
    trunk(torch.rand(2, 1, 12, 12)).sum().backward()
    assert bool((trunk.up[-1][0].weight.grad != 0).any()) == alive
