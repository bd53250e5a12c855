"""Take timing noise, chance and live widgets out of notebooks; outputs stay (`make strip`).

A stored live view shows an error where no kernel runs; every explorer also stores a still
picture of itself, and that is what stays. Pictures keep 256 colours, which halves them: legible
ones would not fit into a notebook of 300 kB otherwise. Styled tables have random names and
objects addresses: with them a notebook that ran again and shows the same would differ.

    python notebooks/strip.py notebooks/*.ipynb
"""

import argparse
import base64
import io
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VIEW = "application/vnd.jupyter.widget-view+json"
KEYS = "metadata.papermill metadata.widgets cell.metadata.papermill cell.metadata.execution"
FLAGS = ["--keep-output", "--keep-count", "--keep-id", "--extra-keys", KEYS]


def still(outputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outputs of a cell without live views; what has no picture (a progress bar) goes."""
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if VIEW not in data:
            kept.append(output)
        elif "image/png" in data:
            kept.append(output | {"data": {kind: data[kind] for kind in data if kind != VIEW}})
    return kept


def with_palette(png: str) -> str:
    """A base64 PNG with 256 colours instead of millions; one that has a palette stays."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        if picture.mode == "P":
            return png
        # The default method counts pixels, and thin coloured lines turn grey or brown.
        rare_too = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
        small = picture.convert("RGB").quantize(256, **rare_too)
    file = io.BytesIO()
    small.save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def settle(data: dict[str, Any], number: int) -> None:
    """Name a styled table after its `number` in the notebook, and show objects without address."""
    for kind, pattern, settled in (
        ("text/html", r"\bT_[0-9a-f]{5}(?![0-9a-zA-Z])", f"T_{number:05d}"),
        ("text/plain", r" at 0x[0-9a-f]+>", ">"),
    ):
        if kind in data:
            data[kind] = re.sub(pattern, settled, data[kind])


def strip(file: Path) -> bool:
    """Rewrite `file` where it holds such things; whether it did. Outputs else stay as they are."""
    # Its import takes half a second; --help needs none of it.
    import nbformat

    before = file.read_text("utf-8")
    subprocess.run([sys.executable, "-m", "nbstripout", *FLAGS, str(file)], check=True)
    book = nbformat.read(file, nbformat.NO_CONVERT)
    shown = []
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [nbformat.from_dict(output) for output in still(cell.outputs)]
            shown += [output.data for output in cell.outputs if "data" in output]
    for number, data in enumerate(shown):
        settle(data, number)
        if "image/png" in data:
            data["image/png"] = with_palette(data["image/png"])
    after = nbformat.writes(book) + "\n"
    if after != file.read_text("utf-8"):
        file.write_text(after, "utf-8")
    return after != before


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; the exit status is 1 when a file was changed, as pre-commit wants it."""
    parser = argparse.ArgumentParser(
        prog="python notebooks/strip.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="NOTEBOOK")
    changed = [str(file) for file in parser.parse_args(arguments).files if strip(file)]
    if changed:
        print("stripped:", *changed)
    raise SystemExit(bool(changed))


if __name__ == "__main__":
    main()
