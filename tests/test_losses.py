"""Losses against literal loops over images, annotators and pixels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from noisyseg import dominant, losses
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


def dominant_terms(log_probs, confusion, labels, image, support):
    """The terms of `dominant_loss`, a pixel at a time; two space axes."""
    probs, dense = log_probs.exp().double().numpy(), confusion.dense().double().numpy()
    labels, image = labels.numpy(), image.double().numpy()
    noisy = np.einsum("nrijyx,njyx->nriyx", dense, probs)
    mean = noisy.mean(1)
    votes = np.zeros(R)
    for r in range(R):
        matrix = np.zeros((L, L))
        for i, j in np.ndindex(L, L):
            matrix[i, j] = (noisy[:, r, i] * mean[:, j]).sum() / mean[:, j].sum()
        votes[r] = np.clip((np.trace(matrix) - 1) / (L - 1) / 0.1, 1e-6, 1)
    votes /= votes.sum()
    support_sum, trace, edges, contrast = 0.0, np.zeros(labels.shape), 0.0, []
    for n, y, x in np.ndindex(BATCH, *SPACE):
        vote = sum(votes[r] * noisy[n, r, :, y, x] for r in range(R))
        wrote = [k for k in labels[n, :, y, x] if k >= 0]
        written = np.array([wrote.count(k) / max(1, len(wrote)) for k in range(L)])
        kept = (vote >= min(vote.max(), support)) | (written >= support)
        support_sum -= math.log(probs[n, kept, y, x].sum())
        for r in range(R):
            diagonal = np.diag(dense[n, r, :, :, y, x])
            trace[n, r, y, x] = ((1 - probs[n, :, y, x]) * ~kept * diagonal).sum()
        for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
            if 0 <= y + dy < SPACE[0] and 0 <= x + dx < SPACE[1]:
                difference = ((image[n, :, y, x] - image[n, :, y + dy, x + dx]) ** 2).sum()
                differ = 1 - probs[n, :, y, x] @ probs[n, :, y + dy, x + dx]
                contrast.append(((dy, dx), difference, differ / math.hypot(dy, dx)))
    scale = 2 * np.mean([c for _, c, _ in contrast])
    for step in {s for s, _, _ in contrast}:
        edges += np.mean([w * math.exp(-c / scale) for s, c, w in contrast if s == step])
    pairs = [(n, r) for n, r in np.ndindex(BATCH, R) if (labels[n, r] >= 0).any()]
    free = np.mean([trace[n, r][labels[n, r] >= 0].mean() for n, r in pairs])
    return support_sum / (BATCH * math.prod(SPACE)), free, edges


@pytest.mark.parametrize("support", [0.2, 0.3, 0.5])
def test_the_dominant_loss_is_the_sum_of_its_terms_pixel_by_pixel(batch, support):
    logits, confusion, labels = batch
    image = torch.rand(BATCH, 2, *SPACE)
    log_probs = logits.log_softmax(1)
    barrier, free, edges = dominant_terms(log_probs, confusion, labels, image, support)
    ours = dominant.dominant_loss(
        logits, confusion, labels, image, trace_weight=0.7, dominance_weight=2.0,
        dominance_support=support, edge_weight=0.4, vote_weight=0.0,
    )  # fmt: skip
    expected = slow_loss(logits, confusion, labels, 0.0) + 0.7 * free + 2 * barrier + 0.4 * edges
    assert float(ours) == pytest.approx(expected, rel=1e-5)


def test_neither_likelihood_nor_trace_moves_the_truth(batch):
    logits, confusion, labels = batch
    logits.requires_grad_()
    image = torch.rand(BATCH, 1, *SPACE)
    for weight in (0.0, 2.0):
        loss = dominant.dominant_loss(
            logits, confusion, labels, image, trace_weight=weight, dominance_weight=0.0,
            edge_weight=0.0, vote_weight=0.0,
        )  # fmt: skip
        assert torch.autograd.grad(loss, logits, allow_unused=True)[0].abs().max() == 0


def test_the_vote_is_the_likelihood_of_annotators_who_write_the_truth(batch):
    logits, _, labels = batch
    log_probs = logits.log_softmax(1)
    faithful = torch.eye(L).expand(BATCH, R, L, L)[..., None, None].expand(-1, -1, -1, -1, *SPACE)
    expected = slow_loss(logits, PixelConfusion((faithful + 1e-12).log()), labels, 0.0)
    assert float(dominant.label_penalty(log_probs, labels)) == pytest.approx(expected, rel=1e-5)


def test_the_vote_has_its_weight(batch):
    logits, confusion, labels = batch
    image = torch.rand(BATCH, 1, *SPACE)
    values = [
        float(dominant.dominant_loss(logits, confusion, labels, image, vote_weight=w))
        for w in (0, 2)
    ]
    vote = float(dominant.label_penalty(logits.log_softmax(1), labels))
    assert values[1] - values[0] == pytest.approx(2 * vote, rel=1e-4)


def test_a_class_that_was_written_is_possible_before_the_matrices_know_it():
    """All annotators write class 2 in one corner, the matrices still say 0 everywhere."""
    labels = torch.zeros(1, 3, 4, 4, dtype=torch.int64)
    labels[:, :, 0, 0] = 2
    dense = torch.full((1, 3, L, L, 4, 4), 0.01)
    dense[:, :, 0] = 1 - 0.01 * (L - 1)
    logits = torch.zeros(1, L, 4, 4, requires_grad=True)
    loss = dominant.dominant_loss(
        logits, PixelConfusion(dense.log()), labels, torch.rand(1, 1, 4, 4), edge_weight=0.0
    )
    pull = -torch.autograd.grad(loss, logits)[0][0, :, 0, 0]
    assert pull[2] == pull.max() > 0


def swapped_and_right():
    """Five annotators, of whom four write class 1 in the left half; two ways to explain it."""
    truth = torch.zeros(1, 4, 6, dtype=torch.int64)
    truth[:, :, :3] = 1
    labels = truth.repeat(5, 1, 1)[None].clone()
    labels[0, 4] = 0  # one never sees class 1
    one_hot = F.one_hot(labels, 2).movedim(-1, 2).float()  # (batch, annotator, reported, *space)
    dense = one_hot[:, :, :, None].repeat(1, 1, 1, 2, 1, 1) * 0.98 + 0.01
    logits = 8.0 * (2 * truth - 1)
    right = torch.stack((-logits, logits), 1).float()
    return right, PixelConfusion(dense.log()), labels


def test_the_swap_explains_the_labels_as_well_but_costs_more_at_every_trace_weight():
    right, confusion, labels = swapped_and_right()
    image = labels[:, :1].float()
    for weight in (0.0, 0.1, 0.7, 2.0):
        costs = [
            losses.disentangling_loss(x, confusion, labels, trace_weight=weight)
            for x in (right, right.flip(1))
        ]
        torch.testing.assert_close(*costs)  # Eq. 4 cannot tell them apart
        ours = [
            dominant.dominant_loss(x, confusion, labels, image, trace_weight=weight)
            for x in (right, right.flip(1))
        ]
        assert ours[1] > ours[0] + 5


def test_who_writes_one_class_everywhere_has_no_vote():
    _, confusion, labels = swapped_and_right()
    reported = F.one_hot(labels, 2).movedim(-1, 2).float()
    vote = dominant.informed_vote(reported)
    torch.testing.assert_close(vote[:, 1], labels[:, 0].float(), atol=1e-4, rtol=0)


def test_where_nobody_is_informed_all_vote_alike():
    reported = torch.zeros(2, 3, 2, 4, 4)
    reported[:, :, 0] = 1
    assert dominant.informed_vote(reported)[:, 0].allclose(torch.ones(2, 4, 4))


def test_without_a_class_of_enough_support_the_largest_counts():
    vote = torch.tensor([0.26, 0.25, 0.25, 0.24]).view(1, 4, 1, 1)
    assert dominant.supported(vote, 0.3).flatten().tolist() == [True, False, False, False]


@pytest.mark.parametrize("space", [(6, 5), (4, 5, 3)], ids=["2-D", "3-D"])
def test_a_boundary_is_cheaper_along_an_edge_of_the_image(space):
    image = torch.zeros(1, 1, *space)
    image[:, :, :3] = 7.0  # a step after the third row, in any unit

    def cost(rows):
        probs = torch.zeros(1, 2, *space)
        probs[:, 1, :rows] = 1
        probs[:, 0] = 1 - probs[:, 1]
        return dominant.edge_penalty(probs, image)

    assert cost(3) < 0.2 * cost(2) and cost(0) == 0
    assert dominant.edge_penalty(torch.rand(1, 2, *space), image * 0).isfinite()  # a constant image


def test_matrices_shared_by_all_pixels_need_the_likelihood_to_move_the_truth(batch):
    logits, _, labels = batch
    logits.requires_grad_()
    table = torch.randn(R, L, L).log_softmax(1)
    shared = GlobalConfusion(table, BATCH, SPACE)
    loss = dominant.dominant_loss(
        logits, shared, labels, torch.rand(BATCH, 1, *SPACE), dominance_weight=0.0, edge_weight=0.0
    )
    assert torch.autograd.grad(loss, logits)[0].abs().max() > 0
