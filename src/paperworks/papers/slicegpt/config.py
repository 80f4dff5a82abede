"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.pruning.target import Target


class Config(runs.Config):
    """What to slice, how much, on which text."""

    model: Path | None = Field(None, description="Hugging Face checkpoint folder (none: the bundled language model)")
    slicing: float = Field(0.25, ge=0, lt=1, description="share of the hidden size to cut")
    target: str | None = Field(
        None,
        description="most parameters, instead of --slicing: 0.75x (of all), 0.5p (of the prunable), 4.2M, 900MiB",
    )
    target_params: str | None = Field(None, description="former name of --target")
    dims: tuple[int, ...] | None = Field(None, description="widths to keep instead of --slicing, one per layer")
    schedule: Literal["constant", "variance"] = Field("constant", description="one width for all cuts, or by variance")
    variance_discarded: float = Field(
        0.01, ge=0, lt=1, description="share of the variance that each cut may discard, for --schedule variance"
    )
    round_to: int = Field(8, ge=1, le=1024, description="widths are multiples of this many dimensions")
    orientation: Literal["random", "pca"] = Field("random", description="basis inside the kept subspace")
    slice_head: bool = Field(False, description="cut the input of the output head as well")
    calibration: Path | None = Field(
        None, description="text to calibrate on: .txt, .jsonl, either with .gz, or a folder (none: bundled text)"
    )
    sequences: int = Field(128, ge=1, le=65_536, description="calibration sequences")
    length: int = Field(256, ge=2, le=2**20, description="tokens of a sequence, for calibration and evaluation")
    batch_size: int = Field(16, ge=1, le=65_536, description="sequences that are computed together")
    evaluation: Path | None = Field(
        None, description="held-out text for the figures (none: the last tenth of --calibration, or bundled text)"
    )
    evaluation_sequences: int = Field(128, ge=1, le=65_536, description="held-out sequences, at most")
    recovery_steps: int = Field(
        0, ge=0, le=100_000_000, description="steps of LoRA fine-tuning after slicing, on the calibration text"
    )
    lora_rank: int = Field(32, ge=1, le=65_536, description="rank of the adapters of the fine-tuning")
    lora_alpha: float = Field(10, gt=0, le=1e6, description="scale of the adapters is this over the rank")
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="dropout in the adapters")
    learning_rate: float = Field(2e-4, gt=0, lt=1, description="peak learning rate of the fine-tuning")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="type of the saved weights (auto: the checkpoint's)"
    )
    activation_budget: float = Field(
        2048, gt=0, le=1e9, description="calibration activations kept in memory, MiB; beyond it they go to disk"
    )
    evaluation_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="type in which quality is measured; a shorter one halves the memory of a large model"
    )
    dry_run: bool = Field(False, description="only show spectra and predicted sizes; change nothing")

    @model_validator(mode="after")
    def _one_size(self) -> Config:
        for name in ("target", "target_params"):
            if getattr(self, name) is not None:
                Target.parse(getattr(self, name), name)
        given = [name for name in ("target", "target_params", "dims") if getattr(self, name) is not None]
        if len(given) > 1 or (given and self.schedule != "constant"):
            raise ValueError("one of --slicing, --target, --dims or --schedule variance")
        return self
