"""The report on people with awkward names, cases and file names, and what it refuses."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_page import read
from test_report import message

import noisyseg as ns
from data_prep.folders import own, prepare
from data_prep.folders.matching import renamed
from data_prep.folders.plans import plan_folders
from data_prep.formats.pictures import read_labels
from noisyseg.data.views import unpadded
from noisyseg.report import make
from noisyseg.report.__main__ import main
from noisyseg.report.skills import estimate
from noisyseg.storage import FORMULAS
from noisyseg.widgets.skills import AnnotatorPanel

HOSTILE = ("<img src=x onerror=alert(1)>", "=1+2", "@cost $5$")
SIZES = ((20, 28), (28, 17), (24, 13), (28, 28), (22, 25), (15, 27), (28, 20), (21, 21))


def pictures(folder, names, mask_name="{}.png", sizes=SIZES, colours=()):
    """Pictures of unlike sizes with a bright box, outlined by `names`, the last one wider."""
    rng = np.random.default_rng(0)
    for n, size in enumerate(sizes):
        mask = np.zeros(size, np.uint8)
        mask[3:10, 4:11] = 255
        image = (40 + mask / 2 + rng.normal(0, 12, size)).clip(0, 255).astype(np.uint8)
        for who in names:
            wide = mask.copy()
            wide[2:11, 3:12] = 255 if who == names[-1] else wide[2:11, 3:12]
            (folder / who).mkdir(parents=True, exist_ok=True)
            Image.fromarray(wide).save(folder / who / mask_name.format(f"m{n:02d}"))
        (folder / "images").mkdir(parents=True, exist_ok=True)
        if colours:
            image = np.stack([image, 255 - image, np.full(size, 255 if n == 2 else n)], -1)
            image[0, 0, 2] = 255 if n == 2 else 0
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"m{n:02d}.png")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report by the command line on hostile names, prefixed masks and two images a case."""
    folder = tmp_path_factory.mktemp("people")
    raw = pictures(folder / "raw", HOSTILE, "seg_{}.png")
    table = pd.DataFrame({"image_id": [f"m{n:02d}" for n in range(8)]})
    table.assign(case_id=[f"p{n // 2}" for n in range(8)]).to_csv(folder / "who.csv", index=False)
    arguments = ["--data", raw, "--out", folder / "out", "--steps", 12, "--match", "seg_(.+)",
                 "--cases", folder / "who.csv"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(make, "print_now", said.append)
        main([str(a) for a in arguments])
    return folder, said


def test_names_are_text_in_the_page_and_no_formulas_in_the_tables(page):
    folder, _ = page
    html = (folder / "out" / "report.html").read_text("utf-8")
    found = read(html)  # an image that is loaded from elsewhere would be found
    assert "<img src=x" not in html and "8 images of 4 cases" in " ".join(found.text)
    for name in ("offsets", "skills", "biases", "pairs", "relabel"):
        cells = pd.read_csv(folder / "out" / f"{name}.csv", dtype=str, keep_default_na=False)
        for column in ("annotator", "other", "class", "text", "image_id"):
            if column in cells:
                assert not cells[column].str.startswith(FORMULAS).any(), (name, column)
    assert "'=1+2" in (folder / "out" / "skills.csv").read_text("utf-8")


def test_what_the_files_were_taken_for_is_said_before_the_training(page):
    _, said = page
    text = "\n".join(said)
    places = [text.index(w) for w in ("mask values: 0 = background", "training: ", "epoch ")]
    assert places == sorted(places)
    assert "writing predictions" in text and "255 = foreground" in text


def test_pairs_and_cases_are_on_the_page(page):
    folder, _ = page
    text = " ".join(read((folder / "out" / "report.html").read_text("utf-8")).text)
    assert "area ratio" in text and "Dice is pooled over" in text and "all labelled images" in text
    pairs = pd.read_csv(folder / "out" / "pairs.csv").set_index(["annotator", "other"])
    wide, first = "'@cost $5$", HOSTILE[0]
    assert pairs.loc[(wide, first), "area_ratio"] == pytest.approx(81 / 49)
    assert pairs.loc[(first, wide), "dice"] == pytest.approx(2 * 49 / (49 + 81))
    assert set(ns.load_dataset(folder / "out" / "prepared").case_ids) == {"p0", "p1", "p2", "p3"}


def test_a_prepared_folder_has_predictions_that_are_its_estimate(page):
    folder, _ = page
    prepared = folder / "out" / "prepared"
    config = make.own_config(prepared, "calibrated", 12)
    made = make.build(prepared, folder / "again", steps=12, resamples=20)
    assert made.exists()
    found = estimate(ns.run(config))
    for n, image_id in enumerate(found.data.image_ids):
        there = folder / "again" / "predictions" / image_id.split("/")[0]
        truth = np.array(Image.open(there / "truth.png"))
        assert truth.shape == SIZES[n]
        inside = unpadded(found.data.images[n], found.data.labels[n])
        np.testing.assert_array_equal(truth, found.truth[n][inside])
        first = folder / "out" / "predictions" / image_id.split("/")[0]
        for file in sorted(first.iterdir()):
            again = np.array(Image.open(there / file.name))
            np.testing.assert_array_equal(np.array(Image.open(file)), again)


def test_another_table_of_cases_is_another_report(page, capsys):
    folder, _ = page
    told = message(capsys, "--data", folder / "raw", "--out", folder / "out", "--steps", 12)
    assert "report of other cases, match" in told
    prepared = folder / "out" / "prepared"
    told = message(capsys, "--data", prepared, "--out", folder / "x", "--cases", "(.+)_")
    assert "index.csv says the cases" in told and not (folder / "x").exists()


def test_masks_named_after_their_images_with_a_word_get_the_option_named(tmp_path):
    raw = pictures(tmp_path / "raw", ("anna", "ben"), "seg_{}.png")
    with pytest.raises(ValueError, match=r"or give --match 'seg_\(\.\+\)'"):
        own.plan_of(raw)
    plan = own.plan_of(raw, "seg_(.+)")
    assert [e.masks["anna"].name for e in plan.entries] == [f"seg_m{n:02d}.png" for n in range(8)]
    files = {"seg_a": raw, "seg_b": raw.parent}
    assert renamed(files, "seg_(.+)") == {"a": raw, "b": raw.parent}
    with pytest.raises(ValueError, match="put brackets round the image's name"):
        renamed(files, "seg_.+")
    with pytest.raises(ValueError, match="no regular expression"):
        renamed(files, "seg_(")
    with pytest.raises(ValueError, match="are both seg"):
        renamed(files, "(seg)_.")


def test_a_gif_is_met_with_the_command_that_converts_it(tmp_path):
    raw = pictures(tmp_path / "raw", ("anna", "ben"))
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(raw / "anna" / "m99.gif")
    with pytest.raises(ValueError, match=r"m99\.gif ends in \.gif; convert it to .*python -c") as e:
        plan_folders([raw / "images"], {"anna": raw / "anna"})
    code = str(e.value).split('python -c "')[1].split('"')[0]
    subprocess.run([sys.executable, "-c", code], check=True)
    assert read_labels(raw / "anna" / "m99.png").array.shape == (5, 5)
    assert not (raw / "anna" / "m99.gif").exists()


def test_one_saturated_channel_loses_no_image(tmp_path):
    raw = pictures(tmp_path / "raw", ("anna", "ben"), colours="rgb")
    result = prepare.prepare(
        tmp_path / "prepared", own.plan_of(raw), size="largest", origin="simulated"
    )
    assert not result.report.skipped
    assert any("channel 3 is the same everywhere" in note for note in result.notes)
    data = ns.load_dataset(tmp_path / "prepared")
    (n,) = (k for k, name in enumerate(data.image_ids) if name.startswith("m02"))
    assert (data.images[n][2] == 0).all() and data.images[n][1].std() > 0.5


def test_a_truth_without_annotators_is_no_report_on_people(tmp_path, tiny_folder, capsys):
    tiny = ns.load_dataset(tiny_folder)
    ns.write_prepared(
        tmp_path / "truth", tiny.read_images(), truth=tiny.read_truth().astype(np.int8),
        classes=["background", "object"], origin="real",
    )  # fmt: skip
    told = message(capsys, "--data", tmp_path / "truth", "--out", tmp_path / "out")
    assert "there is nobody to report on" in told and not (tmp_path / "out").exists()
    cfg = ns.ExperimentConfig.preset(
        "own", "smoke", "mode", dataset=str(tmp_path / "truth"), epochs=1, width=4, depth=2
    )
    html = make.report_page(ns.run(cfg), tmp_path, 20).read_text("utf-8")
    assert "The annotators of these images are simulated: no people." in html


def test_the_panel_shows_names_as_text(tiny_folder):
    data = ns.load_dataset(tiny_folder)
    named = data.with_labels(data.read_labels(), HOSTILE)
    panel = AnnotatorPanel(make_estimate(named), 20)
    assert "<img" not in panel.words.value and "&lt;img src=x" in panel.words.value


def make_estimate(data):
    from noisyseg.report.skills import Estimate

    return Estimate(data, data.read_truth(), None)
