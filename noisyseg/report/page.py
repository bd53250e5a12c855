"""One HTML page with everything in it: headings, paragraphs, tables, pictures as data URIs.

No script, nothing loaded from elsewhere; readable on a phone, in the dark and on paper. Knows
strings, DataFrames and figures, nothing of annotators.
"""

import base64
import io
from collections.abc import Iterable
from html import escape

import pandas as pd
from matplotlib.figure import Figure

STYLE = """
:root {color-scheme: light dark; --line: #8884; --soft: #8882; --mark: #117a53;}
body {font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem;
  overflow-wrap: anywhere;}
h1 {font-size: 1.7rem; line-height: 1.2;} h2 {margin-top: 2.2rem; font-size: 1.25rem;
  border-bottom: 1px solid var(--line);} h3 {font-size: 1.05rem; margin-bottom: .2rem;}
figure {margin: 1rem 0;} figure img {max-width: 100%; height: auto; background: #fff;
  border-radius: 4px;}
figcaption, .note {font-size: .9rem; opacity: .8;}
.wide {overflow-x: auto; margin: .8rem 0;} table {border-collapse: collapse; font-size: .92rem;}
th, td {padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap;}
th:first-child, td:first-child {text-align: left;}
.warn {border-left: 4px solid #b0413e; padding: .3rem .8rem; background: var(--soft);}
.good {border-left: 4px solid var(--mark); padding: .3rem .8rem; background: var(--soft);}
@media print {body {max-width: none;} h2 {break-after: avoid;} figure {break-inside: avoid;}}
"""


def document(title: str, sections: Iterable[str], language: str = "en") -> str:
    """The whole page; `sections` are pieces of HTML in order."""
    body = "\n".join(sections)
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    """A heading of `level` 2 or 3."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; `kind` is "", "note", "warn" or "good"."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def items(texts: Iterable[str]) -> str:
    """A list of plain sentences."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def table(values: pd.DataFrame) -> str:
    """A table of ready texts and numbers, without its index; wide ones scroll."""
    return f'<div class="wide" tabindex="0">{values.to_html(index=False, border=0)}</div>'


def picture(figure: Figure, alt: str, caption: str = "", dpi: int = 110) -> str:
    """A figure inside the page; `alt` says in words what it shows."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, facecolor="white")
    data = base64.b64encode(file.getvalue()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{data}">{below}</figure>'
