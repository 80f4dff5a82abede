"""A pruning run as a declared point of the survey's taxonomy: from keywords, a dict or YAML; checked, hashed, kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from paperworks import runs
from paperworks.errors import InputError
from paperworks.pruning.taxonomy import Taxonomy
from paperworks.runs import build_config

NEEDS_EXAMPLES = {
    *("snip", "grasp", "taylor", "taylor-absolute", "taylor-elementwise", "fisher", "obd", "obs", "wanda", "sparsegpt"),
    *("gates", "apoz", "mean-activation", "activation-std", "hrank", "chip", "thinet"),
}
"""Criteria that look at examples. SynFlow looks at the shape of one."""
NEEDS_LABELS = {"snip", "grasp", "taylor", "taylor-absolute", "taylor-elementwise", "fisher", "obd", "gates"}
FOR_WEIGHTS = {
    *(
        "random",
        "magnitude",
        "lamp",
        "synflow",
        "snip",
        "grasp",
        "taylor",
        "fisher",
        "obd",
        "obs",
        "wanda",
        "sparsegpt",
    ),
}
FOR_UNITS = {
    *("random", "l1", "l2", "group-norm", "fpgm", "bn-scale", "taylor", "taylor-absolute", "taylor-elementwise"),
    *("fisher", "gates", "apoz", "mean-activation", "activation-std", "hrank", "chip", "thinet"),
}
WITHIN_ROWS = {"wanda", "obs"}


class PruneSpec(runs.Config):
    """What is removed, when, by which score, how fast, and how the network recovers."""

    speedup: Literal["unstructured", "semi-structured", "structured"] = Field(
        "unstructured", description="single weights, a pattern of weights, or whole units"
    )
    pattern: str = Field("", description="of semi-structured pruning: 2:4, block:4x1 or kernel:4")
    when: Literal["before", "after", "during", "run-time"] = Field(
        "after", description="before, after or during training"
    )
    weights: Literal["initialised", "pretrained"] = Field("pretrained", description="what the scores are computed of")
    criterion: str = Field("magnitude", description="the score")
    scope: Literal["global", "local", "row", "erk", "uniform-plus", "isomorphic"] = Field(
        "global", description="what is ranked together"
    )
    schedule: Literal["one-shot", "iterative", "gradual"] = Field(
        "one-shot", description="iterative: scores anew without training; gradual: with training between the rounds"
    )
    rounds: int = Field(1, ge=1, le=1000, description="of an iterative or gradual schedule")
    curve: Literal["geometric", "linear", "cubic"] = Field("geometric", description="how the kept share falls")
    target: Literal["parameters", "macs", "units"] = Field(
        "parameters", description="what the ratio is of; single weights count as parameters"
    )
    ratio: float = Field(0.5, ge=0, lt=1, description="the share that is removed")
    floor: float = Field(0.0, ge=0, lt=1, description="each tensor or group keeps at least this share")
    examples: int = Field(128, ge=1, description="examples that the score looks at")
    recovery: Literal["none", "update", "finetune", "rewind", "scratch", "distil"] = Field(
        "finetune", description="update: closed form; rewind: the original initial weights; scratch: new ones"
    )
    transfer: Literal["original", "transfer"] = Field("original", description="on which task the mask was found")
    exclude: tuple[str, ...] = Field((), description="modules that stay whole")
    multiple_of: int = Field(1, ge=1, description="numbers of kept units are multiples of this")
    allow_collapse: bool = Field(False, description="accept that a layer is emptied")

    @property
    def density(self) -> float:
        """The share that stays."""
        return 1 - self.ratio

    @property
    def hash(self) -> str:
        """12 hex digits that name the spec."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def check(self) -> PruneSpec:
        """Raise InputError for a combination that is no method; return the spec."""
        structured = self.speedup == "structured"
        known = FOR_UNITS if structured else FOR_WEIGHTS
        if self.criterion not in known:
            kind = "units" if structured else "single weights"
            raise InputError("criterion", self.criterion, f"one for {kind}: {', '.join(sorted(known))}")
        if (self.speedup == "semi-structured") != bool(self.pattern):
            raise InputError("pattern", repr(self.pattern), "a pattern with speedup semi-structured, and only there")
        if self.when == "before" and self.weights == "pretrained":
            raise InputError("weights", "pretrained, with when before", "initialised weights before training")
        if self.when == "run-time":
            raise InputError("when", "run-time, which has no static mask", "papers.pruning_survey.runtime.with_gates")
        if structured and self.scope not in ("global", "local", "isomorphic"):
            raise InputError("scope", f"{self.scope}, with units", "global, local or isomorphic")
        if not structured and self.scope == "isomorphic":
            raise InputError("scope", "isomorphic, with single weights", "units, for isomorphic groups")
        if not structured and self.target != "parameters":
            raise InputError("target", f"{self.target}, with single weights", "parameters")
        if self.criterion in WITHIN_ROWS and not self.pattern and self.scope != "row":
            expected = "row: the scores are comparable inside an output row only"
            raise InputError("scope", f"{self.scope}, with {self.criterion}", expected)
        if self.recovery == "update" and self.criterion != "sparsegpt":
            raise InputError(
                "recovery", f"update, with {self.criterion}", "sparsegpt, which has an update in closed form"
            )
        if self.recovery == "rewind" and structured:
            raise InputError("recovery", "rewind, with units", "single weights, whose mask can be rewound")
        if self.schedule == "one-shot" and self.rounds != 1:
            raise InputError("rounds", f"{self.rounds}, with one-shot", "1, or an iterative or gradual schedule")
        if self.schedule != "one-shot" and (self.pattern or self.criterion == "sparsegpt"):
            found = f"{self.schedule}, with {self.pattern or self.criterion}"
            raise InputError("schedule", found, "one-shot: patterns and the closed-form update are made at once")
        if self.floor and self.scope in ("erk", "uniform-plus"):
            raise InputError("floor", f"{self.floor:g}, with {self.scope}", "0: the scope sets what each tensor keeps")
        if self.schedule == "gradual" and self.when == "before":
            raise InputError("schedule", "gradual, before training", "after: it trains between the rounds")
        return self

    def check_evidence(self, labelled: bool, unlabelled: bool) -> None:
        """Raise InputError where the criterion needs examples or labels that are missing."""
        if self.criterion in NEEDS_LABELS and not labelled:
            raise InputError("data", "no labels", f"labelled examples, which {self.criterion} needs")
        if self.criterion in NEEDS_EXAMPLES and not (labelled or unlabelled):
            raise InputError("data", "no examples", f"inputs, which {self.criterion} needs")

    def taxonomy(self) -> Taxonomy:
        """The spec's place in the taxonomy that all methods declare."""
        data = "labelled" if self.criterion in NEEDS_LABELS else "none"
        if data == "none" and self.criterion in NEEDS_EXAMPLES:
            data = "unlabelled"
        recovery = {"rewind": "retrain", "scratch": "retrain"}.get(self.recovery, self.recovery)
        unit: Any = ("channel", "head") if self.speedup == "structured" else ("weight",)
        fusion: Any = ("distillation",) if self.recovery == "distil" else ()
        kind: Any = {"data": data, "recovery": recovery}
        return Taxonomy(self.speedup, self.when, "criterion", None, unit, fusion=fusion, **kind)

    def to_yaml(self) -> str:
        """The options that differ from the defaults, as YAML."""
        import yaml  # type: ignore[import-untyped]

        return str(yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False)) or "{}\n"

    def says(self) -> str:
        """One line for tables."""
        what = {"unstructured": "weights", "semi-structured": self.pattern, "structured": "units"}[self.speedup]
        how = self.schedule if self.schedule == "one-shot" else f"{self.schedule} {self.rounds}"
        ranked = "by layer" if self.pattern or self.criterion == "sparsegpt" else self.scope
        return f"{what}, {self.criterion}, {ranked}, {how}, {self.when}, {self.recovery}"


def read_spec(source: PruneSpec | Mapping[str, Any] | str | Path, **changes: Any) -> PruneSpec:
    """A checked spec from another, a dict, YAML text or a YAML (or JSON) file, with ``changes``.

    Raises InputError for what is no YAML, for unknown options, and for combinations that are no method.
    """
    if isinstance(source, PruneSpec):
        values: Any = source.model_dump()
    elif isinstance(source, Mapping):
        values = dict(source)
    else:
        values = _from_yaml(source)
    made = build_config(PruneSpec, {**values, **changes})
    assert isinstance(made, PruneSpec)
    return made.check()


def _from_yaml(source: str | Path) -> dict[str, Any]:
    import yaml

    text = str(source)
    if isinstance(source, Path) or ("\n" not in text and ":" not in text):
        path = Path(source).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("spec", f"{path} ({error})", "a file with options in YAML") from None
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError("spec", str(error).splitlines()[0], "YAML: one option and its value on a line") from None
    if values is None:
        values = {}
    if not isinstance(values, dict) or any(not isinstance(key, str) for key in values):
        raise InputError("spec", type(values).__name__, "a mapping from options to values")
    return values
