"""What pruning did, step by step."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class StepRecord:
    """One pruning step. Lists run over all layers; a layer that is not pruned has sparsity 0.

    Attributes
    ----------
    step : from 1.
    importance : as measured, in front of the cut (``cosine``: minus the mean cosine).
    normalised : I_hat, 0 for layers that are not pruned.
    sparsity : S, cumulative, after the step.
    kv_groups, ffn : widths after the step.
    parameters, macs : after the step; multiply-accumulates for one token.
    loss : calibration loss in nats in front of the cut, or None.
    """

    step: int
    importance: list[float]
    normalised: list[float]
    sparsity: list[float]
    kv_groups: list[int]
    ffn: list[int]
    parameters: int
    macs: int
    loss: float | None


@dataclass
class PruneReport:
    """The result of ``AdaptPruner.fit``.

    Attributes
    ----------
    plan : all cuts together, as JSON of ``KeepPlan`` for the model that came in.
    kv_groups, ffn : widths at the start.
    realised : share that is gone of all kv groups and of all FFN channels (rounding lets attention lag behind).
    """

    target: int | None
    parameters_before: int
    parameters_after: int
    prunable_before: int
    prunable_after: int
    kv_groups: list[int]
    ffn: list[int]
    steps: list[StepRecord] = field(default_factory=list)
    plan: str = "{}"
    realised: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and texts."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PruneReport:
        """Read back ``to_dict``."""
        return cls(**{**data, "steps": [StepRecord(**step) for step in data["steps"]]})
