"""Losses against literal loops over images, annotators and pixels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from noisyseg import baselines, losses
from noisyseg.confusion import GlobalConfusion, PixelConfusion

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
    torch.testing.assert_close(baselines.released_loss(log_probs, confusion, labels, 0.4), expected)


def test_released_never_reaches_zero_on_a_perfect_fit():
    perfect = PixelConfusion((50 * torch.eye(2)).view(1, 1, 2, 2, 1, 1))
    log_probs = torch.tensor([0.0, -50.0]).view(1, 2, 1, 1)
    labels = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    floor = baselines.released_loss(log_probs, perfect, labels, 0.0)
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


def weighted_loss(logits, confusion, labels, weight, trace_weight):
    """Eq. 4 with a weight for each annotator, a pair of image and annotator at a time."""
    total, mass = 0.0, 0.0
    for n, r in np.ndindex(BATCH, R):
        if not (labels[n, r] >= 0).any():
            continue
        one = torch.full_like(labels, -1)
        one[n, r] = labels[n, r]
        total += float(weight[r]) * slow_loss(logits, confusion, one, trace_weight)
        mass += float(weight[r])
    return total / mass


def test_annotators_count_by_their_weight(batch):
    weight = torch.tensor([0.0, 0.5, 2.0, 1.0])
    ours = losses.disentangling_loss(*batch, trace_weight=0.3, annotator_weight=weight)
    assert float(ours) == pytest.approx(weighted_loss(*batch, weight, 0.3), rel=1e-5)


def test_without_anybody_who_has_a_say_there_is_no_loss(batch):
    logits, confusion, labels = batch
    loss = losses.annotator_nll(logits.log_softmax(1), confusion, labels, torch.zeros(R))
    assert float(loss) == 0


def test_the_weighted_hinge_is_that_of_the_weighted_mean_matrix(batch):
    logits, confusion, _ = batch
    weight = torch.tensor([0.0, 0.5, 2.0, 1.0])
    mean = (confusion.dense() * weight.view(1, R, 1, 1, 1, 1)).sum(1) / weight.sum()
    expected = losses.dominance_penalty(PixelConfusion(mean[:, None].log()), logits.softmax(1))
    found = losses.dominance_penalty(confusion, logits.softmax(1), weight=weight)
    torch.testing.assert_close(found, expected)
    table = torch.randn(R, L, L).log_softmax(1)
    shared = GlobalConfusion(table, BATCH, SPACE)
    spread = PixelConfusion(shared.dense().log())
    torch.testing.assert_close(shared.mean_dense(weight), spread.mean_dense(weight))
    torch.testing.assert_close(shared.mean_dense(), spread.mean_dense())


def test_the_fixed_phase_is_eq_3_through_matrices_near_the_identity(batch):
    logits, confusion, labels = batch
    near = torch.full((L, L), 0.025).fill_diagonal_(0.95).log()
    fixed = PixelConfusion(near.view(1, 1, L, L, 1, 1).expand(BATCH, R, L, L, *SPACE))
    pairs = [(n, r) for n, r in np.ndindex(BATCH, R) if (labels[n, r] >= 0).any()]
    short = (0.95 * L - confusion.trace()).clamp_min(0)
    pull = np.mean([float(short[n, r][labels[n, r] >= 0].mean()) for n, r in pairs])
    found = losses.fixed_phase_loss(logits.log_softmax(1), confusion, labels)
    assert float(found) == pytest.approx(slow_loss(logits, fixed, labels, 0.0) + pull, rel=1e-5)


def test_the_fixed_phase_teaches_the_truth_and_leaves_near_identity_matrices_alone(batch):
    logits, _, labels = batch
    logits.requires_grad_()
    for size, moves in ((6.0, False), (0.0, True)):
        start = size * torch.eye(L).view(1, 1, L, L, 1, 1).expand(BATCH, R, L, L, *SPACE)
        own = start.clone().requires_grad_()
        loss = losses.fixed_phase_loss(logits.log_softmax(1), PixelConfusion(own), labels)
        to_truth, to_matrices = torch.autograd.grad(loss, (logits, own))
        assert to_truth.abs().max() > 0 and bool(to_matrices.abs().max() > 0) is moves


def swapped_and_right():
    """Five annotators, of whom four write class 1 in the left half; two ways to explain it."""
    truth = torch.zeros(1, 4, 6, dtype=torch.int64)
    truth[:, :, :3] = 1
    labels = truth.repeat(5, 1, 1)[None].clone()
    labels[0, 4] = 0  # one never sees class 1
    logits = 8.0 * (2 * truth - 1)
    right = torch.stack((-logits, logits), 1).float()
    return right, labels


def explained(logits, labels):
    """Matrices that explain every label given the truth of `logits`: its column is the label."""
    one_hot = F.one_hot(labels, 2).movedim(-1, 2).float()  # (batch, annotator, reported, *space)
    dense = torch.zeros(1, 5, 2, 2, 4, 6)
    truth = logits.argmax(1)
    for j in range(2):
        here = (truth == j)[:, None, None]
        other = torch.zeros_like(one_hot)
        other[:, :, 1 - j] = 1  # the free column has no trace
        dense[:, :, :, j] = torch.where(here, one_hot, other)
    return PixelConfusion((dense * 0.998 + 0.001).log())


def test_eq_4_alone_prefers_the_swap_and_the_hinge_forbids_it():
    right, labels = swapped_and_right()
    for weight in (0.1, 0.7, 2.0):
        for hinge, better in ((0.0, False), (5.0, True)):
            costs = [
                float(losses.disentangling_loss(
                    x, explained(x, labels), labels, trace_weight=weight, dominance_weight=hinge
                ))
                for x in (right, right.flip(1))
            ]  # fmt: skip
            if hinge == 0:
                assert costs[1] < costs[0]
            elif weight <= 0.7:
                assert (costs[0] < costs[1]) is better
