"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

IMAGES = ("digits",)
ENTITIES = ("digits", "glyphs")
ANSWERERS = ("oracle", "random", "template-image", "template-slice")


class Config(runs.Config):
    """Options of ``paperworks run hires-llava``."""

    error_names: ClassVar = {"vision": "encoder"}

    action: Literal["probe", "entitygrid", "classify", "train"] = Field(
        "probe",
        description="probe measures what an encoder loses at cuts and what the adapter wins back; entitygrid makes the "
        "benchmark and asks an answerer; classify trains on images with labels; train makes a vision-language model",
    )
    images: Annotated[str, runs.File(IMAGES)] = Field(
        "digits", description="images: a folder, a single image, a table of files, .npz, Parquet; digits is bundled"
    )
    encoder: Annotated[str | None, runs.File()] = Field(
        None,
        description="vision encoder: folder of CLIP, SigLIP, DINOv2 or ViT of transformers, or of TinyViT; default a "
        "small one that is trained first, on bundled digits, and reads slices of 16 x 16 pixels",
    )
    entities: Annotated[str, runs.File(ENTITIES)] = Field(
        "digits",
        description="objects of EntityGrid: digits, glyphs, or a folder with a folder of images per category",
    )
    limit: int = Field(64, ge=1, le=1_000_000_000, description="images that are probed, at most, drawn with the seed")
    max_slices: int = Field(4, ge=2, le=64, description="slices of an image, at most")
    layers: str = Field("even", description="layers with an adapter: even (4 of them), all, none, or numbers as 0,5,11")
    kernel: int = Field(3, ge=1, le=31, description="side of the adapter's convolution, odd")
    path: Literal["both", "local", "global"] = Field("both", description="the adapter's paths")
    sampler: Literal["self-mining", "avgpool", "concat", "qformer", "resampler"] = Field(
        "self-mining", description="how tokens are made fewer, with action classify or train"
    )
    window: int = Field(2, ge=1, le=64, description="side of the sampler's windows; divides the tokens along a side")
    steps: int = Field(
        200, ge=0, le=1_000_000, description="training steps of the adapter (or model); 0 leaves EntityGrid out"
    )
    pretrain_steps: int = Field(300, ge=1, le=100_000, description="training steps of the small encoder, where used")
    batch_size: int = Field(32, ge=1, le=4096, description="images in a step")
    learning_rate: float = Field(0.005, gt=0, le=1, description="of AdamW")
    test_images: int = Field(180, ge=9, le=100_000, description="images of EntityGrid that test")
    train_images: int = Field(0, ge=0, le=100_000, description="images of EntityGrid for training, with entitygrid")
    canvas: int | None = Field(
        None, ge=8, le=8192, description="side of EntityGrid's images in pixels; default two slices of the encoder"
    )
    answerer: Annotated[str, runs.File(ANSWERERS)] = Field(
        "template-slice",
        description="who answers EntityGrid: oracle, random, template-image, template-slice, or the folder of a model "
        "that action train wrote",
    )
    endpoint: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="address of an OpenAI-compatible server that reads images, in place of an answerer"
    )
    endpoint_model: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="name of the model at the endpoint"
    )
    records: Annotated[str | None, runs.File()] = Field(
        None, description="JSON file in LLaVA's format for action train; default EntityGrid's training records"
    )
    llm: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a causal language model of transformers; default a small one of characters"
    )
    stage: Literal["1", "2", "3", "all"] = Field(
        "all",
        description="of training: 1 aligns, 2 adds slices and the adapter, 3 tunes the language model, all of them",
    )
    lora_rank: int = Field(8, ge=0, le=1024, description="rank of LoRA in stage 3; 0 trains the whole language model")
    test_size: float = Field(0.25, gt=0, lt=1, description="share of the images that test, with classify")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if not re.fullmatch(r"even|all|none|\d+(,\d+)*", self.layers):
            raise InputError("layers", repr(self.layers), "even, all, none, or numbers separated by commas")
        if self.kernel % 2 == 0:
            raise InputError("kernel", self.kernel, "an odd number")
        if self.canvas is not None and self.canvas % 2:
            raise InputError("canvas", self.canvas, "an even number")
        if (self.endpoint is None) != (self.endpoint_model is None):
            found = "an address alone" if self.endpoint else "a model's name alone"
            raise InputError("endpoint", found, "an address together with endpoint_model")
        if self.action in ("classify", "train") and self.steps == 0:
            raise InputError("steps", 0, f"1 or more, with action {self.action}")
        return self

    @property
    def adapter_layers(self) -> str | list[int]:
        """As ``HiResVisionEncoder`` takes them."""
        if self.layers in ("even", "all", "none"):
            return self.layers
        return [int(part) for part in self.layers.split(",")]
