"""A crash right before and right after every rename, removal and new folder."""

import os
import shutil

import noisyseg as ns
from data_prep.folders import own
from noisyseg import storage
from trials import common, kills, writers
from trials.common import Counts

CALLS = ("replace", "rename", "unlink", "mkdir", "rmdir")


def run(tries, folder):
    """Every such call of a run, of a folder written again, and of a preparation; all are tried."""
    data = common.write(folder / "data" / "tiny")
    total = everywhere(folder / "run", lambda place: kills.work(place, data, "mode", epochs=2))
    raw = writers.raw_folder(folder / "raw", n=6)
    total += everywhere(folder / "prepare", lambda place: prepare(raw, place / "own"))
    for exchange in (True, False):
        total += overwritten(folder / f"overwrite-{exchange}", exchange)
    assert total.tries >= tries
    return total


def prepare(raw, out):
    """Make `out`; where it is complete, saying so is right."""
    try:
        own.prepare_own(raw, out)
    except FileExistsError:
        print("complete")


def dying(call, at, after):
    """Run `call` in a child that dies at its `at`-th step; returns (exit status, steps taken)."""
    reader, writer = os.pipe()

    def armed():
        steps = arm(at, after)
        call()
        os.write(writer, str(steps[0]).encode())

    status = common.outcome(common.child(armed))
    os.close(writer)
    with os.fdopen(reader) as said:
        return status, int(said.read() or 0)


def arm(at, after):
    """Count calls that change a name, and end the process at number `at`."""
    steps = [0]

    def counted(call):
        def step(*given, **named):
            steps[0] += 1
            if steps[0] == at and not after:
                os._exit(9)
            result = call(*given, **named)
            if steps[0] == at:
                os._exit(9)
            return result

        return step

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    storage._exchange = counted(storage._exchange)
    return steps


def moments(call, fresh):
    """Each step of `call`, before and after it; `fresh` makes the place ready."""
    fresh()
    status, steps = dying(call, 0, False)
    assert status == 0 and steps > 0
    return [(step, after) for step in range(1, steps + 1) for after in (False, True)]


def everywhere(folder, call):
    """Crash, call again, and compare with what one call leaves."""
    place, whole = folder / "place", common.emptied(folder / "whole")
    assert common.outcome(common.child(lambda: call(whole))) == 0
    expected, total = common.snapshot(whole), Counts(0, 0, 0)
    for step, after in moments(lambda: call(place), lambda: common.emptied(place)):
        common.emptied(place)
        if dying(lambda: call(place), step, after)[0] != 9:
            continue
        failed = common.outcome(common.child(lambda: call(place))) != 0
        found = common.compared(expected, common.snapshot(place))
        total += found._replace(lost=max(found.lost, int(failed)))
    return total


def overwritten(folder, exchange):
    """Crashes of write_prepared(overwrite=True): at once the old or the new folder, whole."""
    old, new = (common.write(folder / name / "tiny", seed=s) for s, name in enumerate(("a", "b")))
    allowed = {ns.load_dataset(path).fingerprint for path in (old, new)}
    place = folder / "place"

    def call():
        if not exchange:
            storage._exchange = lambda one, other: False
        common.write(place / "tiny", seed=1)

    def fresh():
        common.emptied(place)
        shutil.copytree(old, place / "tiny")

    total = Counts(0, 0, 0)
    for step, after in moments(call, fresh):
        fresh()
        if dying(call, step, after)[0] != 9:
            continue
        whole = not exchange or (place / "tiny").is_dir()  # else opening it brings it back
        try:
            whole = whole and ns.load_dataset(place / "tiny").fingerprint in allowed
        except (OSError, ValueError):
            whole = False
        again = common.outcome(common.child(call)) == 0
        strays = [path.name for path in place.iterdir() if path.name != "tiny"]
        total += Counts(1, int(not whole or not again), int(bool(strays)))
    return total
