"""What all explorers share: the frame, pixel-exact pictures, matrix tables, the message line.

Knows nothing of annotators or models. An explorer never trains on its own accord, answers a
control at once, shows an error as a message, and carries a still picture of itself for
readers without a kernel.
"""

import base64
import html
import io
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from time import perf_counter
from typing import Any, TypeVar

import ipywidgets
import numpy as np
from ipywidgets import HTML, Box, Image, Layout, VBox
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy import ndarray

STYLE = """<style>
.noisyseg-pixels img, img.noisyseg-pixels {image-rendering: pixelated;}
.noisyseg-status {font-size: 12px; min-height: 18px; opacity: .75;}
.noisyseg-status[data-state=error] {color: #b0413e; opacity: 1; font-weight: 600;}
.noisyseg-caption {font-size: 12px; line-height: 1.3; text-align: center;}
table.noisyseg-matrix {border-collapse: collapse; font-size: 12px; margin: auto;}
table.noisyseg-matrix td, table.noisyseg-matrix th {padding: 1px 6px; text-align: right;}
table.noisyseg-matrix td {border: 1px solid #bbb;}
table.noisyseg-matrix th {white-space: nowrap;}
table.noisyseg-matrix th span {display: inline-block; max-width: 76px; overflow: hidden;
  text-overflow: ellipsis; vertical-align: bottom;}
.noisyseg-explorer table.noisyseg-matrix td, .noisyseg-explorer table.noisyseg-matrix th {
  padding: 1px 5px; line-height: 1.5;}
.noisyseg-explorer table.noisyseg-many {font-size: 11px;}
.noisyseg-explorer table.noisyseg-many td, .noisyseg-explorer table.noisyseg-many th {
  padding: 1px 3px; max-width: 62px;}
table.noisyseg-many th span {max-width: 34px;}
table.noisyseg-many th:first-child span {max-width: 56px;}
.noisyseg-explorer table.dataframe td, .noisyseg-explorer table.dataframe th {
  padding: 2px 12px; text-align: right;}
</style>"""
T = TypeVar("T", bound="Explorer")


class Explorer(VBox):
    """Title, controls, body and a message line, in one frame.

    Subclasses build their controls, connect them by `observe(self.update, names="value")`,
    write `update` with the decorator `reacts`, and `still`, the picture that stands for the
    explorer where no kernel runs (GitHub, a printed page).
    """

    def __init__(self, title: str, controls: Iterable[Any], body: Iterable[Any]) -> None:
        self.status = HTML()
        self.reaction_ms: list[float] = []
        self.answers = 0
        row = Box([*controls], layout=Layout(display="flex", flex_flow="row wrap", grid_gap="4px"))
        heading = HTML(f"{STYLE}<b>{html.escape(title)}</b>")
        super().__init__([heading, row, *body, self.status])
        self.add_class("noisyseg-explorer")

    def still(self) -> Figure:
        """The explorer as it stands, as a figure."""
        raise NotImplementedError

    def say(self, text: str, state: str = "ready") -> None:
        """Write `text` on the message line; `state` is "ready", "busy" or "error"."""
        self.answers += 1  # so that two answers with the same words can be told apart
        self.status.value = (
            f'<div class="noisyseg-status" role="status" data-state="{state}" '
            f'data-answer="{self.answers}">'
            f"{html.escape(text)}</div>"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle["image/png"] = base64.b64encode(drawn(self.still())).decode()
        return bundle


def reacts(handler: Callable[[T], str | None]) -> Callable[..., None]:
    """A method as the answer to a control: timed, and an error becomes a message.

    What the method returns is written on the message line, with the milliseconds it took;
    `reaction_ms` keeps them.
    """

    @wraps(handler)
    def answer(self: T, *_: Any) -> None:
        start = perf_counter()
        # An exception in a callback goes to a log that no reader of a notebook ever sees.
        try:
            text = handler(self)
        except Exception as error:
            self.say(f"{error or type(error).__name__}", "error")
            return
        took = 1000 * (perf_counter() - start)
        self.reaction_ms.append(took)
        self.say(f"{text} · {took:.0f} ms" if text else f"{took:.0f} ms")

    return answer


class Picture(VBox):
    """A picture (height, width) or (height, width, 3) with sharp pixels, and a caption."""

    def __init__(self, caption: str = "", width_px: int = 140) -> None:
        self.image = Image(format="png", layout=Layout(width=f"{width_px}px"))
        self.image.add_class("noisyseg-pixels")
        self.caption = HTML()
        super().__init__([self.image, self.caption], layout=Layout(align_items="center"))
        self.label(caption)

    def label(self, caption: str) -> None:
        """Write the caption under the picture."""
        self.caption.value = f'<div class="noisyseg-caption">{html.escape(caption)}</div>'

    def show(self, pixels: ndarray, caption: str | None = None) -> None:
        """Show `pixels`, values 0…1, grey without colours; with `caption` change that too."""
        values = np.clip(np.asarray(pixels, float), 0, 1)
        self.pixels = values if values.ndim == 3 else np.repeat(values[..., None], 3, 2)
        self.image.value = png(self.pixels)
        if caption is not None:
            self.label(caption)


def drawn(figure: Figure) -> bytes:
    """A figure as a PNG file, with what hangs over its rim."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return file.getvalue()


def png(pixels: ndarray) -> bytes:
    """A picture (height, width, 3) with values 0…1 as a PNG file."""
    file = io.BytesIO()
    imsave(file, pixels, format="png", pil_kwargs={"compress_level": 1})
    return file.getvalue()


def drawing(width_px: int) -> Image:
    """An empty picture for a figure, at most `width_px` wide and never stretched."""
    layout = Layout(width="100%", max_width=f"{width_px}px", align_self="flex-start", margin="0")
    return Image(format="png", layout=layout)


def row(children: Iterable[Any]) -> Box:
    """Widgets side by side, in further lines where the page is narrow."""
    layout = Layout(display="flex", flex_flow="row wrap", align_items="flex-start", grid_gap="8px")
    return Box([*children], layout=layout)


def matrix_table(matrix: ndarray, classes: Sequence[str], caption: str = "") -> str:
    """A confusion matrix (reported, true) as an HTML table; columns are true classes.

    Long names of classes are cut to the width of a column, and shown whole on pointing at them.
    """
    names = [f'<span title="{html.escape(name)}">{html.escape(name)}</span>' for name in classes]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = []
    for i, name in enumerate(names):
        shades = "".join(
            f'<td style="background: rgba(17,122,83,{0.6 * value:.2f})">{value:.2f}</td>'
            for value in np.nan_to_num(matrix[i])
        )
        lines.append(f'<tr><th scope="row">{name}</th>{shades}</tr>')
    many = " noisyseg-many" if len(classes) > 2 else ""
    return (
        f'<table class="noisyseg-matrix{many}"><caption>{html.escape(caption)}</caption>'
        f'<tr><th title="rows: written, columns: true">wrote ↓</th>{head}</tr>'
        f"{''.join(lines)}</table>"
    )


def slider(
    name: str,
    value: float,
    low: float,
    high: float,
    step: float,
    *,
    whole: bool = False,
    live: bool = False,
) -> Any:
    """A slider that answers when it is let go; with `live` all the time while it is dragged.

    The front end sends the next value when the last one was answered, so none piles up.
    """
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    return kind(
        value=value,
        min=low,
        max=high,
        step=step,
        description=name,
        continuous_update=live,
        style={"description_width": "initial"},
        layout=Layout(width="260px", max_width="100%"),
    )


def dropdown(name: str, options: Iterable[Any], value: Any = None) -> ipywidgets.Dropdown:
    """A list to choose from, wide enough for its name."""
    options = [*options]
    first = options[0][1] if isinstance(options[0], tuple) else options[0]
    return ipywidgets.Dropdown(
        options=options,
        value=first if value is None else value,
        description=name,
        style={"description_width": "initial"},
        layout=Layout(width="max-content"),
    )
