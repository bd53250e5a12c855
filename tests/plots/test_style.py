"""Colours of errors can be told apart by every reader, and headlines fit their figures."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from noisyseg.plots import style

# Machado, Oliveira & Fernandes 2009, severity 1: what linear RGB looks like without one cone.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip
FORMER_GREEN = np.array([0.15, 0.75, 0.25])


def seen(colour, blindness):
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(BLINDNESS[blindness]) @ linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def hue(colour):
    """Colour without brightness: an error that is half certain is half as bright."""
    return colour / np.linalg.norm(colour)


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_too_much_and_missed_differ_in_hue_for_every_eye(blindness):
    red, blue, green = (hue(seen(c, blindness)) for c in (style.RED, style.BLUE, FORMER_GREEN))
    white = hue(style.WHITE)
    assert np.linalg.norm(red - blue) > 0.8 and np.linalg.norm(blue - white) > 0.3
    assert np.linalg.norm(red - green) < 0.4, "the simulation cannot find a bad pair"


def test_a_headline_is_as_wide_as_its_figure():
    figure = plt.figure(figsize=(3, 1))
    style.headline(figure, "a sentence that is far too long for one line above so narrow a picture")
    (text,) = figure.texts
    box = text.get_window_extent(figure.canvas.get_renderer())
    assert "\n" in text.get_text() and box.width <= 1.02 * figure.bbox.width
    assert box.y0 >= figure.bbox.y1, "it lies above everything"
    plt.close(figure)


@pytest.mark.parametrize("family", ["sans-serif", "DejaVu Sans", "DejaVu Sans Mono"])
def test_a_name_is_legible_in_any_family(family, monkeypatch):
    style._has_font.cache_clear()
    monkeypatch.setitem(matplotlib.rcParams, "font.family", [family])
    assert style.legible(["over", "_hidden", "5 $"]) == ["over", " _hidden", r"5 \$"]
    assert style.illegible(["over"]) == {}
    style._has_font.cache_clear()


def test_simulated_annotators_are_called_in_words_and_people_by_their_names():
    written = ["good", "over@1.5:1", "class_swap:1-3", "alternate@12", "anna@2", "blank"]
    said = ["good", "over, 1.5 px", "class swap", "alternate, 12 px", "anna@2", "blank"]
    assert style.in_words(written) == said == style.legible(written)
    assert style.in_words(["over@1:1", "over@1:2"]) == ["over@1:1", "over@1:2"]
