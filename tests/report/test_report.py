"""The report command on three kinds of data, and what stops it."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_page import read

import noisyseg as ns
from data_prep import examples
from noisyseg.report import make
from noisyseg.report.__main__ import main
from noisyseg.report.skills import estimate, report_of_estimate, sentences
from noisyseg.runs import Run, read_config


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    """60 digits, three annotators of whom one labelled a third, reported on."""
    folder = tmp_path_factory.mktemp("png")
    examples.write_png(folder / "digits", images=60)
    page = make.build(folder / "digits", folder / "out", steps=60, resamples=100)
    return folder, page


@pytest.fixture(scope="module")
def nifti(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nifti")
    examples.write_nifti(folder / "nodules", volumes=10)
    page = make.build(folder / "nodules", folder / "out", steps=20, resamples=100)
    return folder, page


def the_run(folder):
    config = make.own_config(folder / "out" / "prepared", "calibrated", 60)
    assert config.flip and config.trace_weight == 0
    return ns.run(config)


def test_png_with_an_annotator_of_a_third(png):
    folder, page = png
    html = page.read_text("utf-8")
    found = read(html)
    text = " ".join(found.text)
    assert "60 images of 60 cases, 28 x 28 pixels" in text
    for name, count in {"anna": 60, "ben": 60, "cleo": 20}.items():
        assert f"<td>{name}</td>\n      <td>{count}</td>" in html
    assert len(found.images) == 5
    tables = report_of_estimate(estimate(the_run(folder)), 100)
    for name in ("anna", "ben", "cleo"):
        for sentence in sentences(tables, name):
            assert sentence in text
    written = pd.read_csv(folder / "out" / "skills.csv")
    pd.testing.assert_frame_equal(written, tables.skills, check_dtype=False)
    widths = pd.read_csv(folder / "out" / "offsets.csv").set_index("annotator")
    assert widths.offset["anna"] >= 0.5 and widths.offset["ben"] <= -0.5
    headings = ("How wide each annotator draws", "Skill of each annotator", "Systematic errors")
    assert [text.index(h) for h in headings] == sorted(text.index(h) for h in headings)
    assert f"anna {widths.text['anna']}" in text and "wider than the others" in widths.text["anna"]
    assert "ben draws" in text and "narrower than the others" in widths.text["ben"]
    assert "The group as a whole stays where it is." in text


def test_png_predictions_are_png_of_the_same_size(png):
    folder, _ = png
    done = the_run(folder)
    data = ns.load_dataset(folder / "out" / "prepared")
    found = estimate(done)
    for n in (0, 17):
        name = data.image_ids[n].split("/")[0]
        there = folder / "out" / "predictions" / name
        files = {p.name for p in there.iterdir()}
        assert files == {"truth.png", "uncertainty.png"} | {
            f"annotator_{a}.png" for a in data.annotators
        }
        truth = Image.open(there / "truth.png")
        assert truth.mode == "P" and np.array_equal(np.array(truth), found.truth[n])
    assert len(list((folder / "out" / "predictions").iterdir())) == 60


def test_volumes_keep_their_oblique_grid(nifti):
    folder, page = nifti
    read(page.read_text("utf-8"))
    data = ns.load_dataset(folder / "out" / "prepared")
    found = estimate(the_nifti_run(folder))
    for file in sorted((folder / "nodules" / "images").iterdir())[:3]:
        name = file.name.removesuffix(".nii.gz")
        image = nib.load(file)
        for kind in ("truth", "uncertainty", "annotator_reader3"):
            out = nib.load(folder / "out" / "predictions" / name / f"{kind}.nii.gz")
            assert out.shape == image.shape and np.allclose(out.affine, image.affine)
        truth = np.asarray(nib.load(folder / "out" / "predictions" / name / "truth.nii.gz").dataobj)
        slices = [n for n, i in enumerate(data.image_ids) if i.startswith(f"{name}/")]
        prepared = np.stack([found.truth[n] for n in slices])
        assert sorted(prepared.sum((1, 2))) == sorted(truth.sum((0, 1)))


def the_nifti_run(folder):
    return ns.run(make.own_config(folder / "out" / "prepared", "calibrated", 20))


def test_a_prepared_folder_with_a_reference(tiny_folder, tmp_path):
    page = make.build(tiny_folder, tmp_path / "out", steps=30, resamples=50)
    text = " ".join(read(page.read_text("utf-8")).text)
    assert "Against the reference of the test images" in text and "narrow" in text
    assert not (tmp_path / "out" / "prepared").exists()


def test_a_second_call_loads_everything_and_changes_nothing(png, monkeypatch):
    import torch

    folder, page = png
    monkeypatch.setattr(torch.Tensor, "backward", lambda *a: pytest.fail("it trains again"))
    files = [p for p in (folder / "out").rglob("*") if p.is_file() and "prepared" not in p.parts]
    before = {p: p.read_bytes() for p in files}
    make.build(folder / "digits", folder / "out", steps=60, resamples=100)
    assert before == {p: p.read_bytes() for p in files}


def test_an_interrupted_report_goes_on(tmp_path, monkeypatch):
    examples.write_png(tmp_path / "digits", images=24)

    def stops(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make, "report_page", stops)
        with pytest.raises(KeyboardInterrupt):
            make.build(tmp_path / "digits", tmp_path / "out", steps=10)
    assert not (tmp_path / "out" / "report.html").exists()
    assert make.build(tmp_path / "digits", tmp_path / "out", steps=10).exists()
    assert not list((tmp_path / "out").rglob("*.part"))


def message(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    text = str(stop.value)
    assert text.startswith("error: ") and "Traceback" not in text
    return text


def test_a_folder_without_masks(tmp_path, capsys):
    (tmp_path / "mine" / "images").mkdir(parents=True)
    text = message(capsys, "--data", tmp_path / "mine", "--out", tmp_path / "out")
    assert "holds images; expected images/" in text and "one folder of masks" in text


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert "nowhere" in message(capsys, "--data", tmp_path / "nowhere", "--out", tmp_path / "out")


def test_a_mask_of_another_size_is_left_out_and_the_page_says_so(tmp_path):
    examples.write_png(tmp_path / "mine", images=20)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "mine" / "ben" / "digit004.png")
    page = make.build(tmp_path / "mine", tmp_path / "out", steps=4, resamples=20)
    text = " ".join(read(page.read_text("utf-8")).text)
    assert "1 cases left out" in text and "ben/digit004.png: its size is (9, 9)" in text
    assert "19 images of 19 cases" in text


def test_an_unknown_method_and_one_without_a_network(tiny_folder, tmp_path, capsys):
    for name in ("magic", "staple_fusion"):
        text = message(capsys, "--data", tiny_folder, "--out", tmp_path / "out", "--method", name)
        assert f"unknown method {name!r}" in text and "calibrated" in text
    assert not (tmp_path / "out").exists()


def settings(page):
    return json.loads(page.with_name("settings.json").read_text("utf-8"))


def test_anchor_and_flip_are_part_of_what_the_report_is(tmp_path, capsys):
    examples.write_png(tmp_path / "mine", images=20)
    mine = ("--data", tmp_path / "mine", "--steps", 4, "--out")
    page = make.build(
        tmp_path / "mine", tmp_path / "image", anchor="image", flip=False, steps=4, resamples=20
    )
    made = settings(page)
    assert (made["method"], made["anchor"], made["flip"]) == ("calibrated_image", "image", False)
    text = " ".join(read(page.read_text("utf-8")).text)
    assert "assumes that objects end where the image changes most" in text
    assert "The group as a whole stays where it is." not in text
    assert "report of other flip" in message(capsys, *mine, tmp_path / "image", "--anchor", "image")
    told = message(capsys, *mine, tmp_path / "image", "--no-flip")
    assert "report of other method, anchor" in told
    told = message(capsys, *mine, tmp_path / "other", "--anchor", "image", "--method", "trace")
    assert "method trace does not: use calibrated" in told and not (tmp_path / "other").exists()
    with pytest.raises(ValueError, match="unknown anchor 'truth'; allowed: annotators, image"):
        make.anchored("calibrated", "truth")


def test_the_help_says_what_the_image_anchor_assumes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "assumes that objects end where the image changes most" in text and "--no-flip" in text


def test_methods_bring_their_trace_weight_to_own_data(tiny_folder):
    weights = {"trace": 0.1, "trace_printed": 0.7, "no_trace": 0.0, "calibrated": 0.0}
    for method, weight in weights.items():
        for cfg in (
            make.own_config(tiny_folder, method, 10),
            ns.ExperimentConfig.preset("own", method=method, dataset=str(tiny_folder)),
        ):
            assert cfg.trace_weight == weight, method
            assert cfg.warm_up == "fixed" and cfg.warm_up_share == 0.5
    printed, held = (make.own_config(tiny_folder, m, 10) for m in ("trace_printed", "trace"))
    assert (printed.dominance_weight, held.dominance_weight) == (0.0, 5.0)
    assert held.flip and not make.own_config(tiny_folder, "trace", 10, flip=False).flip
    assert make.own_config(tiny_folder, "calibrated_image", 10).anchor == "image"


def test_out_holds_something_else_or_another_report(tiny_folder, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("x")
    text = message(capsys, "--data", tiny_folder, "--out", out)
    assert "holds something else; give another --out" in text
    (out / "thesis.txt").unlink()
    (out / "settings.json").write_text(json.dumps({"data": "elsewhere"}))
    (out / "report.html").write_text("x")
    text = message(capsys, "--data", tiny_folder, "--out", out)
    assert "report of other data, method, steps" in text and "give another --out" in text
    assert "anchor" in text and "flip" in text


def test_changed_masks_never_return_the_old_page(tmp_path, capsys):
    examples.write_png(tmp_path / "mine", images=20)
    make.build(tmp_path / "mine", tmp_path / "out", steps=4, resamples=20)
    file = tmp_path / "mine" / "anna" / "digit003.png"
    Image.fromarray(255 - np.array(Image.open(file))).save(file)
    text = message(capsys, "--data", tmp_path / "mine", "--out", tmp_path / "out", "--steps", 4)
    assert "report of other files" in text


def test_a_first_call_that_failed_binds_nobody(tmp_path, monkeypatch):
    examples.write_png(tmp_path / "mine", images=20)
    with monkeypatch.context() as patch:
        patch.setattr(make, "run", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            make.build(tmp_path / "mine", tmp_path / "out", steps=4)
    page = make.build(tmp_path / "mine", tmp_path / "out", steps=6, resamples=20)
    assert "simulated" not in page.read_text("utf-8")


def test_origin_is_what_was_said(tmp_path):
    examples.write_png(tmp_path / "mine", images=20)
    page = make.build(
        tmp_path / "mine", tmp_path / "out", steps=4, resamples=20, origin="simulated"
    )
    assert "data: simulated" in page.read_text("utf-8")


def test_a_page_of_any_finished_run(tiny_folder, tmp_path):
    cfg = ns.ExperimentConfig.preset(
        "tiny", "smoke", "mode", 0, dataset=str(tiny_folder), epochs=2, width=4, depth=2
    )
    done = ns.run(cfg)
    shutil.copytree(done.path, tmp_path / "copy")
    copied = Run(read_config(tmp_path / "copy"), tmp_path / "copy", done.build)
    text = " ".join(read(make.report_page(copied, tmp_path, 50).read_text("utf-8")).text)
    assert "Method: majority labels" in text and "nothing to watch" in text


def test_images_that_were_left_out_do_not_stop_the_predictions(tmp_path):
    mine = tmp_path / "mine"
    examples.write_png(mine, images=24)
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(mine / "images" / "digit003.png")
    (mine / "images" / "digit005.png").write_bytes(b"no picture")
    page = make.build(mine, tmp_path / "out", steps=4, resamples=20)
    text = " ".join(read(page.read_text("utf-8")).text)
    assert "2 cases left out" in text and "digit003" in text and "digit005" in text
    there = {p.name for p in (tmp_path / "out" / "predictions").iterdir()}
    assert there == {f"digit{n:03d}" for n in range(24)} - {"digit003", "digit005"}


def test_a_missing_channel_leaves_out_that_image_only(tmp_path):
    mine = tmp_path / "mine"
    examples.write_png(mine, images=24)
    shutil.copytree(mine / "images", mine / "images_t2")
    (mine / "images").rename(mine / "images_t1")
    (mine / "images_t1" / "digit009.png").unlink()
    page = make.build(mine, tmp_path / "out", steps=4, resamples=20)
    assert "23 images of 23 cases" in page.read_text("utf-8")
    assert not (tmp_path / "out" / "predictions" / "digit009").exists()


def test_a_reference_for_some_images_does_not_choose_what_is_learned_from(tmp_path):
    mine = tmp_path / "mine"
    examples.write_png(mine, images=24)
    (mine / "truth").mkdir()
    shutil.copy(mine / "anna" / "digit000.png", mine / "truth" / "digit000.png")
    page = make.build(mine, tmp_path / "out", steps=4, resamples=20).read_text("utf-8")
    assert "24 images of 24 cases" in page and "lacks 23 of 24 images" in page


@pytest.mark.parametrize("code", ["RAS", "LPS", "PIR", "SRA"])
def test_predictions_lie_voxel_by_voxel_where_the_masks_lie(tmp_path, code):
    """A bright L on noise is learned to the voxel; a mirrored answer would score below 0.8."""
    rng = np.random.default_rng(0)
    target = nib.orientations.axcodes2ornt(code)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), target)
    affine = nib.affines.from_matvec(np.diag([1.0, 1.2, 3.0]), [5.0, -7.0, 11.0])
    for k in range(6):
        mask = np.zeros((24, 20, 5), np.uint8)
        for z in range(5):
            x, y = rng.integers(2, 8), rng.integers(2, 6)
            mask[x : x + 9, y : y + 5, z] = mask[x : x + 3, y : y + 11, z] = 1
        image = (rng.normal(0, 0.3, mask.shape) + 3 * mask).astype(np.float32)
        for folder, array in {"images": image, "anna": mask, "ben": mask}.items():
            file = tmp_path / "mine" / folder / f"c{k}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.Nifti1Image(array, affine).as_reoriented(turn).to_filename(file)
    make.build(tmp_path / "mine", tmp_path / "out", steps=100, resamples=10)
    for k in range(6):
        wrote = np.asarray(nib.load(tmp_path / "mine" / "anna" / f"c{k}.nii.gz").dataobj) > 0
        file = tmp_path / "out" / "predictions" / f"c{k}" / "truth.nii.gz"
        found = np.asarray(nib.load(file).dataobj) > 0
        assert 2 * (wrote & found).sum() / (wrote.sum() + found.sum()) > 0.95


def test_steps_clean_and_out_inside_data_are_refused_before_anything_is_written(tmp_path, capsys):
    examples.write_png(tmp_path / "mine", images=6)
    inside, out = tmp_path / "mine" / "report", tmp_path / "out"
    mine = ("--data", tmp_path / "mine")
    assert "lies inside" in message(capsys, *mine, "--out", inside)
    assert "at least 1" in message(capsys, *mine, "--out", out, "--steps", 0)
    assert "labels alone" in message(capsys, *mine, "--out", out, "--method", "clean")
    assert not inside.exists() and not out.exists()
