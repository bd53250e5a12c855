"""Annotator panel: a report on annotators to leaf through, from a finished run.

Chooses annotator, class and label by controls; numbers come from `report.skills`, pictures
from `plots.portraits`.
"""

from html import escape

import numpy as np
from ipywidgets import HTML
from matplotlib.figure import Figure

from noisyseg.plots import portraits, style
from noisyseg.report.skills import Estimate, estimate, report_of_estimate, sentences
from noisyseg.runs import Run
from noisyseg.widgets.parts import Explorer, drawing, drawn, dropdown, reacts, row, slider


class AnnotatorPanel(Explorer):
    """Controls: `annotator`, `klass`, `label` (one of those to look at again)."""

    def __init__(self, found: Estimate, resamples: int = 1000) -> None:
        if found.truth.ndim != 3:
            raise ValueError("the panel shows pictures: its data are 3-D, use `noisyseg.report`")
        self.found, self.report = found, report_of_estimate(found, resamples)
        self.labels = found.data.read_labels()
        self.annotator = dropdown("annotator", found.data.annotators)
        self.klass = dropdown("class", found.data.classes[1:])
        last = max(len(self.report.relabel), 1)
        self.label = slider("label to look at again", 1, 1, last, 1, whole=True)
        self.words = HTML()
        self.chart, self.portrait, self.sheet = (drawing(width) for width in (560, 112, 420))
        super().__init__(
            f"Annotators of {found.data.name}",
            [self.annotator, self.klass],
            [self.words, row([self.chart, self.portrait]), self.label, self.sheet],
        )
        self.chart.value = drawn(portraits.skill_chart(self.report.skills))
        for control in (self.annotator, self.klass):
            control.observe(self.update, names="value")
        self.label.observe(self.turn, names="value")
        self.turn()
        self.update()

    @reacts
    def update(self) -> str:
        """Words and portrait of the chosen annotator and class."""
        name = self.annotator.value
        skill = self.report.skills.query("annotator == @name and `class` == @self.klass.value")
        found = skill.iloc[0]
        items = "".join(f"<li>{escape(text)}</li>" for text in sentences(self.report, name))
        self.words.value = (
            f"<b>{escape(name)}</b>: {found.images} images; finds "
            f"{100 * found.sensitivity:.0f} % of {escape(self.klass.value)} (95 % interval "
            f"{100 * found.sensitivity_low:.0f} to {100 * found.sensitivity_high:.0f} %), Dice "
            f"{100 * found.dice:.0f} % with the estimate<ul>{items}</ul>"
        )
        self.portrait.value = drawn(self._portrait())
        return f"{name}, {self.klass.value}"

    def _portrait(self) -> Figure:
        data, r = self.found.data, self.annotator.index
        klass = data.classes.index(self.klass.value)
        one = [self.annotator.value]
        return portraits.bias_portrait(self.found.truth, self.labels[:, [r]], one, klass)

    @reacts
    def turn(self) -> str:
        """Show the chosen one of the labels that are most worth another look."""
        if self.report.relabel.empty:
            return "no label stands out"
        line = self.report.relabel.iloc[[self.label.value - 1]]
        image, name = line.image_id.item(), line.annotator.item()
        data = self.found.data
        n, r = list(data.image_ids).index(image), list(data.annotators).index(name)
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        pixels = style.grey(np.array(data.images[n][0], float))
        for axis in (left, right):
            style.panel(axis, pixels, cmap="gray")
        portraits.outline(right, self.found.truth[n], style.ESTIMATE)
        portraits.outline(right, self.labels[n, r], style.ANNOTATOR_COLOURS[0])
        right.set_title(f"{name} (yellow), estimate (pink)", fontsize=8)
        left.set_title(str(image)[-28:], fontsize=8)
        self.sheet.value = drawn(figure)
        return f"{self.label.value} of {self.label.max}: {image}, {line.text.item()}"

    def still(self) -> Figure:
        """Where each annotator errs about the chosen class."""
        klass = self.found.data.classes.index(self.klass.value)
        names = self.found.data.annotators
        return portraits.bias_portrait(self.found.truth, self.labels, names, klass)


def annotator_panel(run_or_estimate: Run | Estimate, resamples: int = 1000) -> AnnotatorPanel:
    """Skill, bias in words and pictures, and the labels to look at again, of a run's data (2-D).

    Reads no truth. Raises ValueError for 3-D data and for a run without network.
    """
    given = run_or_estimate
    return AnnotatorPanel(given if isinstance(given, Estimate) else estimate(given), resamples)
