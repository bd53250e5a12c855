"""The loss landscape of one pixel with two classes, and the way gradient descent takes in it.

The map has two axes, the descent has many: each point of the map shows the smallest loss that
any matrices with that mean trace can have (entries on a grid of 17 values), so no step of the
descent lies below its point of the map, up to that grid.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

from noisyseg import losses
from noisyseg.confusion import PixelConfusion
from noisyseg.widgets.parts import Explorer, drawing, drawn, reacts, slider

GRID = np.linspace(0, 1, 17)  # values of every entry of the matrices
BELIEFS = np.linspace(0.01, 0.99, 41)  # values of p(class 1)
TRACES = np.linspace(0, 2, 33)  # edges of the bins of the mean trace
STEPS, RATE = 200, 0.1  # enough to arrive where the theory says


class Setting(NamedTuple):
    """What the pixel and the loss are: `ones` of `annotators` wrote class 1."""

    annotators: int = 5
    ones: int = 3
    trace_weight: float = 0.7
    dominance_weight: float = 0.0
    belief: float = 0.5
    diagonal: float = 0.9


START = Setting()


class Path(NamedTuple):
    """Per step: p(class 1), the mean trace, and the parts of the loss as they enter it."""

    belief: ndarray
    trace: ndarray
    likelihood: ndarray
    trace_part: ndarray
    dominance: ndarray

    @property
    def loss(self) -> ndarray:
        """Their sum, the loss of `losses.disentangling_loss`."""
        return self.likelihood + self.trace_part + self.dominance


def landscape(setting: Setting) -> Float[ndarray, "belief trace"]:
    """The smallest Eq. 4 loss (with the pixel hinge) at each p(class 1) and mean trace.

    NaN where no matrices of the grid have that trace. Annotators who wrote the same class
    have the same matrix: at the minimum nothing distinguishes them.
    """
    share = setting.ones / setting.annotators
    # Chances to write one's own label where the truth is 0 and where it is 1, for those who
    # wrote 1 (b) and for those who wrote 0 (c).
    b0, b1, c0, c1 = (x.ravel() for x in np.meshgrid(*[GRID.astype("f4")] * 4, indexing="ij"))
    mean00, mean11 = share * (1 - b0) + (1 - share) * c0, share * b1 + (1 - share) * (1 - c1)
    trace = mean00 + mean11
    hinge = sum(np.maximum(0, 0.1 + 1 - 2 * own) for own in (mean00, mean11)) / 2
    fixed = setting.trace_weight * trace + setting.dominance_weight * hinge
    bins = np.clip(np.digitize(trace, TRACES) - 1, 0, len(TRACES) - 2)
    order = np.argsort(bins, kind="stable")
    starts = np.searchsorted(bins[order], np.arange(len(TRACES) - 1))
    b0, b1, c0, c1, fixed = (x[order] for x in (b0, b1, c0, c1, fixed))
    values = np.full((len(BELIEFS), len(TRACES) - 1), np.nan)
    there = np.unique(bins)
    for k, p in enumerate(BELIEFS.astype("f4")):
        wrote1, wrote0 = (np.maximum((1 - p) * x + p * y, 1e-6) for x, y in ((b0, b1), (c0, c1)))
        loss = fixed - share * np.log(wrote1) - (1 - share) * np.log(wrote0)
        values[k, there] = np.minimum.reduceat(loss, starts[there])
    return values


def descend(setting: Setting, steps: int = STEPS) -> Path:
    """Adam on the logits of p and of one matrix per annotator, by `disentangling_loss`."""
    wrote = (torch.arange(setting.annotators) < setting.ones).long().view(1, -1, 1, 1)
    start = torch.logit(torch.tensor([1 - setting.belief, setting.belief]))
    p = (start / 2).view(1, 2, 1, 1).clone().requires_grad_()
    head = 0.5 * torch.logit(torch.tensor(setting.diagonal)) * (2 * torch.eye(2) - 1)
    a = head.view(1, 1, 2, 2, 1, 1).repeat(1, setting.annotators, 1, 1, 1, 1).requires_grad_()
    optimiser = torch.optim.Adam([p, a], lr=RATE)
    rows = []
    for _ in range(steps):
        confusion, log_probs = PixelConfusion(a), p.log_softmax(1)
        likelihood = losses.annotator_nll(log_probs, confusion, wrote)
        trace = losses.trace_penalty(confusion, wrote)
        hinge = losses.dominance_penalty(confusion, log_probs.exp())
        parts = (likelihood, setting.trace_weight * trace, setting.dominance_weight * hinge)
        values = (log_probs[0, 1, 0, 0].exp(), trace, *parts)
        rows.append([float(v.detach()) for v in values])
        optimiser.zero_grad()
        sum(parts, torch.zeros(())).backward()
        optimiser.step()
    return Path(*np.array(rows).T)


def verdict(setting: Setting, path: Path, values: Float[ndarray, "belief trace"]) -> str:
    """Where the descent ended, and which side of the map has the smaller loss, in words."""
    if 2 * setting.ones == setting.annotators:
        return "a tie: neither class is the vote's"
    vote = 2 * setting.ones > setting.annotators
    sides = {True: np.nanmin(values[BELIEFS > 0.5]), False: np.nanmin(values[BELIEFS < 0.5])}
    end = path.belief[-1]
    name = "the vote" if (end > 0.5) == vote else "the swap"
    if 0.3 < end < 0.7:
        name = "undecided"
    return (
        f"ends at p(class 1) = {end:.2f}: {name}; smallest loss on the side of the vote "
        f"{sides[vote]:.2f}, of the swap {sides[not vote]:.2f}"
    )


class PixelLandscape(Explorer):
    """Controls: `annotators`, `ones`, `weight`, `dominance`, `belief`, `diagonal`."""

    def __init__(self, setting: Setting) -> None:
        self.annotators = slider("annotators", setting.annotators, 1, 9, 1, whole=True)
        self.ones = slider("wrote class 1", setting.ones, 0, 9, 1, whole=True)
        self.weight = slider("trace weight λ", setting.trace_weight, 0, 2, 0.05)
        self.dominance = slider("hinge of Theorem 1", setting.dominance_weight, 0, 10, 0.5)
        self.belief = slider("start: p(class 1)", setting.belief, 0.05, 0.95, 0.05)
        self.diagonal = slider("start: diagonal of A", setting.diagonal, 0.5, 0.95, 0.05)
        self.picture = drawing(760)
        controls = [self.annotators, self.ones, self.weight, self.dominance, self.belief]
        controls.append(self.diagonal)
        super().__init__("The loss of one pixel", controls, [self.picture])
        for control in controls:
            control.observe(self.update, names="value")
        self.update()

    def setting(self) -> Setting:
        """The controls as a `Setting`; ValueError when more wrote class 1 than there are."""
        annotators, ones = self.annotators.value, self.ones.value
        if ones > annotators:
            raise ValueError(f"{ones} of {annotators} annotators cannot have written class 1")
        values = (self.weight, self.dominance, self.belief, self.diagonal)
        return Setting(annotators, ones, *(control.value for control in values))

    @reacts
    def update(self) -> str:
        """Compute the map and the descent, and draw both."""
        setting = self.setting()
        self.values, self.path = landscape(setting), descend(setting)
        self.figure = draw(setting, self.values, self.path)
        self.picture.value = drawn(self.figure)
        return verdict(setting, self.path, self.values)

    def still(self) -> Figure:
        """The map and the descent."""
        return self.figure


def draw(setting: Setting, values: Float[ndarray, "belief trace"], path: Path) -> Figure:
    """Left the map with the path on it, right the parts of the loss along the path."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    middle = (TRACES[1:] + TRACES[:-1]) / 2
    low = np.nanmin(values)
    levels = np.linspace(low, low + 1.5, 13)
    filled = left.contourf(BELIEFS, middle, values.T, levels, cmap="viridis", extend="max")
    figure.colorbar(filled, ax=left, label="smallest loss", format="%.1f")
    left.plot(path.belief, path.trace, color="white", linewidth=2)
    left.plot(path.belief[0], path.trace[0], "o", color="white", label="start")
    left.plot(path.belief[-1], path.trace[-1], "*", color="#ff3bd4", markersize=13, label="end")
    left.set(xlabel="p(class 1)", ylabel="mean trace", xlim=(0, 1), ylim=(0, 2))
    left.set_title(f"{setting.ones} of {setting.annotators} wrote class 1")
    left.legend(loc="upper right", facecolor="#888888", labelcolor="white")
    parts = {"likelihood": path.likelihood, "λ · trace": path.trace_part}
    if setting.dominance_weight:
        parts["hinge"] = path.dominance
    for name, part in (parts | {"loss": path.loss}).items():
        style = {"color": "#222222", "linewidth": 2} if name == "loss" else {}
        right.plot(part, label=name, **style)
    right.set(xlabel="step", ylabel="loss and its parts")
    right.legend()
    return figure


def pixel_landscape(setting: Setting = START) -> PixelLandscape:
    """λ, Theorem 1's hinge and start by sliders; the descent ends at the vote or the swap."""
    return PixelLandscape(setting)
