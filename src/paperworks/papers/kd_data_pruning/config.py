"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.options import TableOptions
from paperworks.inputs.tables import BUNDLED as TABLES
from paperworks.inputs.texts import BUNDLED as TEXTS

IMAGES = ("digits", "mnist", "fashion-mnist")
BUNDLED = tuple(dict.fromkeys((*IMAGES, *TEXTS, *TABLES)))

MethodName = Literal[
    "random",
    "el2n",
    "el1n",
    "max-margin",
    "sum-margin",
    "grand",
    "grand-last",
    "forgetting",
    "memorization",
    "aum",
    "ccs",
    "herding",
    "k-center",
    "moderate",
    "entropy",
    "least-confidence",
    "margin",
    "correctness",
    "loss",
]


class Config(TableOptions):
    """Options of ``paperworks run kd-data-pruning``."""

    other_names: ClassVar = {"target": "label"}

    data: Annotated[str, runs.File(BUNDLED)] = Field(
        "digits",
        description="training set: a folder or file of images (also .npz, IDX, Parquet), a table or texts in a .csv, "
        f".tsv, .parquet or .jsonl file, a folder of .txt files, or one of {', '.join(BUNDLED)}",
    )
    kind: Literal["auto", "images", "table", "text"] = Field("auto", description="what the data are")
    label: str | None = Field(None, description="column with the label of a table or of texts")
    text: str | None = Field(None, description="column with the text")
    model: Annotated[str | None, runs.File()] = Field(
        None, description="folder of an image or text classifier of transformers to fine-tune; default a small network"
    )
    method: MethodName = Field("random", description="how the kept examples are chosen")
    fraction: float = Field(0.1, gt=0, le=1, description="share of the training rows that is kept")
    balance: bool = Field(False, description="keep the same share of every class")
    min_per_class: int = Field(0, ge=0, le=1_000_000_000, description="keep at least so many rows of every class")
    alpha: str = Field(
        "auto", description="weight of the teacher, 0 to 1; auto falls with the kept share, grid tries five values"
    )
    temperature: float = Field(4.0, gt=0, le=100, description="temperature of the teacher's distributions")
    teacher_width: float = Field(
        1.0, gt=0, le=16, description="width of the teacher's hidden layers relative to the student's (small networks)"
    )
    width: int = Field(128, ge=1, le=8192, description="width of the student's hidden layers (small networks)")
    steps: int = Field(400, ge=1, le=100_000_000, description="optimiser steps of a student")
    teacher_steps: int = Field(1200, ge=1, le=100_000_000, description="optimiser steps of the teacher, on all rows")
    budget: Literal["iterations", "epochs"] = Field(
        "iterations", description="give a student all steps, or only the kept share of them (equally many epochs)"
    )
    batch_size: int = Field(64, ge=1, le=65_536, description="rows in a step; at most half of the kept ones")
    learning_rate: float = Field(0.05, gt=0, le=10, description="highest learning rate of SGD with momentum 0.9")
    augment: bool = Field(False, description="crop and mirror images in training")
    early_runs: int = Field(5, ge=1, le=100, description="early trainings that EL2N, GraNd and their kind average over")
    early_steps: int = Field(
        60, ge=0, le=100_000_000, description="optimiser steps of an early training; 0 is at initialisation"
    )
    beta: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="ccs: share of the hardest rows that is dropped first; default 0.3 up to 10% kept, 0.2 up to 20%",
    )
    memorization_models: int = Field(20, ge=4, le=10_000, description="memorization: models on random subsets of 70%")
    size: int | None = Field(None, ge=4, le=1024, description="side in pixels that images are resized to")
    test_size: float = Field(0.25, gt=0, lt=1, description="share of the rows that is held out")

    @field_validator("alpha")
    @classmethod
    def _alpha(cls, value: str) -> str:
        if value not in ("auto", "grid"):
            try:
                right = 0 <= float(value) <= 1
            except ValueError:
                right = False
            if not right:
                raise ValueError("auto, grid, or a number from 0 to 1")
        return value

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.augment and self.kind in ("table", "text"):
            raise InputError("augment", f"true for {self.kind}", "images")
        if self.beta is not None and self.method != "ccs":
            raise InputError("beta", f"{self.beta} with {self.method}", "nothing, or method ccs")
        if self.model is not None and self.teacher_width != 1:
            raise InputError("teacher_width", self.teacher_width, "1 with model: its teacher is a copy of it")
        return self
