"""pyproject.toml, constraints.txt, environment.yml and what is installed agree.

environment.yml is checked for its form and for agreement; no conda has solved it here.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# What conda's pip section must hold: exactly what `make env` installs, with the same pins.
PIP_SECTION = ["-c constraints.txt", "-e .[test]"]


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins(root):
    """Canonical name -> pinned version."""
    lines = (root / "constraints.txt").read_text().split()
    found = dict(line.split("==") for line in lines)
    assert len(found) == len(lines), "a package is pinned twice, or by something else than =="
    return {canonicalize_name(name): Version(version) for name, version in found.items()}


def requirements(project):
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    every = [Requirement(line) for lines in lists for line in lines]
    return [r for r in every if canonicalize_name(r.name) != "noisyseg"]


def test_every_dependency_is_pinned_within_its_range(project, pins):
    for requirement in requirements(project):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not pinned in constraints.txt"
        assert pin in requirement.specifier, f"{requirement} excludes the pin {pin}"


def test_every_dependency_has_a_lower_bound_and_no_cap(project):
    for requirement in requirements(project):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {">="}, f"{requirement}: give a lower bound only"


def test_what_is_installed_is_what_is_pinned(pins):
    different = {}
    for name, pin in pins.items():
        try:
            found = Version(metadata.version(name))
        except metadata.PackageNotFoundError:
            continue  # a pin for another platform, or for an extra nobody asked for
        if Version(found.public) != pin:
            different[name] = f"{found} installed, {pin} pinned"
    assert not different, f"run make env: {different}"


def test_nothing_that_the_extras_need_is_left_unpinned(project, pins):
    todo, seen = [("noisyseg", "test")], set()
    while todo:
        name, extra = todo.pop()
        seen.add((name, extra))
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            child = canonicalize_name(requirement.name)
            if child not in ("noisyseg", "setuptools", "pip"):
                assert child in pins, f"{child}, which {name} needs, is not in constraints.txt"
            wanted = {(child, e) for e in {"", *requirement.extras}} - seen
            todo += [(n, e) for n, e in wanted if n not in ("setuptools", "pip")]
    assert len(seen) > 100


def test_environment_yml_is_the_pinned_set_on_a_conda_interpreter(root, project):
    environment = yaml.safe_load((root / "environment.yml").read_text())
    assert environment["name"] == project["name"]
    assert environment["channels"] == ["conda-forge"]
    *conda, last = environment["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert last == {"pip": PIP_SECTION}
    assert (
        Version(conda[0].split("=")[1]) in Requirement("x" + project["requires-python"]).specifier
    )


def test_the_packages_environment_yml_promises_in_its_comment_are_installed(root, pins):
    comment = " ".join(re.findall(r"^# (.*)", (root / "environment.yml").read_text(), re.M))
    promised = comment.split("(constraints.txt): ")[1].removesuffix(", ...").split(", ")
    assert len(promised) > 5
    assert all(canonicalize_name(name) in pins for name in promised)


def test_make_env_installs_what_environment_yml_names(root):
    script = (root / ".ci" / "env").read_text()
    assert "-c constraints.txt -e '.[test]'" in script and "--require-hashes" in script


def test_every_pin_has_a_checksum_and_the_build_requirement_is_one(root, pins):
    lines = (root / ".ci" / "hashes.txt").read_text().splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines if not line.startswith("#"))
    assert rows.keys() == pins.keys(), "run make hashes"
    assert all(re.fullmatch(r"[0-9a-f]{64}( [0-9a-f]{64})*", row) for row in rows.values())
    build = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    assert build == [f"setuptools=={pins['setuptools']}"]


def test_the_bill_of_materials_names_every_installed_pin_and_is_the_same_twice(root, pins):
    call = [sys.executable, root / ".ci" / "pins.py", "sbom"]
    first, again = (subprocess.run(call, capture_output=True, check=True).stdout for _ in range(2))
    assert first == again
    bill = json.loads(first)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    there = {c["name"]: c for c in bill["components"]}
    assert {"torch", "numpy", "tifffile", "pillow"} <= there.keys() <= pins.keys()
    assert there["numpy"]["hashes"][0]["alg"] == "SHA-256" and there["numpy"]["licenses"]
    edges = {d["ref"]: d["dependsOn"] for d in bill["dependencies"]}
    assert there["numpy"]["purl"] in edges[there["scipy"]["purl"]]
    refs = {c["bom-ref"] for c in bill["components"]}
    assert refs >= {ref for needed in edges.values() for ref in needed}


@pytest.fixture
def copy(root, tmp_path):
    """What `make env` reads, in a folder of its own; `copy(name, script)` adds a stand-in."""
    (tmp_path / ".ci").mkdir()
    for name in ("pyproject.toml", "constraints.txt", ".ci/env", ".ci/pins.py", ".ci/hashes.txt"):
        (tmp_path / name).write_bytes((root / name).read_bytes())

    def add(name, script):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
        return tmp_path

    return add


def run_env(folder, python=sys.executable):
    """`.ci/env` in `folder`, whose own programs come first."""
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", ".ci/env"],
        cwd=folder,
        env=os.environ | {"PYTHON": python, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_make_env_does_nothing_when_the_stamp_is_current(copy):
    folder = copy(".venv/bin/python", 'echo "$@" >> calls')
    first = run_env(folder)
    assert first.returncode == 0, first.stderr
    calls = (folder / "calls").read_text()
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        assert "--require-hashes --no-deps -r .venv/.pins" in calls
        assert "numpy==" in (folder / ".venv" / ".pins").read_text()
        assert "torch==" in (folder / ".venv" / ".builds").read_text()
    assert "-e ." in calls
    again = run_env(folder)
    assert (again.returncode, again.stdout, (folder / "calls").read_text()) == (0, "", calls)
    (folder / "constraints.txt").write_text("numpy==1.0\n")
    assert "bringing .venv up" in run_env(folder).stdout


def test_make_env_takes_another_build_of_torch_by_its_version_and_says_so(copy):
    refused = 'case "$*" in *.builds*) exit 1 ;; *) echo "$@" >> calls ;; esac'
    folder = copy(".venv/bin/python", refused)
    result = run_env(folder)
    assert result.returncode == 0 and "only its version is checked" in result.stderr
    assert "-c constraints.txt torch torchvision" in (folder / "calls").read_text()


def test_make_env_starts_again_after_an_interruption_and_checks_the_disk(copy):
    folder = copy("df", "echo header; echo disk 1 1 1048576 1% /")
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".installing").touch()
    result = run_env(folder)
    assert result.returncode == 1
    assert "interrupted; starting again" in result.stdout
    assert "1 GB free" in result.stderr and "8 GB needed" in result.stderr
    assert not (folder / ".venv").exists()


def test_make_env_does_not_call_a_failed_installation_ready(copy):
    folder = copy(".venv/bin/python", 'case "$*" in *install*) exit 1 ;; esac')
    result = run_env(folder)
    assert result.returncode == 1 and "run make env again" in result.stderr
    assert not (folder / ".venv" / ".stamp").exists()
    assert not (folder / ".venv" / ".installing").exists()  # pip check found it whole


def test_make_env_names_the_remedy_for_a_missing_or_old_python(copy):
    old = 'case "$*" in *version_info*) exit 1 ;; --version) echo Python 3.9 ;; *) cat ;; esac'
    folder = copy("oldpython", old)
    missing = run_env(folder, "no-such-python")
    assert missing.returncode == 1 and "make env PYTHON=" in missing.stderr
    result = run_env(folder, "oldpython")
    assert result.returncode == 1 and "Python 3.9 is too old" in result.stderr
