"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.pc_compression.codes import BUNDLED


class Config(runs.Config):
    """What to compress, and the model to do it with."""

    input: Annotated[str, runs.File(BUNDLED)] = Field(
        "digits",
        description="array (.npy), image, folder of images or table (.csv, .tsv); a compressed file for --action "
        f"decompress; or one of {', '.join(BUNDLED)}",
    )
    action: Literal["train", "compress", "decompress"] = Field(
        "train", description="train a model on the input and compress it, or use a trained --model"
    )
    model: Path | None = Field(None, description="folder of a trained model, for --action compress and decompress")
    latents: int = Field(16, ge=1, le=512, description="states of each latent variable")
    epochs: int = Field(40, ge=1, le=10000, description="epochs of training, nine tenths in mini-batches")
    shape: Literal["center", "balanced", "balanced-center"] = Field(
        "center", description="where the tree is rooted, or whether it is rebuilt to bound the cost of prefix marginals"
    )
    batch_size: int | None = Field(
        None, ge=1, le=1_000_000, description="rows of a mini-batch; default a twelfth of them, at most 512"
    )
    pseudocount: float = Field(0.1, gt=0, le=1000, description="smoothing of every distribution")
    patience: int = Field(
        10, ge=1, le=100_000, description="epochs without gain on a tenth of the training rows before it stops"
    )
    patch: int = Field(0, ge=0, le=64, description="cut images into squares of this side; 0: only large ones, into 8")
    test_size: float = Field(0.2, gt=0, lt=1, description="share of the rows that is held out to measure the rate on")
    rows_per_stream: int = Field(
        128, ge=1, le=1_000_000_000, description="rows that share a codeword; 1 gives each row its own"
    )
    precision: int = Field(24, ge=16, le=28, description="bits of the coder's frequencies")
    jobs: int = Field(1, ge=1, le=256, description="threads")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.action != "train" and self.model is None:
            raise InputError("model", "nothing", f"the folder of a trained model, for --action {self.action}")
        if self.action == "train" and self.model is not None:
            raise InputError("model", str(self.model), "no model with --action train, which makes one")
        return self
