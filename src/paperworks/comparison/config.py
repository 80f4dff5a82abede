"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from paperworks import runs
from paperworks.inputs.options import IMAGES
from paperworks.pruning.image_options import MODELS


class Config(runs.Config):
    """One checkpoint, one budget, one text; which methods, how often, and how long they may train."""

    model: Path | None = Field(None, description="Hugging Face checkpoint folder (none: the bundled language model)")
    target: str = Field(
        "0.75x",
        description="most parameters: 0.75x (share of all), 0.5p (share of the prunable ones), 4.2M, 900MiB; or 20ms, "
        "0.7t, a measured time to write a token, in milliseconds or as a share of the dense model's",
    )
    target_params: str | None = Field(None, description="former name of --target")
    methods: tuple[str, ...] = Field(
        (), description="methods to compare, such as slicegpt,magnitude,random (none: all that are here)"
    )
    text: Path | None = Field(
        None, description="text to calibrate and train on: .txt, .jsonl, either with .gz, or a folder (none: bundled)"
    )
    evaluation: Path | None = Field(None, description="held-out text (none: the last tenth of --text, or bundled text)")
    choices: Path | None = Field(
        None, description="multiple-choice questions, .jsonl (none: which stretch of held-out text goes on?)"
    )
    seeds: int = Field(1, ge=1, le=100, description="repetitions, each with other calibration windows and noise")
    sequences: int = Field(128, ge=1, description="calibration sequences")
    length: int = Field(128, ge=8, description="tokens of a sequence, for calibration, training and evaluation")
    batch_size: int = Field(8, ge=1, description="sequences that are computed together")
    train_steps: int = Field(150, ge=0, description="optimiser steps that methods may take while they prune")
    recovery_steps: int = Field(
        50, ge=0, description="optimiser steps after that; methods that took none before take all of both here"
    )
    learning_rate: float = Field(1e-3, gt=0, lt=1, description="highest rate, of training and of recovery")
    rank: int = Field(8, ge=1, description="rank of the adapters of the recovery")
    evaluation_sequences: int = Field(256, ge=1, description="held-out sequences, at most")
    rounds: int = Field(5, ge=1, description="rounds in which the speed is measured, in turn with the dense model")
    images: Annotated[str | None, runs.File(IMAGES)] = Field(
        None,
        description="compare on an image classifier instead, at equal operations: labelled images, as a folder with a "
        f"folder per class, .npz, IDX, Parquet, or one of {', '.join(IMAGES)}",
    )
    network: Annotated[str, runs.File(MODELS)] = Field(
        "small-cnn", description=f"with images: {', '.join(MODELS)}, trained here, or the folder of a classifier"
    )
    macs: float = Field(0.5, gt=0, le=1, description="with images: the share of the operations that may stay")
    epochs: float = Field(10, gt=0, le=10_000, description="with images: epochs of the dense network")
    image_size: int | None = Field(None, ge=4, le=1024, description="with images: side in pixels to resize to")
    image_limit: int | None = Field(None, ge=20, description="with images: use at most so many, drawn with the seed")
    image_batch_size: int = Field(64, ge=2, description="with images: images of an optimiser step")
    image_learning_rate: float = Field(0.05, gt=0, lt=10, description="with images: highest rate of SGD")
