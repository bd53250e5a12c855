"""What `constraints.txt` pins, with the sha256 of each file: for pip, and for a bill of materials.

Versions stand in constraints.txt alone, checksums in .ci/hashes.txt: those of CPython 3.11 on
Linux x86-64, where the tests run. Only the standard library: it runs before anything is installed.

    python .ci/pins.py rest|torch     lines for pip --require-hashes (exit status 3: other platform)
    python .ci/pins.py sbom           the bill of materials (CycloneDX) of what is installed
    python .ci/pins.py hash           ask pip for all checksums anew (needs the network)
"""

import json
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
import uuid
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS, HASHES = ROOT / "constraints.txt", ROOT / ".ci" / "hashes.txt"
PLATFORM = ("Linux", "x86_64", "cpython", (3, 11))
# Each kind of accelerator has its own build of these under one version number.
BUILDS = ("torch", "torchvision")
HEAD = "# sha256 of the files of constraints.txt for CPython 3.11 on Linux x86-64: make hashes\n"
OTHER_PLATFORM = 3


def canonical(name: str) -> str:
    """One spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Canonical name -> pinned version."""
    lines = [line.partition("#")[0].strip() for line in PINS.read_text().splitlines()]
    return {canonical(name): version for name, version in (s.split("==") for s in lines if s)}


def hashes() -> dict[str, list[str]]:
    """Canonical name -> the sha256 of every file that may be installed for it."""
    rows = [line.split() for line in HASHES.read_text().splitlines() if not line.startswith("#")]
    return {name: found for name, *found in rows}


def requirements(which: str) -> str:
    """Lines for `pip install --require-hashes --no-deps -r`; `which` is rest, torch or all."""
    known, lines = hashes(), []
    for name, version in pins().items():
        if which == "all" or (name in BUILDS) == (which == "torch"):
            allowed = " ".join(f"--hash=sha256:{value}" for value in known[name])
            lines.append(f"{name}=={version} {allowed}")
    return "\n".join(lines)


def is_tested_platform() -> bool:
    """Whether the checksums are those of the files for this interpreter."""
    here = (platform.system(), platform.machine(), sys.implementation.name, sys.version_info[:2])
    return here == PLATFORM


def write_hashes() -> None:
    """Ask pip which file it would take for each pin, and note its checksum beside known ones.

    A checksum stays as long as the version does: then it is one of several builds.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        call = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
        call += ["--ignore-installed", "--report", str(report), "-r", str(PINS)]
        subprocess.run(call, check=True)
        found = json.loads(report.read_text())["install"]
    lines = []
    for entry in sorted(found, key=lambda one: canonical(one["metadata"]["name"])):
        value = entry["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{canonical(entry['metadata']['name'])} {value}")
    HASHES.write_text(HEAD + "\n".join(lines) + "\n")


def sbom() -> str:
    """CycloneDX 1.5: every pinned package that is installed, and who needs whom.

    Without a time stamp, so that the same packages give the same bytes.
    """
    known, project = hashes(), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = {canonical(d.metadata["Name"]): d for d in metadata.distributions()}
    here = {name: installed[name] for name in sorted(pins()) if name in installed}
    components = [_component(name, d.version, d, known.get(name, [])) for name, d in here.items()]
    root = _component(project["name"], project["version"], None, [])
    needs = [{"ref": c["bom-ref"], "dependsOn": _needs(here, c["name"])} for c in components]
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": root | {"type": "application"}},
        "components": components,
        "dependencies": needs,
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return json.dumps(body | {"serialNumber": f"urn:uuid:{number}"}, indent=1, sort_keys=True)


def _component(name: str, version: str, dist: metadata.Distribution | None, known: list[str]):
    purl = f"pkg:pypi/{name}@{version.partition('+')[0]}"
    row = {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}
    if known:
        row["hashes"] = [{"alg": "SHA-256", "content": value} for value in known]
    said = dist and (dist.metadata["License-Expression"] or dist.metadata["License"])
    if said and len(said) < 100:
        row["licenses"] = [{"license": {"name": said.strip()}}]
    return row


def _needs(here: dict[str, metadata.Distribution], name: str) -> list[str]:
    """The pinned packages that `name` asks for whatever its extras are."""
    wanted = [r for r in here[name].requires or [] if "extra ==" not in r]
    names = {canonical(re.match(r"[\w.-]+", text)[0]) for text in wanted}
    return [
        f"pkg:pypi/{n}@{here[n].version.partition('+')[0]}" for n in sorted(names & here.keys())
    ]


def main(which: str) -> int:
    """Print what is asked for; returns the exit status."""
    if which == "hash":
        write_hashes()
        return 0
    if which == "sbom":
        print(sbom())
        return 0
    if not is_tested_platform():
        return OTHER_PLATFORM
    print(requirements(which))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
