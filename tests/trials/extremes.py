"""Numbers at the extremes of what can be given: finite, or refused with a sentence.

Every loss, confusion object, fusion, calibration and metric on axes of length 1, in half, single
and double precision, with values from 0 to infinity and NaN, with labels of nobody. A try is
wrong where something else comes back: NaN that no docstring names, infinity, a gradient that
is not finite, or an error that is no ValueError or does not say what to do.

    PYTHONPATH=. python tests/trials/extremes.py
"""

import csv
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from noisyseg import baselines, calibrated, confusion, diagnostics, fusion, losses, metrics

FAULT = "numbers at the extremes of what can be given"
REFUSALS = (ValueError, FloatingPointError)
SPACES = ((1, 1), (1, 5), (4, 1), (1, 1, 1), (2, 1, 3), (3, 4))
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LEVELS = (0.0, 1e-30, 30.0, 6e4, 1e20, 1e38, torch.inf, torch.nan)


class Try(NamedTuple):
    """What is called, and in words with what; `may_be_nan`: the docstring says where.

    `must_refuse`: no number would be right.
    """

    name: str
    call: Callable[[], object]
    may_be_nan: bool = False
    must_refuse: bool = False


class Counts(NamedTuple):
    """Tries, and how many of them lost something or gave something wrong."""

    tries: int
    lost: int
    wrong: int


def fault_of(one: Try) -> str:
    """What is wrong with a try; empty if nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = one.call()
    except REFUSALS as error:
        return "" if len(str(error)) > 20 else f"refused without a reason: {error!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:90]}"
    if one.must_refuse:
        return "accepted"
    found = [np.asarray(x, float) for x in _numbers(result)]
    if any(np.isinf(x).any() for x in found):
        return "infinite"
    if not one.may_be_nan and any(np.isnan(x).any() for x in found):
        return "NaN"
    return ""


def _numbers(result: object) -> Iterator[np.ndarray]:
    if isinstance(result, torch.Tensor):
        yield result.detach().double().numpy()
    elif isinstance(result, np.ndarray | float | int):
        yield np.asarray(result)
    elif isinstance(result, dict):
        yield from (x for value in result.values() for x in _numbers(value))
    elif isinstance(result, tuple | list):
        yield from (x for value in result for x in _numbers(value))


# --- what is given --------------------------------------------------------------------------


def tensor(shape, level, dtype, rng, signed=True):
    """Values of the size `level`, one of them exactly that where it is no number."""
    unit = rng.uniform(-1 if signed else 0, 1, shape)
    if np.isfinite(level):
        return torch.tensor(unit * level).to(dtype)
    values = torch.tensor(unit).to(dtype)
    values.view(-1)[rng.integers(values.numel())] = level
    return values


def labels_of(kind, annotators, space, classes, rng):
    """(1, annotator, *space): drawn, all one class, of nobody, or one pixel of one annotator."""
    shape = (1, annotators, *space)
    if kind == "drawn":
        return torch.tensor(rng.integers(-1, classes, shape))
    if kind == "one class":
        return torch.full(shape, classes - 1)
    labels = torch.full(shape, -1)
    if kind == "one pixel":
        labels.view(-1)[0] = 0
    return labels


KINDS = ("drawn", "one class", "nobody", "one pixel")


def matrices(kind, annotators, classes, space, level, dtype, rng):
    """A confusion object whose parameters have the size `level`."""
    square = (annotators, classes, classes)
    if kind == "pixel":
        return confusion.PixelConfusion(tensor((1, *square, *space), level, dtype, rng))
    if kind == "global":
        table = tensor(square, level, dtype, rng).log_softmax(1)
        return confusion.GlobalConfusion(table, 1, space)
    if kind == "dense":
        eye = torch.eye(classes, dtype=dtype).view(1, 1, classes, classes, *[1] * len(space))
        dense = eye.repeat(1, annotators, 1, 1, *space)
        return confusion.DenseConfusion(dense if level == 0 else dense + level * (1 - 2 * dense))
    if kind == "low rank":
        left = tensor((1, annotators, 1, classes, *space), level, dtype, rng, signed=False)
        right = tensor((1, annotators, 1, classes, *space), level, dtype, rng, signed=False)
        scale = tensor((1, annotators, *space), level, dtype, rng, signed=False)
        return confusion.LowRankConfusion(left + 1e-6, right + 1e-6, scale + 1e-6)
    logits = tensor((1, annotators, classes, *space), level, dtype, rng)
    return baselines.IgnorantConfusion(logits.log_softmax(2))


HEADS = ("pixel", "global", "dense", "low rank", "ignorant")


# --- tries ----------------------------------------------------------------------------------


def with_gradient(loss, logits):
    """The loss and its gradient; 0 where the logits play no part."""
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    if value.requires_grad:
        value.backward()
    return value, torch.zeros_like(logits) if logits.grad is None else logits.grad


def loss_tries(rng) -> Iterator[Try]:
    for space in SPACES:
        for dtype in DTYPES:
            for level in LEVELS:
                kind, head = KINDS[rng.integers(4)], HEADS[rng.integers(5)]
                classes, annotators = int(rng.integers(2, 5)), int(rng.integers(1, 4))
                small = 1.0 if head != "dense" else 0.0
                size = level if rng.random() < 0.3 and head != "dense" else small
                labels = labels_of(kind, annotators, space, classes, rng)
                given = tensor((1, classes, *space), level, dtype, rng)
                about = f"{space} {dtype} {level} {kind} {head}"
                seed = int(rng.integers(2**31))
                yield from _losses(given, labels, (head, size, dtype, seed), about)


def _losses(given, labels, head, about) -> Iterator[Try]:
    kind, size, dtype, seed = head
    annotators, space, classes = labels.shape[1], tuple(labels.shape[2:]), given.shape[1]

    def people():
        drawn = np.random.default_rng(seed)
        return matrices(kind, annotators, classes, space, size, dtype, drawn)

    def disentangling(level):
        return lambda x: losses.disentangling_loss(
            x, people(), labels, trace_weight=0.1, dominance_weight=1.0,
            dominance_level=level, from_logits=True,
        )  # fmt: skip

    def released(x):
        return baselines.released_loss(x.log_softmax(1), people(), labels, 0.1)

    def fixed(x):
        return losses.fixed_phase_loss(x.log_softmax(1), people(), labels)

    def soft(x):
        return losses.soft_cross_entropy(x.log_softmax(1), torch.full_like(x, 1 / classes))

    calls = {
        "disentangling_loss, pixel": disentangling("pixel"),
        "disentangling_loss, class": disentangling("class"),
        "released_loss": released,
        "fixed_phase_loss": fixed,
        "soft_cross_entropy": soft,
    }
    name = list(calls)[seed % len(calls)]
    yield Try(f"{name}: {about}", lambda: with_gradient(calls[name], given))


def head_tries(rng) -> Iterator[Try]:
    for head in HEADS:
        for dtype in DTYPES:
            for level in LEVELS:
                space = SPACES[rng.integers(len(SPACES))]
                seed, labels = int(rng.integers(2**31)), labels_of("drawn", 2, space, 3, rng)

                def call(head=head, dtype=dtype, level=level, space=space, seed=seed, y=labels):
                    drawn = np.random.default_rng(seed)
                    made = matrices(head, 2, 3, space, level, dtype, drawn)
                    probs = torch.full((1, 3, *space), 1 / 3, dtype=dtype)
                    weight = torch.tensor([0.0, 1.0])
                    return (
                        made.log_likelihood(probs.log(), y), made.apply(probs), made.trace(),
                        made.dense(), made.mean_dense(), made.mean_dense(weight),
                        diagnostics.watch(made, probs),
                    )  # fmt: skip

                yield Try(f"{head} confusion: {space} {dtype} {level}", call)


def label_tries(rng) -> Iterator[Try]:
    """Fusion and metrics of labels: few pixels, classes, annotators, and labels of nobody."""
    for space in SPACES:
        for kind in (*KINDS, "no class"):
            for classes in (1, 2, 4):
                annotators = int(rng.choice([1, 2, 5, 70]))
                if kind == "no class":
                    labels = torch.full((1, annotators, *space), classes + 3)
                else:
                    labels = labels_of(kind, annotators, space, classes, rng)
                about = f"{space} {kind}, {classes} classes, {annotators} annotators"
                for name, fuse in fusion.FUSIONS.items():
                    bad = kind == "no class" or classes < 2
                    call = lambda f=fuse, y=labels, c=classes: f(y, c)  # noqa: E731
                    yield Try(f"{name}: {about}", call, must_refuse=bad)
                weight = torch.tensor(rng.uniform(0, 1, annotators))
                yield Try(
                    f"calibrated_vote: {about}",
                    lambda y=labels, w=weight, c=classes: calibrated.calibrated_vote(y, w, c),
                )
                name = METRICS[rng.integers(len(METRICS))]
                yield Try(
                    f"{name}: {about}",
                    lambda n=name, y=labels, c=classes: metric(n, y, c),
                    may_be_nan=True,
                )


METRICS = ("dice", "iou", "ged", "agreement", "label_counts", "assess")


def metric(name, labels, classes):
    truth = labels[:, 0].clamp_min(0)
    if name in ("dice", "iou"):
        return getattr(metrics, name)(labels[:, 0], truth, classes)
    if name == "ged":
        return metrics.generalised_energy_distance(labels.clamp_min(0), labels, classes)
    if name == "agreement":
        return metrics.agreement(labels)
    if name == "label_counts":
        return metrics.normalise_columns(metrics.label_counts(labels, truth, classes))
    table = diagnostics.assess(labels, diagnostics.candidates(labels, classes), classes)
    return table.drop(columns=["candidate", "dice"]).to_numpy(float)


def number_tries(rng) -> Iterator[Try]:
    """Metrics of probabilities and matrices."""
    for dtype in DTYPES:
        for level in (*LEVELS, -1.0):
            for space in ((1, 1), (3, 4)):
                probs = tensor((2, 3, *space), level, dtype, rng)
                labels = torch.tensor(rng.integers(-1, 3, (2, *space)))
                square = tensor((2, 2, 3, 3), level, dtype, rng)
                spread = square.view(2, 2, 3, 3, *[1] * len(space)).expand(-1, -1, -1, -1, *space)
                about = f"{space} {dtype} {level}"
                yield Try(f"entropy: {about}", lambda p=probs: metrics.entropy(p))
                yield Try(
                    f"calibration_bins: {about}",
                    lambda p=probs, y=labels: metrics.ece_from_bins(metrics.calibration_bins(p, y)),
                    may_be_nan=True,
                )
                if not np.isnan(level):  # which in a matrix means: not observed
                    yield Try(f"cm_rmse: {about}", lambda m=square: metrics.cm_rmse(m, m * 0))
                    yield Try(
                        f"confusion_sums: {about}",
                        lambda m=spread, y=labels: metrics.confusion_sums(m, y.clamp_min(0)),
                    )


def image_tries(rng) -> Iterator[Try]:
    """Calibration of images, up to the largest numbers there are."""
    levels = (0.0, 1e-200, 1e-30, 1.0, 1e20, 1e38, 1e200, np.inf, np.nan)
    for space in (*SPACES, (9, 9), (5, 6, 7)):
        for level in levels:
            for kind in ("drawn", "nobody"):
                image = rng.normal(size=(2, 1, *space)) * (level if np.isfinite(level) else 1)
                if not np.isfinite(level):
                    image.flat[0] = level
                if kind == "drawn" and not 1e38 < level < np.inf:
                    with np.errstate(over="ignore"):  # to infinity, which must be refused
                        image = image.astype(np.float32)
                labels = labels_of(kind, 3, space, 2, rng).numpy().repeat(2, 0)

                def call(image=image, labels=labels):
                    found = calibrated.calibrate(image, labels, 2)
                    moved = calibrated.calibrated_labels(labels, found.shift())
                    return found.offset, found.sharpness, found.weight(), moved

                yield Try(f"calibrate: {space} {level} {kind}", call)


def tries(seed: int = 0) -> list[Try]:
    """All of them, the same for one seed."""
    rng = np.random.default_rng(seed)
    parts = (loss_tries, head_tries, label_tries, number_tries, image_tries)
    return [one for part in parts for one in part(rng)]


def run(least: int, _folder: Path | None = None) -> Counts:
    """At least `least` tries, with further seeds if need be; prints each that is wrong."""
    done, wrong, seed = 0, 0, 0
    while done < least:
        for one in tries(seed):
            done += 1
            if fault := fault_of(one):
                wrong += 1
                print(f"{one.name}: {fault}")
        seed += 1
    return Counts(done, 0, wrong)


def enter(file: Path, counts: Counts) -> None:
    """Put the row of this fault into the table, in its old place or at the end."""
    head, rows = ["fault", "tries", "lost", "wrong"], []
    if file.exists():
        with file.open(newline="") as stream:
            head, *rows = csv.reader(stream)
    new = [FAULT, *map(str, counts)]
    rows = [new if row[0] == FAULT else row for row in rows]
    rows += [] if new in rows else [new]
    with file.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([head, *rows])


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = run(1000)
    print(f"{FAULT}: {found.tries} tries, {found.wrong} wrong")
    root = Path(__file__).resolve().parents[2]
    enter(root / "figures" / "source_data" / "reliability.csv", found)
    raise SystemExit(1 if found.wrong else 0)
