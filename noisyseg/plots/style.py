"""Colours, names and order of methods, classes and annotators; the smallest parts of a figure."""

import re
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib import font_manager
from matplotlib.figure import Figure
from numpy import ndarray

from noisyseg.methods import METHODS
from noisyseg.simulate import ANNOTATORS

# The order of these is that of every table and legend.
COLOURS = {
    "clean": "#222222",
    "oracle": "#6b6b6b",
    "mean": "#c6a15b",
    "mode": "#a6761d",
    "separate": "#7f5d2e",
    "staple": "#7fb3d5",
    "spatial_staple": "#2e86c1",
    "majority_fusion": "#c9c3dd",
    "staple_fusion": "#a99bd1",
    "spatial_staple_fusion": "#7d68b8",
    "prob_unet": "#8e6fae",
    "global_cm": "#66a182",
    "released": "#e79a8b",
    "trace_printed": "#7a1f3d",
    "no_trace": "#f0b429",
    "trace_low_rank": "#b0413e",
    "trace": "#e1702c",
    "calibrated_fusion": "#7fc8a9",
    "calibrated": "#117a53",
    "calibrated_image": "#0b4f6c",
}
SPARE = ("#4f6d7a", "#a23b72", "#c17c74", "#5c8001", "#8d6a9f")  # of methods not named above
TITLES = {  # of the axis of a metric
    "dice": "foreground Dice",
    "cm_rmse": "error of the confusion matrices (RMSE)",
    "ged": "generalised energy distance",
}
PICTURES = {  # data set of `ablation_lidc` -> whose boundary its rendered pictures show
    "lidc_mean": "the readers’ mean",
    "lidc_reader": "one reader’s",
    "lidc_shifted": "the mean, moved by up to 2 px",
    "lidc_shuffled": "the mean, readers shuffled",
}
PEOPLE = {"people_crowd": "crowd workers", "people_persons": "four persons"}  # of `people`


LABELLINGS = {"dense": "all annotators label each image", "one": "one label an image"}
# Right, too much, missed. Blue and not green beside red: the paper has both variants, and this one
# can be told apart with any kind of colour vision (`tests/plots/test_style.py` simulates two).
WHITE, RED, BLUE = np.array([[1.0, 1, 1], [0.9, 0.1, 0.1], [0.1, 0.45, 0.95]])
HEADLINE_PT = 11


def title_of(name: str) -> str:
    """The title of a method; a name that is no method is its own title."""
    return METHODS[name].title if name in METHODS else name


def colour_of(name: str) -> str | None:
    """The colour of a method, None for a name that is none."""
    new = [method for method in METHODS if method not in COLOURS]
    return COLOURS.get(name) or (SPARE[new.index(name) % len(SPARE)] if name in new else None)


def legible(names: Iterable[str]) -> list[str]:
    """Names of people and classes as text that Matplotlib draws as it is.

    It would take dollars for mathematics and leave names with a leading underscore out of
    legends. Letters that no font of this computer has become their numbers: see `illegible`.
    """
    names = in_words(names)
    texts = [(name if _has_font(name) else _numbered(name)).replace("$", r"\$") for name in names]
    return [f" {text}" if text.startswith("_") else text for text in texts]


def in_words(names: Iterable[str]) -> list[str]:
    """Simulated annotators as a reader calls them, "over, 1.5 px" for "over@1.5:1".

    Names of people stay as they are, and so do all of them where two would become the same.
    """
    names = list(names)
    said = [_in_words(name) for name in names]
    return said if len(set(said)) == len(set(names)) else names


def _in_words(name: str) -> str:
    parts = re.fullmatch(r"(?P<kind>[a-z_]+)(@(?P<px>[\d.]+))?(:[\d-]+)?", name)
    if parts is None or parts["kind"] not in ANNOTATORS:
        return name
    kind = parts["kind"].replace("_", " ")
    return f"{kind}, {parts['px']} px" if parts["px"] else kind


def illegible(names: Iterable[str]) -> dict[str, str]:
    """What charts call the names that cannot be drawn here -> the names."""
    return {_numbered(name): name for name in names if not _has_font(name)}


def _numbered(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()


@cache
def _has_font(text: str) -> bool:
    """Whether each letter can be drawn, with further fonts of this computer where they help."""
    families = list(matplotlib.rcParams["font.family"])
    known = [font_manager.findfont(font_manager.FontProperties(family=[f])) for f in families]
    missing = {letter for letter in text if letter.isprintable()}.difference(*map(_letters, known))
    for font in font_manager.fontManager.ttflist:
        if not missing:
            break
        found = missing & _letters(font.fname)
        if found:
            missing -= found
            families.append(font.name)
    if not missing:
        matplotlib.rcParams["font.family"] = families
    return not missing


@cache
def _letters(file: str) -> frozenset[str]:
    """Every letter that a font has; none of one that cannot be read."""
    with suppress(OSError, RuntimeError):
        return frozenset(map(chr, font_manager.get_font(file).get_charmap()))
    return frozenset()


def method_order(methods: Iterable[str]) -> list[str]:
    """`methods` in the order of COLOURS; other names come last."""
    order = [*COLOURS, *METHODS]
    return sorted(methods, key=lambda m: order.index(m) if m in order else len(order))


def stamp(figure: Figure, origin: str, profile: str, seeds: int, more: str = "") -> Figure:
    """Write under the figure what it stands on: data origin, profile, number of seeds."""
    text = f"data: {origin} · profile: {profile} · seeds: {seeds}" + (f" · {more}" if more else "")
    figure.text(0.5, -0.01, text, ha="center", va="top", fontsize=8, color="#666666")
    return figure


def headline(figure: Figure, text: str) -> Figure:
    """Write what the figure shows above it, in a sentence, wrapped to the figure's width."""
    letters = int(figure.get_figwidth() * 72 / (0.58 * HEADLINE_PT))
    place: dict[str, Any] = {
        "ha": "left",
        "va": "bottom",
        "fontsize": HEADLINE_PT,
        "fontweight": "bold",
    }
    figure.text(0.01, 1.01, textwrap.fill(text, letters), **place)
    return figure


def panel(axis: Any, picture: ndarray, title: str = "", **kwargs: Any) -> None:
    """One picture without ticks; grey values are shown from 0 to 1."""
    axis.imshow(picture, **({"vmin": 0, "vmax": 1} | kwargs))
    axis.set(xticks=[], yticks=[])
    axis.set_title(title)
    for spine in axis.spines.values():
        spine.set(visible=True, color="#bbbbbb", linewidth=0.6)


def grey(picture: Float[ndarray, "h w"]) -> Float[ndarray, "h w"]:
    """A picture in any unit as grey values 0…1: its 1st to its 99th percentile.

    What lies within 0…1 already stays as it is, and so does NaN, which is shown as nothing.
    """
    if np.nanmin(picture) >= 0 and np.nanmax(picture) <= 1:
        return picture
    low, high = np.nanpercentile(picture, (1, 99))
    return np.clip((picture - low) / max(high - low, 1e-6), 0, 1)


# Background, then the paper's BraTS colours: core red, oedema green, enhancing blue; then more.
CLASS_COLOURS = np.array(
    ["#000000", "#e8443a", "#3fa34d", "#3d7de0", "#e0b93d", "#9b5de5", "#2ec4b6", "#f4a261"]
)
ANNOTATOR_COLOURS = ("#ffd23f", "#3bceac", "#ee6c4d", "#7b9ef0", "#e07be0", "#cccccc")


ESTIMATE = "#ff3bd4"


def class_colour(k: int) -> str:
    """The colour of foreground class `k` = 0, 1, … in charts, as on class maps."""
    return str(CLASS_COLOURS[1:][k % (len(CLASS_COLOURS) - 1)])


def annotator_colour(r: int) -> str:
    """The colour of annotator `r` = 0, 1, … on pictures."""
    return ANNOTATOR_COLOURS[r % len(ANNOTATOR_COLOURS)]
