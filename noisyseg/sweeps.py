"""Many runs: one after the other, over local cores, or on any Dask cluster.

Every run is a folder of the results store, so a sweep that is stopped goes on where it
was. Also a command: `python -m noisyseg.sweeps --help`.
"""

import argparse
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from tqdm.auto import tqdm

from noisyseg import results, tables
from noisyseg.config import PROFILES, SEEDS, ExperimentConfig
from noisyseg.data import load_dataset
from noisyseg.methods import METHODS
from noisyseg.studies import STUDIES
from noisyseg.train import run

LABELLINGS = ("dense", "one")
# The image as the anchor is an option for those who know their images (ablation_trace); in the main
# tables the annotators' median offset is 0, so that its labels are those of `calibrated`.
TABLE_METHODS = tuple(m for m in METHODS if m != "calibrated_image")
# Dask tells malloc to return memory at once, but training asks for the same memory again at
# every step: page faults then cost twice the arithmetic (131 against 44 ms a step).
KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": 2**31 - 1,
    "MALLOC_MMAP_THRESHOLD_": 2**25,
    "MALLOC_TOP_PAD_": 2**26,
    "MALLOC_ARENA_MAX": 1,
}


def sweep(
    configs: Iterable[ExperimentConfig],
    workers: int | None = None,
    scheduler: str | None = None,
    export: bool = False,
) -> list[results.Run]:
    """Run every config and return the runs in the same order.

    `workers=None` takes NOISYSEG_WORKERS (default 1: in this process). More workers, or
    the address of a Dask `scheduler`, run them on Dask distributed with one thread each;
    a killed worker's run is resumed. With `export` the exported table grows run by run.
    """
    configs = list(configs)
    workers = int(os.environ.get("NOISYSEG_WORKERS", "1")) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1")
    finished = (
        map(run, configs)
        if workers == 1 and scheduler is None
        else _distributed(configs, workers, scheduler)
    )
    done: dict[ExperimentConfig, results.Run] = {}
    for one in tqdm(finished, total=len(configs), desc="runs", unit="run", disable=None):
        done[one.config] = one
        if export:
            tables.export([one])
    return [done[cfg] for cfg in configs]


def _distributed(configs: list[ExperimentConfig], workers: int, scheduler: str | None) -> Any:
    import dask
    from dask.distributed import Client, LocalCluster, as_completed

    environ = {f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in KEEP_MEMORY.items()}
    dask.config.set(environ)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # one thread each: two fight for the same core
    local = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with ExitStack() as stack:
        workers = min(workers, len(configs)) or 1
        cluster = scheduler or stack.enter_context(LocalCluster(n_workers=workers, **local))
        client = stack.enter_context(Client(cluster))
        futures = [client.submit(run, cfg, pure=False, retries=2) for cfg in configs]
        for future in as_completed(futures):
            yield future.result()


def table_configs(
    experiment: str,
    profile: str,
    methods: Iterable[str] = TABLE_METHODS,
    labellings: Iterable[str] = LABELLINGS,
    seeds: Iterable[int] | None = None,
    **overrides: Any,
) -> list[ExperimentConfig]:
    """The configs of one table: labelling × seed × method, cheap rows and few labels last."""
    seeds = range(SEEDS[profile]) if seeds is None else seeds
    return [
        ExperimentConfig.preset(experiment, profile, method, seed, labelling=labelling, **overrides)
        for seed in seeds
        for labelling in labellings
        for method in methods
    ]


def study_configs(experiment: str, profile: str) -> list[ExperimentConfig]:
    """The configs of an ablation, each once."""
    return list(dict.fromkeys(STUDIES[experiment](profile, SEEDS[profile])))


def prepared(configs: Iterable[ExperimentConfig]) -> list[ExperimentConfig]:
    """Those of `configs` whose data are prepared here; prints one line for each other data set."""
    configs = list(configs)
    absent = set()
    for name, count in Counter(cfg.dataset for cfg in configs).items():
        try:
            load_dataset(name)
        except FileNotFoundError:
            absent.add(name)
            print(
                f"{name}: no prepared data, so {count} runs are passed over; "
                "data_prep/README.md says how to make the data"
            )
    return [cfg for cfg in configs if cfg.dataset not in absent]


def missing(configs: Iterable[ExperimentConfig]) -> list[ExperimentConfig]:
    """Those of `configs` that the exported tables do not hold: what a fresh checkout lacks.

    Runs on data that are not prepared here are passed over, with one printed line a data set.
    """
    configs = prepared(configs)
    held = {k: tables.held(*k) for k in {(c.experiment, c.profile) for c in configs}}
    prints = {name: load_dataset(name).fingerprint for name in {c.dataset for c in configs}}
    return [
        cfg
        for cfg in configs
        if (cfg.labelling, cfg.digest(prints[cfg.dataset])) not in held[cfg.experiment, cfg.profile]
    ]


def main() -> None:
    """Command line: train what is missing of a table and export it."""
    parser = argparse.ArgumentParser(
        "python -m noisyseg.sweeps", None, __doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiment", help=f"a data set (mnist, …), or {', '.join(STUDIES)}")
    parser.add_argument("--profile", choices=PROFILES, default="smoke")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(TABLE_METHODS))
    parser.add_argument(
        "--labelling", nargs="+", default=list(LABELLINGS), help="dense, one, k2, …"
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="default: the profile's number")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--missing", action="store_true", help="pass over what the table holds")
    parser.add_argument("--scheduler", help="address of a running Dask scheduler instead")
    args = parser.parse_args()
    if args.experiment in STUDIES:
        configs = study_configs(args.experiment, args.profile)
    else:
        configs = table_configs(
            args.experiment, args.profile, args.methods, args.labelling, args.seeds
        )
    if args.missing and not (configs := missing(configs)):
        print("nothing is missing of what can be trained here")
        return
    runs = sweep(configs, args.workers, args.scheduler, export=True)
    print(f"{len(runs)} runs exported to {tables.export(runs)}")


if __name__ == "__main__":
    main()
