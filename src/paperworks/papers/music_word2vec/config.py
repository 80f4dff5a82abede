"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

BUNDLED = ("bach-chorales",)
WORKS = ("bwv253", "bwv66.6", "bwv347", "bwv846")


class Config(runs.Config):
    """Options of ``paperworks run music-word2vec``."""

    scores: Annotated[str, runs.File(BUNDLED)] = Field(
        "bach-chorales",
        description="a folder of scores (MIDI, MusicXML, kern, ABC, MEI), a score, or bach-chorales",
    )
    vary: Annotated[str | None, runs.File(WORKS, also=r"bwv[\w.-]+")] = Field(
        None,
        description="score to vary: a file, or the name of one of Bach's works in music21 such as bwv253; default one "
        "that is held out",
    )
    beat: str = Field("1", description="length of a slice: quarter lengths, or signature for the beat of the meter")
    representation: Literal["pc", "88"] = Field(
        "pc", description="words: sets of pitch classes, or of the 88 keys (no report on harmony, no variation)"
    )
    end: Literal["exclusive", "official"] = Field(
        "exclusive", description="official: a note that ends on a beat sounds in the following slice too"
    )
    repeats: bool = Field(False, description="play the repeats of the scores")
    vector_size: int = Field(256, ge=2, le=4096, description="dimensions of a vector")
    window: int = Field(4, ge=1, le=64, description="contexts on each side of a slice")
    vocab_size: int = Field(500, ge=3, le=100_000, description="words, with the one for all that are too rare")
    loss: Literal["nce", "ns"] = Field("nce", description="noise-contrastive estimation or negative sampling")
    negatives: int = Field(64, ge=1, le=4096, description="noise words of a batch")
    steps: int = Field(
        100_000, ge=1, le=100_000_000, description="batches of 16 slices with all their contexts (the paper: 1,000,000)"
    )
    lr: float = Field(1.0, gt=0, le=1000, description="learning rate (the paper: 0.1)")
    transpose: bool = Field(False, description="learn from all 12 transpositions of every score (not in the paper)")
    held_out: int = Field(20, ge=0, le=10_000, description="scores that are not learned from, to measure keys on")
    neighbours: int = Field(5, ge=1, le=100_000, description="words that a slice is replaced from (m)")
    choice: Literal["fit", "random"] = Field(
        "fit", description="the neighbour that fits the pitch classes of the others best, or any"
    )
    local: int = Field(
        4, ge=0, le=100_000, description="slices on both sides whose neighbours are fitted to; 0: the whole piece"
    )
    workers: int = Field(1, ge=1, le=256, description="threads of training; with more than one results vary")

    @model_validator(mode="after")
    def _beat_is_a_length(self) -> Config:
        if self.beat != "signature":
            try:
                value = float(self.beat)
            except ValueError:
                value = math.nan
            if not 1 / 64 <= value <= 64:
                raise InputError("beat", repr(self.beat), "quarter lengths from 1/64 to 64, or signature")
        return self
