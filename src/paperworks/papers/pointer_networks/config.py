"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError


class Config(runs.Config):
    """Options of ``paperworks run pointer-networks``."""

    problem: Literal["all", "hull", "delaunay", "tsp", "sequence"] = Field(
        "all",
        description="what to solve: all is hull, delaunay and tsp; sequence is the user's own, learned from targets",
    )
    input: Path | None = Field(
        None,
        description="points: .csv, .tsv, .npy, .jsonl, TSPLIB .tsp, or .txt in the paper's official format; by default "
        "European capitals and the wine table",
    )
    columns: tuple[str, ...] = Field(
        (),
        description="columns of a table to read; default: x and y, longitude and latitude, or all of numbers",
    )
    model: Path | None = Field(None, description="folder of a network to use in place of the bundled one")
    train: bool = Field(
        False, description="train a network on the input's targets first (sequence: always without model)"
    )
    steps: int = Field(2000, ge=1, le=10_000_000, description="training steps of 128 instances")
    hidden: int = Field(128, ge=1, le=4096, description="width of a network that is trained")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the instances that training does not see")
    constraint: Literal["default", "none", "simple", "permutation"] = Field(
        "default",
        description="what decoding may point at; default: permutation for tours, and for sequence where "
        "all targets are permutations; none otherwise",
    )
    beams: int = Field(3, ge=1, le=1000, description="width of the beam search")
    samples: int = Field(
        32, ge=0, le=10_000, description="tours drawn per instance, of which the shortest counts; 0: none"
    )
    uniform: int = Field(
        200, ge=0, le=100_000, description="random instances per size on which the network is measured; 0: none"
    )

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.problem == "all" and (self.model is not None or self.train):
            raise InputError("problem", "all", "hull, delaunay, tsp or sequence where a network is given or trained")
        if self.problem == "sequence" and self.input is None:
            raise InputError("input", "nothing", "a .jsonl, .csv or official .txt file of instances with targets")
        if self.train and self.model is not None:
            raise InputError("model", str(self.model), "nothing where a network is trained")
        if self.constraint == "permutation" and self.problem in ("all", "hull", "delaunay"):
            raise InputError("constraint", f"permutation for problem {self.problem}", "default, none or simple")
        return self
