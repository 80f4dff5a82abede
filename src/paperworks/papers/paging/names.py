"""Names that options take: of policies and of file formats. Light to import."""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal["auto", "text", "csv", "oracle-general", "msr", "twitter", "wikimedia", "parrot", "npy"]
FORMATS: tuple[Format, ...] = get_args(Format)

POLICY_NAMES = (
    "flush",
    "mark0",
    "mark0-lazy",
    "mark-and-predict",
    "mark-and-predict-lru",
    "flush+lru",
    "flush+lru-switch",
    "flush+lru-random",
    "mark0+marker",
    "lru",
    "fifo",
    "random",
    "marker",
    "sieve",
    "s3-fifo",
    "arc",
    "blind-oracle",
    "blind-oracle+lru",
    "follow-marking",
    "predictive-marker",
    "lmarker",
    "lnonmarker",
    "lnonmarker+marker",
    "trust-and-doubt",
)
"""The keys of ``planner.POLICIES``."""
