"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from paperworks import runs
from paperworks.errors import InputError

PROCEDURES = ("bundled", "wikibooks")
ENCODERS = ("auto", "minilm", "tfidf", "bm25", "svd")
METRICS = ("f1", "soda_a", "soda_b", "soda_c", "soda_d", "cider", "meteor_es", "meteor", "token_f1", "bleu4", "rouge_l")


class Config(runs.Config):
    """Options of ``paperworks run sieve-swap``."""

    action: Literal["sieve", "align", "features", "train", "predict", "evaluate"] = Field(
        "sieve",
        description="sieve: transcripts and procedures to timed steps; align: one procedure along each transcript; "
        "features: of videos; train: ProcX; predict: steps of videos; evaluate: predictions of any system",
    )
    transcripts: Annotated[str, runs.File(("bundled",))] = Field(
        "bundled", description="SRT, WebVTT, Whisper JSON or word JSON: a file, or a folder with one for each video"
    )
    procedures: Annotated[str, runs.File(PROCEDURES)] = Field(
        "bundled",
        description="written procedures: JSONL, JSON or CSV with id, title, steps[, ingredients], a folder of Markdown "
        f"or text files, or one of {', '.join(PROCEDURES)}",
    )
    videos: Path | None = Field(
        None,
        description="a video or a folder of videos with the names of the transcripts: durations, thumbnails, features",
    )
    references: Path | None = Field(None, description="true steps to compare with, YouCook2- or ActivityNet-style JSON")
    encoder: Annotated[str, runs.File(ENCODERS)] = Field(
        "auto", description=f"of sentences: the folder of an encoder, or one of {', '.join(ENCODERS)}"
    )
    match: Literal["lexical", "title", "global"] = Field(
        "lexical", description="procedures looked at: by all words, by the words of their title, or every step there is"
    )
    tau: str = Field(
        "auto",
        description="least cosine of a sentence that stays: auto (from irrelevant sentences), mixture, or a number",
    )
    irrelevant: Path | None = Field(None, description="sentences that instruct nothing, one a line, for tau auto")
    variant: Literal["sieve-swap", "sieve-only", "swap-only", "random-swap", "aligned"] = Field(
        "sieve-swap", description="the method, or a control: keep the speech, keep all, swap at random, steps in order"
    )
    k: int = Field(2, ge=1, le=20, description="alternative written steps of a segment")
    min_iou: float = Field(0.1, ge=0, le=1, description="least overlap of the words of transcript and procedure")
    min_recall: float = Field(0.3, ge=0, le=1, description="least share of a procedure's words that a transcript has")
    most_candidates: int = Field(50, ge=1, le=1_000_000_000, description="most procedures looked at for a transcript")
    max_gap: float = Field(3.0, ge=0, le=1e6, description="seconds between sentences of one segment")
    min_seconds: float = Field(1.0, ge=0, le=1e6, description="seconds of the shortest segment that stays")
    most_segments: int = Field(50, ge=1, le=1_000_000_000, description="most segments of a video")
    margin: float | None = Field(None, ge=0, le=2, description="keep what is above its video's mean cosine by so much")
    filter_steps: bool = Field(True, description="leave out steps that are notes, too short, or in too many procedures")
    exclude: Path | None = Field(
        None, description="a text file with ids or titles of videos and procedures to leave out, one a line"
    )
    dataset: Path | None = Field(
        None, description="train: timed steps, YouCook2-style JSON (by default the bundled transcripts are sieved)"
    )
    features: Path | None = Field(
        None, description="train, predict: a folder with <id>.npy (by default of videos, or simulated from the steps)"
    )
    pretrain: Path | None = Field(None, description="train: a set to train on first, such as swapped.json")
    pretrain_features: Path | None = Field(None, description="train: a folder with the features of that set")
    model: Path | None = Field(None, description="predict: the folder of a trained ProcX")
    predictions: Path | None = Field(None, description="evaluate: predictions in ActivityNet's JSON")
    extractor: Annotated[str, runs.File(("layout",))] = Field(
        "layout", description="of video features: layout (embedded), or the folder of an image encoder (CLIP, ViT)"
    )
    fps: float = Field(1.0, gt=0, le=60, description="features a second of video")
    epochs: int = Field(30, ge=1, le=100_000, description="passes over the set")
    batch_size: int = Field(4, ge=1, le=65_536, description="videos of a step of training")
    lr: float = Field(1e-3, gt=0, le=1, description="learning rate of ProcX, which AdamW lowers along a cosine")
    dim: int = Field(64, ge=8, le=2048, description="width of ProcX (the paper's model: 512)")
    queries: int = Field(20, ge=1, le=1000, description="most segments of a video that ProcX predicts (512-wide: 100)")
    positions: int = Field(64, ge=16, le=4096, description="places that features are resampled to (the paper: 200)")
    layers: int = Field(1, ge=1, le=12, description="encoder and decoder layers of ProcX (the paper: 2)")
    score: Literal["iou", "focal"] = Field(
        "iou", description="what ProcX's score is trained towards: the overlap, or 1"
    )
    threshold: float | None = Field(
        None, ge=0, le=1, description="predict all segments with this score; otherwise as many as ProcX counts"
    )
    metrics: tuple[str, ...] = Field(
        ("f1", "soda_c", "soda_d", "cider", "meteor_es"), description=f"of {', '.join(METRICS)}"
    )
    scorer: Literal["meteor_es", "meteor", "cider", "token_f1", "bleu4", "rouge_l"] = Field(
        "meteor_es", description="scores captions within SODA"
    )
    compat: bool = Field(False, description="leave out videos without a prediction, as some published tools do")

    @field_validator("tau")
    @classmethod
    def _threshold(cls, value: str) -> str:
        if value in ("auto", "mixture"):
            return value
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not -1 <= number <= 1:
            raise ValueError("auto, mixture, or a number from -1 to 1")
        return value

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(name not in METRICS for name in value):
            raise ValueError(f"some of {', '.join(METRICS)}")
        return value

    @model_validator(mode="after")
    def _together(self) -> Config:
        needed = {
            "features": ("videos",),
            "predict": ("model",),
            "evaluate": ("predictions", "references"),
        }.get(self.action, ())
        for name in needed:
            if getattr(self, name) is None:
                raise InputError(name, f"none, with action {self.action}", "a path")
        if self.action == "predict" and self.videos is None and self.features is None:
            raise InputError("videos", "none, and no features", "videos, or features of them")
        if (self.pretrain is None) != (self.pretrain_features is None):
            raise InputError("pretrain_features", "one of pretrain and pretrain_features", "both, or neither")
        if self.dim % 8:
            raise InputError("dim", self.dim, "a multiple of 8")
        return self
