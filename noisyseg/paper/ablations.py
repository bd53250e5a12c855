"""STUDIES: which runs make up each ablation, and the columns its table adds. Pure data.

A study is one experiment of the exported tables (`ablation_trace`, …). Its runs have
fewer epochs of smaller batches than the main tables, so that hundreds fit a night on two cores.
`people` is no ablation: it is a study because it holds two data sets in one table.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

from noisyseg.config import PAPER, PROFILES, ExperimentConfig
from noisyseg.config import SIZES as SIZES_OF_DATA
from noisyseg.methods import METHODS

LABELLINGS = ("dense", "one")
# The image as the anchor is an option for those who know their images (ablation_trace); in the main
# tables the annotators' median offset is 0, so that its labels are those of `calibrated`.
TABLE_METHODS = tuple(m for m in METHODS if m != "calibrated_image")
FIVE = ("good", "over", "under", "wrong", "blank")
ANNOTATOR_SETS = {
    "five": FIVE,  # the paper's
    "four": FIVE[:4],  # the authors' toy
    "unfaithful": FIVE[1:4],  # nobody is faithful
    "wide": ("over@2.2", "under@1", "wrong@1.8"),  # nor here, and the majority far too wide
    "wider": ("over@2.5", "under@1.3", "wrong@2"),
}
# Prefixes of 1, 2, 3, 5, 10 and 20: the same five kinds again and again, at other degrees.
ROUNDS = ((1.72, 1.3, 1.15), (1.0, 0.7, 0.6), (2.5, 2.0, 2.0), (0.5, 0.4, 0.3))
POOL = tuple(
    name
    for k, (over, under, wrong) in enumerate(ROUNDS)
    for name in (f"over@{over}", f"under@{under}", f"wrong@{wrong}", f"good#{k}", f"blank#{k}")
)
DEGREE_PX = {"over": 1.72, "under": 1.3, "wrong": 1.15}  # the defaults of `simulate`
TRACE_WEIGHTS = (0.0, 0.001, 0.01, 0.1, 0.3, 0.7, 1.0, 1.5, 2.0)
NOISE_DEGREES = (0.0, 0.5, 1.0, 1.5, 2.0)
SIZES = {"reduced": {"epochs": 8, "batch_size": 16, "n_val": 200, "n_test": 1000}}
# Prepared by `python -m data_prep`: the boundary in the picture is the readers' mean, one reader's,
# the mean moved in or out; or the mean again, with the readers of each nodule in another order.
RENDERED = ("lidc_mean", "lidc_reader", "lidc_shifted", "lidc_shuffled")
# Prepared by `data_prep.people`, where the images are: anonymous crowd workers, and four students.
PEOPLE = ("people_crowd", "people_persons")
PEOPLE_METHODS = (
    "clean",
    "mode",
    "mean",
    "separate",
    "staple",
    "spatial_staple",
    "prob_unet",
    "global_cm",
    "no_trace",
    "trace",
    "trace_printed",
    "trace_low_rank",
    "calibrated",
    "majority_fusion",
    "staple_fusion",
    "calibrated_fusion",
)
CLOSER = 0.95  # the diagonal of the matrices that were held first; the method has 0.8
# One thing, or two, changed of the setting that was tried first; the seeds in which it was.
FIRST: dict[str, Any] = {"fixed_diagonal": CLOSER, "trace_weight": 0.1}
VARIANTS: dict[str, dict[str, Any]] = {
    "tried first": {},
    "diagonal 0.8": {"fixed_diagonal": 0.8},
    "λ = 0.01": {"trace_weight": 0.01},
    "λ = 0.3": {"trace_weight": 0.3},
    "fixed for 75 %": {"warm_up_share": 0.75},
    "fixed for 90 %": {"warm_up_share": 0.9},
    "hinge of weight 20": {"dominance_weight": 20.0},
    "hinge of margin 0.3": {"dominance_margin": 0.3},
    "both": {"dominance_weight": 20.0, "dominance_margin": 0.3},
    "hinge by class": {"dominance_level": "class"},
    "hinge by class, weight 20": {"dominance_level": "class", "dominance_weight": 20.0},
    "hinge by class, fixed for 75 %": {"dominance_level": "class", "warm_up_share": 0.75},
}
VARIED_ON = {"mnist": (1,), "ms": (1, 2), "brats": (1, 2), "lidc": (1,), "people_crowd": (1,)}
SHARES = (0.0, 0.25, 0.75)  # of the epochs with fixed matrices; the method has a half
STARTS = {3.0: "near identity", 0.0: "default"}


def noisy(annotators: Iterable[str], degree: float) -> tuple[str, ...]:
    """`annotators` with `degree` times their default degree in their names."""
    return tuple(
        f"{name}@{round(degree * DEGREE_PX[name], 3):g}" if name in DEGREE_PX else name
        for name in annotators
    )


def _study(
    experiment: str,
    profile: str,
    methods: Iterable[str],
    seeds: Iterable[int],
    **grid: Iterable[Any],
) -> Iterator[ExperimentConfig]:
    """Every combination of methods, seeds and the fields of `grid`."""
    fixed = {"dataset": "mnist"} | SIZES.get(profile, {})
    for seed, method, values in product(seeds, methods, list(product(*grid.values()))):
        chosen = fixed | dict(zip(grid, values, strict=True))
        yield ExperimentConfig.preset(experiment, profile, method, seed, **chosen)


def ablation_trace(profile: str, seeds: int) -> Iterator[ExperimentConfig]:
    """λ × start × warm-up × hinge × annotators: the ladder from Eq. 4 to the method, and ours."""

    def runs(*methods: str, n: int = seeds, sets: Iterable[str] = ("five",), **grid: Any) -> Any:
        annotators = [ANNOTATOR_SETS[name] for name in sets]
        return _study("ablation_trace", profile, methods, range(n), annotators=annotators, **grid)

    both, many = ("dense", "one"), 10
    if profile == "smoke":
        yield from runs("clean", "mode", "calibrated", "trace", "trace_printed")
        yield from runs("mode", "calibrated_image", sets=("unfaithful",))
        return
    yield from runs("clean", n=many)
    yield from runs("mode", n=many, sets=("five", "unfaithful"), labelling=both)
    yield from runs("mode", sets=("four", "wide", "wider"))
    # The paper's method, and each of its parts left out.
    yield from runs("trace", labelling=both)
    yield from runs("trace", trace_weight=TRACE_WEIGHTS, dominance_weight=(0.0, 5.0))
    yield from runs("trace", sets=("four", "unfaithful"))
    for share in SHARES:
        yield from runs("trace", dominance_weight=(0.0, 5.0), warm_up_share=(share,))
    # The steps below it: matrices that are held closer to the identity, as first tried.
    closer: dict[str, Any] = {"fixed_diagonal": (CLOSER,)}
    yield from runs("trace", dominance_weight=(0.0, 5.0), trace_weight=(0.1,), **closer)
    yield from runs("trace_printed", **closer)
    # Eq. 4 as printed, from other starts, and the loss as the authors released it.
    yield from runs("trace_printed", labelling=both)
    no_share: dict[str, Any] = {"warm_up_share": (0.0,)}
    for start in STARTS:
        yield from runs("trace_printed", warm_up=("none",), init_diagonal=(start,), **no_share)
    longer: dict[str, Any] = {"warm_up": ("maximise",), "warm_up_epochs": (1, 2, 3, 5)}
    yield from runs("trace_printed", labelling=both, **longer, **no_share)
    yield from runs("released", trace_weight=(0.001, 0.1, 0.7), init_diagonal=(0.0, 3.0))
    # Ours.
    yield from runs("calibrated", sets=("five", "four", "unfaithful"), labelling=both)
    yield from runs("calibrated_image", sets=("five", "unfaithful", "wide"), labelling=both)
    yield from runs("calibrated_image", sets=("wider",))
    yield from runs("calibrated", trace_weight=TRACE_WEIGHTS, labelling=both)


def ablation_warm_up(profile: str, seeds: int) -> Iterator[ExperimentConfig]:
    """Plateau and cliff: λ and the length of the fixed phase, with and without the hinge.

    On the data sets and at the sizes of the main tables; the corners with all seeds. Then
    VARIANTS, from which the setting of the paper's method was chosen.
    """
    datasets = ("mnist",) if profile == "smoke" else ("mnist", "ms", "brats", "lidc")
    corners = {(0.1, 0.5), (0.7, 0.5), (0.1, 0.0), (0.7, 0.0)}
    points = sorted(corners | {(0.0, 0.5), (0.3, 0.5), (1.5, 0.5), (0.1, 0.25), (0.1, 0.75)})
    if profile == "smoke":
        points = [(0.1, 0.5), (0.7, 0.0)]
    for seed, dataset, (weight, share), hinge in product(
        range(seeds), datasets, points, (5.0, 0.0)
    ):
        if seed and (weight, share) not in corners:
            continue
        chosen = {"trace_weight": weight, "warm_up_share": share, "dominance_weight": hinge}
        yield ExperimentConfig.preset(
            "ablation_warm_up", profile, "trace", seed, dataset=dataset, **chosen
        )
    if profile == "smoke":
        return
    for dataset, tried in VARIED_ON.items():
        for seed, variant in product(tried, VARIANTS.values()):
            yield ExperimentConfig.preset(
                "ablation_warm_up", profile, "trace", seed, dataset=dataset, **FIRST | variant
            )


def ablation_noise(profile: str, seeds: int) -> Iterator[ExperimentConfig]:
    """Dice and matrices against the degree of the annotators' errors (the paper's Fig. 5)."""
    few = ("mode", "calibrated") if profile == "smoke" else ("mode", "trace", "calibrated")
    rest = ("mean", "staple", "global_cm", "no_trace", "trace_printed", "released", "separate")
    degrees = NOISE_DEGREES[1:4:2] if profile == "smoke" else NOISE_DEGREES
    for name in ("five", "unfaithful"):
        annotators = [noisy(ANNOTATOR_SETS[name], degree) for degree in degrees]
        n = range(min(2, seeds))
        yield from _study("ablation_noise", profile, few, n, annotators=annotators)
        if name == "five" and profile != "smoke":
            yield from _study("ablation_noise", profile, rest, [0], annotators=annotators)
    yield from _study("ablation_noise", profile, ("clean",), range(min(2, seeds)))


def ablation_annotators(profile: str, seeds: int) -> Iterator[ExperimentConfig]:
    """The number of annotators of mixed skill, and of labels an image."""
    brief = profile == "smoke"
    few = ("mode", "calibrated") if brief else ("mode", "calibrated", "trace")
    labels = ("one", "dense") if brief else ("one", "k2", "k3", "k4", "dense")
    counts = (1, 3) if brief else (1, 2, 3, 10, 20)  # the paper's annotators stand for 5
    pools = [POOL[:count] for count in counts]
    rest = ("mean", "staple", "no_trace", "trace_printed")
    for methods, count in ((few, min(2, seeds)), (rest, 0 if brief else 1)):
        n = range(count)
        yield from _study("ablation_annotators", profile, methods, n, labelling=labels)
        yield from _study("ablation_annotators", profile, methods, n, annotators=pools)
    yield from _study("ablation_annotators", profile, ("clean",), range(min(2, seeds)))


def ablation_confusion(profile: str, seeds: int) -> Iterator[ExperimentConfig]:
    """Global, per-pixel and low-rank matrices with two classes and with eight."""
    methods = ("calibrated",) if profile == "smoke" else ("calibrated", "no_trace")
    n = range(min(2, seeds))
    for dataset, ranks in (("mnist", (1, 2)), ("coloured", (1, 2, 8))):
        yield from _study("ablation_confusion", profile, ("clean", "mode"), n, dataset=[dataset])
        for head, chosen in {"pixel": (1,), "global": (1,), "low_rank": ranks}.items():
            grid: dict[str, Any] = {"dataset": [dataset], "head": [head], "rank": chosen}
            yield from _study("ablation_confusion", profile, methods, n, **grid)


def ablation_lidc(profile: str, seeds: int) -> Iterator[ExperimentConfig]:
    """Real outlines under pictures rendered by other rules, and with the readers shuffled."""
    methods: tuple[str, ...] = ("clean", "mode", "staple", "spatial_staple", "trace", "calibrated")
    if profile == "smoke":
        methods = ("mode", "calibrated")
    values = PAPER["lidc"] | PROFILES[profile] | SIZES_OF_DATA.get(profile, {}).get("lidc", {})
    for seed, dataset, method in product(range(seeds), RENDERED, methods):
        chosen = values | METHODS[method].settings
        yield ExperimentConfig.preset(
            "ablation_lidc", profile, method, seed, **chosen | {"dataset": dataset}
        )


def people(profile: str, seeds: int) -> Iterator[ExperimentConfig]:
    """Real people's own outlines, all of them and one an image: every method that learns them."""
    methods: tuple[str, ...] = PEOPLE_METHODS
    if profile == "smoke":
        methods = ("clean", "mode", "trace", "calibrated")
    for seed, labelling, dataset, method in product(
        range(seeds), ("dense", "one"), PEOPLE, methods
    ):
        yield ExperimentConfig.preset(
            "people", profile, method, seed, dataset=dataset, labelling=labelling
        )


STUDIES: dict[str, Callable[[str, int], Iterator[ExperimentConfig]]] = {
    "ablation_trace": ablation_trace,
    "ablation_warm_up": ablation_warm_up,
    "ablation_noise": ablation_noise,
    "ablation_annotators": ablation_annotators,
    "ablation_confusion": ablation_confusion,
    "ablation_lidc": ablation_lidc,
    "people": people,
}


def _warm_up(cfg: ExperimentConfig) -> str:
    """The first phase in a word: "fixed 0.5" (a share of the epochs), "maximise 3", "none"."""
    if cfg.warm_up == "none" or not (cfg.warm_up_share or cfg.warm_up_epochs):
        return "none"
    length = cfg.warm_up_share or cfg.warm_up_epochs
    return f"{cfg.warm_up} {length:g}"


def _holds(cfg: ExperimentConfig) -> bool:
    """Whether the first phase holds the matrices where `fixed_diagonal` says."""
    return cfg.warm_up == "fixed" and bool(cfg.warm_up_share or cfg.warm_up_epochs)


def columns(cfg: ExperimentConfig) -> dict[str, Any]:
    """The columns that the table of `cfg.experiment` has at its end, with the run's values.

    Empty for the tables of the paper. Settings that a method does not have are NaN or
    "none", so that baselines stand once beside all settings.
    """
    of_set = {annotators: name for name, annotators in ANNOTATOR_SETS.items()}
    degree_of = {
        noisy(ANNOTATOR_SETS[name], degree): (name, degree)
        for name, degree in product(("five", "unfaithful"), NOISE_DEGREES)
    }
    coupled = METHODS[cfg.method].head not in ("none", "known", "separate", "latent")
    held = coupled and cfg.dominance_weight > 0
    missing = float("nan")
    if cfg.experiment in ("ablation_trace", "ablation_warm_up"):
        start = STARTS.get(cfg.init_diagonal, cfg.init_diagonal)
        chosen = {
            "trace_weight": cfg.trace_weight if coupled else missing,
            "start": start if coupled else "none",
            "warm_up": _warm_up(cfg) if coupled else "none",
            "dominance_level": cfg.dominance_level if held else "none",
            "dominance_weight": cfg.dominance_weight if coupled else missing,
            "fixed_diagonal": cfg.fixed_diagonal if coupled and _holds(cfg) else missing,
        }
        if cfg.experiment == "ablation_warm_up":
            return chosen | {"dominance_margin": cfg.dominance_margin if held else missing}
        return {"annotator_set": of_set.get(cfg.annotators, "other")} | chosen
    if cfg.experiment == "ablation_noise":
        name, degree = degree_of.get(cfg.annotators, ("other", missing))
        return {"annotator_set": name, "noise_degree": degree}
    if cfg.experiment == "ablation_annotators":
        return {"n_annotators": len(cfg.annotators)}
    if cfg.experiment == "ablation_confusion":
        head = METHODS[cfg.method].head if cfg.head == "method" else cfg.head
        return {"head": head, "rank": cfg.rank if head == "low_rank" else missing}
    return {}
