"""kill -9 at a random moment: the next call goes on, and ends where an undisturbed one ends."""

import os
import random
import signal
import time

import noisyseg as ns
from noisyseg.paper import source_data
from trials import common
from trials.common import Counts


def run(tries, folder):
    """`tries` processes killed in a training, its evaluation or the export of its tables."""
    data, rng = common.write(folder / "data" / "tiny"), random.Random(0)
    whole, seconds = {}, {}
    for method in common.METHODS:
        started = time.perf_counter()
        assert common.outcome(common.child(lambda m=method: work(folder / m, data, m))) == 0
        whole[method] = common.snapshot(folder / method)
        seconds[method] = time.perf_counter() - started
    total = Counts(0, 0, 0)
    while total.tries < tries:
        method = rng.choice(common.METHODS)
        place = common.emptied(folder / "killed")
        killed = common.child(lambda p=place, m=method: work(p, data, m))
        time.sleep(rng.uniform(0, seconds[method]))
        os.kill(killed, signal.SIGKILL)
        if common.outcome(killed) != -signal.SIGKILL:
            continue  # it was faster, which tries nothing
        failed = common.outcome(common.child(lambda p=place, m=method: work(p, data, m)))
        after = common.compared(whole[method], common.snapshot(place))
        total += after._replace(lost=max(after.lost, int(failed != 0)))
    return total


def work(place, data, method, **overrides):
    """One run and its tables, below `place`."""
    common.store(place)
    run = ns.run(common.config(data, method, **overrides))
    source_data.export([run])
    source_data.export({"one": run}, "images")
