"""A Dask worker killed while it trains: its run is resumed by another, bit for bit."""

import os
import signal
import threading
import time
import warnings

import psutil

import noisyseg as ns
from trials import common
from trials.common import Counts


def run(tries, folder):
    """`tries` sweeps of two runs over two workers; one worker is killed once it has begun."""
    data = common.write(folder / "data" / "tiny")
    configs = [common.config(data, "mode", seed=seed, epochs=30) for seed in (0, 1)]
    common.store(folder / "whole")
    expected = [common.snapshot(ns.run(cfg).path) for cfg in configs]
    total = Counts(0, 0, 0)
    while total.tries < tries:
        place = common.emptied(folder / "place")
        common.store(place)
        killed = []
        killer = threading.Thread(target=kill_one, args=(place, killed), daemon=True)
        killer.start()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = ns.sweep(configs, workers=2)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            total += Counts(1, 1, 0)
            continue
        finally:
            killer.join()
        if not killed:
            continue  # it was faster, which tries nothing
        for before, after in zip(expected, found, strict=True):
            one = common.compared(before, common.snapshot(after.path))
            total += one._replace(tries=int(before is expected[0]))
    return total


def kill_one(place, killed):
    """Kill the youngest process that trains below `place`, once it has saved something."""
    until = time.monotonic() + 120
    while time.monotonic() < until and not list(place.rglob("DONE")):
        if list(place.rglob("checkpoint.pt")):
            workers = [p for p in psutil.Process().children(recursive=True) if is_worker(p)]
            if workers:
                os.kill(workers[-1].pid, signal.SIGKILL)
                killed.append(workers[-1].pid)
                return
        time.sleep(0.01)


def is_worker(process):
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False
