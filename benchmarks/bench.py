"""What the method costs beside what one would use instead, in one table and one figure.

    make bench                      # or: python benchmarks/bench.py --parts step fusion

Ratios within one run on one thread: everything takes turns, and the least time of each counts,
since other processes share the machine. Memory is what autograd keeps, exact. Parts: step (heads
against the plain U-Net and the literal version), labels (one label an image, few and many
annotators), fusion (STAPLE against SimpleITK, calibration), start (imports and `--help`).
"""

import argparse
import subprocess
import sys
import time
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
from fusion import IMAGES, blobs, seconds, simpleitk
from heads import saved_bytes
from literal import LiteralModel, literal_loss
from step import calibration_seconds, stepper

import noisyseg as ns
from noisyseg import build, fusion, losses, models, storage
from noisyseg.likelihood import LayerConfusion
from noisyseg.plots import costs

COLUMNS = ["part", "case", "what", "quantity", "value", "unit", "target"]
LAMBDA, SEED = 0.1, 0
COMMANDS = ("noisyseg.paper", "noisyseg.report", "noisyseg.data", "data_prep")


class Case(NamedTuple):
    """The size of a problem: side of the images, width, batch, classes, annotators."""

    side: int
    width: int
    batch: int
    classes: int
    annotators: int

    def title(self):
        return f"{self.side}², {self.classes} classes, {self.annotators} annotators"


SMALL, LARGE = (28, 12, 32), (64, 24, 8)
EVERY = ("shared block alone", "per pixel", "as defined", "global", "low rank 1")
STEPS = {
    Case(*SMALL, 2, 5): (*EVERY, "calibrated", "literal"),
    Case(*SMALL, 2, 20): ("per pixel", "as defined", "literal"),
    Case(*SMALL, 8, 5): (*EVERY, "literal"),
    Case(*SMALL, 8, 10): ("per pixel", "low rank 1"),
    Case(*LARGE, 2, 5): ("shared block alone", "per pixel", "global", "literal"),
    Case(*LARGE, 8, 5): ("shared block alone", "per pixel", "global", "literal"),
}
TARGETS = {  # step ratios that the project asked for: (classes, annotators, what)
    (2, 5, "per pixel"): 1.15,
    (2, 20, "per pixel"): 1.3,
    (8, 5, "per pixel"): 1.5,
    (2, 5, "global"): 1.02,
    (8, 5, "global"): 1.02,
}


def problem(case, what, labels=None):
    """A network and a function that gives the loss of its batch."""
    torch.manual_seed(SEED)
    n, people = case.classes, case.annotators
    shape = (case.batch, people, case.side, case.side)
    labels = torch.randint(0, n, shape) if labels is None else labels
    image = torch.rand(case.batch, 1, case.side, case.side)
    if what == "calibrated":
        return calibrated(case, image, labels)
    trunk = models.UNet(1, case.width, depth=3)
    if what == "literal":
        model = LiteralModel(trunk, people, n)
        return model, lambda: literal_loss(*model(image), labels, LAMBDA)
    head = head_of(what, trunk, case)
    model = models.SegmentationModel(trunk, n, head)
    target = torch.rand(case.batch, n, case.side, case.side).softmax(1)

    def loss():
        out = model(image)
        if out.confusion is None:
            return losses.soft_cross_entropy(out.logits.log_softmax(1), target)
        if what == "shared block alone":
            kept = losses.soft_cross_entropy(out.logits.log_softmax(1), target)
            return kept + out.confusion.layer.features.mean()
        plain = what == "as defined" and isinstance(out.confusion, LayerConfusion)
        matrix = out.confusion.plain if plain else out.confusion
        return losses.disentangling_loss(
            out.logits, matrix, labels, trace_weight=LAMBDA, from_logits=True
        )

    return model, loss


def head_of(what, trunk, case):
    """The confusion head that `what` names; None for the plain network."""
    sizes = trunk, case.annotators, case.classes, 3.0
    if what == "plain":
        return None
    if what == "global":
        return models.GlobalHead(*sizes)
    return models.LowRankHead(*sizes, 1) if what == "low rank 1" else models.PixelHead(*sizes)


def calibrated(case, image, labels):
    """`problem` of our method in its second, costlier phase: two heads."""
    cfg = ns.ExperimentConfig.preset("mnist", "reduced", "calibrated", width=case.width)
    sizes = {"classes": range(case.classes), "annotators": range(case.annotators)}
    model = build.build_model(cfg, {"channels": 1, "dims": 2} | sizes)
    objective = build.objective(cfg)
    weight = torch.ones(case.batch, case.annotators)
    given = {"labels": labels, "calibrated": labels, "weight": weight}
    return model, lambda: objective(model(image), given, cfg.epochs)


def least(steps, rounds):
    """The least CPU seconds of each of `steps`, which take turns."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds + 1):
        for name, step in steps.items():
            best[name] = min(best[name], step())
    return best


def step(write, rounds):
    for case, names in STEPS.items():
        made = {name: problem(case, name) for name in ("plain", *names)}
        memory = {name: saved_bytes(*pair) for name, pair in made.items()}
        best = least({name: stepper(*pair) for name, pair in made.items()}, rounds)
        write("step", case.title(), "plain", "time", 1e3 * best["plain"], "ms")
        for name in names:
            target = TARGETS.get((case.classes, case.annotators, name))
            ratio = best[name] / best["plain"]
            write("step", case.title(), name, "time", ratio, "x plain U-Net", target)
            ratio = memory[name] / memory["plain"]
            write("step", case.title(), name, "memory", ratio, "x plain U-Net")
        if "literal" in names:
            ratio = best["literal"] / best["per pixel"]
            write("step", case.title(), "literal", "time", ratio, "x per pixel", 3.0)
            # What the project adds to a plain U-Net, on both sides.
            added = (best["literal"] - best["plain"]) / (best["per pixel"] - best["plain"])
            write("step", case.title(), "literal", "added time", added, "x per pixel")
        if case.annotators == 10:
            for quantity, values, target in (("time", best, 0.6), ("memory", memory, 0.5)):
                rank, full = (values[n] - values["plain"] for n in ("low rank 1", "per pixel"))
                name = f"added {quantity}"
                write("step", case.title(), "low rank 1", name, rank / full, "x full rank", target)


def one_label(annotators):
    """Labels of one annotator an image, and the size of their problem."""
    case = Case(*SMALL, 2, annotators)
    labels = torch.full((case.batch, annotators, case.side, case.side), -1)
    images = torch.arange(case.batch)
    labels[images, images % annotators] = torch.randint(0, 2, (case.batch, case.side, case.side))
    return case, labels


def labels(write, rounds):
    counts = (5, 20, 200)
    made = {}
    for r in counts:
        case, given = one_label(r)
        made[r] = problem(case, "per pixel", given)
    memory = {r: saved_bytes(*pair) for r, pair in made.items()}
    best = least({r: stepper(*pair) for r, pair in made.items()}, rounds)
    for r in counts:
        case = f"28², 2 classes, one label of {r} annotators"
        write("labels", case, "per pixel", "time", best[r] / best[5], "x 5 annotators")
        write("labels", case, "per pixel", "memory", memory[r] / memory[5], "x 5 annotators")


def fused(write, rounds):
    for classes in (2, 4):
        found = blobs(classes)
        tensor = torch.from_numpy(found)
        pairs = [
            (seconds(fusion.staple, tensor, classes), seconds(simpleitk, found, classes))
            for _ in range(min(rounds, 3))
        ]
        ours, theirs = (min(times) for times in zip(*pairs, strict=True))
        case = f"{IMAGES} images of 128², {classes} classes, 5 annotators"
        write("fusion", case, "STAPLE", "time", ours / theirs, "x SimpleITK", 1.0)
        vote = ns.calibrated_vote, tensor, torch.ones(5), classes
        voted = min(seconds(*vote) for _ in range(3))
        write("fusion", case, "weighted vote", "time", voted / theirs, "x SimpleITK")
    for diameter in (30, 100):
        first, second = calibration_seconds(diameter)
        case = f"10,000 masks of 128², objects of {diameter} pixels"
        write("fusion", case, "calibrate", "time", first, "s")
        write("fusion", case, "calibrated_labels", "time", second, "s")


def start(write, rounds):
    """Wall seconds of fresh processes, without those of Python itself; the least counts."""

    def run(*arguments):
        since = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - since

    def best(*arguments):
        return min(run(*arguments) for _ in range(min(rounds, 5)))

    bare = best("-c", "pass")
    write("start", "import noisyseg", "", "time", best("-c", "import noisyseg") - bare, "s", 0.3)
    for module in COMMANDS:
        write("start", f"{module} --help", "", "time", best("-m", module, "--help") - bare, "s")


PARTS = {"step": step, "labels": labels, "fusion": fused, "start": start}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = storage.figures_root() / "source_data" / "bench.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)
    rows = table[~table.part.isin(args.parts)].values.tolist()

    def write(*row):
        values = (*row, None)[: len(COLUMNS)]
        print(*(v for v in values if v is not None), flush=True)
        rows.append(values)

    for part in args.parts:
        PARTS[part](write, args.rounds)
        storage.write_csv(file, pd.DataFrame(rows, columns=COLUMNS))
    plt.style.use(storage.project_root() / "figures" / "noisyseg.mplstyle")
    figure = costs.step_ratios(pd.read_csv(file))
    figure.savefig(storage.figures_root() / "bench.png")


if __name__ == "__main__":
    main()
