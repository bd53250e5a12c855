"""The Probabilistic U-Net baseline: its bound, its draws, and what it may learn from."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from noisyseg.baselines import KL_WEIGHT, LATENT, SAMPLES, ProbUNet
from noisyseg.models import UNet


def model(dims=2, classes=3, seed=0):
    torch.manual_seed(seed)
    return ProbUNet(UNet(2, 4, 2, dims), 2, classes)


def batch(dims=2, n=5, classes=3):
    space = (8, 9, 7)[:dims]
    return torch.rand(n, 2, *space), torch.randint(0, classes, (n, 3, *space))


@pytest.mark.parametrize("dims", [2, 3])
def test_shapes(dims):
    image, labels = batch(dims)
    net = model(dims)
    assert net(image).logits.shape == (5, 3, *image.shape[2:])
    net(image).latent.loss(labels).backward()
    assert all(p.grad is not None for p in net.parameters())
    net.eval()
    out = net(image)
    assert out.samples.shape == (5, SAMPLES, *image.shape[2:])


def test_the_mean_of_the_draws_is_the_prediction_and_does_not_change():
    net, (image, _) = model().eval(), batch()
    probs = net(image).logits.softmax(1)
    prior, features = net.prior(image), net.trunk(image)
    noise = torch.randn(SAMPLES, LATENT, generator=torch.Generator().manual_seed(0))
    slow = sum(net.decode(features, prior.mean + prior.stddev * step).softmax(1) for step in noise)
    torch.testing.assert_close(probs, slow / SAMPLES)
    assert torch.equal(net(image).samples, net(image).samples)


def test_the_bound_against_a_literal_loop():
    """One annotator, so that nothing is drawn but the latent variable: fixed by the seed."""
    net, (image, labels) = model(), batch()
    label = labels[:, :1].clone()
    label[0, 0, 2] = -1  # a line that is not labelled
    out = net(image)
    torch.manual_seed(5)
    got = out.latent.loss(label)
    torch.manual_seed(5)
    torch.multinomial(torch.ones(5, 1), 1)
    total, pixels = torch.zeros(()), 0
    given = torch.cat((image, F.one_hot(label[:, 0].clamp_min(0), 3).movedim(-1, 1).float()), 1)
    given[0, 2:, 2] = 0
    q, p = net.posterior(given).base_dist, net.prior(image).base_dist
    logits = net.decode(net.trunk(image), q.rsample())
    for n in range(5):
        for y in range(8):
            for x in range(9):
                k = int(label[n, 0, y, x])
                if k >= 0:
                    total = total - logits[n, :, y, x].log_softmax(0)[k]
                    pixels += 1
        for d in range(LATENT):
            ratio = q.stddev[n, d] / p.stddev[n, d]
            gap = (q.mean[n, d] - p.mean[n, d]) / p.stddev[n, d]
            total = total + KL_WEIGHT * 0.5 * (ratio**2 + gap**2 - 1 - 2 * ratio.log())
    torch.testing.assert_close(got, total / pixels)


def test_annotators_without_a_label_are_never_drawn():
    net, (image, labels) = model(), batch()
    one, other = labels.clone(), labels.clone()
    one[:, 1:] = -1
    other[:, 1:] = -1
    other[:, 0] = labels[:, 0]
    out = net(image)
    values = []
    for given in (one, other):
        torch.manual_seed(1)
        values.append(out.latent.loss(given))
    assert torch.equal(*values)
    with pytest.raises(RuntimeError):  # nobody labelled: TrainingView refuses such images
        out.latent.loss(torch.full_like(labels, -1))


def test_it_learns_that_annotators_differ():
    """Two annotators write all 0 or all 1: draws must show both, far more often than neither."""
    torch.manual_seed(0)
    net = ProbUNet(UNet(1, 6, 2), 1, 2)
    image = torch.rand(16, 1, 8, 8)
    labels = torch.stack([torch.zeros(16, 8, 8), torch.ones(16, 8, 8)], 1).long()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        loss = net(image).latent.loss(labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    share = net.eval()(image).samples.double().mean((2, 3)).numpy()  # (image, sample)
    whole = np.minimum(share, 1 - share) < 0.1
    assert whole.mean() > 0.9
    assert 0.15 < (share > 0.5).mean() < 0.85
