"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.options import TableOptions

TaskName = Literal[
    "conjunction",
    "mono_conjunction",
    "teach_conjunction",
    "teach_biconjunction",
    "disjunction",
    "sparse_disjunction",
    "dnf",
    "teach_dnf",
    "cnf",
    "majority",
    "full_majority",
    "sparse_thres",
    "int_halfspace",
    "halfspace",
    "sparse_halfspace",
    "parity",
    "sparse_parity",
    "teach_sparse_parity",
    "nearest_neighbours",
]


class Config(TableOptions):
    """Options: the functions or the table, and the model that is asked."""

    other_names: ClassVar = {"label": "target"}
    error_names: ClassVar = {"n_points": "points"}

    task: TaskName = Field("conjunction", description="class of functions that prompts are drawn from")
    input: Path | None = Field(None, description="a table whose rows are the examples, in place of a task")
    target: str | None = Field(None, description="column of the table with the label, of two values")
    dims: int | None = Field(
        None, ge=1, le=512, description="bits of an input; default the model's (8), for language models 5"
    )
    points: int | None = Field(
        None, ge=2, le=4096, description="examples in a prompt; default 30, for language models 50 or what fits"
    )
    prompts: int = Field(300, ge=1, le=1_000_000, description="prompts, each with a function of its own")
    noise: float = Field(0.0, ge=0, lt=0.5, description="share of labels that are flipped where the model sees them")
    checkpoint: Path | None = Field(
        None, description="folder of a trained in-context model; default the bundled one (8 bits, conjunctions)"
    )
    steps: int = Field(0, ge=0, le=10_000_000, description="train a new model on the task for so many steps")
    architecture: Literal["transformer", "gpt2", "lstm", "gru", "retnet", "hyena", "dss", "mamba"] = Field(
        "transformer", description="of the model that is trained"
    )
    width: int = Field(64, ge=1, le=8192, description="hidden size of the model that is trained")
    layers: int = Field(4, ge=1, le=128, description="layers of the model that is trained")
    heads: int = Field(4, ge=1, le=128, description="attention heads of the model that is trained")
    batch: int = Field(64, ge=1, le=65_536, description="prompts in a training step")
    rate: float = Field(1e-3, gt=0, lt=1, description="learning rate (Adam; the paper's is 1e-4 at width 256)")
    model: Annotated[str | None, runs.File(("bundled",))] = Field(
        None, description="folder of a causal language model that is asked in text, or 'bundled'"
    )
    endpoint: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="OpenAI-compatible server to ask, such as http://localhost:8000/v1 (key: OPENAI_API_KEY)"
    )
    endpoint_model: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="name of the model at the server"
    )
    api: Literal["chat", "completions"] = Field("chat", description="which of the server's interfaces is asked")
    samples: int = Field(1, ge=1, le=100, description="answers per question from the server; the majority counts")
    method: Literal["logits", "text"] = Field(
        "logits", description="language model from a folder: compare the logits of 0 and 1, or read what it writes"
    )
    instruction: Literal["plain", "class", "algorithm", "steps", "python"] = Field(
        "plain",
        description="words before the examples: plain, naming the class, the elimination algorithm, step by "
        "step, or a Python function",
    )
    every: int = Field(5, ge=1, le=4096, description="examples between two questions to a language model")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.model is not None and self.endpoint is not None:
            raise InputError("endpoint", f"{self.endpoint}, besides model {self.model}", "one of the two")
        if self.endpoint is not None and not self.endpoint_model:
            raise InputError("endpoint_model", "nothing", "the model's name at the server")
        if self.steps and self.checkpoint is not None:
            raise InputError("steps", self.steps, "0 with a checkpoint: it is evaluated as it is")
        if self.steps and self.input is not None:
            raise InputError("steps", self.steps, "0 with a table: train on a task first, then give the checkpoint")
        if self.instruction == "steps" and self.endpoint is None:
            raise InputError("instruction", "steps", "another one, unless a server (endpoint) is asked")
        if self.target is not None and self.input is None:
            raise InputError("target", repr(self.target), "a table (input) that has this column")
        if self.width % self.heads and self.architecture in ("transformer", "gpt2", "retnet"):
            raise InputError("heads", self.heads, f"a divisor of the width {self.width}")
        return self
