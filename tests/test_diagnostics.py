"""Diagnostics against literal loops; what they say of swapped, ignorant and good matrices."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from noisyseg import diagnostics
from noisyseg.confusion import DenseConfusion
from noisyseg.simulate import simulate_labels

N, R, SPACE = 3, 4, (4, 5)


@pytest.fixture(params=[2, 4], ids=["2 classes", "4 classes"])
def problem(request):
    torch.manual_seed(request.param)
    labels = torch.randint(0, request.param, (N, R, *SPACE))
    labels[0, 1] = -1
    labels[1, :, 2] = -1  # pixels that nobody labelled
    truth = torch.randint(0, request.param, (N, *SPACE))
    return labels, truth, request.param


def test_every_candidate_is_assessed_as_a_loop_would(problem):
    labels, truth, classes = problem
    family = diagnostics.candidates(labels, classes, truth)
    table = diagnostics.assess(labels, family, classes, margin=0.2).set_index("candidate")
    assert list(table.index) == list(family)
    for name, mask in family.items():
        agree, leads = [], []
        for n, y, x in np.ndindex(N, *SPACE):
            wrote = [int(v) for v in labels[n, :, y, x] if v >= 0]
            if wrote:
                share = [wrote.count(c) / len(wrote) for c in range(classes)]
                own = share.pop(int(mask[n, y, x]))
                agree.append(own)
                leads.append(own - max(share) >= 0.2 - 1e-6)
        assert table.trace[name] == pytest.approx(np.mean(agree))
        assert table.pixel_share[name] == pytest.approx(np.mean(leads))
        assert table.class_margin[name] == pytest.approx(slow_margin(labels, mask, classes))
    assert table.dice["truth"] == 1


def slow_margin(labels, mask, classes):
    margins = []
    for j in range(classes):
        columns = []
        for r in range(R):
            here = (labels[:, r] >= 0) & (mask == j)
            if here.any():
                wrote = labels[:, r][here]
                columns.append([(wrote == i).double().mean().item() for i in range(classes)])
        if columns:
            column = np.mean(columns, 0)
            margins.append(column[j] - np.delete(column, j).max())
    return min(margins)


def test_the_family_runs_from_union_to_intersection():
    labels = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]]).view(1, 3, 2, 2)
    family = diagnostics.candidates(labels, 2, names=["a", "b", "c"])
    masks = {name: mask.flatten().tolist() for name, mask in family.items()}
    assert masks["at least 1 of 3"] == [1, 1, 1, 0]
    assert masks["at least 2 of 3"] == [1, 1, 0, 0]
    assert masks["at least 3 of 3"] == [1, 0, 0, 0]
    assert masks["swap of the vote"] == [0, 0, 1, 1]
    assert masks["b"] == [1, 0, 1, 0] and "truth" not in masks


@pytest.fixture(scope="module")
def squares():
    truth = np.zeros((8, 24, 24), int)
    truth[:, 7:17, 6:18] = 1
    labels = simulate_labels(truth, [str(k) for k in range(8)], ("over", "under", "wrong"), 0)
    return torch.from_numpy(labels).long(), torch.from_numpy(truth)


def test_where_nobody_is_faithful_no_level_chooses_the_truth(squares):
    labels, truth = squares
    family = diagnostics.candidates(labels, 2, truth, ("over", "under", "wrong"))
    table = diagnostics.assess(labels, family, 2)
    assert diagnostics.choice(table, "none") == "swap of the vote"
    assert diagnostics.choice(table, "pixel") == "at least 2 of 3"  # the majority vote
    chosen = table.set_index("candidate").loc[diagnostics.choice(table, "class")]
    assert chosen.trace < table.set_index("candidate").trace["truth"]
    assert chosen.dice < 0.95


def test_a_faithful_majority_is_found_at_the_pixel_level(squares):
    _, truth = squares
    labels = truth[:, None].repeat(1, 3, 1, 1)
    family = diagnostics.candidates(labels, 2, truth)
    table = diagnostics.assess(labels, family, 2)
    chosen = diagnostics.choice(table, "pixel")
    assert table.set_index("candidate").dice[chosen] == 1


def test_one_annotator_and_all_blank_are_assessed():
    labels = torch.zeros(2, 1, 3, 3, dtype=torch.int64)
    table = diagnostics.assess(labels, diagnostics.candidates(labels, 2), 2)
    assert table.trace.between(0, 1).all() and table.class_margin.notna().all()
    assert table.dice.isna().all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: diagnostics.candidates(x + 5, 2), "labels range from"),
        (lambda x: diagnostics.candidates(x, 2, names=["a"]), "1 names for 2 annotators"),
        (
            lambda x: diagnostics.choice(
                diagnostics.assess(x, diagnostics.candidates(x, 2), 2), "image"
            ),
            "allowed: none, pixel, class",
        ),
    ],
    ids=["label out of range", "too few names", "unknown level"],
)
def test_bad_input_says_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.randint(0, 2, (2, 2, 3, 3)))


def test_nobody_dominant_is_said_and_not_chosen():
    opposite = torch.randint(0, 2, (1, 1, 40, 40))
    labels = torch.cat((opposite, 1 - opposite), 1)
    family = {"own": opposite[:, 0], "swap": 1 - opposite[:, 0]}
    with pytest.raises(ValueError, match="no candidate is dominant at level 'class'"):
        diagnostics.choice(diagnostics.assess(labels, family, 2), "class")


def matrices(table, space=(6, 6)):
    """One matrix (reported, true) for three annotators at every pixel of two images."""
    dense = torch.tensor(table, dtype=torch.float32).view(1, 1, 2, 2, 1, 1)
    return DenseConfusion(dense.expand(2, 3, 2, 2, *space).clone())


@pytest.fixture
def probs():
    mask = torch.zeros(2, 6, 6, dtype=torch.int64)
    mask[:, 2:4, 2:4] = 1
    return F.one_hot(mask, 2).movedim(-1, 1).float() * 0.98 + 0.01


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([[0.9, 0.2], [0.1, 0.8]], None),
        ([[0.1, 0.9], [0.9, 0.1]], "label swap. At 100% of the pixels.*Lower trace_weight"),
        ([[0.8, 0.8], [0.2, 0.2]], "class-level margin -0.60"),
        ([[0.5, 0.49], [0.5, 0.51]], "ignore the truth.*100%.*init_diagonal=3"),
    ],
    ids=["good", "swapped", "one class outvoted", "ignorant"],
)
def test_the_monitor_names_the_number_and_the_remedy(probs, table, words):
    row = diagnostics.watch(matrices(table), probs)
    assert all(math.isfinite(value) for value in row.values())
    message = diagnostics.warning(row)
    if words is None:
        assert message is None
    else:
        assert re.search(words, message)


def test_a_vanished_class_is_noticed(probs):
    nothing = torch.stack((torch.ones(2, 6, 6), torch.zeros(2, 6, 6)), 1)
    row = diagnostics.watch(matrices([[0.9, 0.2], [0.1, 0.8]]), nothing)
    assert "vanished" in diagnostics.warning(row)


def test_matrices_that_ignore_the_truth_are_fine_where_the_truth_has_another_source(probs):
    row = diagnostics.watch(matrices([[0.5, 0.49], [0.5, 0.51]]), probs)
    assert diagnostics.warning(row, needs_matrices=False) is None


def test_half_a_swap_is_noticed_where_nobody_is_expected_to_mark_the_estimate(probs):
    """Two thirds of the estimate lie where all annotators are expected to write background."""
    wide = torch.zeros(2, 6, 6, dtype=torch.int64)
    wide[:, 2:4] = 1  # twelve pixels, of which the annotators are expected to mark four
    estimate = F.one_hot(wide, 2).movedim(-1, 1).float() * 0.98 + 0.01
    written = F.one_hot(probs.argmax(1), 2).movedim(-1, 1).float() * 0.98 + 0.01
    dense = written[:, None, :, None].expand(2, 3, 2, 2, 6, 6).clone()
    row = diagnostics.watch(DenseConfusion(dense), estimate)
    assert row["unmarked"] == pytest.approx(2 / 3)
    assert "half a label swap? 67%" in diagnostics.warning(
        {**row, "off_pixel": 0, "class_margin": 1}
    )
    assert diagnostics.watch(DenseConfusion(dense), probs)["unmarked"] == 0
    empty = torch.stack((torch.ones(2, 6, 6), torch.zeros(2, 6, 6)), 1)
    assert diagnostics.watch(DenseConfusion(dense), empty)["unmarked"] == 0


def test_a_method_without_matrices_has_nothing_to_watch():
    assert diagnostics.warning({"val_loss": 0.1}) is None


def test_what_is_watched_is_what_a_loop_finds(probs):
    torch.manual_seed(1)
    dense = torch.rand(2, 3, 2, 2, 6, 6)
    dense = dense / dense.sum(2, keepdim=True)
    row = diagnostics.watch(DenseConfusion(dense), probs)
    off, columns = [], {0: [], 1: []}
    for n, y, x in np.ndindex(2, 6, 6):
        mean, predicted = dense[n, :, :, :, y, x].mean(0), int(probs[n, :, y, x].argmax())
        off.append(int(mean[:, predicted].argmax()) != predicted)
        columns[predicted].append(mean[:, predicted])
    margins = [float(2 * torch.stack(c).mean(0)[j] - 1) for j, c in columns.items()]
    assert row["off_pixel"] == pytest.approx(np.mean(off))
    assert row["class_margin"] == pytest.approx(min(margins), abs=1e-5)
    assert row["mean_trace"] == pytest.approx(
        float(dense.diagonal(dim1=2, dim2=3).sum(-1).mean()), abs=1e-5
    )
