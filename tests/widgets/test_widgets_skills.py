"""The annotator panel says and shows what the report says, for the annotator that is chosen."""

import pytest

import noisyseg as ns
from noisyseg.report.skills import estimate, report_of_estimate, sentences
from noisyseg.widgets.skills import annotator_panel


@pytest.fixture(scope="module")
def run(tiny_folder):
    cfg = ns.ExperimentConfig.preset(
        "tiny", "smoke", "calibrated", 0, dataset=str(tiny_folder), width=4, depth=2, epochs=10,
        batch_size=4, activation="prelu",
    )  # fmt: skip
    return ns.run(cfg)


@pytest.fixture
def panel(run):
    return annotator_panel(run, resamples=100)


def test_choosing_an_annotator_changes_words_and_portrait(panel, run, measured):
    words, portrait = panel.words.value, panel.portrait.value
    panel.annotator.value = "wide"
    assert panel.words.value != words and panel.portrait.value != portrait
    report = report_of_estimate(estimate(run), 100)
    for text in sentences(report, "wide"):
        assert text in panel.words.value
    row = report.skills.query("annotator == 'wide' and `class` == 'object'").iloc[0]
    assert f"finds {100 * row.sensitivity:.0f} % of object" in panel.words.value
    measured(f"annotator panel: {panel.reaction_ms[-1]:.0f} ms")
    assert panel.reaction_ms[-1] < 3000


def test_leafing_through_the_labels_to_look_at_again(panel):
    listed = panel.report.relabel
    assert len(listed) > 1 and panel.label.max == len(listed)
    first = panel.sheet.value
    panel.label.value = 2
    assert panel.sheet.value != first
    assert listed.image_id[1] in panel.status.value and listed.text[1] in panel.status.value


def test_carries_a_still_picture(panel):
    assert "image/png" in panel._repr_mimebundle_()


def test_volumes_and_runs_without_a_network_are_refused(run):
    found = estimate(run)
    with pytest.raises(ValueError, match="3-D"):
        annotator_panel(found._replace(truth=found.truth[:, None]))
    with pytest.raises(ValueError, match="trains no network"):
        annotator_panel(ns.run(run.config.replace(method="majority_fusion")))
