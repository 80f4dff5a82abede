"""What a fit has found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


@dataclass
class Trajectory:
    """One entry per optimiser step, but for the group norms.

    Attributes
    ----------
    remaining : share of the prunable parameters that the hard masks of the step leave.
    ratio : R of that share and the target; ``search_loss`` : the generator's task loss. Steps of the search only.
    tuning_loss : of the LoRA-aware forward. Absent in steps without tuning.
    flips : share of mask entries that changed against the step before.
    norm_steps, dropped_norm, kept_norm : steps, and mean joint norm of the adapter entries of pruned and kept units.
    """

    remaining: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    search_loss: list[float] = field(default_factory=list)
    tuning_loss: list[float] = field(default_factory=list)
    flips: list[float] = field(default_factory=list)
    norm_steps: list[int] = field(default_factory=list)
    dropped_norm: list[float] = field(default_factory=list)
    kept_norm: list[float] = field(default_factory=list)


@dataclass
class ATPReport:
    """Figures of a fit; counts are of parameters, times in seconds.

    Attributes
    ----------
    target : most parameters asked for. ``remaining_share`` : of the prunable parameters, after the cut.
    returned_sampled : units that were pruned in some step of the search and are kept in the end: nearly all of them, as
        masks are drawn anew in every step. ``returned_decided`` counts those that the decision without noise had left
        out in a step of the search and taken in again in a later one.
    loss_before_zeroing, loss_after_zeroing, loss_after_cut : task loss on the calibration examples: LoRA-aware masked
        model, with the adapters of pruned units emptied, and the merged smaller model.
    masked_against_cut : largest difference of any logit between the last two.
    widths : kept units by kind, for every layer.
    """

    space: str
    generation: int
    target: int
    parameters_before: int
    parameters_after: int
    prunable_before: int
    prunable_after: int
    macs_before: int
    macs_after: int
    steps: int
    search_steps: int
    returned_sampled: int
    returned_decided: int
    units: int
    loss_before_zeroing: float
    loss_after_zeroing: float
    loss_after_cut: float
    masked_against_cut: float
    seconds: float
    generator_parameters: int
    adapter_parameters: int
    widths: dict[str, list[int]] = field(default_factory=dict)
    trajectory: Trajectory = field(default_factory=Trajectory)
    notes: list[str] = field(default_factory=list)

    @property
    def remaining_share(self) -> float:
        return self.prunable_after / self.prunable_before

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"method": "atp", **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        return cls(**{**values, "trajectory": Trajectory(**values["trajectory"])})
