"""Every confusion object against its own dense matrices, computed by literal loops."""

import math

import pytest
import torch

from noisyseg import baselines, confusion

BATCH, R, L, SPACE = 2, 3, 3, (4, 5)


def make(kind: str, seed: int = 0) -> confusion.Confusion:
    torch.manual_seed(seed)
    if kind == "pixel":
        return confusion.PixelConfusion(torch.randn(BATCH, R, L, L, *SPACE))
    if kind == "dense":
        return confusion.DenseConfusion(torch.randn(BATCH, R, L, L, *SPACE).softmax(2))
    if kind == "global":
        return confusion.GlobalConfusion(torch.randn(R, L, L).log_softmax(1), BATCH, SPACE)
    if kind == "low_rank":
        left, right = torch.rand(2, BATCH, R, 2, L, *SPACE) + 0.01
        return confusion.LowRankConfusion(left, right, torch.rand(BATCH, R, *SPACE) + 0.01)
    return baselines.IgnorantConfusion(torch.randn(BATCH, R, L, *SPACE).log_softmax(2))


KINDS = ("pixel", "dense", "global", "low_rank", "ignorant")


@pytest.mark.parametrize("kind", KINDS)
def test_columns_sum_to_one(kind):
    dense = make(kind).dense()
    assert dense.shape == (BATCH, R, L, L, *SPACE)
    torch.testing.assert_close(dense.sum(2), torch.ones(BATCH, R, L, *SPACE))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_agrees_with_a_loop_over_the_dense_matrices(kind):
    matrix, dense = make(kind), make(kind).dense()
    probs = torch.randn(BATCH, L, *SPACE).softmax(1)
    labels = torch.randint(0, L, (BATCH, R, *SPACE))
    likelihood = matrix.log_likelihood(probs.log(), labels)
    noisy, trace, mean = matrix.apply(probs), matrix.trace(), matrix.mean_dense()
    for n in range(BATCH):
        for y in range(SPACE[0]):
            for x in range(SPACE[1]):
                for r in range(R):
                    a, p = dense[n, r, :, :, y, x], probs[n, :, y, x]
                    q = [sum(a[i, j] * p[j] for j in range(L)) for i in range(L)]
                    assert noisy[n, r, :, y, x].tolist() == pytest.approx([float(v) for v in q])
                    assert float(likelihood[n, r, y, x]) == pytest.approx(
                        math.log(q[int(labels[n, r, y, x])]), abs=1e-5
                    )
                    assert float(trace[n, r, y, x]) == pytest.approx(float(a.trace()))
                torch.testing.assert_close(
                    mean[n, :, :, y, x], sum(dense[n, r, :, :, y, x] for r in range(R)) / R
                )


def test_low_rank_one_of_two_classes_cannot_swap():
    left, right = torch.rand(2, 50, 4, 1, 2, 6, 6) + 1e-6
    matrix = confusion.LowRankConfusion(left, right, torch.rand(50, 4, 6, 6) + 1e-6)
    assert matrix.trace().min() >= 1 - 1e-5


def test_extreme_logits_stay_finite():
    logits = torch.zeros(1, 1, 2, 2, 1, 1)
    logits[:, :, 0] = 200.0  # reports class 0 whatever the truth
    matrix = confusion.PixelConfusion(logits.requires_grad_())
    label = torch.ones(1, 1, 1, 1, dtype=torch.long)
    loss = -matrix.log_likelihood(torch.tensor([0.0, -300.0]).view(1, 2, 1, 1), label).sum()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(200.0)
    assert torch.isfinite(logits.grad).all()


def test_a_matrix_whose_columns_do_not_sum_to_one_is_refused():
    rows = torch.randn(1, 1, 2, 2, 3, 3).softmax(3)  # the wrong axis normalised
    with pytest.raises(ValueError, match="axis 2 is the reported class"):
        confusion.as_confusion(rows)
