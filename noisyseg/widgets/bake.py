"""An explorer as a piece of HTML that runs without a kernel, over http and from a file.

The module of the explorer and its state stand in the page; `web/shim.js` plays the part of the
kernel's model and imports the module from a Blob, the one way that browsers allow for files too.
"""

import base64
import hashlib
import html
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

MOST_BYTES = 1_000_000  # of one piece: a page of the book shall open at once
BOOK: dict[str, Callable[[], str]] = {}  # what `book_fragments` makes


@cache
def web(file: str) -> str:
    """The text of a file beside the modules; ValueError where there is none of this name."""
    path = files("noisyseg.widgets") / "web" / file
    if not path.is_file():
        raise ValueError(f"no file {file!r} in noisyseg/widgets/web: write it there")
    return path.read_text("utf-8")


def source(name: str) -> str:
    """The ES module `name`, with what it needs before it, so that it imports nothing.

    All need `common`; more is named in its first line: `// needs: calibrate`.
    """
    return "\n".join(web(f"{part}.js") for part in dict.fromkeys(["common", *_parts(name)]))


def _parts(name: str) -> list[str]:
    """The modules that `name` needs, each after those it needs itself, and `name`."""
    first = web(f"{name}.js").partition("\n")[0]
    needed = first.removeprefix("// needs:").split() if first.startswith("// needs:") else []
    return [*(part for other in needed for part in _parts(other)), name]


def look() -> str:
    """The style sheet of all explorers."""
    return web("live.css") + web("images.css")


def bake(
    module: str,
    state: Mapping[str, Any],
    buffers: Mapping[str, bytes],
    still: bytes | str,
    told: str = "",
) -> str:
    """One piece of HTML that runs `web/<module>.js` on this state.

    Args:
        module: the name of the ES module.
        state: what `model.get` answers, as JSON holds it.
        buffers: the same for bytes; the module gets a DataView, as it does from a kernel.
        still: what stands there without JavaScript: a PNG file, or HTML.
        told: the picture in words.

    Raises ValueError where there is no such module, where a name is both in `state` and in
    `buffers`, where a value does not fit into JSON, and beyond 1 MB.
    """
    both = sorted(set(state) & set(buffers))
    if both:
        raise ValueError(f"{both} are in state and in buffers: give each name once")
    coded = {name: base64.b64encode(data).decode() for name, data in buffers.items()}
    content = {
        "module": source(module),
        "css": look(),
        "state": {**state, "baked": True},
        "buffers": coded,
    }
    # Inside a script nothing but "<" can end it or begin a comment.
    data = json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    name = f"noisyseg-{module}-{hashlib.sha256(data.encode()).hexdigest()[:10]}"
    piece = (
        f'<div class="noisyseg-baked" id="{html.escape(name)}">\n'
        f"<noscript>{_picture(still, told)}</noscript>\n"
        f'<script type="application/json">{data}</script>\n'
        f"<script>{web('shim.js')}</script>\n</div>\n"
    )
    size = len(piece.encode())
    if size > MOST_BYTES:
        raise ValueError(
            f"{module} baked has {size:,} bytes, more than {MOST_BYTES:,}: give it fewer images "
            "or store them in 8 bits"
        )
    return piece


def _picture(still: bytes | str, told: str) -> str:
    if isinstance(still, str):
        return still
    data = base64.b64encode(still).decode()
    return f'<img alt="{html.escape(told)}" src="data:image/png;base64,{data}">'


def in_book(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register a function that returns a piece of HTML for `book_fragments`, under `name`.

    Raises ValueError where the name is taken.
    """

    def register(make: Callable[[], str]) -> Callable[[], str]:
        if name in BOOK:
            raise ValueError(f"the book has an explorer {name!r} already: choose another name")
        BOOK[name] = make
        return make

    return register


def book_fragments(names: Iterable[str] | None = None) -> dict[str, str]:
    """The explorers of the book, by name, each as HTML that runs without a kernel.

    `names`: which of them; None for all. KeyError names those that there are.
    """
    wanted = [*BOOK] if names is None else [*names]
    for name in wanted:
        if name not in BOOK:
            raise KeyError(f"no explorer {name!r} in the book; there are: {', '.join(BOOK)}")
    return {name: BOOK[name]() for name in wanted}
