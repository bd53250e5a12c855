r"""Sphinx extension: formulas as MathML, which browsers draw themselves, without any script.

Docutils translates the LaTeX. What it does not know (`\big`, `\dots`, `\tag`) is written here in
what it knows.
"""

import html
import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError

KNOWN = [
    (r"\\([bB]ig+)(?![a-zA-Z])", r"\\\1l"),
    (r"\\dots(?![a-zA-Z])", r"\\ldots"),
    (r"\\operatorname\*", r"\\operatorname"),
]


def mathml(tex: str, block: bool) -> str:
    """`tex` as a `<math>` element; ExtensionError with the formula where it cannot be translated.

    >>> mathml(r"A\\dots B", block=False).count("…")
    1
    """
    for pattern, known in KNOWN:
        tex = re.sub(pattern, known, tex)
    try:
        return tex2mathml(tex, as_block=block)
    except MathError as error:
        raise ExtensionError(f"{error} Write this formula in other commands: {tex}") from None


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write a formula of the running text."""
    translator.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    r"""Write a formula of its own; its number, if it has a `\tag`, at the right."""
    tex = node.astext()
    number = re.search(r"\\tag\{(.*?)\}", tex)
    formula = mathml(tex.replace(number[0], "") if number else tex, block=True)
    label = f'<span class="number">({html.escape(number[1])})</span>' if number else ""
    translator.body.append(f'<div class="formula" tabindex="0">{formula}{label}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
