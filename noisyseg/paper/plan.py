"""Which runs each table of the paper is made of, and which of them its file lacks."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from noisyseg.config import SEEDS, ExperimentConfig
from noisyseg.data.dataset import load_dataset
from noisyseg.methods import METHODS
from noisyseg.paper import source_data
from noisyseg.paper.ablations import STUDIES

LABELLINGS = ("dense", "one")
# The image as the anchor is an option for those who know their images (ablation_trace); in the main
# tables the annotators' median offset is 0, so that its labels are those of `calibrated`.
TABLE_METHODS = tuple(m for m in METHODS if m != "calibrated_image")


def table_configs(
    experiment: str,
    profile: str,
    methods: Iterable[str] = TABLE_METHODS,
    labellings: Iterable[str] = LABELLINGS,
    seeds: Iterable[int] | None = None,
    **overrides: Any,
) -> list[ExperimentConfig]:
    """The configs of one table: labelling × seed × method, cheap rows and few labels last.

    Args:
        experiment: a data set of the paper.
        profile: one of PROFILES.
        methods: all of the tables' by default.
        labellings: "dense", "one", "k2", …
        seeds: by default as many as the profile has.
        overrides: fields of all configs.

    Examples:
        >>> [cfg.method for cfg in table_configs("mnist", "smoke", ["mode", "trace"], ["one"])]
        ['mode', 'trace']
    """
    seeds = range(SEEDS[profile]) if seeds is None else seeds
    return [
        ExperimentConfig.preset(experiment, profile, method, seed, labelling=labelling, **overrides)
        for seed in seeds
        for labelling in labellings
        for method in methods
    ]


def study_configs(experiment: str, profile: str) -> list[ExperimentConfig]:
    """The configs of an ablation, each once."""
    return list(dict.fromkeys(STUDIES[experiment](profile, SEEDS[profile])))


def prepared(configs: Iterable[ExperimentConfig]) -> list[ExperimentConfig]:
    """Those of `configs` whose data are prepared here; prints one line for each other data set."""
    configs = list(configs)
    absent = set()
    for name, count in Counter(cfg.dataset for cfg in configs).items():
        try:
            load_dataset(name)
        except FileNotFoundError:
            absent.add(name)
            print(
                f"{name}: no prepared data, so {count} runs are passed over; "
                "data_prep/README.md says how to make the data"
            )
    return [cfg for cfg in configs if cfg.dataset not in absent]


def missing(configs: Iterable[ExperimentConfig]) -> list[ExperimentConfig]:
    """Those of `configs` that the exported tables do not hold: what a fresh checkout lacks.

    Runs on data that are not prepared here are passed over, with one printed line a data set.
    """
    configs = prepared(configs)
    held = {k: source_data.held(*k) for k in {(c.experiment, c.profile) for c in configs}}
    prints = {name: load_dataset(name).fingerprint for name in {c.dataset for c in configs}}
    return [
        cfg
        for cfg in configs
        if (cfg.labelling, cfg.digest(prints[cfg.dataset])) not in held[cfg.experiment, cfg.profile]
    ]
