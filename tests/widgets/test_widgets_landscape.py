"""The landscape of one pixel against a literal loop over the library's loss, and its descent."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import differential_evolution

from noisyseg import losses
from noisyseg.widgets import landscape as module
from noisyseg.widgets.landscape import Setting, descend, landscape, pixel_landscape, verdict


def loss_of(setting, p, b, c):
    """The library's loss of one pixel; b and c: chances to write 1 where the truth is 0, 1."""
    wrote = torch.tensor([1] * setting.ones + [0] * (setting.annotators - setting.ones))
    ones = [b] * setting.ones + [c] * (setting.annotators - setting.ones)
    matrices = torch.tensor([[[1 - x[0], 1 - x[1]], x] for x in ones], dtype=torch.float64)
    probs = torch.tensor([1 - p, p], dtype=torch.float64).view(1, 2, 1, 1)
    return float(losses.disentangling_loss(
        probs, matrices[None, ..., None, None], wrote.view(1, -1, 1, 1),
        trace_weight=setting.trace_weight, dominance_weight=setting.dominance_weight,
    ))  # fmt: skip


@pytest.mark.parametrize("dominance", [0.0, 4.0])
def test_the_map_is_the_minimum_over_all_matrices_of_the_grid(monkeypatch, dominance):
    monkeypatch.setattr(module, "GRID", np.array([0.02, 0.3, 0.7, 0.98]))
    monkeypatch.setattr(module, "BELIEFS", np.array([0.1, 0.6]))
    monkeypatch.setattr(module, "TRACES", np.linspace(0, 2, 9))
    setting = Setting(3, 2, 0.4, dominance)
    expected = np.full((2, 8), np.nan)
    for k, p in enumerate(module.BELIEFS):
        for b0, b1, c0, c1 in product(module.GRID, repeat=4):
            trace = (2 * (1 - b0 + b1) + (c0 + 1 - c1)) / 3
            cell = min(int(np.float32(trace) * 4), 7)
            loss = loss_of(setting, p, [b0, b1], [1 - c0, 1 - c1])
            expected[k, cell] = np.nanmin([expected[k, cell], loss])
    near_an_edge = np.isclose(np.nan_to_num(landscape(setting)), np.nan_to_num(expected), atol=1e-4)
    assert near_an_edge.mean() > 0.85  # a trace on the edge of a bin may fall on either side
    assert np.nanmin(landscape(setting)) == pytest.approx(np.nanmin(expected), abs=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_no_step_of_the_descent_lies_below_the_map(weight):
    setting = Setting(5, 3, weight, belief=0.3)
    path, values = descend(setting), landscape(setting)
    column = np.abs(module.BELIEFS[:, None] - path.belief).argmin(0)
    cell = np.clip(np.digitize(path.trace, module.TRACES) - 1, 0, values.shape[1] - 1)
    around = [values[np.clip(column + k, 0, 40), np.clip(cell + m, 0, 31)]
              for k in (-1, 0, 1) for m in (-1, 0, 1)]  # fmt: skip
    assert (path.loss > np.nanmin(around, 0) - 0.06).all()


def test_the_first_step_costs_what_the_library_says():
    setting = Setting(5, 3, 0.7, 5.0, belief=0.8, diagonal=0.9)
    path = descend(setting, steps=1)
    expected = loss_of(setting, 0.8, [0.1, 0.9], [0.1, 0.9])
    assert path.loss[0] == pytest.approx(expected, abs=1e-5)
    assert path.trace[0] == pytest.approx(1.8) and path.belief[0] == pytest.approx(0.8)


def test_the_descent_ends_where_an_optimiser_nobody_here_wrote_stays():
    setting = Setting(5, 4, 0.2, 2.0)
    path = descend(setting, steps=1500)

    def loss(x):
        p, b0, b1, c0, c1 = x
        return loss_of(setting, p, [b0, b1], [c0, c1])

    bounds = [(0.5, 0.999)] + [(0.001, 0.999)] * 4
    found = differential_evolution(loss, bounds, seed=0, maxiter=60, polish=False)
    assert path.loss[-1] == pytest.approx(found.fun, abs=0.03)


def test_the_paper_s_objective_prefers_the_swap_and_dominance_cures_it():
    for weight in (0.1, 0.5, 1.0):
        values = landscape(Setting(5, 3, weight))
        swap, vote = values[module.BELIEFS < 0.5], values[module.BELIEFS > 0.5]
        assert np.nanmin(swap) < np.nanmin(vote)
        values = landscape(Setting(5, 3, weight, dominance_weight=5.0))
        swap, vote = values[module.BELIEFS < 0.5], values[module.BELIEFS > 0.5]
        assert np.nanmin(swap) > np.nanmin(vote)


def test_words():
    setting = Setting(5, 4, 1.0, belief=0.05)
    path = descend(setting)
    assert path.belief[-1] < 0.3 and "the swap" in verdict(setting, path, landscape(setting))
    setting = setting._replace(trace_weight=0.0, belief=0.9)
    assert "the vote" in verdict(setting, descend(setting), landscape(setting))
    tie = Setting(4, 2, 0.1)
    assert verdict(tie, descend(tie), landscape(tie)) == "a tie: neither class is the vote's"


def test_sliders_redraw_and_bad_input_is_a_message(measured):
    explorer = pixel_landscape()
    before = explorer.picture.value
    explorer.weight.value = 1.0
    assert explorer.picture.value != before and "ends at p(class 1)" in explorer.status.value
    measured(f"landscape: {explorer.reaction_ms[-1]:.0f} ms")
    assert explorer.reaction_ms[-1] < 5000
    explorer.ones.value = 8
    assert "8 of 5 annotators cannot have written class 1" in explorer.status.value
    explorer.annotators.value = 9
    assert 'data-state="ready"' in explorer.status.value
    assert "image/png" in explorer._repr_mimebundle_()


@pytest.mark.parametrize("ones", [0, 5])
def test_everybody_agrees(ones):
    setting = Setting(5, ones, 0.3)
    assert np.isfinite(descend(setting).loss).all() and np.isfinite(np.nanmin(landscape(setting)))
