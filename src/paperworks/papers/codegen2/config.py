"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

CODE = ("python-email",)
MODELS = ("bundled",)


class Config(runs.Config):
    """Options of ``paperworks run codegen2``."""

    action: Literal["train", "infill", "convert"] = Field(
        "train",
        description="train a model on --code; fill the holes of --file; or write a released checkpoint so that plain "
        "transformers load it right",
    )
    code: Annotated[str, runs.File(CODE)] = Field(
        "python-email",
        description="folder with source code (.gitignore counts), a file, or python-email, a package of Python's "
        "standard library",
    )
    languages: tuple[str, ...] = Field((), description="languages that are read, such as python, go; default all known")
    prose: Path | None = Field(
        None, description="texts (.txt, .jsonl, or a folder of them) that are mixed in with equal probability"
    )
    model: Annotated[str, runs.File(MODELS)] = Field(
        "bundled", description="folder of a causal language model, CodeGen2's among them; or bundled"
    )
    groups: Literal["auto", "4", "8"] = Field(
        "auto", description="groups in which a CodeGen checkpoint stores its attention; auto: found by a check"
    )
    file: Path | None = Field(None, description="infill: text with holes, each written as --marker")
    marker: str = Field("<FILL>", min_length=1, description="what stands for a hole")
    objective: Literal["mix", "clm", "prefix", "psm", "spm", "ul2"] = Field(
        "mix", description="mix: CodeGen2's; clm: next token; prefix: prefix language model; psm, spm: reordered files"
    )
    method: Literal["full", "lora"] = Field(
        "full", description="train all weights, or adapters that are merged at the end"
    )
    rank: int = Field(8, ge=1, le=512, description="lora: rank")
    alpha: float = Field(16, gt=0, le=1024, description="lora: scale times rank")
    epochs: float = Field(2, gt=0, le=1000, description="passes over the code")
    batch_size: int = Field(16, ge=1, le=4096, description="sequences in a step")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="peak of AdamW; default 1e-3 for the bundled model, 2e-4 for lora, else 1e-5"
    )
    warmup_steps: int = Field(10, ge=0, le=100_000_000, description="steps until the peak")
    length: int | None = Field(
        None, ge=16, le=2**20, description="tokens of a sequence; default the model's context, at most 2048"
    )
    p_causal: float = Field(0.5, ge=0, le=1, description="share of sequences that stay as they are")
    lowest_ratio: float = Field(0.05, ge=0, le=1, description="mix: least share of a file's tokens in spans")
    highest_ratio: float = Field(0.5, ge=0, le=1, description="mix: largest share of a file's tokens in spans")
    longest_span: int | None = Field(
        48, ge=1, le=2**20, description="mix: most tokens of a span; 'none' is the file's length"
    )
    masks: int = Field(99, ge=1, le=10_000, description="mask tokens that a tokenizer without such is given")
    z_loss: float = Field(
        0.0, ge=0, le=1, description="factor of the squared log-normaliser (1e-4 in the paper's code)"
    )
    precision: Literal["no", "bf16"] = Field("no", description="bf16: autocast while training")
    test_size: float = Field(0.2, gt=0, lt=1, description="share of the files that is held out to measure on")
    holes: int = Field(40, ge=2, le=10_000, description="holes of each kind that are measured, at most")
    max_new_tokens: int = Field(48, ge=1, le=2048, description="most tokens that are written into a hole")
    temperature: float = Field(0.0, ge=0, le=10, description="0: the most likely token")
    top_p: float = Field(0.95, gt=0, le=1, description="sample among the most likely tokens of this probability")
    phi: bool = Field(False, description="also write the same model as a Phi (vLLM, flash attention)")
    gguf: bool = Field(False, description="also write it as GGUF for llama.cpp; needs the package gguf")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.lowest_ratio > self.highest_ratio:
            raise InputError("lowest_ratio", self.lowest_ratio, f"at most highest_ratio, {self.highest_ratio}")
        if self.action == "infill" and self.file is None:
            raise InputError("file", "nothing", f"a text with {self.marker} where something is to be written")
        if self.action != "infill" and self.file is not None:
            raise InputError("file", str(self.file), "no file without --action infill")
        if self.action == "convert" and self.model == "bundled":
            raise InputError("model", "bundled", "the folder of a released CodeGen2 checkpoint")
        return self
