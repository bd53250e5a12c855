"""ExperimentConfig: one flat, frozen record of everything that defines a run.

PAPER holds the published values with their source, PROFILES and SIZES the sizes we run at.
Precedence: field defaults < PAPER[dataset] < PROFILES[profile] < SIZES[profile][dataset]
< METHODS[method].settings < overrides. Knows no path, no tensor and no device.
"""

import hashlib
import json
import math
import re
from dataclasses import Field, asdict, dataclass, fields, replace
from difflib import get_close_matches
from numbers import Integral, Real
from os import PathLike
from typing import Any

from noisyseg.methods import METHODS

# Simulated annotators of the medical sets (paper section 4, degrees not stated). MS: "wrong"
# leaves out stripes of the lesions; the authors' runs of 100 voxels of a volume are 12 pixels of
# a slice here. BraTS, target class 1, the core: "wrong" mixes it up with the enhancing tumour.
STRIPES = ("good", "over@1", "under@0.7", "alternate@12", "blank")
CORE = ("good", "over@1.5:1", "under@1.5:1", "class_swap:1-3")
# Supplement Table 7 of arXiv 2007.15963 (learning rate, epochs, batch, trace weight) and
# section 4 (U-Net with 4 stages of 32-64-128-256 channels).
PAPER: dict[str, dict[str, Any]] = {
    "mnist": dict(epochs=60, batch_size=2, trace_weight=0.7, width=32, depth=3),
    "ms": dict(
        epochs=55, batch_size=2, trace_weight=0.7, width=32, depth=4, flip=True, annotators=STRIPES
    ),
    "brats": dict(
        epochs=60, batch_size=8, trace_weight=1.5, width=32, depth=4, flip=True, annotators=CORE
    ),
    "lidc": dict(epochs=75, batch_size=4, trace_weight=0.9, width=32, depth=4, flip=True),
}
# The class whose Dice stands in the paper's tables, where it is not the mean over foreground.
TARGET = {"brats": "necrotic core"}
PRINTED = 0.7  # λ of MNIST and MS, for data that the paper does not have
# The learning rate goes with the batch size: 1e-4 is the paper's for batches of 2.
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": dict(
        n_train=240, n_val=32, n_test=64, width=8, epochs=8, batch_size=16, learning_rate=8e-3
    ),
    "reduced": dict(
        n_train=2400, n_val=500, n_test=2000, width=12, epochs=18, batch_size=32, learning_rate=2e-3
    ),
    "full": dict(epochs=30, batch_size=256, learning_rate=2e-3, activation="prelu"),
    "paper": dict(learning_rate=1e-4, flip=True, schedule="constant", activation="prelu"),
}
# Slices are larger than digits, and their objects small: fewer of them, in smaller batches at a
# higher rate, so that a run has the steps it needs and takes two to five minutes on one core.
_ALL: dict[str, Any] = dict(n_train=None, n_val=None, n_test=None, learning_rate=5e-3)
_BRIEF: dict[str, Any] = dict(n_train=24, n_val=8, n_test=12, epochs=4, batch_size=8)
# "prelu" is the released code's. With "relu" all features of a small lesion can be zero, for good,
# and a training ends without any. The other tables have "relu".
_MS = dict(activation="prelu")
# Cells outlined by real people: about a hundred pictures, in small batches. The paper has no
# such data, so PAPER says nothing of them, and a trace weight comes from the method alone.
_PEOPLE: dict[str, Any] = dict(activation="prelu", flip=True)
_ALL_PEOPLE = _ALL | _PEOPLE | dict(batch_size=8, learning_rate=4e-3)
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "ms": _BRIEF | _MS,
        "brats": _BRIEF,
        "lidc": _BRIEF,
        "people_crowd": _BRIEF | _PEOPLE,
        "people_persons": _BRIEF | _PEOPLE,
    },
    "reduced": {
        "ms": _ALL | _MS | dict(epochs=12, batch_size=2),
        "brats": _ALL | dict(epochs=40, batch_size=4),
        "lidc": _ALL | dict(epochs=12, batch_size=8),
        "people_crowd": _ALL_PEOPLE | dict(epochs=40),
        "people_persons": _ALL_PEOPLE | dict(epochs=50),
    },
}
SEEDS: dict[str, int] = {"smoke": 1, "reduced": 3, "full": 5, "paper": 3}
NOT_IDENTITY = ("accelerator", "progress")
RECIPE_VERSION = 1  # raise when a default or the meaning of a field changes


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that defines one run; see the module for how presets are merged.

    Sizes count images (`None` = all), `width` channels, `depth` resolution levels,
    `trace_weight` is the paper's λ (Eq. 4), `dominance_*` and `init_diagonal` are defined
    in `losses` and `models`. `labelling` is "dense", "one" or "k2", "k3", …: how many
    annotators labelled each training image. Raises ValueError for a value out of range.
    """

    experiment: str = "mnist"
    dataset: str = "mnist"
    profile: str = "smoke"
    method: str = "calibrated"
    seed: int = 0
    labelling: str = "dense"
    annotators: tuple[str, ...] = ("good", "over", "under", "wrong", "blank")
    annotator_seed: int = 0  # simulated labels stay the same across training seeds
    train_on: str = "train"  # that split, or "all": every labelled image, test images included
    n_train: int | None = None
    n_val: int | None = None
    n_test: int | None = None
    width: int = 32
    depth: int = 3
    activation: str = "relu"  # or "prelu", see SIZES
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: str = "one_cycle"
    weight_decay: float = 0.0
    flip: bool = False  # Table 7: "random flip"; off where digits have a reading direction
    trace_weight: float = 0.0
    dominance_weight: float = 0.0
    dominance_margin: float = 0.1
    dominance_level: str = "pixel"  # where the mean matrix must be dominant: "pixel" or "class"
    init_diagonal: float = 3.0  # start: a diagonal of e^3 / (e^3 + 1) = 0.95 for two classes
    warm_up: str = "none"
    warm_up_epochs: int = 0
    warm_up_share: float = 0.0  # the same as a share of all epochs; the longer of the two counts
    fixed_diagonal: float = 0.95  # of the matrices while warm_up="fixed" holds them
    anchor: str = "annotators"  # what calibrated outlines keep to: the annotators or the "image"
    head: str = "method"  # the confusion head of the method, or another one
    rank: int = 1
    precision: str = "32-true"
    accelerator: str = "auto"
    progress: bool = False

    def __post_init__(self) -> None:
        for entry in fields(self):
            object.__setattr__(self, entry.name, _typed(entry, getattr(self, entry.name)))
        _folder_name("experiment", self.experiment)
        _one_of("method", self.method, METHODS)
        _one_of("profile", self.profile, PROFILES)
        _one_of("schedule", self.schedule, ("one_cycle", "constant"))
        _one_of("dominance_level", self.dominance_level, ("pixel", "class"))
        _one_of("warm_up", self.warm_up, ("none", "hold", "maximise", "fixed"))
        _one_of("anchor", self.anchor, ("annotators", "image"))
        _one_of("train_on", self.train_on, ("train", "all"))
        _one_of("activation", self.activation, ("relu", "prelu"))
        _one_of("head", self.head, ("method", "pixel", "global", "low_rank"))
        _one_of("precision", self.precision, ("32-true", "bf16-mixed", "16-mixed"))
        for name in ("epochs", "batch_size", "width", "depth", "rank"):
            _at_least(name, getattr(self, name), 1)
        for name in ("seed", "annotator_seed"):
            _at_least(name, getattr(self, name), 0)
        for name in ("n_train", "n_val", "n_test"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        for name in ("trace_weight", "dominance_weight", "weight_decay", "warm_up_epochs"):
            _at_least(name, getattr(self, name), 0)
        for name in ("warm_up_share", "fixed_diagonal"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a share from 0 to 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}: give a positive number")

    @classmethod
    def preset(
        cls,
        experiment: str = "mnist",
        profile: str = "smoke",
        method: str = "calibrated",
        seed: int = 0,
        **overrides: Any,
    ) -> "ExperimentConfig":
        """Merge the defaults, PAPER, PROFILES, SIZES and METHODS, then `overrides`.

        `experiment` is also the data set unless `dataset=` names another name or path.
        Raises ValueError naming the allowed fields, methods or profiles.

        Examples:
            >>> cfg = ExperimentConfig.preset("mnist", "smoke", "trace", seed=1, epochs=2)
            >>> cfg.trace_weight, cfg.epochs, cfg.replace(method="no_trace").trace_weight
            (0.1, 2, 0.0)
        """
        _one_of("method", method, METHODS)
        _one_of("profile", profile, PROFILES)
        dataset = overrides.get("dataset", experiment)
        values: dict[str, Any] = dict(experiment=experiment, dataset=str(dataset))
        values |= PAPER.get(values["dataset"], {}) | PROFILES[profile]
        values |= SIZES.get(profile, {}).get(values["dataset"], {}) | settings_of(
            method, values["dataset"]
        )
        values |= _known(overrides) | dict(profile=profile, method=method, seed=seed)
        return cls(**values | {"dataset": str(dataset)})

    def replace(self, **changes: Any) -> "ExperimentConfig":
        """A copy with `changes`; a new method brings its own settings along.

        A profile sets many fields at once, so it is chosen in `preset`, not here.
        """
        _known(changes)
        if changes.get("profile", self.profile) != self.profile:
            raise ValueError("a profile sets many fields: use ExperimentConfig.preset(profile=…)")
        if "method" not in changes:
            return replace(self, **changes)
        own = settings_of(self.method, self.dataset).keys()
        bare: dict[str, Any] = {f.name: f.default for f in fields(self) if f.name in own}
        bare |= {k: v for k, v in PAPER.get(self.dataset, {}).items() if k in own}
        bare |= {k: v for k, v in PROFILES[self.profile].items() if k in own}
        _one_of("method", changes["method"], METHODS)
        return replace(self, **bare | settings_of(changes["method"], self.dataset) | changes)

    def identity(self) -> dict[str, Any]:
        """The fields that change numbers and differ from their default, as JSON values.

        Leaving defaults out keeps finished runs valid when a field is added later.
        """
        values = asdict(self)
        if not METHODS[self.method].sees_labels:  # one network serves every labelling
            values["labelling"] = "dense"
        defaults = {f.name: f.default for f in fields(self)}
        if self.warm_up != "fixed":  # then no matrix is held
            values["fixed_diagonal"] = defaults["fixed_diagonal"]
        return {k: v for k, v in values.items() if k not in NOT_IDENTITY and v != defaults[k]}

    def digest(self, fingerprint: str) -> str:
        """Eight hex digits over `identity()` and the prepared data's fingerprint."""
        values = self.identity() | {"fingerprint": fingerprint, "version": RECIPE_VERSION}
        values.pop("dataset", None)  # the fingerprint says which data, wherever they lie
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def _typed(entry: Field[Any], value: Any) -> Any:
    """`value` as the field's type: numbers of NumPy become Python's, lists of names tuples.

    ValueError for another type: 1.5 epochs or the text "2" would fail far from here, or not at
    all. A finite number is a float, and a bool is no number.
    """
    kind = entry.type.__name__ if isinstance(entry.type, type) else str(entry.type)
    is_bool = isinstance(value, bool)
    if value is None and "None" in kind:
        return None
    if kind.startswith("int") and isinstance(value, Integral) and not is_bool:
        return int(value)
    if kind == "float" and isinstance(value, Real) and not is_bool and math.isfinite(value):
        return value if isinstance(value, int | float) else float(value)
    if kind == "bool" and is_bool:
        return value
    if kind == "str" and isinstance(value, str | PathLike):
        return str(value)
    if kind.startswith("tuple") and isinstance(value, list | tuple):
        if all(isinstance(name, str) for name in value):
            return tuple(value)
    raise ValueError(f"{entry.name} is {value!r}: give {_WANTED[kind.split()[0].split('[')[0]]}")


_WANTED = {
    "int": "a whole number, without quotes",
    "float": "a finite number, without quotes",
    "bool": "True or False",
    "str": "a text",
    "tuple": "a list of texts",
}


def settings_of(method: str, dataset: str) -> dict[str, Any]:
    """The fields that `method` fixes on `dataset`: those of METHODS and, if so, the printed λ."""
    entry = METHODS[method]
    if not entry.as_printed:
        return entry.settings
    return entry.settings | {"trace_weight": PAPER.get(dataset, {}).get("trace_weight", PRINTED)}


def _known(changes: dict[str, Any]) -> dict[str, Any]:
    allowed = [f.name for f in fields(ExperimentConfig)]
    for name in changes:
        if name not in allowed:
            near = get_close_matches(name, allowed, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"unknown field {name!r}{hint}; allowed: {', '.join(allowed)}")
    return changes


def _one_of(name: str, value: Any, allowed: Any) -> None:
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}; allowed: {', '.join(map(str, allowed))}")


def _folder_name(name: str, value: Any) -> None:
    """Refuse what is no plain name of a folder: it must not lead out of the run store."""
    plain = isinstance(value, str) and 0 < len(value.encode("utf-8", "replace")) <= 100
    if not plain or value[0] == "." or re.search(r"[/\\:]", value) or not value.isprintable():
        raise ValueError(
            f"{name} is {value!r}: it names a folder of runs; give at most 100 letters, digits, "
            "- or _, no path and no dot in front"
        )


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name} is {value}: give a number of at least {least}")
