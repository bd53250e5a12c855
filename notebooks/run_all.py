"""Run the numbered notebooks, two at a time, and then the figure and table notebooks (90, 91).

A notebook that ran before with the same text, parameters and library is left alone, and the
runs inside it are loaded or resumed, so that calling this again costs seconds. Executed
copies go to runs/notebooks/<profile>/, never over the notebooks themselves.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # so that --help and --list need no environment

from noisyseg.config import PROFILES  # noqa: E402
from noisyseg.storage import data_root, figures_root, project_root, runs_root  # noqa: E402

EXAMPLES = """examples:
  python notebooks/run_all.py                                  every page, from the evidence
  python notebooks/run_all.py --profile smoke                  every page, trained small, here
  python notebooks/run_all.py --only 10_mnist 9                notebook 10, figures and tables
  python notebooks/run_all.py --profile reduced --fresh --set epochs=2 batch_size=64
  python notebooks/run_all.py --only 10 --set method=trace --force
"""


class Outcome(NamedTuple):
    """How one notebook ended: `status` is "done", "unchanged" or "FAILED"."""

    name: str
    status: str
    wall_seconds: float
    executed: Path
    error: str = ""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; everything is optional."""
    parser = argparse.ArgumentParser(
        prog="python notebooks/run_all.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--profile", choices=PROFILES, help="size of every run (default: each notebook's own)")
    add("--fresh", action="store_true", help="train also the runs that come with the repository")
    add(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="names or beginnings of names",
    )
    add("--seed", type=int, default=0, help="first training seed (default: 0)")
    values = "fields of ExperimentConfig to change; Python literals or plain words"
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=values)
    add(
        "--jobs",
        type=int,
        default=2,
        help="notebooks, and beyond smoke also runs, at a time (default: 2)",
    )
    add("--out", type=Path, help="folder of the executed copies (default: see above)")
    add("--notebooks", type=Path, default=HERE, help="folder of the notebooks (default: this)")
    add("--cell-timeout", type=int, metavar="SECONDS", help="fail a cell that takes longer")
    add("--force", action="store_true", help="run also what did not change since it last ran")
    add("--list", action="store_true", help="list the notebooks and stop")
    args = parser.parse_args(argv)
    try:
        args.overrides = dict(map(parse_override, args.set))
        args.chosen = choose(args.notebooks, args.only)
    except ValueError as error:
        parser.error(str(error))
    if args.jobs < 1:
        parser.error(f"--jobs is {args.jobs}; give at least 1")
    args.out = args.out or runs_root() / "notebooks" / (args.profile or "pages")
    for folder in (args.out, *args.out.absolute().parents):
        if folder.exists() and not folder.is_dir():
            parser.error(f"--out {args.out}: {folder} is a file; give a folder")
    return args


def parse_override(text: str) -> tuple[str, Any]:
    """`epochs=2` -> ("epochs", 2); a value that is no literal stays a word."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ValueError(f"--set {text}: write KEY=VALUE, for example epochs=2")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if re.fullmatch(r"[\w./~-]+", value):
            return key, value
        raise ValueError(f"--set {text}: {value!r} is neither a literal nor a word") from None


def choose(folder: Path, only: Sequence[str]) -> list[Path]:
    """The numbered notebooks in order, or those whose names begin with one of `only`."""
    notebooks = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    wanted = [name.removesuffix(".ipynb") for text in only for name in re.split(r"[,\s]+", text)]
    names = ", ".join(path.stem for path in notebooks)
    for name in filter(None, wanted):
        if not any(path.stem.startswith(name) for path in notebooks):
            raise ValueError(f"no notebook {name!r} in {folder}; there are {names or 'none'}")
    return [p for p in notebooks if not wanted or p.stem.startswith(tuple(filter(None, wanted)))]


def stamp(notebook: Path, parameters: dict[str, Any]) -> str:
    """What the outcome depends on: text, parameters, library, data; exported tables for 9x."""
    root = project_root()
    files = [notebook, root / "constraints.txt", root / "figures" / "noisyseg.mplstyle"]
    files += sorted((root / "noisyseg").rglob("*.py")) + sorted(data_root().glob("*/meta.json"))
    if is_figures(notebook):
        tables = (p for p in (figures_root() / "source_data").glob("[!.]*") if p.is_file())
        files += [figures_root() / "printed.csv", *sorted(tables)]
    total = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=repr).encode())
    for file in filter(Path.exists, files):
        total.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def is_figures(notebook: Path) -> bool:
    """Whether it draws from exported results (90, 91) and so runs after the others."""
    return notebook.name.startswith("9")


def _known(notebook: Path) -> set[str]:
    """Names of the parameters of a notebook."""
    import papermill as pm

    return set(pm.inspect_notebook(str(notebook)))


def check_parameters(notebooks: Sequence[Path], parameters: dict[str, Any]) -> list[str]:
    """One message for each notebook that lacks a parameter: papermill itself only warns."""
    problems = []
    for notebook in notebooks:
        try:
            known = _known(notebook)
        except ValueError as error:
            problems.append(f"{notebook.name}: {error} Save it once with a Python 3 kernel")
            continue
        if unknown := ", ".join(sorted(parameters.keys() - known)):
            has = f"its cell tagged `parameters` has {', '.join(sorted(known)) or 'none'}"
            problems.append(f"{notebook.name}: unknown parameter {unknown}; {has}")
    return problems


def run_one(notebook: Path, parameters: dict[str, Any], args: argparse.Namespace) -> Outcome:
    """Execute one notebook unless its stamp says that nothing changed."""
    if args.fresh and "fresh" in _known(notebook):
        parameters = parameters | {"fresh": True}
    executed = args.out / notebook.name
    mark = executed.with_suffix(".ok")
    key, start = stamp(notebook, parameters), time.perf_counter()
    if not args.force and executed.exists() and mark.exists() and mark.read_text() == key:
        return Outcome(notebook.stem, "unchanged", 0.0, executed)
    mark.unlink(missing_ok=True)
    error = execute(notebook, executed, parameters, args.cell_timeout)
    if not error:
        relink(executed, notebook.parent)
        mark.write_text(key)
    status = "FAILED" if error else "done"
    return Outcome(notebook.stem, status, time.perf_counter() - start, executed, error)


def execute(notebook: Path, executed: Path, parameters: dict[str, Any], timeout: int | None) -> str:
    """Run through papermill; "" if it went well, else what failed and in which cell."""
    import papermill as pm
    from nbclient.exceptions import CellTimeoutError

    # At its default level every kernel warns that it talks to us over TCP on this machine.
    quiet = ["--IPKernelApp.log_level=40"]
    try:
        pm.execute_notebook(
            str(notebook),
            str(executed),
            parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(notebook.parent),
            start_timeout=120,
            execution_timeout=timeout,
            extra_arguments=quiet,
        )
    except pm.PapermillExecutionError as error:
        return f"cell [{error.exec_count}]: {error.ename}: {error.evalue}"
    except CellTimeoutError as error:  # no PapermillExecutionError, and the file says completed
        return f"CellTimeoutError: {str(error).splitlines()[0]}"
    except Exception as error:  # a dead kernel or a full disk must not stop the others
        return f"{type(error).__name__}: {error}"
    return ""


def relink(executed: Path, home: Path) -> None:
    """Let what the text of the copy links with ../ (figures) lead where it led from `home`."""
    content = json.loads(executed.read_text("utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            cell["source"] = re.sub(
                r"(?<=\]\()\.\./[^)#\s]+",
                lambda link: os.path.relpath((home / link[0]).resolve(), executed.parent.resolve()),
                text,
            )
    executed.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def run_phase(jobs: Sequence[Callable[[], Outcome]], workers: int, report: Any) -> list[Outcome]:
    """Call all, `workers` at a time; each in a thread, for its kernel is a process of its own."""
    outcomes = []
    with ThreadPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(job) for job in jobs]):
            outcomes.append(future.result())
            report(outcomes[-1])
    return outcomes


def run_all(args: argparse.Namespace) -> list[Outcome]:
    """The other notebooks first, then those that draw what the others exported."""
    from tqdm import tqdm

    parameters = {"seed": args.seed, "overrides": args.overrides}
    if args.profile:
        parameters["profile"] = args.profile
    if problems := check_parameters(args.chosen, parameters):
        raise SystemExit("error: " + "\n       ".join(problems))
    args.out.mkdir(parents=True, exist_ok=True)
    terminal, outcomes = sys.stderr.isatty(), []
    with tqdm(total=len(args.chosen), unit="notebook", disable=not terminal) as bar:

        def report(o: Outcome) -> None:
            bar.update()
            bar.write(f"{o.name:<34} {o.status:<9} {o.wall_seconds:6.1f} s  {o.error}".rstrip())
            sys.stdout.flush()

        for last in (False, True):
            phase = [p for p in args.chosen if is_figures(p) is last]
            jobs = [partial(run_one, path, parameters, args) for path in phase]
            outcomes += run_phase(jobs, args.jobs, report)
    return sorted(outcomes)


def summary(outcomes: Sequence[Outcome], since: float) -> str:
    """The closing table: what ran, how it ended, and where the results lie."""
    lines = ["", f"{'notebook':<32}  seconds  status     executed copy"]
    for o in outcomes:
        lines.append(f"{o.name:<32}  {o.wall_seconds:7.1f}  {o.status:<9}  {o.executed}")
    lines += [f"FAILED {o.name}: {o.error}\n       see {o.executed}" for o in outcomes if o.error]
    written = sorted(p for p in figures_root().glob("[!.]*.*") if p.stat().st_mtime >= since)
    lines.append(f"figures and tables: {figures_root()} ({len(written)} written now)")
    lines += [f"  {path.name}" for path in written]
    lines.append(f"wall time: {time.time() - since:.0f} s")
    first = next((o.executed for o in outcomes if not o.error), None)
    lines.append(f"open first: {first}" if first else "nothing to open: every notebook failed")
    return "\n".join(lines)


def title(notebook: Path) -> str:
    """The first line of the first cell, without its hash signs."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return "".join(cells[0]["source"]).split("\n")[0].lstrip("# ") if cells else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 if all went well, 1 if a notebook failed, 2 for a wrong command line."""
    args = arguments(argv)
    if args.list or not args.chosen:
        print("\n".join(f"{p.stem:<34} {title(p)}" for p in args.chosen) or "no notebooks yet")
        return 0
    # One thread a kernel: two kernels with two threads each are slower than one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.fresh or args.profile not in (
        None,
        "smoke",
    ):  # long: spread a notebook's runs over processes (ns.sweep)
        os.environ.setdefault("NOISYSEG_WORKERS", str(args.jobs))
    os.environ.pop("MPLBACKEND", None)  # with Agg, kernels would leave every picture out
    size = args.profile or "as published"
    print(f"{len(args.chosen)} notebook(s), {size}, copies in {args.out}", flush=True)
    since = time.time()
    try:
        outcomes = run_all(args)
    except KeyboardInterrupt:
        print("\ninterrupted; finished runs are kept, call this again to go on", file=sys.stderr)
        os._exit(130)  # the threads wait for kernels, which end when this process does
    print(summary(outcomes, since))
    return 1 if any(o.error for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
