"""One pixel: the map against every matrix of a grid, the descent against the library's loss and an
optimiser nobody here wrote, and JavaScript against Python in a browser."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from browser import chromium, needs_browser
from scipy.optimize import differential_evolution
from traitlets import TraitError

from noisyseg import losses
from noisyseg.widgets.bake import source
from noisyseg.widgets.pixel import Setting, descend, floor, one_pixel, outcome

SWAP = Setting(weight=1.4)
SETTINGS = [
    Setting(),
    SWAP,
    SWAP._replace(warm_up=0.1),
    SWAP._replace(hinge=2.0),
    Setting((1, 1, 1, 0, 1), 0.9, 0.25, 1.0, 0.3, 0.85),
    Setting((0, 0, 0, 0, 0), 0.3, belief=0.8, diagonal=0.4),
]


def loss_of(setting, p, b, c):
    """The library's loss of one pixel; b and c: chances to write 1 where the truth is 0, 1."""
    wrote = torch.tensor(setting.votes)
    ones = [b if vote else c for vote in setting.votes]
    matrices = torch.tensor([[[1 - x[0], 1 - x[1]], x] for x in ones], dtype=torch.float64)
    probs = torch.tensor([1 - p, p], dtype=torch.float64).view(1, 2, 1, 1)
    return float(
        losses.disentangling_loss(
            probs,
            matrices[None, ..., None, None],
            wrote.view(1, -1, 1, 1),
            trace_weight=setting.weight,
            dominance_weight=setting.hinge,
        )
    )


@pytest.mark.parametrize("hinge", [0.0, 3.0])
def test_the_map_is_the_minimum_over_all_matrices(hinge):
    setting = Setting((1, 0, 1), 0.4, hinge=hinge)
    entries, beliefs = np.linspace(0, 1, 5), np.array([0.1, 0.6])
    least = {}
    for p, (b0, b1, c0, c1) in product(beliefs, product(entries, repeat=4)):
        trace = round((2 * (1 - b0 + b1) + (1 - c0 + c1)) / 3, 6)
        loss = loss_of(setting, p, [b0, b1], [c0, c1])
        least[trace, p] = min(loss, least.get((trace, p), np.inf))
    traces = np.array(sorted({trace for trace, _ in least}))
    values = floor(setting, beliefs, traces)
    expected = np.array([[least[trace, p] for p in beliefs] for trace in traces])
    assert (values < expected + 1e-4).all(), "no matrices of the grid lie below the map"
    assert np.median(expected - values) < 0.05, "and some come close"


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_step_of_the_descent_lies_below_the_map(setting):
    path = descend(setting)
    floors = [
        floor(setting, path.belief[k : k + 1], path.trace[k : k + 1])[0, 0]
        for k in range(0, 400, 7)
    ]
    assert (path.loss[::7] > np.array(floors) - 1e-3).all()


def test_the_first_step_costs_what_the_library_says():
    setting = Setting(weight=0.7, hinge=5.0, belief=0.8, diagonal=0.9)
    path = descend(setting, steps=1)
    assert path.loss[0] == pytest.approx(loss_of(setting, 0.8, [0.1, 0.9], [0.1, 0.9]), abs=1e-6)
    assert path.trace[0] == pytest.approx(1.8) and path.belief[0] == pytest.approx(0.8)


def test_matrices_stand_still_in_the_warm_up_and_no_longer():
    path = descend(SWAP._replace(warm_up=0.1), steps=100)
    assert np.ptp(path.trace[:11]) == 0 and abs(path.trace[12] - path.trace[0]) > 0.01
    assert abs(path.belief[9] - path.belief[0]) > 0.1


def test_the_descent_ends_where_an_optimiser_nobody_here_wrote_stays():
    setting = Setting((1, 1, 1, 1, 0), 0.2, hinge=2.0, diagonal=0.9)

    def loss(x):
        p, b0, b1, c0, c1 = x
        return loss_of(setting, p, [b0, b1], [c0, c1])

    bounds = [(0.5, 0.999)] + [(0.001, 0.999)] * 4
    found = differential_evolution(loss, bounds, seed=0, maxiter=60, polish=False)
    assert descend(setting, 1500).loss[-1] == pytest.approx(found.fun, abs=0.03)


def test_one_control_leads_from_the_defaults_to_the_swap_and_one_more_cures_it():
    assert outcome(Setting(), descend(Setting())) == "vote"
    assert outcome(SWAP, descend(SWAP)) == "swap"
    for cure in ({"warm_up": 0.1}, {"hinge": 2.0}):
        setting = SWAP._replace(**cure)
        assert outcome(setting, descend(setting)) == "vote", cure
    # Matrices that know nothing lead to the swap at the printed λ too, as in notebook 02.
    ignorant = Setting(diagonal=0.5)
    assert outcome(ignorant, descend(ignorant)) == "swap"
    assert outcome(ignorant, descend(ignorant._replace(hinge=2.0))) == "vote"


def test_the_ends_have_the_traces_that_theory_predicts():
    assert descend(Setting()).trace[-1] == pytest.approx(0.6, abs=0.01)
    assert descend(SWAP).trace[-1] == pytest.approx(0.4 / 1.4, abs=0.01), "λ above 1 gives up fit"
    assert descend(Setting(hinge=5.0)).trace[-1] == pytest.approx(0.6 + 0.55, abs=0.02)


def test_the_widget_follows_its_traits_and_names_what_it_refuses():
    pixel = one_pixel(weight=1.4)
    assert pixel.told().endswith("swap") and "λ = 1.4" in pixel.told()
    pixel.hinge = 2.0
    assert pixel.told().endswith("vote")
    assert repr(pixel) == "Pixel: One pixel, live"
    assert len(pixel.still().axes) == 2
    for name, value, said in (
        ("weight", 3.0, "weight"),
        ("votes", [1, 0], "2 votes can tie"),
        ("votes", [2, 0, 1], "2"),
    ):
        with pytest.raises(TraitError, match=said):
            setattr(pixel, name, value)


@needs_browser
def test_javascript_gives_the_numbers_of_python():
    asked = [setting._asdict() | {"share": setting.share} for setting in SETTINGS]
    script = """async ([code, settings]) => {
      const module = await import(URL.createObjectURL(new Blob([code], {type: "text/javascript"})));
      return settings.map((s) => {
        const all = {...s, annotators: s.votes.length, warmUp: s.warm_up};
        const path = module.path(all);
        return {map: [...module.floor(all, 21, 21)], outcome: module.outcome(s.share,
          path.belief.at(-1)), path: Object.values(path).map((row) => [...row])};
      });
    }"""
    with chromium() as browser:
        page = browser.new_page()
        answers = page.evaluate(script, [source("pixel"), json.loads(json.dumps(asked))])
    for setting, answer in zip(SETTINGS, answers, strict=True):
        here = floor(setting, np.linspace(0, 1, 21), np.linspace(0, 2, 21))
        assert np.array(answer["map"]).reshape(21, 21) == pytest.approx(here, abs=2e-3)
        path = descend(setting)
        assert np.array(answer["path"]) == pytest.approx(np.array(path), abs=1e-6)
        assert answer["outcome"] == outcome(setting, path)
