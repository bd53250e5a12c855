"""Two processes that write one folder at once: one of them waits, and nothing is mixed."""

import functools
import random
import time

import numpy as np
from PIL import Image

import noisyseg as ns
from data_prep.folders import own
from trials import common
from trials.common import Counts


def raw_folder(folder, n=40, size=48):
    """`images/` and the masks of two annotators, with random pixels: a mix-up cannot hide."""
    rng = np.random.default_rng(0)
    for name in ("images", "ann", "ben"):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 256 if name == "images" else 2, (size, size), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"case{i:03d}.png")
    return folder


def run(tries, folder):
    """A raw folder prepared twice, a prepared folder overwritten twice, a run asked for twice."""
    rng, total = random.Random(0), Counts(0, 0, 0)
    raw = raw_folder(folder / "raw")
    whole = common.emptied(folder / "whole") / "out"
    own.prepare_own(raw, whole)
    data = common.write(folder / "data" / "tiny")
    other = common.write(folder / "data" / "other", seed=1)
    common.store(folder / "undisturbed")
    expected = {
        "prepare": {ns.load_dataset(whole).fingerprint},
        "overwrite": {ns.load_dataset(path).fingerprint for path in (data, other)},
        "run": {state_of(ns.run(common.config(data)).path)},
    }
    for n in range(tries):
        kind = ("prepare", "overwrite", "run")[n % 3]
        place = common.emptied(folder / "place")
        common.store(place)
        found = functools.partial(found_in, kind, place, data)
        total += both(calls(kind, raw, place, data), rng, found, expected[kind])
        left = {path.name for path in place.iterdir()} - {"out", "runs", "out.manifest.csv"}
        total += Counts(0, 0, int(bool(left)))
    return total


def calls(kind, raw, place, data):
    """What the two processes do."""
    if kind == "prepare":
        return [lambda: own.prepare_own(raw, place / "out")] * 2
    if kind == "run":
        return [lambda: ns.run(common.config(data))] * 2
    return [functools.partial(common.write, place / "out", seed) for seed in (0, 1)]


def both(calls, rng, found, expected):
    """Start both calls a moment apart; one at least must succeed, and leave what is expected."""
    first = common.child(calls[0])
    time.sleep(rng.choice([0, 0, 0.005, 0.02, 0.05, 0.1]))
    second = common.child(calls[1])
    failed = [common.outcome(process) != 0 for process in (first, second)]
    try:
        return Counts(1, int(all(failed)), int(found() not in expected))
    except (OSError, ValueError):
        return Counts(1, 1, 0)


def found_in(kind, place, data):
    """What is there now: the fingerprint of the folder, or the state of the run."""
    if kind != "run":
        return ns.load_dataset(place / "out").fingerprint
    (done,) = (place / "runs").rglob("DONE")
    return state_of(done.parent)


def state_of(run):
    """All files of a run as one value."""
    return tuple(sorted(common.snapshot(run).items()))
