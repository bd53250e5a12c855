"""Many runs: one after the other, over local cores, or on any Dask cluster.

Every run is a folder of the run store, so a sweep that is stopped goes on where it was.
"""

import ast
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm.auto import tqdm

from noisyseg.config import ExperimentConfig
from noisyseg.experiment import run
from noisyseg.runs import Run

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
    on_run: Callable[[Run], Any] | None = None,
    fresh: bool = False,
) -> list[Run]:
    """Run every config and return the runs in the same order.

    `workers=None` takes NOISYSEG_WORKERS (default 1: in this process). More workers, or
    the address of a Dask `scheduler`, run them on Dask distributed with one thread each;
    a killed worker's run is resumed. `on_run(run)` is called after each of them. `fresh`
    trains here what comes with the repository (see `run`). Workers start by importing the
    calling script: RuntimeError where that would call `sweep` again.

    Examples:
        >>> sizes = dict(n_train=8, n_val=4, n_test=4, width=4, depth=2, epochs=1)
        >>> both = [ExperimentConfig.preset(method=m, **sizes) for m in ("mode", "mean")]
        >>> [done.config.method for done in sweep(both)]
        ['mode', 'mean']
    """
    configs = list(configs)
    workers = int(os.environ.get("NOISYSEG_WORKERS", "1")) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1")
    if workers > 1 and scheduler is None:
        _refuse_unguarded()
    finished = (
        (run(cfg, fresh=fresh) for cfg in configs)
        if workers == 1 and scheduler is None
        else _distributed(configs, workers, scheduler, fresh)
    )
    done: dict[ExperimentConfig, Run] = {}
    for one in tqdm(finished, total=len(configs), desc="runs", unit="run", disable=None):
        done[one.config] = one
        if on_run is not None:
            on_run(one)
    return [done[cfg] for cfg in configs]


def _refuse_unguarded() -> None:
    """RuntimeError where a script calls this outside of `if __name__ == "__main__":`."""
    frame: FrameType | None = sys._getframe()
    top = None
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__" and frame.f_code.co_name == "<module>":
            top = frame
        frame = frame.f_back
    file = getattr(sys.modules["__main__"], "__file__", None)
    if top is None or file is None or top.f_code.co_filename != file:
        return  # a notebook or a prompt: there is no script to import again
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in tree.body:
        if node.lineno <= top.f_lineno <= (node.end_lineno or node.lineno):
            if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
                return
            raise RuntimeError(
                f'{file}, line {top.f_lineno}: put this under `if __name__ == "__main__":`, for '
                "each worker imports the script and would start the sweep again"
            )


def _security() -> Any:
    """Certificates for this sweep alone: without them any user of this computer can run code.

    ModuleNotFoundError naming the package that makes them.
    """
    from dask.distributed import Security

    try:
        return Security.temporary()
    except ImportError as error:
        raise ModuleNotFoundError(
            "several workers need the package cryptography, for connections that no other user of "
            "this computer can use; pip install 'noisyseg[sweep]', or give workers=1"
        ) from error


def _distributed(
    configs: list[ExperimentConfig], workers: int, scheduler: str | None, fresh: bool
) -> Any:
    import dask
    from dask.distributed import Client, LocalCluster, as_completed

    security = _security() if scheduler is None else None
    environ = {f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in KEEP_MEMORY.items()}
    dask.config.set(environ)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # one thread each: two fight for the same core
    # No dashboard: it has no password, and shows the paths of the data to every local user.
    local = {"threads_per_worker": 1, "dashboard_address": None, "security": security}
    with ExitStack() as stack:
        workers = min(workers, len(configs)) or 1
        cluster = scheduler or stack.enter_context(LocalCluster(n_workers=workers, **local))
        client = stack.enter_context(Client(cluster, security=security))
        futures = [client.submit(run, cfg, fresh=fresh, pure=False, retries=2) for cfg in configs]
        for future in as_completed(futures):
            yield future.result()
