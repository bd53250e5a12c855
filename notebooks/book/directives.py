"""Sphinx extension: what pages of the book take from the library itself.

`{explorers}` puts the explorers into a page, without a kernel; `{methods}` and `{seeds}` are
tables. Docstrings write `*spatial` where reStructuredText expects the start of an emphasis.
"""

import re
from collections.abc import Iterable
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import noisyseg as ns
from noisyseg import widgets


class Explorers(SphinxDirective):
    """All explorers that `noisyseg.widgets.book_fragments` knows, or those named as arguments."""

    optional_arguments = 20

    def run(self) -> list[nodes.Node]:
        """One raw piece of HTML for each; a sentence where there is none."""
        make = getattr(widgets, "book_fragments", None)
        pieces = make(self.arguments or None) if make else {}
        if not pieces:
            return [nodes.paragraph(text="They need a kernel: open the notebook in JupyterLab.")]
        return [
            nodes.raw("", f'<div class="explorer" data-name="{name}">{piece}</div>', format="html")
            for name, piece in pieces.items()
        ]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> nodes.table:
    """A table whose first column is code."""

    def row(cells: Iterable[str], first: type[nodes.TextElement]) -> nodes.row:
        entries = []
        for number, cell in enumerate(cells):
            text = first("", cell) if number == 0 else nodes.Text(cell)
            entries.append(nodes.entry("", nodes.paragraph("", "", text)))
        return nodes.row("", *entries)

    head = list(head)
    columns = [nodes.colspec(colwidth=1) for _ in head]
    body = nodes.tbody("", *[row(cells, nodes.literal) for cells in rows])
    group = nodes.tgroup(
        "", *columns, nodes.thead("", row(head, nodes.inline)), body, cols=len(head)
    )
    return nodes.table("", group)


class Methods(SphinxDirective):
    """`METHODS` as a table."""

    def run(self) -> list[nodes.Node]:
        """One row for each method."""
        rows = [(name, m.title, m.target, m.head, m.loss) for name, m in ns.METHODS.items()]
        return [table(("name", "title", "target", "head", "loss"), rows)]


class Seeds(SphinxDirective):
    """`SEEDS` as a table."""

    def run(self) -> list[nodes.Node]:
        """One row for each profile."""
        return [table(("profile", "seeds"), [(name, str(n)) for name, n in ns.SEEDS.items()])]


def escape_stars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let a star outside code be a star, as the docstrings mean it."""
    for number, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [part.replace("*", r"\*") for part in parts[::2]]
        lines[number] = "".join(parts)


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_directive("explorers", Explorers)
    app.add_directive("methods", Methods)
    app.add_directive("seeds", Seeds)
    # Before napoleon, whose own markup has stars that mean something.
    app.connect("autodoc-process-docstring", escape_stars, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
