"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from paperworks.errors import InputError
from paperworks.inputs.options import LabelledImageOptions


class Config(LabelledImageOptions):
    """Options of ``paperworks run sret``."""

    test_size: float = Field(0.25, gt=0, lt=1, description="share of the images to test on, where no split is given")
    network: Literal["auto", "micro", "tiny", "tiny-large", "small"] = Field(
        "auto", description="size: micro (0.12 M parameters), SReT_T, SReT_LT, SReT_S; auto is micro below 96 pixels"
    )
    model: Path | None = Field(
        None, description="folder of a trained SReT, or official .pth file, to tune in place of a new network"
    )
    image_size: int | None = Field(None, ge=4, le=1024, description="side in pixels that images are resized to")
    sliced: bool = Field(True, description="attend inside groups of tokens")
    loops: int = Field(2, ge=1, le=100, description="passes of each block of a new network")
    epochs: float = Field(6, gt=0, le=10_000, description="passes over the training images")
    batch_size: int = Field(64, ge=2, le=65_536, description="images in a step")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="highest rate of AdamW")
    weight_decay: float = Field(0.05, ge=0, le=10, description="of matrices and kernels")
    augment: bool = Field(False, description="random crops; horizontal flips as well for colour images")
    teacher: Path | None = Field(None, description="folder of an image classifier of transformers to learn from")
    alpha: float = Field(1.0, ge=0, le=1, description="weight of the teacher's soft labels; the rest is the labels'")
    temperature: float = Field(1.0, gt=0, le=100, description="softness of the teacher's and student's distributions")
    finetune_at: int | None = Field(None, ge=4, le=1024, description="side in pixels to tune the trained network at")
    finetune_epochs: float = Field(2, gt=0, le=10_000, description="passes over the images at the other resolution")
    compare: bool = Field(True, description="train the networks without slices and without recursion as well")
    onnx: bool = Field(False, description="write an ONNX file as well, checked in onnxruntime")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.alpha < 1 and self.teacher is None:
            raise InputError("alpha", self.alpha, "1 without a teacher")
        if self.model is not None and self.network != "auto":
            raise InputError("network", f"{self.network}, with a trained model", "auto: the model has its own")
        if self.model is not None and self.loops != 2:
            raise InputError("loops", f"{self.loops}, with a trained model", "2: the model has its own")
        return self
