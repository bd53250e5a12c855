"""Predictions of one's own files, and notebook 40, cell by cell, on the kinds of data there are."""

import shutil

import numpy as np
import papermill
import pytest
import tifffile
import trees
from PIL import Image

import noisyseg as ns
from data_prep import examples
from data_prep.folders import own
from data_prep.formats.pictures import read_labels
from noisyseg.report import make
from noisyseg.storage import data_root, project_root

pytestmark = pytest.mark.timeout(600)
BOOK = project_root() / "notebooks" / "40_your_own_data.ipynb"


def cells(folder, dataset, monkeypatch):
    """The executed notebook's printed lines; its eleven cells of code all ran."""
    monkeypatch.setenv("NOISYSEG_DATA", str(data_root()))
    monkeypatch.setenv("NOISYSEG_RUNS", str(folder / "runs"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    done = papermill.execute_notebook(
        BOOK, folder / "out.ipynb", {"overrides": {"dataset": str(dataset)}}, cwd=BOOK.parent,
        kernel_name="python3", progress_bar=False, log_output=False, start_timeout=120,
    )  # fmt: skip
    code = [c for c in done.cells if c.cell_type == "code"]
    injected = [c for c in code if "injected-parameters" in c.metadata.get("tags", [])]
    assert len(code) - len(injected) == 11 and all(c.execution_count for c in code)
    outputs = [o for c in code for o in c.outputs]
    assert not [o for o in outputs if o.get("name") == "stderr"]
    return "".join(o.get("text", "") for o in outputs)


# Jupyter's own packages warn about each other; the notebook's warnings are looked for above.
@pytest.mark.filterwarnings("ignore")
def test_the_readers_outlines_as_a_prepared_folder(tmp_path, monkeypatch):
    text = cells(tmp_path, data_root() / "lidc", monkeypatch)
    assert "888 images" in text and text.count(": True") == 5
    for reader in range(1, 5):
        assert f"reader {reader}: " in text


@pytest.mark.filterwarnings("ignore")
def test_oblique_volumes_of_four_readers(tmp_path, monkeypatch):
    examples.write_nifti(tmp_path / "nodules", volumes=30)
    text = cells(tmp_path, tmp_path / "nodules", monkeypatch)
    assert "'images': 30" in text and "predictions: True" in text and text.count(": True") == 6
    written = list((tmp_path / "runs").rglob("annotator_reader4.nii.gz"))
    assert len(written) == 30


def test_png_with_an_annotator_of_a_third_is_the_stored_one():
    """The third kind is the notebook's own example, executed by nbval in `make test`."""
    stored = BOOK.read_text("utf-8")
    assert "'anna': 600, 'ben': 600, 'cleo': 200" in stored
    said = {
        name: next(s for s in stored.split("\n") if f"{name}: " in s) for name in ("anna", "ben")
    }
    assert "px (" in said["anna"] and "wider than the others" in said["anna"]
    assert "narrower than the others" in said["ben"]
    assert "cleo: draws as wide as the others" in stored


WRITERS = {
    "png": lambda file, a: Image.fromarray(a[0]).save(file),
    "tif": lambda file, a: tifffile.imwrite(file, a, photometric="minisblack"),
    "nii.gz": lambda file, a: trees.save(file, a.T),
}


def raw(folder, kind, pages=2):
    """Six images in noise with a box at a place of its own, and the masks of two annotators."""
    rng = np.random.default_rng(0)
    for n in range(6):
        mask = np.zeros((pages, 24, 20), np.uint8)
        mask[:, 3 + n : 12 + n, 4:13] = 1
        image = (40 + 120 * mask + rng.normal(0, 15, mask.shape)).astype(np.uint8)
        for name, array in {"images": image, "anna": mask, "ben": mask}.items():
            file = folder / name / f"c{n}.{kind}"
            file.parent.mkdir(parents=True, exist_ok=True)
            WRITERS[kind](file, array)
    return folder


def trained(folder, out, seed=0):
    if not out.exists():
        own.prepare_own(folder, out, origin="simulated")
    return ns.run(make.own_config(out, "no_trace", 10, seed).replace(width=4, depth=2, epochs=1))


@pytest.mark.parametrize("pages", [3, 7])
def test_a_stack_of_pages_is_predicted_as_a_stack(tmp_path, pages):
    run = trained(raw(tmp_path / "raw", "tif", pages), tmp_path / "prepared")
    assert own.predict_own(run, tmp_path / "raw", tmp_path / "out") == 6
    data = ns.load_dataset(tmp_path / "prepared")
    for n in range(6):
        there = tmp_path / "out" / f"c{n}"
        names = ("truth", "annotator_anna", "annotator_ben", "uncertainty")
        assert {f.name for f in there.iterdir()} == {f"{name}.tif" for name in names}
        rows = [i for i, name in enumerate(data.image_ids) if name.startswith(f"c{n}/")]
        found = ns.predict_volume(run.model(), data.read_images()[rows].swapaxes(0, 1), axis=0)
        np.testing.assert_array_equal(read_labels(there / "truth.tif").array, found.truth)
        for who, expected in zip(("anna", "ben"), found.annotators, strict=True):
            stored = tifffile.imread(there / f"annotator_{who}.tif")
            np.testing.assert_array_equal(stored, expected)
        grey = tifffile.imread(there / "uncertainty.tif")
        assert grey.shape == (pages, 24, 20)
        np.testing.assert_allclose(grey / 255, found.uncertainty, atol=0.5 / 255 + 1e-6)


def contents(folder):
    """Bytes and time of every file, by its path below `folder`."""
    files = [f for f in folder.rglob("*") if f.is_file()]
    return {f.relative_to(folder): (f.read_bytes(), f.stat().st_mtime_ns) for f in files}


@pytest.mark.parametrize("kind", WRITERS)
def test_predictions_of_another_run_are_neither_taken_for_ones_own_nor_lost(tmp_path, kind):
    raw(tmp_path / "raw", kind)
    runs = [trained(tmp_path / "raw", tmp_path / "prepared", seed) for seed in (0, 1)]
    first, second = (run.path.name[-8:] for run in runs)
    made = {}
    for digest, run in zip((first, second), runs, strict=True):
        own.predict_own(run, tmp_path / "raw", tmp_path / f"alone{digest}")
        made[digest] = {f: c for f, (c, _) in contents(tmp_path / f"alone{digest}").items()}
    assert made[first] != made[second]

    assert own.predict_own(runs[0], tmp_path / "raw", tmp_path / "out") == 6
    before = contents(tmp_path / "out")
    with pytest.warns(UserWarning, match=f"run {first}, which are now in .*out-{first}"):
        assert own.predict_own(runs[1], tmp_path / "raw", tmp_path / "out") == 6
    assert {f: c for f, (c, _) in contents(tmp_path / "out").items()} == made[second]
    assert contents(tmp_path / f"out-{first}") == before
    with pytest.warns(UserWarning, match=f"run {second}, which are now in"):
        assert own.predict_own(runs[0], tmp_path / "raw", tmp_path / "out") == 6
    assert contents(tmp_path / "out") == before
    assert {f: c for f, (c, _) in contents(tmp_path / f"out-{second}").items()} == made[second]


def test_an_interrupted_call_goes_on_where_it_was(tmp_path):
    run = trained(raw(tmp_path / "raw", "tif"), tmp_path / "prepared")
    own.predict_own(run, tmp_path / "raw", tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "c3" / "uncertainty.tif").unlink()
    shutil.rmtree(tmp_path / "out" / "c4")
    assert own.predict_own(run, tmp_path / "raw", tmp_path / "out") == 6
    after = contents(tmp_path / "out")
    assert {f for f in before if before[f] == after[f]} == {
        f for f in before if f.parts[0] not in ("c3", "c4")
    }
    assert {f: c for f, (c, _) in after.items()} == {f: c for f, (c, _) in before.items()}


def unnamed(folder):
    """Predictions as they were before they named their run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("truth", "uncertainty"):
        Image.fromarray(np.zeros((24, 20), np.uint8)).save(folder / f"{name}.png")
    return contents(folder)


def test_predictions_that_name_no_run_are_not_taken_for_ones_own(tmp_path):
    run = trained(raw(tmp_path / "raw", "png", 1), tmp_path / "prepared")
    old = unnamed(tmp_path / "out" / "c2")
    with pytest.warns(UserWarning, match="an unknown run, which are now in .*out-unknown"):
        assert own.predict_own(run, tmp_path / "raw", tmp_path / "out") == 6
    assert contents(tmp_path / "out-unknown" / "c2") == old
    unnamed(tmp_path / "out" / "c2")
    with pytest.raises(FileExistsError, match="both hold predictions of an unknown run"):
        own.predict_own(run, tmp_path / "raw", tmp_path / "out")
