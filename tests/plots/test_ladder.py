"""Charts show the numbers of the tables they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from noisyseg.plots import ladder, scores, style


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def rows(values):
    """{(method, λ): Dice of each seed} as an exported table."""
    table = [
        {"method": m, "trace_weight": x, "seed": s, "value": v}
        for (m, x), line in values.items()
        for s, v in enumerate(line)
    ]
    return pd.DataFrame(table).assign(metric="dice", annotator="all", **{"class": "all"})


@pytest.fixture
def data():
    return rows({
        ("clean", np.nan): [0.9, 0.92], ("trace", 0.0): [0.5, 0.7], ("trace", 0.7): [0.0, 0.1],
        ("calibrated", 0.7): [0.8, 0.9],
    })  # fmt: skip


def test_a_line_is_the_mean_over_seeds_at_equal_distances(data):
    axis = scores.against({"one": data}, "trace_weight", "λ").axes[0]
    line = next(x for x in axis.lines if list(x.get_xdata()) == [0, 1] and x.get_ls() == "-")
    assert list(line.get_ydata()) == pytest.approx([60, 5])
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0", "0.7"]


def test_a_method_without_the_column_is_a_level_line(data):
    axis = scores.against({"one": data}, "trace_weight", "λ").axes[0]
    level = next(x for x in axis.lines if x.get_ls() == "--")
    assert list(level.get_ydata()) == pytest.approx([91, 91])


def test_a_panel_without_a_run_says_so(data):
    full, empty = scores.against({"one": data, "two": data[:0]}, "trace_weight", "λ").axes
    assert [t.get_text() for t in empty.texts] == ["no run yet"] and not full.texts


def test_lost_seeds_are_counted(data):
    counted = scores.lost_seeds(data, ["method"], "trace_weight")
    assert counted.loc["trace", 0.7] == "2 of 2" and counted.loc["trace", 0.0] == "0 of 2"
    assert counted.loc["calibrated", 0.0] == ""


def test_prediction_rings_the_chosen_candidate():
    table = pd.DataFrame({"candidate": ["truth", "swap"], "trace": [0.6, 0.4], "dice": [1.0, 0.0]})
    figure = ladder.prediction({"five": table}, {"five": {"no dominance": "swap"}})
    ring = next(x for x in figure.axes[0].lines if x.get_label().startswith("no dominance"))
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (pytest.approx(-0.2), 0.0)


def study_row(method="trace", value=0.9, **changes):
    """A row of `ablation_trace`: the paper's method as it stands, or with `changes`."""
    usual = dict(
        method=method, seed=0, metric="dice", annotator="all", value=value, labelling="dense",
        annotator_set="five", dataset="mnist", trace_weight=0.1, start="near identity",
        warm_up="fixed 0.5", dominance_level="pixel", dominance_weight=5.0,
        fixed_diagonal=0.95 if method == "calibrated" else 0.8,
    )  # fmt: skip
    return usual | {"class": "all"} | changes


NO_HINGE = {"dominance_level": "none", "dominance_weight": 0.0}
PRINTED = NO_HINGE | {"trace_weight": 0.7}
BARE = dict(trace_weight=np.nan, start="none", warm_up="none", dominance_level="none",
            dominance_weight=np.nan, fixed_diagonal=np.nan)  # fmt: skip
CLOSER = {"fixed_diagonal": 0.95}


def test_lines_of_the_trace_study_leave_variants_out():
    table = pd.DataFrame([
        study_row(), study_row(trace_weight=0.7), study_row(**NO_HINGE),
        study_row(dominance_level="class"), study_row(warm_up="fixed 0.25"),
        study_row("trace_printed", **PRINTED), study_row("trace_printed", warm_up="maximise 1"),
        study_row("released", start="default", **NO_HINGE),
        study_row("released", warm_up="none", **NO_HINGE),
        study_row("calibrated", trace_weight=0.0), study_row("clean", **BARE),
        study_row(**CLOSER), study_row("trace_printed", **PRINTED | CLOSER),
    ])  # fmt: skip
    assert dict(ladder.trace_lines(table).line) == {
        0: "trace", 1: "trace", 2: "paper, no hinge", 5: "trace_printed", 7: "released",
        8: "released, near identity", 9: "calibrated", 10: "clean",
    }  # fmt: skip


LADDER = {
    "loss as released": study_row(
        "released", 0.3, start="default", warm_up="none", **NO_HINGE | {"trace_weight": 0.001}
    ),
    "Eq. 4 alone": study_row("trace_printed", 0.01, warm_up="none", **PRINTED),
    "1 epoch of warm-up": study_row("trace_printed", 0.02, warm_up="maximise 1", **PRINTED),
    "3 epochs of warm-up": study_row("trace_printed", 0.6, warm_up="maximise 3", **PRINTED),
    "5 epochs of warm-up": study_row("trace_printed", 0.92, warm_up="maximise 5", **PRINTED),
    "matrices fixed at first": study_row("trace_printed", 0.5, **PRINTED | CLOSER),
    "λ = 0.1": study_row("trace", 0.7, **NO_HINGE | CLOSER),
    "Theorem 1 held": study_row("trace", 0.93, **CLOSER),
    "fixed at 0.8": study_row("trace", 0.94),
    "ours": study_row("calibrated", 0.95, trace_weight=0.0),
}
OFF_THE_LADDER = [
    study_row("trace", labelling="one"), study_row("trace", annotator_set="four"),
    study_row("trace", trace_weight=0.3), study_row("trace", dominance_level="class"),
    study_row("trace", **NO_HINGE), study_row("trace_printed", **PRINTED),
    study_row("trace", **{"class": "digit"}), study_row("trace", annotator="good"),
    study_row("trace", warm_up="none"), study_row("trace_printed", start="default", **PRINTED),
    study_row("released", warm_up="none", **PRINTED), study_row("calibrated", trace_weight=0.1),
    study_row("mode", **BARE),
]  # fmt: skip


def test_the_ladder_takes_one_row_for_every_step_and_no_other():
    rows = ladder.ladder(pd.DataFrame([*OFF_THE_LADDER, *reversed(LADDER.values())]))
    assert list(rows.step) == list(LADDER) == list(ladder.LADDER)
    assert list(rows.value) == [row["value"] for row in LADDER.values()]


def test_the_ladder_names_the_steps_without_a_run():
    some = ["Eq. 4 alone", "Theorem 1 held"]
    steps = [LADDER[name] for name in some] + [LADDER["Theorem 1 held"] | dict(seed=1, value=0.9)]
    table = ladder.ladder_table(pd.DataFrame(steps))
    assert list(table.index) == list(LADDER)
    assert dict(table.seeds[table.seeds > 0]) == {"Eq. 4 alone": 1, "Theorem 1 held": 2}
    dice = table["foreground Dice (%)"]
    assert dice["Eq. 4 alone"] == "1.0" and dice["Theorem 1 held"] == "91.5 (90.0 to 93.0)"
    assert set(dice.drop(some)) == set(table["CM error (RMSE)"]) == {"no run yet"}


def test_the_ladder_is_drawn_with_its_gaps_and_bounds():
    data = pd.DataFrame([LADDER["ours"], study_row("mode", 0.91, **BARE)])
    left, right = ladder.ladder_figure(data).axes
    said = [text.get_text() for text in left.texts]
    assert said == ["no run yet"] * (len(LADDER) - 1)
    dots = [tuple(x.get_data()) for x in left.lines if x.get_marker() == "o"]
    assert [(x[0], y[0]) for x, y in dots] == [(pytest.approx(95), len(LADDER) - 1)]
    bound = next(x for x in left.lines if x.get_label() == "majority labels")
    assert list(bound.get_xdata()) == pytest.approx([91, 91])
    assert len(right.texts) == len(LADDER)


def point(panel, weight, share, hinge, value):
    return (panel, weight, share, hinge, pytest.approx(value))


def points_of(*tables):
    points = ladder.plateau_points(*tables)
    columns = ["panel", "trace_weight", "share", "hinge", "value"]
    return [tuple(row) for row in points[columns].itertuples(index=False)]


def test_plateau_points_read_settings_from_studies():
    trace = pd.DataFrame([
        study_row(), study_row(value=0.7, **NO_HINGE), study_row("trace_printed", 0.6, **PRINTED),
        study_row("trace_printed", 0.1, warm_up="none", **PRINTED), *OFF_THE_LADDER[:2],
        study_row(dominance_level="class"), study_row("calibrated"),
        study_row("trace_printed", warm_up="maximise 3", **PRINTED), study_row("mode", **BARE),
        study_row("trace", 0.5, **PRINTED),  # the run of `trace_printed` under another name
    ])  # fmt: skip
    assert points_of(trace) == [
        point(ladder.SHORT, 0.1, 0.5, True, 0.9), point(ladder.SHORT, 0.1, 0.5, False, 0.7),
        point(ladder.SHORT, 0.7, 0.5, False, 0.6), point(ladder.SHORT, 0.7, 0.0, False, 0.1),
    ]  # fmt: skip


def test_variants_are_named_by_what_they_set():
    base = {"dominance_margin": 0.1}
    table = pd.DataFrame([
        study_row(value=0.9, **base), study_row(value=0.8, seed=1, **base),
        study_row(value=0.7, **base | CLOSER), study_row("trace", 0.6, dataset="ms", **base),
    ])  # fmt: skip
    named = {"as it is": {"fixed_diagonal": 0.8}, "closer": CLOSER}
    shown = ladder.variants(table, named)
    assert dict(shown.loc["as it is"]) == {"mnist": "85.0 (80.0)", "ms": "60.0"}
    assert shown.loc["closer", "mnist"] == "70.0" and pd.isna(shown.loc["closer", "ms"])


def test_plateau_points_of_main_tables_have_the_settings_of_their_methods():
    columns = ["dataset", "method", "seed", "metric", "class", "annotator", "value", "labelling"]
    main = {
        name: pd.DataFrame([
            study_row("trace", 0.8, dataset=name), study_row("trace_printed", 0.2, dataset=name),
            study_row("calibrated", 0.9, dataset=name),
        ])[columns] for name in ("mnist", "brats")
    }  # fmt: skip
    brats = [point("BraTS", 0.1, 0.5, True, 0.8), point("BraTS", 1.5, 0.5, False, 0.2)]
    assert points_of(None, None, main) == brats
    warm = pd.DataFrame([study_row(value=0.85, dataset="brats"), study_row(dataset="mnist")])
    found = points_of(None, warm.drop(columns="annotator_set"), main)
    assert found[0] == point("BraTS", 0.1, 0.5, True, 0.85)  # the study's row stands for both
    assert brats[0] not in found and brats[1] in found
    assert {row[0] for row in found} == {"BraTS", "MNIST, main table"}


def test_without_any_table_the_plateau_says_so():
    figure = ladder.plateau(ladder.plateau_points(None))
    assert {text.get_text() for axis in figure.axes for text in axis.texts} == {"no run yet"}


def test_the_plateau_has_a_line_through_means_and_a_dot_for_every_seed():
    trace = [study_row(value=v, seed=s, trace_weight=w) for s, v, w in
             ((0, 0.9, 0.1), (1, 0.7, 0.1), (0, 0.5, 0.7))]  # fmt: skip
    figure = ladder.plateau(ladder.plateau_points(pd.DataFrame(trace)))
    over_weight, error = figure.axes  # nothing varies the share
    line = next(x for x in over_weight.lines if x.get_ls() == "-" and len(x.get_xdata()))
    assert list(line.get_xdata()) == [0, 1] and list(line.get_ydata()) == pytest.approx([80, 50])
    dots = next(x for x in over_weight.lines if x.get_ls() == "None" and len(x.get_xdata()))
    assert list(dots.get_ydata()) == pytest.approx([90, 70, 50])
    assert [t.get_text() for t in over_weight.get_xticklabels()] == ["0.1", "0.7"]
    assert [t.get_text() for t in error.texts] == ["no run yet"]


def test_the_plateau_has_rows_over_the_share_where_most_panels_vary_it():
    varied = [study_row(warm_up=word) for word in ("fixed 0.5", "none")]
    *_, over_share, error = ladder.plateau(ladder.plateau_points(pd.DataFrame(varied))).axes
    assert over_share.get_xlabel() == error.get_xlabel() == "share of fixed epochs"
    assert [t.get_text() for t in over_share.get_xticklabels()] == ["0", "0.5"]


def test_heads_are_drawn_over_their_cost_and_missing_ones_are_not():
    data = pd.DataFrame({
        "metric": "dice", "task": "2 classes", "method": ["clean", "calibrated", "calibrated"],
        "head": ["none", "pixel", "low_rank"], "rank": [np.nan, np.nan, 2],
        "value": [0.9, 0.8, 0.7],
    })  # fmt: skip
    data["model"] = scores.head_names(data)
    assert list(data.model) == ["none", "pixel", "low rank 2"]
    cost = pd.DataFrame(
        {"task": "2 classes", "model": ["pixel"], "step_ratio": [1.2], "parameters": [9]}
    )
    (axis,) = scores.heads(data, cost).axes
    assert [text.get_text() for text in axis.texts] == ["pixel"]
    assert list(axis.lines[0].get_ydata()) == pytest.approx([90, 90])


def test_a_line_has_one_colour_in_every_panel(data):
    left = data.assign(line=data.method.replace({"trace": "b", "calibrated": "a"}))
    right = left[left.line != "a"]
    figure = scores.against({"left": left, "right": right}, "trace_weight", "λ", by="line")
    colours = [
        next(x.get_color() for x in axis.lines if list(x.get_ydata()) == pytest.approx([60, 5]))
        for axis in figure.axes
        if any(len(x.get_ydata()) == 2 and x.get_ls() == "-" for x in axis.lines)
    ]
    assert len(colours) == 2 and len(set(colours)) == 1


def test_names_stand_at_the_ends_of_lines_in_their_colours_and_apart(data):
    close = pd.concat([data, rows({("mode", np.nan): [0.9, 0.91]})])
    axis = scores.against({"one": close}, "trace_weight", "λ").axes[0]
    assert axis.get_legend() is None
    names = {text.get_text(): text for text in axis.texts}
    assert len(names) == 4
    heights = sorted(text.get_position()[1] for text in names.values())
    assert min(np.diff(heights)) >= scores.LABEL_SHARE - 1e-9
    order = sorted(names, key=lambda name: names[name].get_position()[1])
    assert order[0] == "paper, Theorem 1 held" and order[-1] == "network on the truth"
    assert names["majority labels"].get_color() == style.colour_of("mode")


def test_lines_that_do_not_reach_the_last_panel_have_a_legend(data):
    last = data[data.method != "trace"]
    (_, axis) = scores.against({"one": data, "two": last}, "trace_weight", "λ").axes
    assert len(axis.get_legend().get_texts()) == 3 and not axis.texts
