"""The short likelihoods against the definitions in `confusion`: values, gradients, memory."""

import pytest
import torch

from noisyseg import confusion, fused, likelihood, losses, models
from noisyseg.limits import NotFinite

KINDS = ("pixel", "global", "low_rank", "rank 2")


def head_of(kind, trunk, annotators, classes):
    if kind == "global":
        return models.GlobalHead(trunk, annotators, classes, 2.0)
    if kind == "pixel":
        return models.PixelHead(trunk, annotators, classes, 2.0)
    return models.LowRankHead(trunk, annotators, classes, 2.0, 2 if kind == "rank 2" else 1)


def problem(kind, classes=3, annotators=4, space=(5, 4), batch=3, dtype=torch.float64):
    """A head with random weights, features, log p and labels with gaps of every kind."""
    torch.manual_seed(0)
    trunk = models.UNet(1, 6, depth=2, dims=len(space))
    head = head_of(kind, trunk, annotators, classes).to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    features = torch.randn(batch, 6, *space, dtype=dtype, requires_grad=True)
    logits = torch.randn(batch, classes, *space, dtype=dtype, requires_grad=True)
    labels = torch.randint(0, classes, (batch, annotators, *space))
    labels[0, 1:] = -1  # one annotator alone
    labels[-1, 0, :1] = -1  # a part of a mask
    return head, features, logits, labels


def defined(found):
    """The readable object behind what a head gave."""
    if isinstance(found, likelihood.LayerConfusion):
        return found.plain
    return confusion.GlobalConfusion(found.log_table, found.batch, found.space)


def loss_and_gradients(head, features, logits, labels, short, **terms):
    found = head(features)
    matrix = found if short else defined(found)
    loss = losses.disentangling_loss(logits, matrix, labels, from_logits=True, **terms)
    wanted = [features, logits, *head.parameters()]
    return loss.detach(), torch.autograd.grad(loss, wanted, allow_unused=True)


SHAPES = [(2, 4, (5, 4), 3), (3, 4, (5, 4), 3), (5, 1, (1, 6), 1), (2, 3, (4, 2, 3), 2)]


@pytest.mark.parametrize("trace_weight", [0.0, 0.7])
@pytest.mark.parametrize(("classes", "annotators", "space", "batch"), SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_the_definitions(
    kind, classes, annotators, space, batch, trace_weight
):
    given = problem(kind, classes, annotators, space, batch)
    short = loss_and_gradients(*given, True, trace_weight=trace_weight)
    long = loss_and_gradients(*given, False, trace_weight=trace_weight)
    torch.testing.assert_close(short, long)


@pytest.mark.parametrize("block", [1, 50, 400, 10**9])
@pytest.mark.parametrize("kind", ["pixel", "low_rank"])
@pytest.mark.parametrize("classes", [2, 3])
def test_blocks_of_any_size_give_the_same(kind, classes, block, monkeypatch):
    given = problem(kind, classes)
    expected = loss_and_gradients(*given, False, trace_weight=0.3)
    monkeypatch.setattr(fused, "BLOCK", block)
    torch.testing.assert_close(loss_and_gradients(*given, True, trace_weight=0.3), expected)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind, classes):
    head, features, logits, labels = problem(kind, classes, 2, (2, 2), 2)

    def both(features, logits, *parameters):
        values = dict(zip(dict(head.named_parameters()), parameters, strict=True))
        found = torch.func.functional_call(head, values, features)
        return found.log_likelihood(logits.log_softmax(1), labels), found.trace(labels)

    assert torch.autograd.gradcheck(both, (features, logits, *head.parameters()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["two terms", "first phase", "weights"])
def test_picking_those_who_labelled_changes_nothing(kind, loss):
    head, features, logits, labels = problem(kind, 3, 8)
    labels[:] = -1
    labels[0, 5], labels[2, 1] = 1, 2  # nobody labelled the second image
    labels[2, 7, 0, 0] = 0
    weight = torch.arange(8, dtype=torch.float64) if loss == "weights" else None

    def value(matrix):
        if loss == "first phase":
            return losses.fixed_phase_loss(logits.log_softmax(1), matrix, labels)
        terms = dict(trace_weight=0.4, annotator_weight=weight, from_logits=True)
        return losses.disentangling_loss(logits, matrix, labels, **terms)

    wanted = [features, *head.parameters()]
    picked, written, _ = likelihood.labelled_only(head(features), labels)
    assert written.shape[1] == 2 and picked.log_likelihood(logits, written).shape[1] == 2
    results = []
    for matrix in (head(features), defined(head(features))):
        found = value(matrix)
        grads = torch.autograd.grad(found, wanted, allow_unused=True)
        results.append((found.detach(), [torch.zeros(()) if g is None else g for g in grads]))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_label_the_loss_is_zero_and_gradients_are_finite(kind):
    head, features, logits, labels = problem(kind, dtype=torch.float32)
    loss, grads = loss_and_gradients(head, features, logits, 0 * labels - 1, True, trace_weight=1.0)
    assert float(loss) == 0
    assert all(g is None or torch.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("kind", KINDS)
def test_what_products_cannot_hold_is_left_to_logarithms(kind):
    """A truth that is all but impossible: log p of −200 is no number as p."""
    head, features, logits, labels = problem(kind, 2, dtype=torch.float32)
    with torch.no_grad():
        logits[:, 0] += 300.0
    short = loss_and_gradients(head, features, logits, labels, True)
    torch.testing.assert_close(short, loss_and_gradients(head, features, logits, labels, False))
    if kind != "global":
        with torch.no_grad():
            head.out.bias.view(4, -1)[:, :2] += 300.0  # class 0 is reported whatever is true
        short = loss_and_gradients(head, features, logits, labels, True)
        assert torch.isfinite(short[0])
        torch.testing.assert_close(short, loss_and_gradients(head, features, logits, labels, False))


@pytest.mark.parametrize("kind", ["pixel", "low_rank"])
def test_weights_that_are_no_numbers_are_named_with_the_remedy(kind):
    head, features, logits, labels = problem(kind, 2)
    with torch.no_grad():
        head.out.bias[0] = torch.nan
    with pytest.raises(NotFinite, match="lower learning_rate"):
        loss_and_gradients(head, features, logits, labels, True)


@pytest.mark.parametrize("kind", ["pixel", "low_rank"])
def test_half_precision_takes_the_definition(kind):
    head, features, logits, labels = problem(kind, 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = head(features.bfloat16())
    loss = losses.disentangling_loss(logits, found, labels, trace_weight=0.3, from_logits=True)
    loss.backward()
    exact = loss_and_gradients(head, features, logits, labels, True, trace_weight=0.3)[0]
    assert float(loss.detach()) == pytest.approx(float(exact), rel=0.02)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def kept(kind, classes, annotators, labels=None):
    """Numbers that autograd keeps of a loss, without parameters, features and labels."""
    head, features, logits, drawn = problem(
        kind, classes, annotators, (16, 16), 4, dtype=torch.float32
    )
    found, labels = head(features), drawn if labels is None else labels
    log_probs, sizes = logits.log_softmax(1), {}

    def pack(tensor):
        if tensor.is_floating_point():
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        some, written, _ = likelihood.labelled_only(found, labels)
        held = losses.annotator_nll(log_probs, some, written)
        held = held + losses.trace_penalty(some, written)
    assert held.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("classes", [2, 4, 8])
def test_at_most_two_numbers_an_entry_are_kept(classes):
    entries = 4 * 10 * classes**2 * 16**2
    assert kept("pixel", classes, 10) <= 2 * entries


def test_what_one_label_an_image_takes_does_not_grow_with_the_annotators():
    def one_label(annotators):
        labels = torch.full((4, annotators, 16, 16), -1)
        labels[torch.arange(4), torch.arange(4)] = 1
        return kept("pixel", 3, annotators, labels)

    few, many = one_label(5), one_label(200)
    assert many - few <= 2 * 200 * 9 * 7  # the weights themselves


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_predicted_without_gradient_stays_what_it_is(kind):
    """Numbers outside the block, and numbers of the weights that predicted them."""
    head, features, _, _ = problem(kind)
    with torch.no_grad():
        found, again = head(features), head(features).dense().clone()
        for parameter in head.parameters():
            parameter.add_(1.0)
    assert not found.dense().requires_grad
    assert torch.equal(found.dense(), again)
