"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.options import TableOptions

BUNDLED = ("word-pairs",)
WIDEST = 10_000
"""Values of a layer of the perceptron, at most."""


class Config(TableOptions):
    """Options of ``paperworks run optembed``."""

    other_names: ClassVar = {"target": "label"}

    data: Annotated[str, runs.File(BUNDLED)] = Field(
        "word-pairs",
        description="table of clicks or any table with a label of two values: .csv, .tsv, .parquet, or word-pairs "
        "(is a word followed by another? from bundled text)",
    )
    label: str | None = Field(None, description="column to predict; the layouts of Criteo, Avazu and KDD12 know theirs")
    positive: str | None = Field(None, description="value of the label that counts as a click; default the rarer one")
    layout: Literal["table", "criteo", "avazu", "kdd12"] = Field("table", description="how the file is laid out")
    limit: int | None = Field(None, ge=50, le=1_000_000_000, description="use at most so many rows, from the start")
    pairs: int = Field(60_000, ge=200, le=1_000_000, description="rows of word-pairs")
    min_count: int = Field(2, ge=1, le=1_000_000_000, description="rarer values of a field share one row of the table")
    numbers: Literal["auto", "log", "quantile", "values"] = Field("auto", description="buckets of numeric columns")
    several: tuple[str, ...] = Field(
        (), description="columns of several values a cell, such as tags; columns of lists are found by themselves"
    )
    separator: str = Field("|", min_length=1, description="between the values of a cell of several")
    most_values: int = Field(16, ge=1, le=1000, description="values of a cell that are taken, from the first")
    pooling: Literal["sum", "mean"] = Field("sum", description="of the vectors of a cell of several values")
    model: Literal["deepfm", "fm", "fnn", "ipnn", "dcn"] = Field("deepfm", description="base model")
    dim: int = Field(16, ge=1, le=1024, description="full dimension of the embeddings")
    hidden: tuple[int, ...] = Field((64, 32), description="widths of the perceptron's layers")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden values dropped in training")
    sparsity: float | None = Field(
        None, ge=0, lt=1, description="least share of the embedding table that goes; default 0.5 without budget"
    )
    budget: int | None = Field(
        None, ge=1, le=1_000_000_000, description="most parameters of the embedding table, in place of sparsity"
    )
    learning_rate: float = Field(1e-3, gt=0, le=10, description="of Adam")
    l2: float = Field(1e-3, ge=0, le=10, description="coupled weight decay")
    threshold_lr: float = Field(0.1, gt=0, le=1000, description="step of the row thresholds; larger prunes more rows")
    alpha: float = Field(1e-2, ge=0, le=1000, description="weight of the regulariser that pushes thresholds up")
    threshold: Literal["field", "feature"] = Field("field", description="a threshold for each field, or for each value")
    norm: Literal["1", "2"] = Field("1", description="norm of a row that is held against its threshold")
    scale_norm: bool = Field(False, description="divide the norm by the dimension, for long rows")
    pruned: Literal["zero", "oov"] = Field(
        "zero", description="a pruned row gives zeros, or its field's learned vector"
    )
    epochs: int = Field(
        30, ge=1, le=100_000, description="most passes of a training; it stops when validation AUC does not rise"
    )
    batch_size: int = Field(1024, ge=2, le=1_000_000, description="rows in a step")
    patience: int = Field(1, ge=1, le=100_000, description="epochs without a better AUC before a training stops")
    generations: int = Field(10, ge=1, le=100_000, description="rounds of the search (the paper: 30)")
    parents: int = Field(15, ge=2, le=10_000, description="best candidates that children come from")
    mutations: int = Field(10, ge=0, le=10_000, description="mutated children in a round")
    crossovers: int = Field(10, ge=0, le=10_000, description="crossed children in a round")
    mutation_probability: float = Field(0.1, gt=0, le=1, description="with which a field of a mutated child is redrawn")
    fresh: bool = Field(False, description="retrain from new weights, not from the supernet's own start")
    eight_bits: bool = Field(False, description="write the table in eight bits, with a scale for each coordinate")
    compare: bool = Field(True, description="train the full table and tables of the same size as well")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.sparsity is not None and self.budget is not None:
            raise InputError("budget", f"{self.budget}, with sparsity {self.sparsity}", "one of the two")
        if self.mutations + self.crossovers < 1:
            raise InputError("mutations", 0, "mutations or crossovers: 1 or more together")
        if any(not 1 <= width <= WIDEST for width in self.hidden):
            raise InputError("hidden", list(self.hidden), f"widths from 1 to {WIDEST}")
        return self
