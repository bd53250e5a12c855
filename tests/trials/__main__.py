"""Run trials and write their rows: `make trials`, or PYTHONPATH=.:tests python -m trials NAME …

Without names all are run. `--table` writes figures/README.md anew from the rows there are.
"""

import argparse
import importlib
import importlib.util
import tempfile
import time

import pandas as pd

from noisyseg.paper import pages
from noisyseg.storage import figures_root, locked, write_csv
from trials import common

# Module -> the fault in words, and how many tries at least.
TRIALS = {
    "kills": ("kill -9 while a run trains, is scored or exported", 200),
    "crashes": ("crash before and after each rename, removal and new folder", 100),
    "writers": ("two processes write one folder", 50),
    "damaged_runs": ("files of runs and checkpoints damaged or exchanged", 50),
    "prepared": ("prepared folders damaged, by hypothesis", 4000),
    "extremes": ("numbers at the extremes of what can be given", 1000),
    "workers": ("a Dask worker killed while it trains", 6),
}
COLUMNS = ["fault", "tries", "lost", "wrong"]
TEXT = """## What was lost and what was silently wrong under faults

Lost: something is gone for good, or a call fails without saying what to do. Wrong: other content
than without the fault, or files left behind. Each row is a script in `tests/trials` that anyone can
run again (`make trials`); the counts are in `source_data/reliability.csv`.
"""


def available():
    """The trials that are there; each has `run(tries, folder) -> Counts`."""
    return [name for name in TRIALS if importlib.util.find_spec(f"trials.{name}")]


def table_file():
    return figures_root() / "source_data" / "reliability.csv"


def enter(fault, counts):
    """Put the row of `fault` into the table, in the order of TRIALS."""
    with locked(table_file()):
        old = pd.read_csv(table_file()) if table_file().exists() else pd.DataFrame(columns=COLUMNS)
        row = pd.DataFrame([[fault, *counts]], columns=COLUMNS)
        rows = pd.concat([old[old.fault != fault], row])
        order = {words: n for n, (words, _) in enumerate(TRIALS.values())}
        write_csv(table_file(), rows.sort_values("fault", key=lambda f: f.map(order)))


def section():
    """The part of figures/README.md that shows the table."""
    rows = pd.read_csv(table_file())
    rows["tries"] = [f"{tries:,}" for tries in rows.tries]
    return f"{TEXT}\n{pages.markdown(rows)}"


def write_section():
    """Put the section into figures/README.md: in its place, or at the end."""
    pages.put(figures_root() / "README.md", "reliability", section())


def main():
    parser = argparse.ArgumentParser("python -m trials", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(available())}; default: all")
    parser.add_argument("--table", action="store_true", help="only write figures/README.md")
    args = parser.parse_args()
    if unknown := set(args.names) - set(available()):
        parser.error(f"unknown {', '.join(unknown)}; there are {', '.join(available())}")
    common.quiet()
    rows = []
    for name in [] if args.table else args.names or available():
        fault, tries = TRIALS[name]
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            counts = common.isolated(importlib.import_module(f"trials.{name}").run, tries, folder)
        rows.append((fault, counts))
        print(f"{fault}: {counts} in {time.perf_counter() - started:.0f} s", flush=True)
        enter(fault, counts)
    write_section()
    if any(counts.lost or counts.wrong for _, counts in rows):
        raise SystemExit("something was lost or wrong, see above")


if __name__ == "__main__":
    main()
