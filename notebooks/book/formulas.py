r"""Sphinx extension: formulas as MathML, which browsers draw themselves, without any script.

Docutils translates the LaTeX. What it does not know (`\big`, `\dots`, `\tag`) is written here in
what it knows, and what it sets in the wrong place (an index under an accent, the words under a
brace) is set right.
"""

import html
import re
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
ACCENTS = "ˆˉ~˜¯^"
BRACES = "⏟⏞"
KNOWN = [
    (r"\\([bB]ig+)\s*(?=[(\[]|\\\{)", r"\\\1l"),
    (r"\\([bB]ig+)\s*(?=[)\]]|\\\})", r"\\\1r"),
    (r"\\[bB]ig+\s*(?=\|)", ""),
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
        written = tex2mathml(tex, as_block=block)
    except MathError as error:
        raise ExtensionError(f"{error} Write this formula in other commands: {tex}") from None
    ElementTree.register_namespace("", NAMESPACE)
    formula = ElementTree.fromstring(re.sub(r"&(\w+);", _character, written))
    for element in list(formula.iter()):
        _lower_index(element)
        _words_under_brace(element)
    return ElementTree.tostring(formula, encoding="unicode")


def _character(entity: re.Match[str]) -> str:
    """An entity of HTML as the character; XML knows the five that its own syntax needs."""
    known = ("lt", "gt", "amp", "quot", "apos")
    return entity[0] if entity[1] in known else html.unescape(entity[0])


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _lower_index(element: ElementTree.Element) -> None:
    """An index of a letter with an accent belongs to its right, not under it."""
    if element.tag != _tag("munderover") or (element[2].text or "") not in ACCENTS:
        return
    letter, index, accent = element
    accented = ElementTree.Element(_tag("mover"), accent="true")
    accented.extend([letter, accent])
    element.clear()
    element.tag = _tag("msub")
    element.extend([accented, index])


def _words_under_brace(element: ElementTree.Element) -> None:
    """What a brace says stands under it."""
    if element.tag == _tag("msub") and element[0].tag == _tag("munder"):
        if (element[0][1].text or "") in BRACES:
            element.tag = _tag("munder")


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
