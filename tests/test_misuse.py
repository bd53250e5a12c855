"""Faults of what people give to the library: types, names, edges of others' classes, old files."""

import os
import subprocess
import sys
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import noisyseg as ns
from noisyseg.calibrated import calibrate
from noisyseg.config import _typed
from noisyseg.plots import portraits, style
from noisyseg.report import make
from noisyseg.report.__main__ import main as report
from noisyseg.storage import check_npz
from noisyseg.train import _schedule


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("epochs", "2", "without quotes"),
        ("epochs", 2.0, "whole number"),
        ("epochs", True, "whole number"),
        ("seed", 1.5, "whole number"),
        ("learning_rate", "1e-3", "finite number"),
        ("learning_rate", float("inf"), "finite number"),
        ("trace_weight", None, "finite number"),
        ("flip", 1, "True or False"),
        ("annotators", "good", "list of texts"),
        ("annotators", (1, 2), "list of texts"),
        ("dataset", 5, "a text"),
        ("n_train", "all", "whole number"),
    ],
)
def test_a_field_of_another_type_is_named_with_what_to_give(field, value, said):
    with pytest.raises(ValueError, match=f"{field} is .*{said}"):
        typed(field, value)


def typed(field, value):
    """As the config takes it; in tests beartype would look first, for users nobody does."""
    (entry,) = (f for f in fields(ns.ExperimentConfig) if f.name == field)
    return _typed(entry, value)


def test_a_seed_below_0_is_refused():
    with pytest.raises(ValueError, match="seed is -1: give a number of at least 0"):
        ns.ExperimentConfig(seed=-1)


def test_numbers_of_numpy_are_numbers():
    given = {"epochs": np.int64(3), "learning_rate": np.float32(0.5), "annotators": ["good"]}
    found = {name: typed(name, value) for name, value in given.items()}
    assert found == {"epochs": 3, "learning_rate": 0.5, "annotators": ("good",)}
    assert (type(found["epochs"]), type(found["learning_rate"])) == (int, float)
    assert typed("n_train", None) is None and typed("dataset", Path("x")) == "x"


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([np.ones((1, 4, 4)), np.ones((1, 4, 5))], r"number 1 has \(1, 4, 5\)"),
        ([["a", "b"]], "array of numbers"),
        ([[None]], "array of numbers"),
    ],
)
def test_images_that_make_no_array_are_refused_by_name(tmp_path, images, said):
    with pytest.raises(ValueError, match=f"^images: .*{said}"):
        ns.write_prepared(tmp_path / "x", images, classes=["a", "b"], origin="real")


@pytest.mark.parametrize("steps", [*range(1, 13), 25, 100])
def test_any_number_of_steps_has_a_schedule(steps):
    cfg = ns.ExperimentConfig(epochs=1, schedule="one_cycle", learning_rate=0.1)
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    schedule, rates = _schedule(optimiser, cfg, steps), []
    for _ in range(steps):
        optimiser.step()
        rates += schedule.get_last_lr()
        if len(rates) < steps:
            schedule.step()
    assert np.isfinite(rates).all() and max(rates) <= 0.1 + 1e-9


SCRIPT = """
import noisyseg as ns
def go():
    return ns.sweep([ns.ExperimentConfig()], workers=2)
{guard}go()
"""


def test_an_unguarded_script_gets_one_sentence(tmp_path, root):
    (tmp_path / "s.py").write_text(SCRIPT.format(guard=""))
    done = subprocess.run(
        [sys.executable, tmp_path / "s.py"],
        env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1 and len(done.stderr.splitlines()) < 20
    last = done.stderr.splitlines()[-1]
    assert "s.py, line 5" in last and 'if __name__ == "__main__":' in last


def test_workers_speak_through_certificates_of_their_own():
    from noisyseg.sweeps import _security

    one, two = (_security() for _ in range(2))
    assert one.require_encryption and one.tls_ca_file != two.tls_ca_file


def test_workers_without_the_package_of_certificates_are_refused(monkeypatch):
    from noisyseg import sweeps

    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ModuleNotFoundError, match=r"cryptography.*workers=1"):
        sweeps._security()


NAMES = ["a$^$", r"r$2$", "_hidden", "r$2", "Müller", "^_{x}"]


def test_charts_show_names_as_they_are():
    figure = portraits.relative_widths(np.zeros((3, len(NAMES), 2)), NAMES, ["a", "b"])
    figure.canvas.draw()
    shown = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    drawn = [t._preprocess_math(t.get_text()) for t in figure.axes[0].get_yticklabels()]
    assert [text.strip() for text, _ in drawn] == NAMES, shown
    assert not any(math for _, math in drawn)
    legend = Figure().subplots()
    for text in style.legible(["_hidden"]):
        legend.plot([], [], label=text)
    assert [t.get_text().strip() for t in legend.legend().get_texts()] == ["_hidden"]


def test_letters_without_a_font_are_written_in_a_way_that_tells_them_apart(monkeypatch):
    monkeypatch.setattr(style, "_has_font", lambda text: text.isascii())
    names = ["李明", "王芳", "anna"]
    assert len(set(style.legible(names))) == 3 and style.legible(names)[2] == "anna"
    assert style.illegible(names) == dict(zip(style.legible(names)[:2], names, strict=False))


def prepared(path, **more):
    truth = np.zeros((9, 8, 8), np.int8)
    truth[:, 2:5, 2:6] = 1
    images = truth[:, None] + np.random.default_rng(0).normal(0, 0.1, (9, 1, 8, 8))
    given = {"truth": truth, "classes": ["a", "b"], "origin": "real"} | more
    return ns.write_prepared(path, images, **given)


def test_there_is_no_report_on_people_who_do_not_exist(tmp_path):
    with pytest.raises(SystemExit, match="nobody to report on"):
        report(["--data", str(prepared(tmp_path / "p")), "--out", str(tmp_path / "r")])
    assert not (tmp_path / "r" / "report.html").exists()


def test_the_checksum_sees_what_lies_behind_links(tmp_path):
    for name in ("elsewhere", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere" / "m.png").write_bytes(b"1")
    (tmp_path / "data" / "ben").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    before = make._checksum(tmp_path / "data")
    (tmp_path / "elsewhere" / "m.png").write_bytes(b"2")
    assert make._checksum(tmp_path / "data") != before


def test_options_of_another_command_are_said_to_be_its(tmp_path):
    for n in range(2):
        for who in ("images", "anna"):
            (tmp_path / "d" / who).mkdir(parents=True, exist_ok=True)
            from PIL import Image

            Image.fromarray((np.eye(9) * 255).astype(np.uint8)).save(
                tmp_path / "d" / who / f"i{n}.png"
            )
    with pytest.raises(SystemExit) as error:
        report(["--data", str(tmp_path / "d"), "--out", str(tmp_path / "r")])
    said = str(error.value)
    assert "fewer than three" in said
    assert "--cases" not in said or "data_prep.folders" in said or _knows("--cases")


def _knows(option):
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        report(["--help"])
    return option in out.getvalue()


def test_a_file_where_a_folder_should_be_ends_run_all_in_a_sentence(tmp_path, capsys, root):
    sys.path.insert(0, str(root / "notebooks"))
    try:
        import run_all
    finally:
        sys.path.pop(0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(SystemExit):
        run_all.main(["--out", str(tmp_path / "file" / "deeper"), "--list"])
    assert "file is a file; give a folder" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("claim", ["zeros", "header"])
def test_arrays_that_announce_too_much_are_not_unpacked(tmp_path, claim):
    file = tmp_path / "a.npz"
    if claim == "zeros":
        np.savez_compressed(file, x=np.zeros(40_000_000, np.uint8))
    else:
        with zipfile.ZipFile(file, "w") as archive, archive.open("x.npy", "w") as stream:
            head = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
            np.lib.format.write_array_header_1_0(stream, head)
    assert file.stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"a.npz: announces .* NOISYSEG_MAX_GB="):
        check_npz(file, 0.01)
    np.savez_compressed(file, x=np.zeros(10))
    check_npz(file, 0.01)


def test_images_too_large_to_square_are_refused():
    labels = np.zeros((1, 1, 4, 4), int)
    with pytest.raises(ValueError, match="rescale"):
        calibrate(np.full((1, 1, 4, 4), 1e200), labels, 2)
