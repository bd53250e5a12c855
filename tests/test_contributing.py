"""CONTRIBUTING.md is true: each of its four additions is made in a copy of the code and run."""

import os
import re
import shutil
import subprocess
import sys

import pytest

SIZES = "n_train=8, n_val=4, n_test=4, width=4, depth=2, epochs=1"
USES = {
    "annotator": f"""
import noisyseg as ns
from noisyseg.plots import style
cfg = ns.ExperimentConfig.preset("mnist", "smoke", "trace", annotators=("good", "hasty@3"), {SIZES})
print(ns.run(cfg).value("cm_rmse", annotator="hasty@3") > 0)
""",
    "method": f"""
import noisyseg as ns
from noisyseg.plots import style
run = ns.run(ns.ExperimentConfig.preset("mnist", "smoke", "trace_half", {SIZES}))
print(run.config.trace_weight == 0.5 and style.title_of("trace_half") == "paper, λ = 0.5")
""",
    "data set": f"""
import data_prep.rings
import noisyseg as ns
run = ns.run(ns.ExperimentConfig.preset("rings", "smoke", "mode", {SIZES}))
print(run.provenance["origin"] == "simulated")
""",
    "metric": f"""
import noisyseg as ns
from noisyseg.plots import scores
from noisyseg.paper import source_data
run = ns.run(ns.ExperimentConfig.preset("mnist", "smoke", "mode", {SIZES}))
scores.scores(source_data.table([run]), "missed")
print(0 <= run.value("missed") <= 1)
""",
}


def diffs(root):
    """What is added -> the diff that adds it."""
    text = (root / "CONTRIBUTING.md").read_text("utf-8")
    return dict(re.findall(r"## An? ([\w ]+?):[^\n]*\n+```diff\n(.*?)```", text, re.DOTALL))


def test_each_is_about_ten_lines(root):
    assert set(diffs(root)) == set(USES)
    for what, diff in diffs(root).items():
        assert sum(line.startswith("+") for line in diff.splitlines()) <= 12, what


@pytest.mark.parametrize("what", USES)
def test_it_works_in_a_copy(what, root, tmp_path):
    for package in ("noisyseg", "data_prep"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("*.npz"))
    data = tmp_path / "data"
    data.mkdir()
    (data / "mnist").symlink_to(root / "data" / "mnist")
    environ = os.environ | {"PYTHONPATH": str(tmp_path), "NOISYSEG_DATA": str(data)}
    environ |= {"NOISYSEG_RUNS": str(tmp_path / "runs"), "MPLBACKEND": "Agg"}
    call = {"cwd": tmp_path, "env": environ, "capture_output": True, "text": True}
    added = subprocess.run(["git", "apply", "--recount", "-"], input=diffs(root)[what], **call)
    assert added.returncode == 0, added.stderr
    used = subprocess.run([sys.executable, "-c", USES[what]], **call)
    assert used.returncode == 0, used.stderr[-2000:]
    assert used.stdout.split()[-1] == "True"
