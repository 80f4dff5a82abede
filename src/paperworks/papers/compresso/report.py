"""What a pruning was: sizes, the course of the constraint, what is left in every layer, and what it took."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from paperworks.papers.compresso.learning import Step


@dataclass
class CompressoReport:
    """The record of one ``Compresso.fit``.

    Attributes
    ----------
    target : most entries allowed, of those that ``measure`` counts (``prunable`` or ``parameters``).
    target_sparsity : the same as a share removed.
    sparsity_expected : 1 - E / M after the last step of pruning.
    sparsity_masks : that of the deterministic masks, which round by layer; ``sparsity_realised``: of the cut model,
        after the exact fill where it was asked for.
    parameters_before, parameters_after, prunable_before, prunable_after : counts of the two models.
    macs_before, macs_after : multiply-accumulates per token without context.
    cache_values_before, cache_values_after : numbers in the key-value cache per token.
    heads, key_value_heads, channels : kept in every layer; ``hidden``: kept dimensions of the stream.
    heads_before, key_value_heads_before, channels_before, hidden_before : the same of the dense model.
    trainable_adapters, trainable_masks : entries that were trained.
    masked_against_cut : largest difference of any logit between the masked model and the cut one, as a share of the
        largest logit.
    course : every step of pruning.
    tuning_losses, final_losses : of the phases before and after.
    prompt_tokens : tokens of the prefix (with the header of the user's text, for instructions).
    examples : their number. plan : the kept units, as JSON of ``KeepPlan``.
    seconds : by phase. start_bytes, peak_bytes : memory of the process before, and at its peak.
    notes : what a reader must know.
    """

    measure: str
    target: int
    target_sparsity: float
    sparsity_expected: float
    sparsity_masks: float
    sparsity_realised: float
    parameters_before: int
    parameters_after: int
    prunable_before: int
    prunable_after: int
    macs_before: int
    macs_after: int
    cache_values_before: int
    cache_values_after: int
    heads: list[int]
    key_value_heads: list[int]
    channels: list[int]
    hidden: int
    heads_before: list[int]
    key_value_heads_before: list[int]
    channels_before: list[int]
    hidden_before: int
    trainable_adapters: int
    trainable_masks: int
    masked_against_cut: float
    course: list[Step]
    tuning_losses: list[float]
    final_losses: list[float]
    prompt_tokens: int
    examples: int
    plan: str
    seconds: dict[str, float] = field(default_factory=dict)
    start_bytes: int = 0
    peak_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content, with the method's name."""
        return {"method": "compresso", **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CompressoReport:
        """Read back ``to_dict``; other keys are passed over."""
        fields = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        return cls(**{**fields, "course": [Step(**step) for step in fields["course"]]})
