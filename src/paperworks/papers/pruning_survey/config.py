"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from paperworks.errors import InputError
from paperworks.pruning.image_options import ImageOptions


class Config(ImageOptions):
    """Options of ``paperworks run pruning-survey``."""

    contrast: Literal[
        "unstructured-vs-structured",
        "one-shot-vs-iterative",
        "data-free-vs-data-driven",
        "initialised-vs-pretrained",
        "scratch-vs-finetune",
        "original-vs-transfer",
        "static-vs-dynamic",
        "local-vs-global",
        "lottery-ticket",
        "criteria",
        "taxonomy",
    ] = Field(
        "one-shot-vs-iterative",
        description="the pair of the survey to measure; criteria ranks all scores for units at equal operations; "
        "taxonomy lists all methods and trains nothing",
    )
    spec: Path | None = Field(
        None, description="a pruning run declared in YAML: prune, recover and save with it, in place of a contrast"
    )
    ratios: tuple[float, ...] = Field((0.9, 0.98), description="shares of the parameters (or operations) that leave")
    seeds: int = Field(3, ge=1, le=100, description="repetitions, each with another network and other draws")
    epochs: float = Field(
        4, gt=0, le=10_000, description="epochs of the dense network, and of networks that begin anew"
    )
    recovery_epochs: float = Field(4, ge=0, le=10_000, description="epochs after pruning")
    learning_rate: float = Field(0.05, gt=0, lt=10, description="highest rate of SGD")
    batch_size: int = Field(64, ge=1, le=100_000, description="images of a step")
    hardware: Literal["any", "sparse-gpu", "sparse-cpu"] = Field(
        "any", description="for the recommendation: which sparse kernels there are"
    )
    training: Literal["none", "short", "ample"] = Field(
        "short", description="for the recommendation: how much training after pruning is affordable"
    )

    @field_validator("ratios")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 <= ratio < 1 for ratio in value):
            raise ValueError("shares that leave, from 0 and below 1")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.spec is not None and self.seeds > 3:
            raise InputError("seeds", f"{self.seeds}, with a spec", "a contrast: a spec is run with the one seed")
        return self
