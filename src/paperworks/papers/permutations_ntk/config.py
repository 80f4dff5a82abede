"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.papers.permutations_ntk.bits import NAMED, RowFormat
from paperworks.papers.permutations_ntk.theory import Kernel, Parametrization, Threshold, TrainedLayers


class Config(runs.Config):
    """Options: the permutation, the rows to apply it to, and the networks."""

    permutation: Annotated[str, runs.File(NAMED, also=r"\d+(\s*[, ]\s*\d+)*")] = Field(
        "reverse",
        description="reverse, random, shuffle, identity, positions such as 2,0,1 (bit i goes to the i-th of them), "
        "or a file with positions or a matrix",
    )
    bits: int | None = Field(None, ge=1, le=4096, description="bits per row; by default what the input has, else 8")
    input: Path | None = Field(
        None,
        description="rows to permute: a .csv, .tsv, .txt, .npy or .parquet table of 0 and 1, or any file, read as "
        "blocks of bits; by default the pixel rows of scikit-learn's handwritten digits",
    )
    format: RowFormat = Field("auto", description="how the input is read: auto (by its suffix), table or bytes")
    examples: Path | None = Field(
        None,
        description="learn from this table instead of a permutation: k columns of input bits, then k of output bits; "
        "the unit vectors are trained on, and other rows are held out to check the result",
    )
    networks: Literal["trained", "limit"] = Field(
        "trained", description="train networks of finite width, or draw the infinitely wide ones' outputs"
    )
    members: int | None = Field(
        None, ge=1, le=1_000_000, description="networks; by default as many as the rows need, by exact tails"
    )
    delta: float = Field(0.1, gt=0, lt=1, description="probability that any row comes out wrong, by theory")
    width: int = Field(4096, ge=1, le=1_000_000, description="hidden units per network")
    parametrization: Parametrization = Field("ntk", description="ntk (the paper's theory) or standard (its code)")
    trained_layers: TrainedLayers = Field("all", description="layers that are trained: all or last")
    threshold: Threshold = Field("zero", description="rounding: zero (the paper's) or midpoint of the two means")
    keep_weights: bool = Field(False, description="keep every network, so that new rows can be asked later")

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.threshold == "midpoint" and self.kernel != "ntk":
            raise ValueError("threshold zero with the standard parametrisation or with the last layer alone trained")
        if self.keep_weights and self.networks == "limit":
            raise ValueError("keep_weights false where the infinitely wide networks are drawn, not trained")
        return self

    @property
    def kernel(self) -> Kernel:
        """The kernel that the networks follow."""
        return "ntk" if self.parametrization == "ntk" and self.trained_layers == "all" else "nngp"
