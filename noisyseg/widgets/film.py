"""The label swap as a film: the paper's loss as printed, its best reading, and ours.

Shows what `footage` recorded: in the browser by `web/film.js`, and as a GIF for pages that run
nothing. `python -m noisyseg.widgets` records it and draws the GIF again.
"""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy import ndarray
from PIL import Image

from noisyseg.widgets import footage
from noisyseg.widgets.bake import in_book
from noisyseg.widgets.footage import Footage
from noisyseg.widgets.live import Live, packed

COLOURS = ("#c2410c", "#2563a8", "#117a53")  # one a training, as in the browser
DASHES = ("-", "--", ":")
LIGHTS = {"off": "#bbbbbb", "red": "#c2410c", "green": "#117a53"}
FRAME_MS, LAST_MS = 220, 3000  # how long the GIF shows a frame, and the last one
PALETTE = 64  # colours of the GIF
MOST_KB = 400


class Film(Live, module="film"):
    """The film as a widget. `epoch` and `digit` follow what the reader chooses."""

    title = "The swap, as a film"
    about = traitlets.Dict().tag(sync=True)
    pixels = traitlets.Bytes().tag(sync=True)
    epoch = traitlets.Int(0, min=0).tag(sync=True)
    digit = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, recorded: Footage, **kwargs: Any) -> None:
        self.recorded = recorded
        arrays = {
            name: getattr(recorded, name)
            for name in Footage._fields
            if name not in ("about", "watched")
        }
        about = recorded.about | {
            "epochs": recorded.estimate.shape[1] - 1,
            "shapes": [[name, list(array.shape)] for name, array in arrays.items()],
            "watched": recorded.watched.astype(float).round(4).tolist(),
            "source": source_of(recorded),
        }
        content = b"".join(packed(array) for array in arrays.values())
        kwargs = {"epoch": about["epochs"]} | kwargs
        super().__init__(about=about, pixels=zlib.compress(content, 9), **kwargs)

    @traitlets.validate("epoch", "digit")
    def _recorded(self, proposal: Any) -> int:
        value, name = int(proposal["value"]), proposal["trait"].name
        most = self.recorded.estimate.shape[1 if name == "epoch" else 2] - 1
        if value > most:
            raise traitlets.TraitError(f"{name} {value} was not recorded: give 0 to {most}")
        return value

    def still(self) -> Figure:
        """The frame of this epoch and digit."""
        return draw(self.recorded, self.epoch, self.digit)

    def told(self) -> str:
        """The Dice of each training at this epoch, in words."""
        titles = self.recorded.about["titles"]
        dice = self.recorded.watched[:, self.epoch, 0]
        parts = ", ".join(f"{t}: {100 * d:.0f} %" for t, d in zip(titles, dice, strict=True))
        return f"Foreground Dice after epoch {self.epoch}: {parts}"


def source_of(recorded: Footage) -> str:
    """What a recording stands on, in a sentence."""
    about = recorded.about
    sizes = about["sizes"]
    return (
        f"Recorded from real trainings: {about['data']}; profile {about['profile']} with "
        f"{sizes['n_train']} training images, {sizes['epochs']} epochs and width "
        f"{sizes['width']}; seed {about['seed']}, one training each. Dice and monitor: "
        f"{about['tested']} test images."
    )


def light_of(recorded: Footage, method: int, epoch: int) -> str:
    """What the swap monitor shows: "off" while the matrices are fixed, else "red" or "green"."""
    if epoch <= recorded.about["warm_up"][method]:
        return "off"
    return "red" if recorded.about["warned"][method][epoch] else "green"


WIDTH, HEIGHT = 9.0, 3.75  # of a frame, in inches
SIZE, FIRST, STEP = 1.65, 1.36, 1.85  # of an estimate, where the first stands, from one to the next


def draw(recorded: Footage, epoch: int, digit: int = 0) -> Figure:
    """One frame: the estimates, the annotators' matrices, and the Dice until this epoch."""
    about = recorded.about
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=90, facecolor="white")
    last = recorded.estimate.shape[1] - 1
    when = f"epoch {epoch} of {last}" if epoch else "before training"
    _write(figure, 0.15, 3.5, when, size=12, weight="bold")
    told = "three trainings on the masks of five annotators: who finds the digit?"
    _write(figure, 1.72, 3.5, told, size=11, color="#444444")
    for name, y, picture in (("image", 2.05, recorded.image), ("truth", 0.8, recorded.truth)):
        _panel(figure, (0.15, y, 0.95), picture[digit])
        _write(figure, 0.625, y + 1.03, name, size=9, ha="center")
    for m, title in enumerate(about["titles"]):
        x, state = FIRST + m * STEP, light_of(recorded, m, epoch)
        said = about["warned"][m][epoch].replace("?", ":").partition(":")[0]
        words = {"off": "first phase", "red": said, "green": "no sign of a swap"}[state]
        _write(figure, x, 3.16, title, size=9.5, weight="bold", color=COLOURS[m])
        _write(figure, x, 2.96, f"● {words}", size=9, color=LIGHTS[state])
        _panel(figure, (x, 1.2, SIZE), recorded.estimate[m, epoch, digit])
        _matrices(_axis(figure, x, 0.5, SIZE, 0.62), recorded.matrices[m, epoch], about)
    _curves(_axis(figure, 7.25, 0.85, 1.6, 2.1), recorded, epoch)
    sizes = about["sizes"]
    below = (
        f"{about['data']} · profile {about['profile']}, {sizes['n_train']} images · seed "
        f"{about['seed']} · matrices: green where the annotator agrees with the estimate"
    )
    _write(figure, 0.15, 0.15, below, size=8, color="#666666")
    return figure


def _axis(figure: Figure, x: float, y: float, width: float, height: float) -> Any:
    """Axes at a place in inches."""
    return figure.add_axes((x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT))


def _write(figure: Figure, x: float, y: float, text: str, **look: Any) -> None:
    figure.text(x / WIDTH, y / HEIGHT, text, va="bottom", **look)


def _panel(figure: Figure, place: tuple[float, float, float], pixels: ndarray) -> None:
    x, y, size = place
    axis = _axis(figure, x, y, size, size)
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def _matrices(axis: Any, matrices: ndarray, about: dict[str, Any]) -> None:
    """The annotators' matrices in a row: agreement green, contradiction orange."""
    axis.set(xlim=(-0.2, 3 * len(matrices) - 0.8), ylim=(3.2, 0), aspect="equal", anchor="N")
    axis.axis("off")
    for r, (matrix, name) in enumerate(zip(matrices / 255, about["annotators"], strict=True)):
        for i, j in np.ndindex(2, 2):
            colour, alpha = LIGHTS["green" if i == j else "red"], 0.08 + 0.9 * float(matrix[i, j])
            axis.add_patch(Rectangle((3 * r + j, i), 1, 1, facecolor=colour, alpha=alpha))
        axis.text(3 * r + 1, 2.2, name, ha="center", va="top", fontsize=7.5)


def _curves(axis: Any, recorded: Footage, epoch: int) -> None:
    last = recorded.watched.shape[1] - 1
    for rows, colour, dash in zip(recorded.watched, COLOURS, DASHES, strict=True):
        axis.plot(rows[: epoch + 1, 0], color=colour, linestyle=dash, linewidth=2)
        axis.plot(epoch, rows[epoch, 0], "o", color=colour, markersize=5, clip_on=False)
    axis.set(xlim=(0, last), ylim=(0, 1), yticks=[0, 0.5, 1])
    axis.set_xlabel("epoch", fontsize=9)
    axis.set_title("foreground Dice", fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)


def gif(recorded: Footage, digit: int = 0) -> bytes:
    """The whole film as a GIF with one palette for all frames; ValueError beyond 400 kB."""
    frames = []
    for epoch in range(recorded.estimate.shape[1]):
        file = io.BytesIO()
        draw(recorded, epoch, digit).savefig(file, format="png")
        frames.append(Image.open(file).convert("RGB"))
    palette = _palette(frames)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    times = [FRAME_MS] * (len(small) - 1) + [LAST_MS]
    small[0].save(
        file, "GIF", save_all=True, append_images=small[1:], duration=times, loop=0, optimize=True
    )
    size = len(file.getvalue())
    if size > 1000 * MOST_KB:
        raise ValueError(f"the GIF has {size:,} bytes, more than {MOST_KB} kB: record less")
    return file.getvalue()


def _palette(frames: list[Image.Image]) -> Image.Image:
    """Colours for the whole film, as those of one frame alone would flicker; greys stay grey."""
    picked = frames[:: max(1, len(frames) // 5)][:5] + frames[-1:]
    sheet = Image.new("RGB", (frames[0].width, frames[0].height * len(picked)))
    for k, frame in enumerate(picked):
        sheet.paste(frame, (0, k * frame.height))
    greys = footage.grey(np.linspace(0, 1, footage.LEVELS + 1))
    few = PALETTE - len(greys)
    found = sheet.quantize(few, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    colours = [*(found.getpalette() or [])[: 3 * few], *greys.repeat(3).tolist()]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    return palette


def swap_film(file: Path | None = None, **chosen: Any) -> Film:
    """The film of the recording that comes with the repository, or of that in `file`.

    `chosen`: `epoch` and `digit` to begin with; the last epoch and the first digit else.
    """
    return Film(footage.load(file), **chosen)


@in_book("film")
def _in_book() -> str:
    return swap_film().fragment()
