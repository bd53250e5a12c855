"""Explorers that run in the browser: one small ES module each, around one Python class.

A `Live` widget hands its traits to `web/<name>.js`, which draws everything and answers at once;
Python computes the data before and reads what comes back. The same module runs without a kernel
in a page (`bake`). It stores a still picture of itself, as every explorer of `parts` does.
"""

import base64
from typing import Any, ClassVar

import numpy as np
import traitlets
from anywidget import AnyWidget
from matplotlib.figure import Figure
from numpy import ndarray

from noisyseg.widgets.bake import bake, look, source
from noisyseg.widgets.parts import drawn


class Live(AnyWidget):
    """The base of all explorers that run in the browser.

    A subclass names its module, `class Pixel(Live, module="pixel")`, has a `title`, declares
    what the module reads as traits tagged `sync=True` (numbers, texts, lists; arrays as `Bytes`
    written by `packed`), and draws itself in `still`. Where the page has no kernel the module
    finds `model.get("baked")` true and computes itself what Python would have answered.
    """

    title: ClassVar[str] = ""
    module: ClassVar[str] = ""
    baked = traitlets.Bool(False, help="whether the page has no kernel").tag(sync=True)

    def __init_subclass__(cls, module: str | None = None, **kwargs: Any) -> None:
        if module is not None:
            cls.module, cls._esm, cls._css = module, source(module), look()
        super().__init_subclass__(**kwargs)

    def still(self) -> Figure:
        """The explorer as it stands, as a figure."""
        raise NotImplementedError

    def told(self) -> str:
        """What the still picture shows, in words, for readers who do not see it."""
        return self.title

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What the module reads: plain values and bytes, by name of trait."""
        frame = set(AnyWidget.class_trait_names())
        names = [n for n in self.trait_names(sync=True) if n not in frame and n[0] != "_"]
        values = {name: getattr(self, name) for name in sorted(names)}
        buffers = {k: bytes(v) for k, v in values.items() if isinstance(v, bytes | memoryview)}
        return {k: v for k, v in values.items() if k not in buffers}, buffers

    def fragment(self) -> str:
        """The explorer as a piece of HTML that runs without a kernel; see `bake`."""
        state, buffers = self.state()
        return bake(self.module, state, buffers, drawn(self.still()), self.told())

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.title}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle[0]["image/png"] = base64.b64encode(drawn(self.still())).decode()
        return bundle


def packed(array: ndarray, dtype: str = "u1") -> bytes:
    """The values of an array as bytes, rows first and little-endian; the module knows the shape.

    As 8 bits, `dtype="u1"`, an array of values 0…1 becomes 0…255; every other dtype is NumPy's.
    ValueError where 8 bits cannot hold it.

    Examples:
        >>> list(packed(np.array([0.0, 0.5, 1.0])))
        [0, 128, 255]
    """
    values = np.asarray(array)
    most = 1 if values.dtype.kind == "f" else 255
    if dtype == "u1" and not ((values >= 0) & (values <= most)).all():
        low, high = values.min(), values.max()
        raise ValueError(f"values from {low:g} to {high:g}: 8 bits hold 0…{most}; rescale them")
    if dtype == "u1" and most == 1:
        values = np.round(255 * values)
    return np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<")).tobytes()
