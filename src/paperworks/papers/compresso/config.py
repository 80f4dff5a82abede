"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from paperworks import runs

PENALTY = 10.0
"""See ``TrainerArgs.penalty_factor``: the few steps of a common budget leave no time for swings."""


class Config(runs.Config):
    """What to prune, how far, on which rows."""

    model: Path | None = Field(None, description="Hugging Face checkpoint folder (none: the bundled language model)")
    target: str = Field(
        "0.75x",
        description="most parameters: 0.75x (of all), 0.5p (of the prunable), 4.2M, 900MiB; or 20ms, 0.7t (measured)",
    )
    units: tuple[Literal["heads", "ffn", "hidden"], ...] = Field(
        ("heads", "ffn", "hidden"),
        min_length=1,
        description="what gets masks: heads, ffn (channels), hidden (dimensions)",
    )
    text: Path | None = Field(
        None,
        description="rows to tune on: .jsonl with instruction, input, output; or plain text (none: definitions)",
    )
    evaluation: Path | None = Field(
        None, description="held-out rows or text (none: a tenth of the rows given, or the bundled ones)"
    )
    prompt: str = Field("collaborative", description="collaborative, plain, none, or a system part of your own")
    tuning_steps: int = Field(5, ge=0, le=100_000_000, description="steps with adapters alone")
    pruning_steps: int = Field(100, ge=1, le=100_000_000, description="steps with adapters and masks")
    final_steps: int = Field(20, ge=0, le=100_000_000, description="steps behind fixed masks")
    warmup: float = Field(0.5, ge=0, le=1, description="share of the pruning steps in which the target rises")
    schedule: Literal["linear", "cubic"] = Field("linear", description="how the target rises")
    batch_size: int = Field(8, ge=1, le=65_536, description="sequences in a step")
    length: int = Field(256, ge=16, le=2**20, description="tokens of a sequence at most, the prompt among them")
    learning_rate: float = Field(1e-3, gt=0, lt=1, description="peak rate of the adapters (the paper's 7B: 5e-5)")
    final_learning_rate: float = Field(1e-3, gt=0, lt=1, description="peak rate of the last phase (the paper's: 4e-4)")
    mask_learning_rate: float | None = Field(
        None, gt=0, le=10, description="rate of masks and multipliers (none: 0.1, or more if there are few steps)"
    )
    penalty_factor: float = Field(
        PENALTY,
        gt=0,
        le=1000,
        description="rate of lambda_2 over that of lambda_1 (the paper: 1, for thousands of steps)",
    )
    lora_rank: int = Field(8, ge=1, le=65_536, description="rank of the adapters")
    lora_alpha: int = Field(8, ge=1, le=65_536, description="scale of the adapters is this over the rank")
    layer_gates: Literal["none", "layer", "blocks"] = Field(
        "none", description="also learn which layers (or halves of layers) are pruned at all"
    )
    layers: tuple[int, ...] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="first layer to lose heads and channels, and the one after the last",
    )
    exact_fill: bool = Field(True, description="meet the target exactly by the units nearest to the threshold")
    evaluation_sequences: int = Field(64, ge=1, le=65_536, description="held-out sequences or rows, at most")
    round_to: int = Field(
        1,
        ge=1,
        le=65_536,
        description="kept channels and dimensions of the stream are a multiple of this, such as 64, or all",
    )
    uniform_export: bool = Field(False, description="also save a model with equal widths, for serving engines")
    uniform_multiple: int = Field(64, ge=1, le=65_536, description="its feed-forward width is a multiple of this")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="type of the saved weights (auto: the checkpoint's)"
    )
    dry_run: bool = Field(False, description="only show sizes, prompt and steps; change nothing")
