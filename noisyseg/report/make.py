"""From a folder of images and masks to a model, predictions and one page on the annotators.

    python -m noisyseg.report --data FOLDER --out REPORT

FOLDER is a prepared folder (or the name of one), or a raw one: `images/` and beside it one
folder of masks an annotator, with the same file names (PNG, TIFF or NIfTI; a missing mask
means not labelled). The second call loads what is done. No truth is needed.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from noisyseg.config import ExperimentConfig
from noisyseg.data.dataset import load_dataset
from noisyseg.experiment import run
from noisyseg.methods import METHODS
from noisyseg.plots.style import CLASS_COLOURS
from noisyseg.report import STEPS, chapters, page
from noisyseg.report.skills import estimate, report_of_estimate
from noisyseg.runs import Run
from noisyseg.storage import locked, no_formulas, replacing, write_json
from noisyseg.train import OnEpoch


def build(
    data: str | Path,
    out: str | Path,
    *,
    method: str = "calibrated",
    anchor: str = "annotators",
    flip: bool = True,
    steps: int = STEPS,
    seed: int = 0,
    origin: str = "real",
    cases: str | Path | None = None,
    match: str | None = None,
    resamples: int = 1000,
    progress: bool = False,
) -> Path:
    """Prepare, train, predict, report; returns the page `out`/report.html.

    `cases`: which images of a raw folder show the same patient, a table or a pattern. `match`:
    where in a mask's name its image's name is. `progress`: print what the files were taken for
    before training starts, and how far it is. `anchor`: what calibrated outlines keep to, see
    `anchored`. `flip`: whether half of the batches are mirrored. Raises ValueError or OSError
    naming the file and the remedy; FileExistsError where `out` holds something else, or the
    report of other data or settings.
    """
    out = Path(out).expanduser().absolute()
    if METHODS.get(method) is None or METHODS[method].loss == "none" or method == "oracle":
        allowed = [m for m in METHODS if METHODS[m].loss != "none" and m != "oracle"]
        raise ValueError(f"unknown method {method!r} for a report; allowed: {', '.join(allowed)}")
    if method == "clean":
        raise ValueError("method clean learns from the truth; a report uses labels alone")
    method = anchored(method, anchor)
    if steps < 1:
        raise ValueError(f"steps {steps}: give a number of at least 1")
    source = _source(data)
    if source in out.parents or source == out:
        raise ValueError(f"{out} lies inside --data {source}; give --out a folder elsewhere")
    asked = {"data": str(source), "method": method, "steps": steps, "seed": seed, "flip": flip}
    asked["anchor"] = METHODS[method].settings.get("anchor", "annotators")
    _refuse_options(source, cases, match)
    asked |= _given(cases, match)
    say = print_now if progress else _silent
    with locked(out):
        _claim(out, asked | {"origin": origin, "files": _checksum(source)})
        say(f"reading {source}")
        raw, prepared = prepared_folder(source, out, origin, cases, match)
        if raw:
            say((out / "notes.txt").read_text("utf-8"))
        config = own_config(prepared, method, steps, seed, progress, flip=flip)
        say(f"training: {config.epochs} epochs")
        done = run(config, _lines(config.epochs, say))
        say("writing predictions")
        write_predictions(done, source if raw else None, out / "predictions", match)
        say("writing the page")
        return report_page(done, out, resamples)


def print_now(text: str) -> None:
    """Print a line at once, also where output goes to a file."""
    print(text, flush=True)


def _silent(_: str) -> None:
    """Say nothing."""


def _lines(epochs: int, say: Callable[[str], None]) -> OnEpoch:
    """Say every tenth of the training how far it is; a terminal has its bar."""
    started = time.monotonic()
    every = max(1, epochs // 10)

    def on_epoch(row: dict[str, float]) -> None:
        done = int(row["epoch"])
        if sys.stderr.isatty() or (done % every and done != epochs):
            return
        minutes = (time.monotonic() - started) / 60
        say(f"epoch {done} of {epochs}, loss {row['train_loss']:.3f}, {minutes:.1f} minutes")

    return on_epoch


def _refuse_options(source: Path, cases: str | Path | None, match: str | None) -> None:
    """ValueError for a prepared folder without annotators, and for options of raw ones."""
    if not (source / "meta.json").exists():
        return
    if load_dataset(source).labels is None:
        raise ValueError(
            f"{source} has a truth and no annotator's labels: there is nobody to report on. Give a "
            "folder with labels (noisyseg.write_prepared(labels=…))"
        )
    if cases is not None or match is not None:
        raise ValueError(
            f"{source} is a prepared folder, whose index.csv says the cases; --cases and --match "
            "are for a folder of files"
        )


def _given(cases: str | Path | None, match: str | None) -> dict[str, str]:
    """The options as settings of the report, a table by its content; only those given."""
    found = {} if match is None else {"match": match}
    if cases is None:
        return found
    text = str(cases)
    if text.lower().endswith(".csv") and Path(text).is_file():
        text = hashlib.sha256(Path(text).read_bytes()).hexdigest()
    return found | {"cases": text}


def anchored(method: str, anchor: str) -> str:
    """The method that is `method` with the `anchor` "annotators" or "image".

    "annotators": outlines move relative to each other, and the group as a whole stays where it is.
    "image": they move to where the image changes most, which assumes that objects end there.
    Raises ValueError for another anchor, and for "image" with a method that moves no outlines.
    """
    if anchor not in ("annotators", "image"):
        raise ValueError(f"unknown anchor {anchor!r}; allowed: annotators, image")
    if anchor == "annotators":
        return method
    if METHODS[method].target != "calibrated":
        raise ValueError(f"anchor image moves outlines; method {method} does not: use calibrated")
    return "calibrated_image"


def _source(data: str | Path) -> Path:
    """The folder meant by `data`, a path or the name of a prepared data set."""
    folder = Path(data).expanduser()
    if folder.is_dir():
        return folder.absolute()
    return load_dataset(data).path


def _checksum(source: Path) -> str:
    """sha256 (hex) over names and contents of all files below `source`, through links as well."""
    total = hashlib.sha256()
    for file in sorted(_files(source)):
        with open(file, "rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        total.update(f"{file.relative_to(source)}:{found}\n".encode())
    return total.hexdigest()


def _files(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Every file below `folder`; a link to a folder that holds it is not entered."""
    here = above | {os.path.realpath(folder)}
    for path in folder.iterdir():
        if path.is_file():
            yield path
        elif path.is_dir() and os.path.realpath(path) not in here:
            yield from _files(path, here)


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Make `out` this report's, or find that it is; FileExistsError for anything else.

    A call that failed before there was a report leaves nothing that binds the next one.
    """
    file = out / "settings.json"
    if file.exists():
        made = json.loads(file.read_text("utf-8"))
        if made == settings:
            return
        if (out / "report.html").exists():
            names = list(dict.fromkeys([*settings, *made]))
            other = [name for name in names if made.get(name) != settings.get(name)]
            raise FileExistsError(
                f"{out} holds the report of other {', '.join(other)}; give another --out"
            )
        for part in ("prepared", "predictions"):
            shutil.rmtree(out / part, ignore_errors=True)
        write_json(file, settings)
    elif out.exists() and any(p.name != ".lock" for p in out.iterdir()):
        raise FileExistsError(f"{out} holds something else; give another --out, or empty it")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_json(file, settings)


def prepared_folder(
    source: Path,
    out: Path,
    origin: str = "real",
    cases: str | Path | None = None,
    match: str | None = None,
) -> tuple[bool, Path]:
    """Whether `source` is raw, and its prepared folder; `out`/prepared, made where needed.

    Raises ValueError naming the layout that was expected, or the file that does not fit.
    """
    if (source / "meta.json").exists():
        return False, source
    # The formats of files belong to data_prep; a prepared folder needs none of it.
    from data_prep.folders.own import prepare_own

    prepared = out / "prepared"
    if not (prepared / "meta.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        notes = "\n".join(prepare_own(source, prepared, origin, cases, match))
        with replacing(out / "notes.txt") as part:
            part.write_text(notes, "utf-8")
    return True, prepared


def write_predictions(done: Run, source: Path | None, out: Path, match: str | None = None) -> int:
    """Predict every image of the raw folder `source` into `out`, in its own format and grid.

    None: the images of the prepared folder, as PNG or TIFF. Files already there are left alone;
    returns the number of images (`data_prep.folders.own`).
    """
    from data_prep.folders.own import predict_own, predict_prepared

    colours = [str(colour) for colour in CLASS_COLOURS]
    if source is None:
        return predict_prepared(done, out, colours)
    return predict_own(done, source, out, colours, match)


def own_config(
    prepared: Path,
    method: str,
    steps: int,
    seed: int = 0,
    progress: bool = False,
    *,
    flip: bool = True,
) -> ExperimentConfig:
    """The `reduced` network on all labelled images of `prepared`, for about `steps` steps.

    Test images are learned from as well: what a report says of a label must not be that the
    network never saw its image. `flip`: mirror half of the batches; not for images that have a
    reading direction.
    """
    batch = 8
    train = len(load_dataset(prepared).labelled())
    epochs = int(np.clip(round(steps * batch / train), 2, 200))
    return ExperimentConfig.preset(
        "own",
        "reduced",
        method,
        seed,
        dataset=str(prepared),
        train_on="all",
        n_train=None,
        n_val=None,
        n_test=None,
        batch_size=batch,
        epochs=epochs,
        learning_rate=4e-3,
        activation="prelu",
        flip=flip,
        progress=progress,
    )


def report_page(done: Run, out: str | Path, resamples: int = 1000) -> Path:
    """Write `out`/report.html and its tables (CSV) from a finished run; returns the page."""
    out = Path(out)
    found = estimate(done)
    report = report_of_estimate(found, resamples)
    for name, values in report._asdict().items():
        with replacing(out / f"{name}.csv") as part:
            no_formulas(values).to_csv(part, index=False)
    sections = [
        *chapters.about(done, found),
        *chapters.offsets(report),
        *chapters.before(found.data, report),
        *chapters.examples(done, found),
        *chapters.skills(found, report),
        *chapters.biases(found, report),
        *chapters.again(found, report),
        *chapters.failures(done, found, report),
        *chapters.training(done),
        *chapters.limits(done, found.data),
        *chapters.reading(out),
        *chapters.files(out),
    ]
    file = out / "report.html"
    with replacing(file) as part:
        part.write_text(page.document(f"Annotators of {found.data.name}", sections), "utf-8")
    return file
