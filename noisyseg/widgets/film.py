"""The label swap as a film: the paper's loss as printed, its best reading, and ours.

Shows what `footage` recorded: in the browser by `web/film.js`, and as a GIF for pages that run
nothing. `python -m noisyseg.widgets` records it and draws the GIF again.
"""

import io
import zlib
from pathlib import Path
from typing import Any

import traitlets
from matplotlib.figure import Figure
from numpy import ndarray
from PIL import Image

from noisyseg.plots import style
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


def draw(recorded: Footage, epoch: int, digit: int = 0) -> Figure:
    """One frame: the estimates, the annotators' matrices, and the Dice until this epoch."""
    about = recorded.about
    figure = Figure(figsize=(7.2, 4.1), dpi=100, facecolor="white")
    grid = figure.add_gridspec(
        2, 5, height_ratios=(3, 1.15), width_ratios=(0.75, 1, 1, 1, 1.75),
        left=0.01, right=0.985, top=0.83, bottom=0.13, wspace=0.14, hspace=0.16,
    )  # fmt: skip
    style.panel(figure.add_subplot(grid[0, 0]), recorded.image[digit] / 255, "image")
    for m, title in enumerate(about["titles"]):
        axis = figure.add_subplot(grid[0, m + 1])
        style.panel(axis, recorded.estimate[m, epoch, digit] / 255)
        axis.set_title(f"{title}\n", fontsize=9, color=COLOURS[m], weight="bold")
        state = light_of(recorded, m, epoch)
        words = {"off": "matrices fixed", "red": "swap monitor", "green": "swap monitor"}[state]
        axis.text(0.5, 1.045, f"● {words}", color=LIGHTS[state], fontsize=8, ha="center",
                  transform=axis.transAxes)  # fmt: skip
        _matrices(figure.add_subplot(grid[1, m + 1]), recorded.matrices[m, epoch])
    label = figure.add_subplot(grid[1, 0])
    label.axis("off")
    label.text(0.98, 0.5, "mean matrices\nof the\nannotators", ha="right", va="center", fontsize=8)
    _curves(figure.add_subplot(grid[:, 4]), recorded, epoch)
    when = f"epoch {epoch} of {about['epochs']}" if "epochs" in about else f"epoch {epoch}"
    figure.text(0.012, 0.955, when, fontsize=12, weight="bold", va="center")
    sizes, seed = about["sizes"], about["seed"]
    below = f"real MNIST digits, simulated annotators · {sizes['n_train']} images · seed {seed}"
    figure.text(0.012, 0.02, below, fontsize=8, color="#555555")
    return figure


def _matrices(axis: Any, matrices: ndarray) -> None:
    """The annotators' matrices in a row: agreement green, contradiction orange."""
    axis.set(xlim=(0, 3 * len(matrices) - 1), ylim=(2, 0), aspect="equal")
    axis.axis("off")
    for r, matrix in enumerate(matrices / 255):
        for i in range(2):
            for j in range(2):
                colour = LIGHTS["green" if i == j else "red"]
                cell = {"facecolor": colour, "alpha": 0.08 + 0.9 * float(matrix[i, j])}
                axis.add_patch(_square(3 * r + j, i, cell))


def _square(x: float, y: float, look: dict[str, Any]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1, 1, edgecolor="none", **look)


def _curves(axis: Any, recorded: Footage, epoch: int) -> None:
    last = recorded.watched.shape[1] - 1
    for rows, colour, dash in zip(recorded.watched, COLOURS, DASHES, strict=True):
        axis.plot(rows[: epoch + 1, 0], color=colour, linestyle=dash, linewidth=2)
        axis.plot(epoch, rows[epoch, 0], "o", color=colour, markersize=5)
    axis.set(xlim=(0, last), ylim=(-0.02, 1.02), xlabel="epoch")
    axis.set_title("foreground Dice", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)


def gif(recorded: Footage, digit: int = 0) -> bytes:
    """The whole film as a GIF with one palette for all frames; ValueError beyond 400 kB."""
    frames = []
    for epoch in range(recorded.estimate.shape[1]):
        file = io.BytesIO()
        draw(recorded, epoch, digit).savefig(file, format="png")
        frames.append(Image.open(file).convert("RGB"))
    # Colours of the whole film: those of one frame alone would flicker.
    picked = frames[:: max(1, len(frames) // 5)][:5] + frames[-1:]
    sheet = Image.new("RGB", (frames[0].width, frames[0].height * len(picked)))
    for k, frame in enumerate(picked):
        sheet.paste(frame, (0, k * frame.height))
    palette = sheet.quantize(PALETTE, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
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


def swap_film(file: Path | None = None, **chosen: Any) -> Film:
    """The film of the recording that comes with the repository, or of that in `file`.

    `chosen`: `epoch` and `digit` to begin with; the last epoch and the first digit else.
    """
    return Film(footage.load(file), **chosen)


@in_book("film")
def _in_book() -> str:
    return swap_film().fragment()
