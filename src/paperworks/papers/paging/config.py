"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError, nearest
from paperworks.papers.paging.names import POLICY_NAMES, Format

PLANNED = (
    "lru",
    "sieve",
    "s3-fifo",
    "arc",
    "flush",
    "mark0-lazy",
    "mark-and-predict",
    "flush+lru",
    "predictive-marker",
)


class Config(runs.Config):
    """What to replay, and how."""

    trace: Path | None = Field(None, description="the trace file; a bundled one if not given")
    sample: Literal["database", "words"] = Field("database", description="the bundled trace to use without a file")
    format: Format = Field("auto", description="the file's format; auto goes by its name and first lines")
    id_column: str = Field(
        "", description="table: name or position (from 0) of the column of page ids; detected if not given"
    )
    op_column: str = Field("", description="table: name or position of the column of operations; deletes are left out")
    size_column: str = Field("", description="table: name or position of the column of object sizes")
    delimiter: str = Field(
        "", max_length=1, description="table: the delimiter, a blank for runs of blanks; detected if not given"
    )
    skip: int = Field(0, ge=0, le=1_000_000_000, description="requests to leave out at the start of the file")
    limit: int | None = Field(None, ge=1, le=1_000_000_000, description="read at most this many requests of the file")
    page_bytes: int = Field(4096, ge=1, le=1_000_000_000, description="MSR: page size, bytes")
    operations: Literal["all", "read", "write"] = Field("all", description="MSR: which operations")
    line_bytes: int = Field(64, ge=1, le=1_000_000_000, description="Parrot: cache line, bytes")
    ignore_size: bool = Field(True, description="take objects as pages of one size; otherwise sizes are an error")
    k: int | None = Field(
        None, ge=1, le=1_000_000_000, description="cache size, pages; a tenth of the trace's pages if not given"
    )
    sets: int = Field(
        1,
        ge=1,
        le=1_000_000_000,
        description="sets of a set-associative cache with k ways each; 1 is fully associative",
    )
    sizes: tuple[int, ...] = Field((), description="cache sizes of the miss-ratio curves, pages; chosen if not given")
    policies: tuple[str, ...] = Field(PLANNED, description="policies of the miss-ratio curves, by short name, or all")
    curves: bool = Field(True, description="draw miss-ratio curves")
    curve_bits: Literal["oracle", "learned", "pleco", "popu"] = Field(
        "oracle", description="predictions behind the curves: true ones, or predicted from the past"
    )
    noise: tuple[float, ...] = Field((0.0, 0.01, 0.05, 0.25, 0.5, 1.0), description="shares of flipped bits, 0 to 1")
    runs: int = Field(10, ge=1, le=1000, description="replays of each randomised policy")
    bits: Path | None = Field(None, description="your own bits: a .npy array, or 0 or 1 per line, one per request")
    bits_kind: Literal["discard", "phase"] = Field("discard", description="what your own bits mean")
    learn: bool = Field(True, description="train predictors of the bit on the first part and test them on the rest")
    train_share: float = Field(0.5, gt=0, lt=1, description="the part of the trace to train on")

    @model_validator(mode="after")
    def _check(self) -> Config:
        for name in self.policies:
            if name != "all" and name not in POLICY_NAMES:
                raise InputError(
                    "policies", repr(name), f"all, or among {', '.join(POLICY_NAMES)}{nearest(name, POLICY_NAMES)}"
                )
        if not self.noise or not all(0 <= p <= 1 for p in self.noise):
            raise InputError("noise", ", ".join(map(str, self.noise)) or "none", "shares from 0 to 1")
        for name in ("op_column", "size_column"):
            if getattr(self, name) and not self.id_column:
                raise InputError(
                    name, f"{getattr(self, name)!r} alone", "the column of the page ids, id_column, as well"
                )
        if any(k < 1 for k in self.sizes):
            raise InputError("sizes", min(self.sizes), "sizes of at least 1")
        return self
