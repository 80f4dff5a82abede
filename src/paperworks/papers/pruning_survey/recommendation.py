"""The survey's recommendations as rules: limits in, declared runs out, each with its reasons and what was measured.

The rules are the survey's as they are known from secondary sources. What was measured beside them comes from the
paper's ``results.json``; a rule whose claim did not hold here says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from paperworks.errors import InputError
from paperworks.papers.pruning_survey.spec import PruneSpec, read_spec

Hardware = Literal["any", "sparse-gpu", "sparse-cpu"]
Training = Literal["none", "short", "ample"]
Examples = Literal["none", "unlabelled", "labelled"]
Start = Literal["pretrained", "untrained"]
RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Limits:
    """What a user has.

    Attributes
    ----------
    hardware : ``any``; ``sparse-gpu`` has kernels for 2:4; ``sparse-cpu`` has kernels for single zeros.
    training : how much of it is affordable after pruning.
    examples : that scores may look at.
    start : a ``pretrained`` network, or one that is to be trained yet.
    ratio : the share to remove.
    large_language_model : whether it is one.
    """

    hardware: Hardware = "any"
    training: Training = "short"
    examples: Examples = "labelled"
    start: Start = "pretrained"
    ratio: float = 0.5
    large_language_model: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("hardware", Hardware), ("training", Training), ("examples", Examples), ("start", Start)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(name, getattr(self, name), f"one of {', '.join(get_args(kind))}")
        if not isinstance(self.ratio, int | float) or not 0 <= self.ratio < 1:
            raise InputError("ratio", self.ratio, "a share that is removed, from 0 and below 1")


@dataclass(frozen=True)
class Measured:
    """One finding of the studies: what was said, the figure with its interval, and whether it held.

    ``holding`` of the ``count`` findings of the claim hold.
    """

    claim: str
    text: str
    holds: bool
    holding: int
    count: int

    @property
    def cited(self) -> str:
        """In words; the claim's other findings are counted, so that one that fails is not passed over."""
        others = f" (of the claim's {self.count} findings {self.holding} hold)" if self.count > 1 else ""
        return f"{self.text}{'' if self.holds else ' (does not hold here)'}{others}"


@dataclass(frozen=True)
class Recommendation:
    """A declared run, the reasons for it, and what was measured of them here."""

    name: str
    spec: PruneSpec
    reasons: tuple[str, ...]
    claims: tuple[str, ...]
    measured: tuple[Measured, ...] = field(default=())

    @property
    def cited(self) -> str:
        """What was measured, in one line."""
        if not self.measured:
            return "not measured here"
        return "; ".join(measured.cited for measured in self.measured)


def recommend(limits: Limits | None = None, *, results: Path | None = None) -> list[Recommendation]:
    """Runs for these limits, the best first; the last two are the controls that every comparison should have.

    ``results``: the measured findings (None: those that ship with the paper).
    """
    own = limits or Limits()
    found: list[Recommendation] = []
    findings = _findings(results or RESULTS)

    def add(name: str, claims: tuple[str, ...], reasons: list[str], **options: object) -> None:
        spec = read_spec({"ratio": own.ratio, **_recovery(own), **options})
        measured = tuple(findings[claim] for claim in claims if claim in findings)
        found.append(Recommendation(name, spec, tuple(reasons), claims, measured))

    aggressive = own.ratio >= 0.8
    if own.start == "untrained":
        _untrained(own, add)
    elif own.training == "none" or own.large_language_model:
        _after_training(own, add)
    if own.hardware == "any":
        _units(own, add, aggressive)
    elif own.hardware == "sparse-gpu":
        data = own.examples != "none"
        add(
            "2:4 pattern",
            ("patterns-cost-accuracy",),
            ["kernels for 2:4 make the pattern fast; it costs less accuracy than whole units"],
            speedup="semi-structured",
            pattern="2:4",
            ratio=0.5,
            **({"criterion": "wanda"} if data else {}),
        )
    else:
        gradual = own.training == "ample" or (aggressive and own.training != "none")
        add(
            "single weights",
            ("unstructured-beats-structured", "iterative-beats-one-shot"),
            [
                "kernels for single zeros: no pattern costs less accuracy",
                *(["in steps, at a high ratio"] if gradual else []),
            ],
            **({"schedule": "gradual", "rounds": 5} if gradual else {}),
        )
    unit = own.hardware == "any"
    control: dict[str, object] = {"speedup": "structured"} if unit else {}
    add("control: size", (), ["every comparison needs it"], criterion="group-norm" if unit else "magnitude", **control)
    add("control: random", (), ["every comparison needs it"], criterion="random", **control)
    return found


def _recovery(own: Limits) -> dict[str, object]:
    if own.training == "none":
        return {"recovery": "none"}
    if own.start == "pretrained" and own.training == "ample" and own.examples == "labelled":
        return {"recovery": "distil"}
    return {"recovery": "finetune"}


def _untrained(own: Limits, add: object) -> None:
    labelled = own.examples == "labelled"
    options: dict[str, object] = {"criterion": "snip"}
    if not labelled:
        options = {"criterion": "synflow", "schedule": "iterative", "rounds": 100}
    add(  # type: ignore[operator]
        "before training",
        ("after-training-beats-before", "layer-collapse"),
        [
            "memory or time does not allow to train the dense network first",
            "SNIP looks at labels" if labelled else "SynFlow needs no examples, and in 100 steps it empties no layer",
        ],
        when="before",
        weights="initialised",
        recovery="finetune",
        **options,
    )


def _after_training(own: Limits, add: object) -> None:
    if own.hardware == "any" or own.examples == "none":
        return
    add(  # type: ignore[operator]
        "closed-form update",
        ("sparsegpt-beats-wanda",),
        ["no training afterwards: the weights that stay make up for those that leave, layer by layer"],
        criterion="sparsegpt",
        recovery="update",
        **({"speedup": "semi-structured", "pattern": "2:4", "ratio": 0.5} if own.hardware == "sparse-gpu" else {}),
    )


def _units(own: Limits, add: object, aggressive: bool) -> None:
    gradual = own.training == "ample" or (aggressive and own.training != "none")
    reasons = ["no special kernels: only whole units make a network faster everywhere"]
    claims = ["only-structured-speeds-up-everywhere", "group-aware-structured-pruning"]
    if gradual:
        reasons.append("in steps with training between: a high ratio, or time for it")
        claims.append("iterative-beats-one-shot")
    if own.training == "ample":
        claims.append("distillation-recovers-more")
    options: dict[str, object] = {"schedule": "gradual", "rounds": 5} if gradual else {}
    score = {"none": "group-norm", "unlabelled": "group-norm", "labelled": "taylor"}[own.examples]
    reasons.append(
        "labels: the change of the loss" if score == "taylor" else "without labels: the size of coupled layers"
    )
    add(  # type: ignore[operator]
        "whole units",
        tuple(claims),
        reasons,
        speedup="structured",
        target="macs",
        criterion=score,
        floor=0.1 if aggressive else 0.0,
        **options,
    )
    if own.examples == "unlabelled":
        add(  # type: ignore[operator]
            "whole units, by activations",
            ("cost-of-scores",),
            ["a few inputs without labels: what the next layer would lose"],
            speedup="structured",
            target="macs",
            criterion="thinet",
        )


def _findings(path: Path) -> dict[str, Measured]:
    """The first finding of each claim, and of how many of its findings the claim holds."""
    if not path.is_file():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8")).get("findings", [])
    by_claim: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        by_claim.setdefault(entry["claim"], []).append(entry)
    found: dict[str, Measured] = {}
    for claim, own in by_claim.items():
        first, low_high = own[0], own[0].get("interval")
        ends = f" [{low_high[0]:.3g}, {low_high[1]:.3g}]" if low_high else ""
        text = f"{first['statement']}: {float(first['measured']):.3g}{ends}"
        found[claim] = Measured(claim, text, bool(first["holds"]), sum(bool(e["holds"]) for e in own), len(own))
    return found
