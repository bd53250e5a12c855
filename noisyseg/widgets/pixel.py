"""The loss of one pixel with two classes, and the way gradient descent takes in it, live.

Five annotators label one pixel. The map shows, at each belief and mean trace, the smallest loss
that any matrices with this mean trace can have, so no step of a descent lies below its point of
the map. `web/pixel.js` computes the same in the browser; here it is computed for the still
picture, by the library's own losses.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from noisyseg import losses
from noisyseg.confusion import PixelConfusion
from noisyseg.widgets.bake import in_book
from noisyseg.widgets.live import Live

BELIEFS = np.linspace(0, 1, 61)  # p(foreground) of the columns of the map
TRACES = np.linspace(0, 2, 61)  # mean trace of its rows
SPLITS = 201  # how finely a mean trace is split into the two diagonal entries
MARGIN, LEAST = 0.1, 1e-6
STEPS, RATE = 400, 0.1  # the rate falls to 0
DECIDED = 0.7  # of the belief in one class, to call it an outcome
COLOURS = {"vote": "#2563a8", "swap": "#c2410c", "undecided": "#6b6b6b"}


class Setting(NamedTuple):
    """The pixel's labels (1 is foreground), the loss, and where the descent starts.

    `warm_up` is the share of the steps in which the matrices stand still, `belief` the first
    p(foreground) and `diagonal` the first diagonal entries of every matrix.
    """

    votes: tuple[int, ...] = (1, 1, 0, 1, 0)
    weight: float = 0.7
    warm_up: float = 0.0
    hinge: float = 0.0
    belief: float = 0.5
    diagonal: float = 0.6

    @property
    def share(self) -> float:
        """Of the annotators, those who wrote foreground."""
        return sum(self.votes) / len(self.votes)


class Path(NamedTuple):
    """Per step: p(foreground), the mean trace, and the parts of the loss as they enter it."""

    belief: ndarray
    trace: ndarray
    likelihood: ndarray
    trace_part: ndarray
    dominance: ndarray

    @property
    def loss(self) -> ndarray:
        """Their sum, the loss of `losses.disentangling_loss`."""
        return self.likelihood + self.trace_part + self.dominance


def floor(
    setting: Setting, beliefs: ndarray = BELIEFS, traces: ndarray = TRACES
) -> Float[ndarray, "trace belief"]:
    """The smallest loss of Eq. 4, with the hinge, at each mean trace and p(foreground).

    Given the diagonal (d₀, d₁) of the mean matrix the best matrices are known: those who wrote a
    class do so as often as the diagonal allows, in both columns. What is left is how the trace
    is split into d₀ and d₁, which is tried in small steps.
    """
    share, rest = setting.share, 1 - setting.share
    low, high = np.maximum(0, traces - 1), np.minimum(1, traces)
    # The loss has kinks where an entry reaches 1 and where the hinge lets go.
    dominant = np.full_like(traces, (1 + MARGIN) / 2)
    kinks = [np.full_like(traces, rest), traces - share, dominant, traces - dominant]
    tried = [np.linspace(low, high, SPLITS), np.clip(kinks, low, high)]
    d0 = np.concatenate(tried).T
    d1 = traces[:, None] - d0
    short = np.maximum(0, MARGIN + 1 - 2 * np.stack([d0, d1])).mean(0)
    loss = setting.weight * traces[:, None, None] + setting.hinge * short[:, None]
    p = beliefs[:, None]
    for many, first, second in ((share, 1 - d0, d1), (rest, d0, 1 - d1)):
        if many > 0:
            own = (np.minimum(1, entry / many)[:, None] for entry in (first, second))
            wrote = sum(chance * entry for chance, entry in zip((1 - p, p), own, strict=True))
            loss = loss - many * np.log(np.maximum(wrote, LEAST))
    return loss.min(-1)


@cache
def descend(setting: Setting, steps: int = STEPS) -> Path:
    """Adam on the logits of p and of one matrix per annotator, by the library's losses."""
    wrote = torch.tensor(setting.votes).view(1, -1, 1, 1)
    p = torch.tensor([0.0, np.log(setting.belief / (1 - setting.belief))], dtype=torch.float64)
    p = p.view(1, 2, 1, 1).requires_grad_()
    near = np.log(setting.diagonal / (1 - setting.diagonal))
    a = (near * torch.eye(2, dtype=torch.float64)).view(1, 1, 2, 2, 1, 1)
    a = a.repeat(1, len(setting.votes), 1, 1, 1, 1).requires_grad_()
    optimiser = torch.optim.Adam([p, a], lr=RATE)
    slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, steps)
    rows = []
    for step in range(steps):
        still = step < round(setting.warm_up * steps)
        confusion, log_probs = PixelConfusion(a.detach() if still else a), p.log_softmax(1)
        likelihood = losses.annotator_nll(log_probs, confusion, wrote)
        trace = losses.trace_penalty(confusion, wrote)
        hinge = losses.dominance_penalty(confusion, log_probs.exp(), margin=MARGIN)
        parts = (likelihood, setting.weight * trace, setting.hinge * hinge)
        values = (log_probs[0, 1, 0, 0].exp(), trace, *parts)
        rows.append([float(value.detach()) for value in values])
        optimiser.zero_grad()
        sum(parts, torch.zeros(())).backward()
        optimiser.step()
        slower.step()
    return Path(*np.array(rows).T)


def outcome(setting: Setting, path: Path) -> str:
    """Where the descent ended: "vote", "swap" or "undecided"."""
    end = path.belief[-1]
    vote = end if setting.share > 0.5 else 1 - end
    if vote >= DECIDED:
        return "vote"
    return "swap" if vote <= 1 - DECIDED else "undecided"


class Pixel(Live, module="pixel"):
    """The pixel as a widget; its traits are those of `Setting`, and follow what is dragged."""

    title = "One pixel, live"
    votes = traitlets.List(traitlets.Int(min=0, max=1), [*Setting().votes]).tag(sync=True)
    weight = traitlets.Float(Setting().weight, min=0, max=2).tag(sync=True)
    warm_up = traitlets.Float(Setting().warm_up, min=0, max=0.9).tag(sync=True)
    hinge = traitlets.Float(Setting().hinge, min=0, max=5).tag(sync=True)
    belief = traitlets.Float(Setting().belief, min=0.03, max=0.97).tag(sync=True)
    diagonal = traitlets.Float(Setting().diagonal, min=0.03, max=0.97).tag(sync=True)

    @traitlets.validate("votes")
    def _odd(self, proposal: Any) -> list[int]:
        votes = [*proposal["value"]]
        if len(votes) % 2 == 0:
            raise traitlets.TraitError(
                f"{len(votes)} votes can tie, and then there is no vote to find: give an odd number"
            )
        return votes

    def setting(self) -> Setting:
        """What the controls say."""
        values = {name: getattr(self, name) for name in Setting._fields}
        return Setting(**values | {"votes": tuple(self.votes)})

    def still(self) -> Figure:
        """The map with the path on it, and the path step by step."""
        return draw(self.setting())

    def told(self) -> str:
        """Where the descent ends, in words."""
        setting = self.setting()
        path = descend(setting)
        return (
            f"{sum(setting.votes)} of {len(setting.votes)} annotators wrote foreground; at "
            f"λ = {setting.weight:g} the descent ends at p(foreground) = {path.belief[-1]:.2f}, "
            f"mean trace {path.trace[-1]:.2f}: {outcome(setting, path)}"
        )


def draw(setting: Setting) -> Figure:
    """Left the map with the path on it, right the belief and the trace along the path."""
    path, values = descend(setting), floor(setting)
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    low = values.min()
    levels = np.linspace(low, low + 1.5, 16)
    left.contourf(BELIEFS, TRACES, values, levels, cmap="Greys_r", extend="max", alpha=0.55)
    end = COLOURS[outcome(setting, path)]
    left.plot(path.belief, path.trace, color=end, linewidth=2.5)
    left.plot(path.belief[0], path.trace[0], "o", color="white", mec="black", mew=2, markersize=9)
    left.plot(path.belief[-1], path.trace[-1], "o", color=end, markersize=8)
    _name_the_ends(left, setting, values)
    left.set(xlabel="p(foreground)", ylabel="mean trace", xlim=(0, 1), ylim=(0, 2))
    left.set_title(f"{sum(setting.votes)} of {len(setting.votes)} wrote foreground")
    right.axvspan(0, setting.warm_up * STEPS, color="0.9")
    right.plot(path.belief, color="black", label="p(foreground)")
    right.plot(path.trace, color="#117a53", linestyle="--", label="mean trace")
    right.plot(path.likelihood, color="0.45", linestyle=":", label="cross-entropy")
    right.set(xlabel="step of the descent", ylim=(0, 2), xlim=(0, STEPS))
    right.set_title(f"λ = {setting.weight:g}, hinge {setting.hinge:g}: {outcome(setting, path)}")
    right.legend()
    return figure


def _name_the_ends(axes: Axes, setting: Setting, values: ndarray) -> None:
    """Mark where the loss is least with one class certain."""
    for column, p in ((0, 0), (-1, 1)):
        vote = (p == 1) == (setting.share > 0.5)
        row = values[:, column].argmin()
        name = f"the {'vote' if vote else 'swap'} {values[row, column]:.2f}"
        colour = COLOURS["vote" if vote else "swap"]
        axes.plot(p, TRACES[row], "D", color=colour, clip_on=False, zorder=5)
        inwards = -0.025 if p else 0.025
        side = "right" if p else "left"
        axes.text(p + inwards, TRACES[row], name, ha=side, va="center", color=colour, weight="bold")


def one_pixel(**setting: Any) -> Pixel:
    """Votes, λ, warm-up, hinge and start to drag; the descent ends at the vote or at the swap.

    `setting`: fields of `Setting` to begin with, of which TraitError names one out of range.
    """
    return Pixel(**setting)


@in_book("pixel")
def _in_book() -> str:
    return one_pixel().fragment()
