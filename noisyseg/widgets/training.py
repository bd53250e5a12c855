"""Small training: choose annotators, labels, method, λ and warm-up; a button trains digits.

Trains only when the button is pressed, in a thread of its own, through the project's store:
the same settings again load at once, a training that was stopped goes on. Only traits of
widgets are changed from that thread.
"""

import html
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from ipywidgets import HTML, Button
from matplotlib.figure import Figure

from noisyseg import diagnostics
from noisyseg.config import ExperimentConfig
from noisyseg.experiment import run
from noisyseg.methods import METHODS
from noisyseg.paper.ablations import ANNOTATOR_SETS
from noisyseg.plots import style
from noisyseg.runs import Run
from noisyseg.train import SwapWarning, TrainingStopped
from noisyseg.widgets.parts import Explorer, Picture, drawing, drawn, dropdown, row, slider

CHOICES = (
    "calibrated",
    "trace",
    "trace_printed",
    "no_trace",
    "global_cm",
    "mode",
    "mean",
    "staple",
    "clean",
)
WITH_WEIGHT = ("calibrated", "trace", "trace_printed", "global_cm")
WITH_MATRICES = ("pixel", "global", "low_rank")
SHOWN = 5  # finished runs whose digit is shown beside input and truth
RED = "#c0392b"
LIGHTS = {
    "off": ("#bbbbbb", "no training yet"),
    "none": ("#bbbbbb", "this method has no matrices: nothing to watch without the truth"),
    "wait": ("#e0a800", "too early to tell"),
    "green": ("#117a53", "no sign of a label swap"),
}


def meaning_of_lights() -> str:
    """What the swap monitor looks at and what its colours mean, as HTML to fold out."""
    colours = {state: colour for state, (colour, _) in LIGHTS.items()} | {"red": RED}
    meanings = {
        "off": "grey: nothing is watched, because nothing trains or the method has no matrices.",
        "wait": "yellow: less than half of the epochs are done, and matrices still move.",
        "green": "green: none of the signs below. It does not say that the truth is found, only "
        "that the matrices still agree with the annotators being right more often than wrong.",
        "red": "red: at more than "
        f"{diagnostics.OUTVOTED:.0%} of the pixels the annotators together are not expected to "
        f"write the predicted class; or {diagnostics.UNMARKED:.0%} of the predicted foreground is "
        "expected to be marked by nobody; or a class has vanished; or matrices ignore the truth.",
    }
    items = "".join(
        f'<li><span style="color: {colours[state]}">●</span> {html.escape(text)}</li>'
        for state, text in meanings.items()
    )
    return (
        '<details class="noisyseg-lights"><summary>What the light means</summary>'
        "The swap monitor reads the matrices and the prediction after every epoch; it never sees "
        f"the truth.<ul>{items}</ul></details>"
    )


class SmallTraining(Explorer):
    """Controls: `annotators`, `labels`, `method`, `digits`, `epochs`, and the method's own
    settings, `weight` (λ) and `warm_up`, which every method brings along; two buttons."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.finished: dict[Path, Run] = {}
        self.annotators = dropdown("annotators", ANNOTATOR_SETS)
        self.labels = dropdown("labels an image", [("all", "dense"), ("one", "one"), ("two", "k2")])
        self.method = dropdown("method", [(METHODS[m].title, m) for m in CHOICES])
        self.weight = slider("trace weight λ", 0.0, 0, 2, 0.1)
        self.warm_up = slider("warm-up, %", 0, 0, 90, 10, whole=True)
        self.brought = HTML()
        self.digits = slider("digits", 400, 100, 1000, 100, whole=True)
        self.epochs = slider("epochs", 6, 1, 20, 1, whole=True)
        self.start = Button(description="Train", button_style="success")
        self.end = Button(description="Stop", disabled=True)
        self.light, self.table = HTML(), HTML(layout={"max_width": "100%", "overflow": "auto"})
        self.curve, self.pictures = drawing(520), row([])
        self.history: list[dict[str, float]] = []
        self.thread: threading.Thread | None = None
        self.stopping = threading.Event()
        controls = [self.annotators, self.labels, self.digits, self.epochs]
        super().__init__(
            "Small training",
            controls,
            [
                row([self.method, self.weight, self.warm_up]),
                self.brought,
                row([self.start, self.end]),
                self.light,
                HTML(meaning_of_lights()),
                self.curve,
                self.table,
                self.pictures,
            ],
        )
        self.start.on_click(self.train)
        self.end.on_click(self.stop)
        self.method.observe(self.choose, names="value")
        self.choose()
        self._shine("off")
        self.curve.value = drawn(self.still())
        self.say("nothing is trained before you press Train")

    def choose(self, *_: Any) -> None:
        """Bring along what the chosen method sets: λ and warm-up on sliders, all of it in words."""
        cfg = ExperimentConfig.preset("playground", "smoke", self.method.value, dataset="mnist")
        self.weight.disabled = cfg.method not in WITH_WEIGHT
        self.warm_up.disabled = not self._has_matrices(cfg)
        self.weight.value = 0.0 if self.weight.disabled else cfg.trace_weight
        warm_up = cfg.warm_up == "fixed" and not self.warm_up.disabled
        self.warm_up.value = round(100 * cfg.warm_up_share) if warm_up else 0
        text = "; ".join(self._settings(cfg))
        self.brought.value = f'<div class="noisyseg-caption" style="text-align: left">{text}</div>'

    def _settings(self, cfg: ExperimentConfig) -> list[str]:
        """What a method sets, in words; names escaped."""
        parts = [f"<b>{html.escape(METHODS[cfg.method].title)}</b> brings along"]
        if not self._has_matrices(cfg):
            return [f"{parts[0]} nothing to set: it has no confusion matrices"]
        parts[0] += f" λ = {cfg.trace_weight:g}"
        if cfg.warm_up == "fixed":
            parts.append(
                f"matrices held at {cfg.fixed_diagonal:g} on the diagonal for the first "
                f"{100 * cfg.warm_up_share:.0f} % of the epochs, while the truth is learned"
            )
        if cfg.dominance_weight:
            parts.append(
                f"a hinge of weight {cfg.dominance_weight:g} that holds the assumption of Theorem 1"
            )
        return parts

    def config(self) -> ExperimentConfig:
        """What the controls ask for; λ and warm-up where the method has them."""
        method = self.method.value
        own: dict[str, Any] = {"trace_weight": self.weight.value} if method in WITH_WEIGHT else {}
        if METHODS[method].head in WITH_MATRICES:
            share = self.warm_up.value / 100
            own |= {"warm_up": "fixed" if share else "none", "warm_up_share": share}
        return ExperimentConfig.preset(
            "playground",
            "smoke",
            method,
            self.seed,
            dataset="mnist",
            annotators=ANNOTATOR_SETS[self.annotators.value],
            labelling=self.labels.value,
            n_train=self.digits.value,
            epochs=self.epochs.value,
            **own,
        )

    def train(self, *_: Any) -> None:
        """Start the training in the background; a second press while it runs does nothing."""
        if self.thread is not None and self.thread.is_alive():
            self.say("a training is running: press Stop first", "busy")
            return
        cfg = self.config()
        self.stopping.clear()
        self.history = []
        self.start.disabled, self.end.disabled = True, False
        self._shine("wait" if self._has_matrices(cfg) else "none")
        # Said before it starts: from then on the message line is the thread's.
        self.say(f"training {METHODS[cfg.method].title} on {cfg.n_train} digits", "busy")
        self.thread = threading.Thread(target=self._work, args=(cfg,), daemon=True)
        self.thread.start()

    def stop(self, *_: Any) -> None:
        """End the training after the epoch it is in; Train with the same settings goes on."""
        self.stopping.set()

    def _work(self, cfg: ExperimentConfig) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SwapWarning)  # the light tells it
                done = run(cfg, self._after_epoch)
            self._join_table(done)
            self.say(f"done: foreground Dice {100 * done.value('dice'):.1f} %")
        except TrainingStopped as stopped:
            self.say(f"{stopped}; Train with the same settings goes on from there")
        except Exception as error:  # what a thread raises is seen by nobody
            self.say(f"{error or type(error).__name__}", "error")
        finally:
            self.start.disabled, self.end.disabled = False, True

    def _after_epoch(self, epoch: dict[str, float]) -> bool:
        self.history.append(epoch)
        self.curve.value = drawn(self.still())
        number, total = int(epoch["epoch"]), self.epochs.value
        if "class_margin" in epoch and 2 * number >= total:
            self._watch(epoch, self.method.value)
        self.say(f"epoch {number} of {total}, loss {epoch['train_loss']:.3f}", "busy")
        time.sleep(0)  # lets the kernel take the next message
        return self.stopping.is_set()

    def _has_matrices(self, cfg: ExperimentConfig) -> bool:
        return METHODS[cfg.method].head in WITH_MATRICES

    def _watch(self, epoch: dict[str, float], method: str) -> None:
        coupled = METHODS[method].loss != "calibrated"
        message = diagnostics.warning(epoch, needs_matrices=coupled)
        self._shine("red" if message else "green", message or "")

    def _shine(self, state: str, text: str = "") -> None:
        colour, words = LIGHTS.get(state, (RED, text))
        self.light.value = (
            f'<span class="noisyseg-light" data-light="{state}" style="color: {colour}; '
            f'font-size: 20px">●</span> swap monitor: {html.escape(words)}'
        )

    def _join_table(self, done: Run) -> None:
        cfg = done.config
        history = done.history
        if self._has_matrices(cfg):
            self._watch(history.iloc[-1].to_dict(), cfg.method)
        if not self.history:  # loaded, not trained
            self.history = history.to_dict("records")
            self.curve.value = drawn(self.still())
        self.finished[done.path] = done
        self.table.value = self.results().to_html(index=False, border=0)
        self._show_digits()

    def results(self) -> pd.DataFrame:
        """One row a finished run: what was chosen, Dice in %, CM error, seconds."""
        return pd.DataFrame([_row_of(done) for done in self.finished.values()])

    def _show_digits(self) -> None:
        runs = list(self.finished.values())[-SHOWN:]
        shown = runs[-1].exhibits
        pictures = [Picture("input"), Picture("truth")]
        pictures[0].show(style.grey(shown["image"][0, 0].astype(float)))
        pictures[1].show(shown["truth"][0].astype(float))
        for done in runs:
            picture = Picture(f"{done.config.method}, {100 * done.value('dice'):.0f} %")
            picture.show(done.exhibits["probs"][0, 1].astype(float))
            pictures.append(picture)
        self.pictures.children = pictures

    def still(self) -> Figure:
        """The loss and the likelihood of validation labels by epoch."""
        figure = Figure(figsize=(6.4, 2.2), layout="constrained")
        axis = figure.subplots()
        table = pd.DataFrame(self.history)
        for column, name in {"train_loss": "training loss", "val_loss": "validation NLL"}.items():
            if column in table:
                axis.plot(table.epoch, table[column], "o-", label=name)
        axis.set(xlabel="epoch", ylabel="nats a pixel", xlim=(0.5, self.epochs.value + 0.5))
        if len(table):
            axis.legend(fontsize=8)
        else:
            axis.text(0.5, 0.5, "no training yet", ha="center", transform=axis.transAxes)
        return figure


def _row_of(done: Run) -> dict[str, Any]:
    cfg = done.config
    names = {annotators: name for name, annotators in ANNOTATOR_SETS.items()}
    errors = done.metrics.query("metric == 'cm_rmse' and annotator == 'all'").value
    return {
        "method": cfg.method,
        "annotators": names.get(cfg.annotators, "other"),
        "labels": cfg.labelling,
        "λ": f"{cfg.trace_weight:g}" if cfg.method in WITH_WEIGHT else "",
        "warm-up": f"{100 * cfg.warm_up_share:.0f} %" if cfg.warm_up == "fixed" else "",
        "digits": cfg.n_train,
        "epochs": cfg.epochs,
        "Dice %": f"{100 * done.value('dice'):.1f}",
        "CM error": f"{errors.iloc[0]:.3f}" if len(errors) else "",
        "seconds": done.provenance["wall_seconds"],
    }


def small_training(seed: int = 0) -> SmallTraining:
    """Train on a few hundred real digits with simulated annotators, and compare."""
    return SmallTraining(seed)
