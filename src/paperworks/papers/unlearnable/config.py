"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.options import LabelledImageOptions

NETWORKS = ("auto", "mlp", "small-cnn", "tiny-vit", "resnet", "vit", "convnext", "swin")


class Config(LabelledImageOptions):
    """Options of ``paperworks run unlearnable``."""

    size: int | None = Field(None, ge=4, le=1024, description="side in pixels that images are resized to")
    eps: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="largest change of a value, where black is 0 and white 1 (norm inf), or largest norm of the change "
        "of an image; default 8/255, and 0.3 for images of fewer than 256 pixels",
    )
    norm: Literal["inf", "2", "1"] = Field("inf", description="the change is bounded for each value, or over an image")
    steps: int = Field(40, ge=1, le=100_000_000, description="steps of ascent")
    lr: float | None = Field(None, gt=0, le=1, description="change of a value in a step; default eps / 15")
    epochs: int = Field(15, ge=1, le=100_000, description="epochs for which each surrogate is trained")
    training_lr: float = Field(0.1, gt=0, le=10, description="learning rate of SGD with which classifiers are trained")
    fresh_every: int = Field(
        1, ge=1, le=100_000, description="a fresh surrogate every so many steps; 1 is the paper's, more is cheaper"
    )
    model: Annotated[str, runs.File(NETWORKS)] = Field(
        "auto",
        description=f"the surrogate: {', '.join(NETWORKS)}, or the folder of an image classifier of transformers; auto "
        "is a perceptron below 256 pixels, else a residual network",
    )
    retrain: bool = Field(
        True, description="train a surrogate in each step; otherwise the folder's model is used as is"
    )
    kernel: Literal["rbf", "logistic"] = Field("rbf", description="similarity of features")
    sigma: float = Field(0.3, ge=1e-6, le=1e6, description="bandwidth of the rbf kernel, features scaled to at most 1")
    reference: int = Field(
        10_000, ge=10, le=1_000_000_000, description="most columns of the kernel matrix; more images are sampled"
    )
    test_size: float = Field(0.2, gt=0, lt=1, description="share of the images that tests the protection, unchanged")
    ratios: tuple[float, ...] = Field((0.5, 0.8, 1.0), description="shares of protected images in the mixtures tried")
    repeats: int = Field(1, ge=1, le=100, description="trainings on each mixture")
    test_epochs: int = Field(30, ge=1, le=100_000, description="epochs of the trainings that test the protection")
    compare: bool = Field(True, description="test error-minimising noise of the same size as well")

    @field_validator("ratios")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < ratio <= 1 for ratio in value):
            raise ValueError("shares above 0, up to 1")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.eps is None and self.norm != "inf":
            raise InputError("eps", f"none, with norm {self.norm}", "the largest norm of the change of an image")
        if self.eps is not None and self.eps > 1 and self.norm == "inf":
            raise InputError("eps", self.eps, "at most 1: black is 0 and white 1 (8 of 255 steps are 0.0314)")
        if not self.retrain and self.model in NETWORKS:
            raise InputError("retrain", "false without a trained model", "the folder of one in model")
        return self
