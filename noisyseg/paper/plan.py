"""Which runs each table of the paper is made of, which its file lacks, and how a page gets them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from noisyseg import published
from noisyseg.config import SEEDS, ExperimentConfig
from noisyseg.data.dataset import load_dataset
from noisyseg.experiment import run
from noisyseg.paper import source_data
from noisyseg.paper.ablations import LABELLINGS, STUDIES, TABLE_METHODS
from noisyseg.runs import Run
from noisyseg.sweeps import sweep


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


@dataclass(frozen=True)
class Evidence:
    """The runs behind a page. `evidence["trace", "one", 0]` loads, or trains, one of them.

    The key is method, labelling and seed; of several such runs, as in an ablation, it is the
    first.
    """

    configs: list[ExperimentConfig]

    def __getitem__(self, key: tuple[str, str, int]) -> Run:
        for cfg in self.configs:
            if (cfg.method, cfg.labelling, cfg.seed) == key:
                return run(cfg)
        raise KeyError(f"no run of {key} on this page")


def evidence(configs: Iterable[ExperimentConfig], fresh: bool = False) -> Evidence:
    """What a page shows of `configs`, all of one experiment and profile; prints where it is from.

    The exported table is shown as it stands if it has been made for these settings. Runs are
    trained and exported first where there is no table, where a setting was changed, in the
    profile `smoke`, and all of them if `fresh`.
    """
    configs = list(configs)
    experiment, profile = configs[0].experiment, configs[0].profile
    if profile == "smoke" or fresh or not _as_exported(configs, experiment, profile):
        runs = sweep(configs if fresh else missing(configs), fresh=fresh)
        if runs:
            source_data.export(runs)
        print(f"{len(runs)} runs of {profile} trained or loaded here, {len(configs)} in the table")
        return Evidence(configs)
    held = source_data.read(experiment, profile)
    rows = held[["digest", "labelling"]].drop_duplicates()
    print(f"{len(rows)} runs of {profile} in the exported table, {len(configs)} in the plan")
    return Evidence(configs)


def _as_exported(configs: list[ExperimentConfig], experiment: str, profile: str) -> bool:
    """Whether the table exists and no setting of `configs` differs from its plan."""
    if not source_data.exists(experiment, profile):
        return False
    in_study = experiment in STUDIES
    plan = study_configs(experiment, profile) if in_study else table_configs(experiment, profile)
    recipes = {published.recipe(cfg) for cfg in plan}
    return all(published.recipe(cfg) in recipes for cfg in configs)
