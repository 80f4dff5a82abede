"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.pruning import Target


class Config(runs.Config):
    """What to prune, how far, on which text, and how much to train between the cuts."""

    model: Path | None = Field(None, description="Hugging Face checkpoint folder (none: the bundled language model)")
    target: str = Field(
        "0.85x",
        description="most parameters: 0.75x (of all), 0.5p (of the prunable), 4.2M, 900MiB; or 20ms, 0.7t (measured)",
    )
    train_steps: int = Field(
        0, ge=0, le=1_000_000, description="optimiser steps between the cuts, all stages together (0: prune only)"
    )
    stages: int = Field(0, ge=0, le=1000, description="stages of pruning and training (0: about 5 % each)")
    steps: int = Field(50, ge=1, le=10_000, description="pruning steps T; a step takes 1/T of every layer, on average")
    amplitude: float = Field(0.02, ge=0, le=1, description="how far a layer's step may differ from the mean")
    layer_importance: Literal["cosine", "euclidean", "manhattan"] = Field(
        "cosine", description="how much a layer changes its input is measured by this"
    )
    normalise: Literal["max", "zscore", "rank"] = Field("max", description="scale of the layers' importance")
    unit_importance: Literal["taylor", "l1", "l2", "random"] = Field("taylor", description="ranking inside a layer")
    taylor: Literal["param_first", "param_second", "param_mix", "vectorize"] = Field(
        "param_first", description="order of the Taylor importance"
    )
    reduction: Literal["sum", "mean", "max", "prod", "first"] = Field(
        "sum", description="how the scores of a unit's matrices become one"
    )
    prune: Literal["both", "attention", "mlp"] = Field("both", description="parts of a layer to prune")
    layers: tuple[int, ...] | None = Field(None, description="layers to prune (none: all)")
    mode: Literal["width", "layer_wise"] = Field("width", description="cut widths, or drop whole layers")
    text: Path | None = Field(
        None, description="text to calibrate and train on: .txt, .jsonl, either with .gz, or a folder (none: bundled)"
    )
    examples: int = Field(32, ge=1, le=65_536, description="calibration sequences of a step (paper: 512)")
    length: int = Field(64, ge=2, le=2**20, description="tokens of a calibration sequence")
    batch_size: int = Field(16, ge=1, le=65_536, description="sequences that are computed together")
    train_length: int = Field(128, ge=2, le=2**20, description="tokens of a training and of an evaluation sequence")
    learning_rate: float = Field(2e-4, gt=0, lt=1, description="peak rate of the training (paper: 2e-5 at 0.1 to 1B)")
    schedule: Literal["wsd", "cosine"] = Field("wsd", description="learning rate over all stages")
    data_split: Literal["linear", "constant", "cosine"] = Field("linear", description="data of the stages")
    distill: bool = Field(False, description="train on the dense model's distribution (temperature 2)")
    lora_rank: int = Field(
        0, ge=0, le=65_536, description="train adapters of this rank instead of all weights (0: all)"
    )
    reset_optimizer: bool = Field(True, description="new optimiser in every stage; false carries its moments")
    carry_sparsity: bool = Field(False, description="let the layers' sparsity go on over the stages")
    evaluation: Path | None = Field(
        None, description="held-out text for the figures (none: the last tenth of --text, or bundled text)"
    )
    evaluation_sequences: int = Field(64, ge=1, le=65_536, description="held-out sequences, at most")
    round_to: int = Field(
        1, ge=1, le=65_536, description="kept channels of a layer are a multiple of this, such as 64, or all"
    )
    uniform_export: bool = Field(False, description="also save a model with equal widths, for serving engines")
    uniform_multiple: int = Field(64, ge=1, le=65_536, description="its feed-forward width is a multiple of this")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="type of the saved weights (auto: the checkpoint's)"
    )

    @model_validator(mode="after")
    def _sizes(self) -> Config:
        Target.parse(self.target)
        if self.stages and not self.train_steps:
            raise ValueError("--stages needs --train-steps: without training, the stages are one")
        return self
