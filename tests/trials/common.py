"""What trials share: tiny data, a tiny run, child processes that die, snapshots of folders."""

import hashlib
import json
import logging
import os
import shutil
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import lightning_fabric  # noqa: F401  (before a fork, so that children need not import it)
import numpy as np
import torch

import noisyseg as ns

METHODS = ("calibrated", "mode", "prob_unet", "trace", "majority_fusion")
CLASSES = ["background", "object"]


class Counts(NamedTuple):
    """Tries, and how many of them lost something or gave something wrong."""

    tries: int
    lost: int
    wrong: int

    def __add__(self, other):
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def quiet():
    """One thread, and no word about files set aside or networks too small to learn."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("noisyseg").setLevel(logging.ERROR)


def discs(n=24, size=16, seed=0):
    """Images (n, 1, size, size), labels (n, 3, size, size), truth (n, size, size)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    centre, radius = rng.uniform(5, size - 5, (n, 2, 1, 1)), rng.uniform(2, 5, (n, 1, 1))
    truth = ((rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 <= radius**2).astype("i1")
    images = (truth + rng.normal(0, 0.3, truth.shape)).astype(np.float32)
    flipped = rng.random((n, 3, size, size)) < 0.03
    return images[:, None], np.where(flipped, 1 - truth[:, None], truth[:, None]), truth


def write(path, seed=0, **more):
    """The tiny data set as a prepared folder: 14 train, 4 val, 6 test images, 3 annotators."""
    split = ["train"] * 14 + ["val"] * 4 + ["test"] * 6
    given = {"split": split, "classes": CLASSES, "annotators": ["a", "b", "c"]} | more
    return ns.write_prepared(path, *discs(seed=seed), origin="simulated", overwrite=True, **given)


def config(dataset, method="calibrated", **overrides):
    """A run of a second: four epochs of two steps."""
    small = dict(
        width=4, depth=2, epochs=4, batch_size=8, learning_rate=1e-2, activation="prelu",
        n_train=None, n_val=None, n_test=None,
    )  # fmt: skip
    return ns.ExperimentConfig.preset(
        "trial", "smoke", method, dataset=str(dataset), **small | overrides
    )


def store(folder):
    """Let runs and tables lie below `folder`."""
    os.environ["NOISYSEG_RUNS"] = str(folder / "runs")
    os.environ["NOISYSEG_FIGURES"] = str(folder / "figures")


def child(call: Callable[[], object]) -> int:
    """Run `call` in a forked process; returns its number. It says nothing, and dies alone."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        log = os.open(os.environ.get("TRIALS_LOG", os.devnull), os.O_WRONLY | os.O_CREAT)
        os.lseek(log, 0, os.SEEK_END)
        os.dup2(log, 1)
        os.dup2(log, 2)
        call()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def outcome(process: int) -> int:
    """Wait for a child: its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def isolated(trial, tries, folder):
    """`trial` with stores of its own; the environment is as before when it ends."""
    before = dict(os.environ)
    try:
        return trial(tries, Path(folder))
    finally:
        os.environ.clear()
        os.environ.update(before)


def emptied(folder: Path) -> Path:
    """`folder`, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def snapshot(folder: Path) -> dict[str, str]:
    """A checksum of every file below `folder`, of what does not depend on the clock."""
    found = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = file.read_bytes()
        if file.name == "provenance.json":
            content = json.dumps(json.loads(content) | {"wall_seconds": 0}).encode()
        if file.name == "DONE":
            content = _without_provenance(json.loads(content))
        found[str(file.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def _without_provenance(seal):
    seal["files"].pop("provenance.json")
    return json.dumps(seal, sort_keys=True).encode()


def compared(before: dict[str, str], after: dict[str, str]) -> Counts:
    """One try: files that are gone are lost; files that differ or came to it are wrong."""
    lost = before.keys() - after.keys()
    wrong = {name for name in after if after[name] != before.get(name)}
    return Counts(1, int(bool(lost)), int(bool(wrong)))
