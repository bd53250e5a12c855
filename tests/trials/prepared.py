"""Damaged prepared folders, drawn by hypothesis: refused with a remedy, or the same as before."""

import csv
import io
import json
import os
import shutil
import signal
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import noisyseg as ns
from trials import common
from trials.common import Counts

ARRAYS = ("images", "labels", "truth")
FILES = (*(f"{name}.npy" for name in ARRAYS), "index.csv", "meta.json")
SECONDS = 20  # nothing so small takes so long


class Damage(NamedTuple):
    """What it is, and what it does to a folder."""

    name: str
    apply: object


# --- bytes of any file ------------------------------------------------------------------


@st.composite
def of_bytes(draw):
    """Cut, lengthened, emptied, zeroed, a few bits changed, replaced by noise or another file."""
    file, kind = draw(st.sampled_from(FILES)), draw(st.sampled_from(tuple(BYTES)))
    seed = draw(st.integers(0, 2**32 - 1))

    def apply(folder):
        content, rng = (folder / file).read_bytes(), np.random.default_rng(seed)
        others = [folder / name for name in FILES if name != file]
        (folder / file).write_bytes(BYTES[kind](content, rng, others))

    return Damage(f"{file} {kind}", apply)


def flipped(content, rng, _others):
    changed = np.frombuffer(content, np.uint8).copy()
    # The head of a file says what the rest means: half of the changes are there.
    last = len(changed) if rng.random() < 0.5 else min(128, len(changed))
    for at in rng.integers(0, last, rng.integers(1, 4)):
        changed[at] ^= 1 << rng.integers(8)
    return changed.tobytes()


BYTES = {
    "cut": lambda content, rng, others: content[: rng.integers(len(content))],
    "longer": lambda content, rng, others: content + rng.bytes(rng.integers(1, 5000)),
    "empty": lambda content, rng, others: b"",
    "zeros": lambda content, rng, others: bytes(len(content)),
    "bits": flipped,
    "bits again": flipped,
    "noise": lambda content, rng, others: rng.bytes(rng.integers(1, 2000)),
    "another file": lambda content, rng, others: others[rng.integers(len(others))].read_bytes(),
    "archive": lambda content, rng, others: b"PK\x03\x04" + content,
}

# --- arrays -----------------------------------------------------------------------------

DTYPES = (
    "'<i4'", "'>f4'", "'<f8'", "'|O'", "'<c8'", "'|S4'", "'<U1'", "[('a','<f4')]", "'|u1'", "'|b1'",
    "'<M8[s]'", "'<f2'", "'<i2'", "'|V4'", "'|i1'", "'<u4'", "'x'", "None", "__import__('os')",
)  # fmt: skip
VALUES = {
    "images": (np.nan, np.inf, -np.inf, 1.0), "labels": (-2, -128, 127, 2, -1), "truth": (-1, 2, 1),
}  # fmt: skip


@st.composite
def of_arrays(draw):
    """Another dtype, order, shape, number of rows, or single values."""
    name = draw(st.sampled_from(ARRAYS))
    kind = draw(st.sampled_from(["dtype", "order", "shape", "value", "rows", "swapped", "pickle"]))
    dtype, value = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(VALUES[name]))
    shape = draw(st.lists(st.integers(-3, 10**18) | st.integers(0, 48), max_size=6))
    at, rows = draw(st.integers(0, 10**6)), draw(st.integers(0, 60))

    def apply(folder):
        file = folder / f"{name}.npy"
        array = np.load(file)
        body = array.tobytes()
        if kind in ("dtype", "order", "shape"):
            described = dtype if kind == "dtype" else repr(array.dtype.str)
            shaped = tuple(shape) if kind == "shape" else array.shape
            file.write_bytes(header(described, kind == "order", shaped) + body)
            return
        if kind == "value":
            array.flat[at % array.size] = value
        elif kind == "rows":
            array = np.resize(array, (rows, *array.shape[1:]))
        elif kind == "swapped":
            array = array[::-1]
        else:
            array = np.array([{"a": 1}] * len(array), object)
        np.save(file, array, allow_pickle=True)

    return Damage(f"{name}.npy {kind}", apply)


def header(dtype, fortran, shape):
    """The head of a .npy file that says so."""
    text = f"{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    text += b" " * (-(11 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


# --- meta.json --------------------------------------------------------------------------

FIELDS = (
    "name", "classes", "channels", "annotators", "spacing_mm", "origin", "licence", "sources",
    "prep_version", "seal",
)  # fmt: skip
TEXTS = st.text(st.characters(), max_size=8)  # halves of characters and control codes too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def of_meta(draw):
    """A field with any value, gone, new or twice; names that no one can see; deep nests."""
    kind = draw(
        st.sampled_from(["value", "names", "gone", "new", "twice", "deep", "digits", "coding"])
    )
    field, value = draw(st.sampled_from(FIELDS)), draw(JSON)
    names, deep = draw(st.lists(TEXTS, min_size=1, max_size=4)), draw(st.integers(1, 200_000))
    field = (
        draw(st.sampled_from(["classes", "channels", "annotators"])) if kind == "names" else field
    )

    def apply(folder):
        file = folder / "meta.json"
        text = file.read_text("utf-8")
        meta = json.loads(text)
        if kind in ("value", "names"):
            meta[field] = names if kind == "names" else value
        elif kind == "gone":
            del meta[field]
        elif kind == "new":
            meta["".join(names)] = value
        elif kind == "twice":
            text = text.rstrip()[:-1] + f', "{field}": {json.dumps(value)}}}'
        elif kind == "deep":
            text = "[" * deep
        elif kind == "digits":
            text = text.replace('"prep_version": 1', '"prep_version": ' + "9" * (1 + deep % 9000))
        else:
            text = text.replace("{", "\ufeff{", 1)
        changed = json.dumps(meta) if kind in ("value", "names", "gone", "new") else text
        file.write_bytes(changed.encode("utf-16" if kind == "coding" else "utf-8", "surrogatepass"))

    return Damage(f"meta.json {kind} {field}", apply)


# --- index.csv --------------------------------------------------------------------------


@st.composite
def of_index(draw):
    """Values, rows and columns changed, lost, twice or moved; other separators and codings."""
    kind = draw(st.sampled_from(tuple(ROWS) + ("value", "text")))
    row, column = draw(st.integers(0, 23)), draw(st.integers(0, 2))
    value = draw(st.one_of(TEXTS, st.sampled_from(["train", "test", "0001", "x" * 200_000, "NA"])))
    old, new = draw(st.sampled_from([",", "\n", "0", "train", "image_id"])), draw(TEXTS)
    coding = draw(st.sampled_from(["utf-8", "utf-8", "utf-16", "utf-8-sig"]))

    def apply(folder):
        file = folder / "index.csv"
        text = file.read_text("utf-8")
        if kind == "text":
            text = text.replace(old, new)
        else:
            rows = list(csv.reader(io.StringIO(text)))
            if kind == "value":
                rows[1 + row][column] = value
            else:
                ROWS[kind](rows, 1 + row, column)
            text = "".join(",".join(map(quoted, line)) + "\n" for line in rows)
        file.write_bytes(text.encode(coding, "surrogatepass"))

    return Damage(f"index.csv {kind}", apply)


def quoted(text):
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\r\n') else text


def drop_column(rows, _row, column):
    for line in rows:
        del line[column]


def repeat_column(rows, _row, column):
    for line in rows:
        line.append(line[column])


def comma_at_the_end(rows, _row, _column):
    for line in rows[1:]:
        line.append("")


ROWS = {
    "row lost": lambda rows, row, column: rows.pop(row),
    "row twice": lambda rows, row, column: rows.append(rows[row]),
    "rows turned": lambda rows, row, column: rows.insert(1, rows.pop(row)),
    "no names": lambda rows, row, column: rows.pop(0),
    "value more": lambda rows, row, column: rows[row].append("more"),
    "value less": lambda rows, row, column: rows[row].pop(column),
    "column lost": drop_column,
    "column twice": repeat_column,
    "commas": comma_at_the_end,
}

# --- what a name leads to ---------------------------------------------------------------

TARGETS = ("gone", "/dev/zero", "/dev/null", "/etc/hostname", ".", "images.npy", "index.csv")


@st.composite
def of_names(draw):
    """A file that is gone, a folder, a pipe, or a link to something else."""
    file, target = draw(st.sampled_from(FILES)), draw(st.sampled_from(TARGETS))
    kind = draw(st.sampled_from(["gone", "folder", "pipe", "link"]))

    def apply(folder):
        path = folder / file
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(target)

    return Damage(f"{file} {kind}", apply)


DAMAGES = st.one_of(of_bytes(), of_arrays(), of_meta(), of_index(), of_names())


# --- one try ----------------------------------------------------------------------------


class Hang(BaseException):
    """Opening took longer than it may."""


@contextmanager
def not_for_ever():
    def ring(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def content(data):
    """Everything that a run could see of a data set."""
    arrays = [None if a is None else np.asarray(a) for a in (data.images, data.labels, data.truth)]
    pixels = [None if a is None else (a.dtype.str, a.shape, a.tobytes()) for a in arrays]
    named = data.image_ids.tolist(), data.case_ids.tolist(), data.split_of.tolist()
    return pixels, named, data.classes, data.channels, data.annotators, data.spacing_mm, data.origin


def try_one(source: Path, place: Path, damage: Damage) -> str:
    """Damage a copy of `source` and open it: "same", "refused", "changed", or what went wrong."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place)
    damage.apply(place)
    try:
        with not_for_ever():
            found = content(ns.load_dataset(place))
    except ValueError as error:
        lines = str(error).split("\n")
        clear = "is not a valid prepared folder" in lines[0] and len(lines) > 1
        return "refused" if clear and all(map(str.isprintable, lines)) else f"unclear: {error}"
    except Hang:
        return "hangs"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "same" if found == content(ns.load_dataset(source)) else "changed"


def attempts(tries, source, place, on_result):
    """Draw `tries` damages, the same ones on every machine, and try each."""

    @settings(
        max_examples=tries, derandomize=True, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(DAMAGES)
    def each(damage):
        on_result(damage, try_one(source, place, damage))

    each()


def run(tries, folder):
    """`tries` damaged folders; lost: no remedy named, or a hang; wrong: other data taken."""
    source = common.write(folder / "source" / "tiny")
    counts = []

    def note(damage, result):
        fine, wrong = result in ("same", "refused"), result == "changed"
        counts.append(Counts(1, int(not fine and not wrong), int(wrong)))
        if not fine:
            print(f"{damage.name}: {result[:300]}", flush=True)

    attempts(tries, source, folder / "place", note)
    return sum(counts, Counts(0, 0, 0))
