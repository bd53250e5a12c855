"""A wheel built from the tracked files works outside the checkout, without its sources."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.timeout(400)


def call(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    listed = call("git", "ls-files", "-z", cwd=root)
    with tarfile.open(folder / "sources.tar", "w") as tar:
        for name in filter(None, listed.split("\0")):
            if (root / name).is_file():
                tar.add(root / name, name)
    with tarfile.open(folder / "sources.tar") as tar:
        tar.extractall(folder / "sources", filter="data")
    out = folder / "dist"
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", out, folder / "sources")
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """A fresh environment with the wheel, and the packages it needs from this one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(call(python, "-c", code).strip())
    # A path in a .pth file is not searched for further .pth files: no editable install comes along.
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    call(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--target", site, wheel)  # fmt: skip
    return folder, python


def outside(elsewhere, *arguments):
    folder, python = elsewhere
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NOISYSEG", "PYTHON"))}
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return call(python, *arguments, cwd=work, env=kept | {"OMP_NUM_THREADS": "1"})


def test_it_holds_the_packages_and_nothing_else(wheel, root):
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        (metadata,) = [n for n in names if n.endswith("METADATA")]
        told = Parser().parsestr(files.read(metadata).decode())
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"noisyseg", "data_prep"}
    library = {n for n in names if n.startswith("noisyseg/")}
    wanted = [*(root / "noisyseg").rglob("*.py"), *(root / "noisyseg/widgets/web").iterdir()]
    assert library == {str(path.relative_to(root)) for path in wanted}
    assert "data_prep/embedded/lidc-readers.npz" in names and any("LICENSE" in n for n in names)
    assert told["License-Expression"] == "MIT" and told["Requires-Python"] == ">=3.11"
    import tomllib

    wanted = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    given = [line for line in told.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(given) == sorted(wanted)


def test_it_is_imported_from_the_fresh_environment(elsewhere):
    code = "import noisyseg, data_prep.folders.own, noisyseg.widgets; print(noisyseg.__file__)"
    assert Path(outside(elsewhere, "-c", code).strip()).is_relative_to(elsewhere[0] / "env")


def test_the_own_data_command_runs_outside_the_checkout(elsewhere):
    folder, _ = elsewhere
    rng = np.random.default_rng(0)
    for name in ("images", "anna", "ben"):
        (folder / "mine" / name).mkdir(parents=True)
    for n in range(12):
        mask = np.zeros((24, 24), bool)
        y, x = rng.integers(4, 14, 2)
        mask[y : y + 6, x : x + 6] = True
        noise = rng.normal(90, 20, mask.shape) + 80 * mask
        pictures = {"images": noise.clip(0, 255), "anna": 255 * mask, "ben": 255 * np.roll(mask, 1)}
        for name, pixels in pictures.items():
            file = folder / "mine" / name / f"scan{n}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    told = outside(elsewhere, "-m", "noisyseg.report", "--data", folder / "mine",
                   "--out", folder / "out", "--steps", "20")  # fmt: skip
    assert told.strip().endswith("report.html")
    text = (folder / "out" / "report.html").read_text("utf-8")
    assert "12 images of 12 cases" in text
    assert len(list((folder / "out" / "predictions").iterdir())) == 12
    assert (folder / "out" / "runs").is_dir(), "its store lies beside the report"


def test_embedded_data_come_along(elsewhere):
    out = outside(elsewhere, "-m", "data_prep.examples", "nifti", "--out", elsewhere[0] / "nodules")
    assert "reader4" in out


REPORT = "from noisyseg.report.__main__ import main; main(['--data', {data!r}, '--out', {out!r}])"
REMEDIES = {
    "nibabel": (REPORT, "NIfTI needs nibabel; pip install 'noisyseg[medical]'"),
    "ipywidgets": ("import noisyseg.widgets", "pip install 'noisyseg[notebooks]'"),
}


@pytest.mark.parametrize("missing", REMEDIES)
def test_what_is_missing_is_named_with_the_remedy(tmp_path, missing):
    code, remedy = REMEDIES[missing]
    for name in ("images", "anna"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "a.nii.gz").write_bytes(b"")
    told = code.format(data=str(tmp_path / "mine"), out=str(tmp_path / "out"))
    hidden = f"import sys; sys.modules[{missing!r}] = None; {told}"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True)
    assert done.returncode == 1 and remedy in done.stderr.splitlines()[-1]
