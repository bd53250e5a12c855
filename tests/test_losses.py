"""Losses against literal loops over images, annotators and pixels."""

import math

import pytest
import torch
import torch.nn.functional as F

from noisyseg import losses
from noisyseg.confusion import PixelConfusion

BATCH, R, L, SPACE = 3, 4, 3, (5, 4)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    labels = torch.randint(0, L, (BATCH, R, *SPACE))
    labels[0, 1] = -1  # an annotator who did not label this image
    labels[2, :3] = -1
    labels[1, 2, :2] = -1  # a partial mask
    return (
        torch.randn(BATCH, L, *SPACE),
        PixelConfusion(torch.randn(BATCH, R, L, L, *SPACE)),
        labels,
    )


def slow_loss(logits, confusion, labels, trace_weight):
    """Eq. 4 of arXiv 2007.15963 over M, one pixel at a time."""
    probs, dense = logits.softmax(1), confusion.dense()
    total, pairs = 0.0, 0
    for n in range(BATCH):
        for r in range(R):
            values = []
            for y in range(SPACE[0]):
                for x in range(SPACE[1]):
                    label = int(labels[n, r, y, x])
                    if label >= 0:
                        a = dense[n, r, :, :, y, x]
                        q = float((a @ probs[n, :, y, x])[label])
                        values.append(-math.log(q) + trace_weight * float(a.trace()))
            if values:
                total, pairs = total + sum(values) / len(values), pairs + 1
    return total / pairs


@pytest.mark.parametrize("trace_weight", [0.0, 0.7])
def test_the_loss_is_equation_4_with_missing_labels(batch, trace_weight):
    ours = losses.disentangling_loss(*batch, trace_weight=trace_weight)
    assert float(ours) == pytest.approx(slow_loss(*batch, trace_weight), rel=1e-5)


def test_probabilities_logits_and_dense_matrices_give_the_same(batch):
    logits, confusion, labels = batch
    expected = losses.disentangling_loss(logits, confusion, labels, trace_weight=0.3)
    for given in (logits, logits.softmax(1)):
        for matrix in (confusion, confusion.dense()):
            ours = losses.disentangling_loss(given, matrix, labels, trace_weight=0.3)
            torch.testing.assert_close(ours, expected)


def test_a_missing_annotator_drops_both_terms(batch):
    logits, confusion, labels = batch
    other = confusion.logits.clone()
    other[0, 1] = 9 * torch.randn(L, L, *SPACE)  # only where nothing was labelled
    changed = losses.disentangling_loss(logits, PixelConfusion(other), labels, trace_weight=1.0)
    expected = losses.disentangling_loss(logits, confusion, labels, trace_weight=1.0)
    torch.testing.assert_close(changed, expected)


def test_nobody_labelled_is_zero_not_nan(batch):
    logits, confusion, labels = batch
    loss = losses.disentangling_loss(
        logits.requires_grad_(), confusion, 0 * labels - 1, trace_weight=1.0
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.isfinite(logits.grad).all()


def test_without_trace_the_loss_cannot_tell_the_label_swap(batch):
    logits, confusion, labels = batch
    swap = [1, 0, 2]
    swapped = PixelConfusion(confusion.logits[:, :, :, swap])  # columns of A …
    expected = losses.disentangling_loss(logits, confusion, labels)
    torch.testing.assert_close(
        losses.disentangling_loss(logits[:, swap], swapped, labels), expected
    )


def test_the_trace_prefers_the_label_swap():
    faithful = torch.eye(2).view(1, 1, 2, 2, 1, 1) * 0.98 + 0.01
    labels = torch.ones(1, 1, 1, 1, dtype=torch.long)
    truth = torch.tensor([0.01, 0.99]).view(1, 2, 1, 1)
    kwargs = dict(trace_weight=0.1, from_logits=False)
    right = losses.disentangling_loss(truth, faithful, labels, **kwargs)
    swap = losses.disentangling_loss(truth.flip(1), faithful.flip(3), labels, **kwargs)
    assert float(right - swap) == pytest.approx(0.1 * (1.98 - 0.02), abs=1e-5)


@pytest.mark.parametrize("level", ["pixel", "class"])
def test_dominance_is_the_written_hinge(batch, level):
    logits, confusion, _ = batch
    probs, mean = logits.softmax(1), confusion.dense().mean(1)
    pixels = [(n, y, x) for n in range(BATCH) for y in range(SPACE[0]) for x in range(SPACE[1])]
    matrices = [mean[n, :, :, y, x] for n, y, x in pixels]
    if level == "class":
        weights = [probs[n, :, y, x] for n, y, x in pixels]
        matrices = [sum(w * m for w, m in zip(weights, matrices, strict=True)) / sum(weights)]
    hinges = [
        max(0.0, 0.1 + max(float(m[i, j]) for i in range(L) if i != j) - float(m[j, j]))
        for m in matrices
        for j in range(L)
    ]
    ours = losses.dominance_penalty(confusion, probs, level, 0.1)
    assert float(ours) == pytest.approx(sum(hinges) / len(hinges), rel=1e-5)


def test_dominance_is_zero_inside_the_dominant_set_and_not_for_the_swap():
    diagonal = PixelConfusion((5 * torch.eye(2)).view(1, 1, 2, 2, 1, 1))
    swap = PixelConfusion((5 * torch.eye(2).flip(0)).view(1, 1, 2, 2, 1, 1))
    probs = torch.full((1, 2, 1, 1), 0.5)
    assert float(losses.dominance_penalty(diagonal, probs)) == 0
    assert float(losses.dominance_penalty(swap, probs)) > 1
    with pytest.raises(ValueError, match="pixel, class"):
        losses.dominance_penalty(swap, probs, "image")


def test_released_is_cross_entropy_of_probabilities(batch):
    logits, confusion, labels = batch
    labels = labels.clamp_min(0)  # the released code knows no missing label
    log_probs = logits.log_softmax(1)
    noisy = torch.einsum("brij...,bj...->bri...", confusion.dense(), log_probs.exp())
    expected = sum(
        F.cross_entropy(noisy[:, r], labels[:, r]) + 0.4 * confusion.trace()[:, r].mean()
        for r in range(R)
    )
    torch.testing.assert_close(losses.released_loss(log_probs, confusion, labels, 0.4), expected)


def test_released_never_reaches_zero_on_a_perfect_fit():
    perfect = PixelConfusion((50 * torch.eye(2)).view(1, 1, 2, 2, 1, 1))
    log_probs = torch.tensor([0.0, -50.0]).view(1, 2, 1, 1)
    labels = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    floor = losses.released_loss(log_probs, perfect, labels, 0.0)
    assert float(floor) == pytest.approx(math.log(1 + 1 / math.e), abs=1e-5)  # 0.313 an annotator
    assert float(losses.annotator_nll(log_probs, perfect, labels)) == pytest.approx(0, abs=1e-5)


def test_soft_cross_entropy_is_torchs(batch):
    logits, _, labels = batch
    target = F.one_hot(labels[:, 3].clamp_min(0), L).movedim(-1, 1).float()
    expected = F.cross_entropy(logits, target)
    torch.testing.assert_close(losses.soft_cross_entropy(logits.log_softmax(1), target), expected)


def test_gradients_are_those_of_the_formula():
    torch.manual_seed(1)
    labels = torch.randint(-1, 2, (1, 2, 2, 2))

    def loss(logits, matrix):
        weights = dict(trace_weight=0.2, dominance_weight=1.0)
        return losses.disentangling_loss(
            logits, PixelConfusion(matrix), labels, **weights, from_logits=True
        )

    shapes = (1, 2, 2, 2), (1, 2, 2, 2, 2, 2)
    inputs = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y + 5, "5 classes|3 classes"),
        (lambda y: y - 5, "-1 for not labelled"),
        (lambda y: y[:, :, :2], "do not fit predictions"),
    ],
)
def test_bad_labels_are_named(batch, change, message):
    logits, confusion, labels = batch
    with pytest.raises(ValueError, match=message):
        losses.disentangling_loss(logits, confusion, change(labels))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_cpus_loss_and_gradient(batch):
    logits, confusion, labels = batch
    values = []
    for device in ("cpu", torch.device(torch.accelerator.current_accelerator())):
        x = logits.to(device).detach().requires_grad_()
        matrix = PixelConfusion(confusion.logits.to(device))
        loss = losses.disentangling_loss(
            x, matrix, labels.to(device), trace_weight=0.3, dominance_weight=1.0
        )
        loss.backward()
        values.append((loss.detach().cpu(), x.grad.cpu()))
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-5)
