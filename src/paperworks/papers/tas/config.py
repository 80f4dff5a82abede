"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.pruning.image_options import MODELS, ImageOptions

RESNETS = tuple(f"resnet-{depth}" for depth in (8, 14, 20, 32, 56, 110, 164))
IMAGENET_RESNETS = tuple(f"imagenet-resnet-{depth}" for depth in (18, 34, 50, 101))
SHAPES = ("plain", *RESNETS, *IMAGENET_RESNETS)
"""Networks whose widths and depth are searched, as in the paper."""
TRACED = tuple(name for name in MODELS if name != "auto")
"""Networks of this package and of transformers, whose widths are searched in what is traced."""


class Config(ImageOptions):
    """Options of ``paperworks run tas``."""

    model: Annotated[str, runs.File(("auto", *SHAPES, *TRACED))] = Field(
        "auto",
        description="the full network: plain or a residual network of the paper (widths and depth are searched: "
        f"{', '.join(SHAPES)}); a network whose widths are searched where it is traced ({', '.join(TRACED)}, or the "
        "folder of a trained classifier); auto is plain below 256 pixels, else resnet-20",
    )
    target: float = Field(0.5, gt=0, le=1, description="wanted cost, as a share of the full network's")
    cost: Literal["macs", "parameters"] = Field("macs", description="what the cost counts")
    tolerance: float = Field(0.05, ge=0, le=0.5, description="half of the band around the target, as a share of it")
    search: Literal["both", "width", "depth"] = Field(
        "both", description="what is searched; traced networks have widths only"
    )
    ratios: tuple[float, ...] = Field(
        (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), description="candidate widths, as shares of the full ones"
    )
    sampled: int = Field(2, ge=1, le=64, description="widths that are drawn for a layer in a step of the search")
    blend: Literal["interpolate", "pad"] = Field(
        "interpolate",
        description="two widths are added after interpolation along the channels, or after padding",
    )
    epochs: int = Field(30, ge=1, le=100_000, description="epochs of the search (the paper: 600 on CIFAR)")
    lr: float = Field(0.1, gt=0, le=10, description="highest learning rate of the weights, in search and training")
    architecture_lr: float | None = Field(
        None, gt=0, le=10, description="learning rate of widths and depth; default 6 / steps, 0.001 to 0.05"
    )
    cost_weight: float = Field(2.0, ge=0, le=1e6, description="weight of the cost in the loss of widths and depth")
    tau: tuple[float, ...] = Field(
        (10.0, 0.1), min_length=2, max_length=2, description="first and last temperature of the Gumbel-softmax"
    )
    outside: Literal["repair", "raise"] = Field(
        "repair", description="when no epoch ends within the band: move the least certain choices into it, or stop"
    )
    training_epochs: int = Field(15, ge=1, le=100_000, description="epochs of every training (the paper: 300 on CIFAR)")
    batch_size: int = Field(64, ge=2, le=65536, description="images of a step")
    alpha: float = Field(0.9, ge=0, le=1, description="share of the full network's outputs in the found one's loss")
    temperature: float = Field(4.0, gt=0, le=1000, description="temperature of the distillation")
    augment: bool = Field(False, description="pad by an eighth, crop and mirror the training images")
    compare: bool = Field(True, description="train other networks of the same cost as well")
    onnx: bool = Field(False, description="write the found network as ONNX as well, checked in onnxruntime")

    @field_validator("ratios")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < ratio <= 1 for ratio in value):
            raise ValueError("shares above 0, up to 1")
        return tuple(sorted(set(value)))

    @field_validator("tau")
    @classmethod
    def _warm(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not temperature > 0 for temperature in value):
            raise ValueError("two temperatures above 0")
        return value

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.search == "depth" and self.model not in ("auto", *SHAPES):
            raise InputError("search", "depth", f"width, or a model of {', '.join(SHAPES)}: others have no stages")
        return self
