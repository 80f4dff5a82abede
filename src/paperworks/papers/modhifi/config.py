"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.options import IMAGES
from paperworks.pruning.image_options import MODELS, ImageOptions

SYNTHETIC = ("density", "mixture", "moments", "noise")
TEXT_MODELS = ("minilm", "bundled-llama")


class Config(ImageOptions):
    """Options of ``paperworks run modhifi``."""

    task: Literal["prune", "unlearn"] = Field(
        "prune", description="make the network smaller, or make it forget a class; neither trains"
    )
    data: Annotated[str, runs.File(IMAGES)] = Field(
        "digits",
        description="labelled images: a folder with a folder per class, a table of files and labels, .npz, IDX, "
        f"Parquet, or one of {', '.join(IMAGES)}; labels serve to measure",
    )
    model: Annotated[str, runs.File((*MODELS, *TEXT_MODELS))] = Field(
        "small-cnn",
        description=f"{', '.join(MODELS)}, trained here on the images; the folder of a trained classifier of images, "
        f"ours or of transformers; a folder of a text encoder or a language model; or {' or '.join(TEXT_MODELS)}",
    )
    text: Annotated[Path | None, runs.File()] = Field(
        None, description="text for calibration of a text model: .txt, .jsonl or a folder; default bundled English"
    )
    calibration: Annotated[str, runs.File(SYNTHETIC)] = Field(
        "density",
        description="unlabelled images for the method: drawn from a density of each class, a mixture, its moments or "
        "noise; or a folder or file of images, taken as they are",
    )
    bandwidth: float = Field(0.25, ge=0, le=10, description="noise of density, in standard deviations of the values")
    samples: int = Field(
        100, ge=2, le=100_000, description="synthetic images of each class; texts, or windows of a language model, x 5"
    )
    epochs: float = Field(10.0, gt=0, le=1000, description="epochs of training where no trained model is given")
    learning_rate: float = Field(0.05, gt=0, le=10, description="highest learning rate of that training (SGD)")
    target: float = Field(0.5, gt=0, le=1, description="share of the cost that stays")
    of: Literal["macs", "params", "channels"] = Field("macs", description="the cost: multiply-accumulates or others")
    p: float | None = Field(
        None, gt=0, le=1, description="the paper's rule in place of a target: keep what is in some output's best p"
    )
    rounds: int = Field(1, ge=1, le=100, description="rounds of scoring, cutting and rescaling")
    score: Literal["auto", "rowsum", "singleton", "alpha", "cholesky", "energy"] = Field(
        "auto", description="fidelity of an input; auto is rowsum for convolutions, energy for linear layers"
    )
    rank: Literal["sum", "share", "entry"] = Field(
        "sum", description="scores of outputs as one: their sum, each output's share, or when p would take it in"
    )
    scope: Literal["auto", "global", "group", "isomorphic"] = Field(
        "auto", description="which units compete: all, or those of a group; auto is group for text models, else global"
    )
    compensation: Literal["scalar", "kernel", "none"] = Field(
        "scalar", description="rescale what stays: one factor a kernel, every weight, or not at all"
    )
    ridge: float = Field(1e-4, ge=0, le=1e6, description="added to the diagonal of what is solved")
    ridge_mode: Literal["relative", "absolute"] = Field(
        "relative", description="ridge is a share of the diagonal's mean, or a number"
    )
    statistics: bool = Field(True, description="renew batch statistics after a cut")
    sequential: bool = Field(False, description="fit each layer on what it reads after the cuts in front of it")
    min_share: float = Field(0.05, gt=0, le=1, description="no group of channels keeps less")
    multiple_of: int = Field(8, ge=1, le=1024, description="kept channels are rounded up to multiples")
    compare: bool = Field(True, description="show the parts of the method and other ways beside it")
    forget: str | None = Field(None, description="class to forget, by name; default the first")
    unlearn_p: float | None = Field(
        None, gt=0, le=1, description="share of the inputs of every output that is edited; default chosen on samples"
    )
    min_agreement: float = Field(
        0.9, gt=0, le=1, description="for that choice: samples of other classes that must keep their class"
    )
    layers: int | None = Field(
        None, ge=1, le=65_536, description="how many of the last convolutions are edited; default a quarter of them"
    )
    edit: Literal["auto", "zero", "negate"] = Field(
        "auto", description="zero (networks with batch norms) or negate (others) what carries the class"
    )

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.task == "unlearn" and self.model in TEXT_MODELS:
            raise InputError("task", f"unlearn with {self.model}", "a classifier of images, or task prune")
        return self
