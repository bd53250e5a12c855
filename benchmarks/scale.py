"""Beyond one machine: workers, large data sets, and what large trainings would cost.

    python benchmarks/scale.py [--parts workers loader overhead estimate]

workers: 500 simulated runs (they sleep) on 1, 2, 4 and 8 Dask workers, set up as `sweep` does.
loader: 100,000 images of 192² through the loader, in random order, and the memory it took.
overhead: where an MNIST training spends its time outside of forward, backward and optimiser.
estimate: hours of a BraTS and a LIDC training on 1, 8 and 64 cards, from `gpu.csv`.
"""

import argparse
import math
import resource
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

import noisyseg as ns
from noisyseg import storage

COLUMNS = ["part", "case", "quantity", "value", "unit", "target"]
RUNS, SECONDS, WORKERS = 500, 0.05, (1, 2, 4, 8)
IMAGES, SIDE, BATCH = 100_000, 192, 32
# Cases, slices or patches of each, epochs. The share of the step that more cards cannot take off
# (starting, waiting for the slowest, exchanging gradients) is assumed, not measured.
TRAININGS = {
    "BraTS: 1,000 cases of 100 slices of 192²": ("192²", 1_000 * 100, 40),
    "LIDC: 1,000 cases of 8 patches of 64³": ("64³", 1_000 * 8, 100),
}
CARDS, LOST = (1, 8, 64), 0.02


# Torch is imported where it is needed: each worker imports this file.


def pause(n):
    """A run that takes as long as it says."""
    time.sleep(SECONDS)
    return n


def workers(write):
    from dask.distributed import Client, LocalCluster

    for count in WORKERS:
        local = {"threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(n_workers=count, **local) as cluster, Client(cluster) as client:
            client.gather([client.submit(pause, -n, pure=False) for n in range(count)])
            since = time.perf_counter()
            client.gather([client.submit(pause, n, pure=False, retries=2) for n in range(RUNS)])
            wall = time.perf_counter() - since
        case = f"{RUNS} runs of {SECONDS} s on {count} workers"
        write("workers", case, "time", wall, "s")
        write("workers", case, "efficiency", RUNS * SECONDS / (wall * count), "of ideal")
        write("workers", case, "overhead of a run", 1e3 * (wall * count / RUNS - SECONDS), "ms")


def loader(write):
    """The files are sparse: they read as zeros and take no room, but as much memory as any."""
    from torch.utils.data import DataLoader

    from noisyseg.data.training import TrainingView, collate

    with tempfile.TemporaryDirectory(dir=storage.runs_root().parent) as folder:
        arrays = [
            np.lib.format.open_memmap(Path(folder) / name, "w+", np.int8, (IMAGES, 1, SIDE, SIDE))
            for name in ("images.npy", "labels.npy")
        ]
        view = TrainingView(*arrays)
        batches = DataLoader(view, batch_size=BATCH, shuffle=True, collate_fn=collate)
        before, since, seen = private_gib(), time.perf_counter(), 0
        most = before
        for n, batch in enumerate(batches):
            seen += len(batch["image"])
            if n % 50 == 0:
                most = max(most, private_gib())
        assert seen == IMAGES
    case = f"{IMAGES:,} images of {SIDE}², one label each"
    write("loader", case, "time", time.perf_counter() - since, "s")
    write("loader", case, "memory of its own", most, "GiB", 2.0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    write(
        "loader", case, "memory with the files' pages, which the system may take back", peak, "GiB"
    )


def private_gib():
    """Memory that belongs to this process alone; pages of files do not."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 2**20


class Clock:
    """CPU seconds by name, of functions that are replaced by measured ones."""

    def __init__(self):
        self.seconds = {}

    def timed(self, name, function):
        def call(*args, **kwargs):
            since = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.process_time() - since
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

        return call


def overhead(write):
    """One epoch of the reduced profile; validation and data preparation are not in it."""
    for method in ("trace", "calibrated", "mode"):
        seconds = seconds_of(method)
        whole = seconds.pop("all")
        rest = 100 * (1 - sum(seconds.values()) / whole)
        write("overhead", f"MNIST, reduced, {method}", "outside of the steps", rest, "%", 5.0)


def seconds_of(method):
    """CPU seconds of one epoch by part, and of "all" of it."""
    import torch
    from lightning_fabric import Fabric

    from noisyseg import build, train

    cfg = ns.ExperimentConfig.preset(
        "mnist", "reduced", method, n_train=640, n_val=32, epochs=1, progress=False
    )
    splits = build.load_splits(cfg, ns.load_dataset(cfg.dataset))
    model = build.build_model(cfg, build.model_shape(splits.train))
    views = build.training_view(cfg, splits.train), build.validation_view(cfg, splits.val)
    clock, objective, adam = Clock(), build.objective, torch.optim.AdamW
    model.forward = clock.timed("forward", model.forward)
    with (
        patch.object(train, "_train_epoch", clock.timed("all", train._train_epoch)),
        patch.object(train, "_validate", lambda *_: {}),
        patch.object(build, "objective", lambda c: clock.timed("loss", objective(c))),
        patch.object(Fabric, "backward", clock.timed("backward", Fabric.backward)),
        patch.object(adam, "step", clock.timed("optimiser", adam.step)),
    ):
        train.fit(model, *views, cfg)
    return clock.seconds


def estimate(write):
    """Images of each epoch over the measured rate; a card more saves all but LOST of its part."""
    rates = pd.read_csv(storage.figures_root() / "source_data" / "gpu.csv").query(
        "part == 'speed' and quantity == 'images'"
    )
    for title, (size, images, epochs) in TRAININGS.items():
        for method in ("mode", "trace", "calibrated"):
            rows = rates[(rates.case == size) & (rates.method == method)]
            best = rows.loc[rows.value.idxmax()]
            hours = images * epochs / best.value / 3600
            for cards in CARDS:
                spent = hours / cards * (1 + LOST * math.log2(cards))
                case = f"{title}, {epochs} epochs, {method}, {cards} of {best.device}"
                write("estimate", case, f"time ({best.variant})", spent, "h")


PARTS = {"workers": workers, "loader": loader, "overhead": overhead, "estimate": estimate}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parts = parser.parse_args().parts
    file = storage.figures_root() / "source_data" / "scale.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)
    rows = table[~table.part.isin(parts)].values.tolist()

    def write(*row):
        values = (*row, None)[: len(COLUMNS)]
        print(*(v for v in values if v is not None), flush=True)
        rows.append(values)

    for part in parts:
        PARTS[part](write)
        storage.write_csv(file, pd.DataFrame(rows, columns=COLUMNS))


if __name__ == "__main__":
    main()
