"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

BUNDLED_VIDEOS = "bundled-lectures"
BUNDLED_PAIRS = "digits"
BUNDLED_TEXT = "all-MiniLM-L6-v2"
SMALL = "small-vit"

TRAINING_ONLY = (
    "text_encoder",
    "image_tuning",
    "text_tuning",
    "dimensions",
    "max_length",
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
)
ENCODERS_ONLY = (
    *TRAINING_ONLY,
    *("pairs", "test_share", "model", "labelled", "templates", "fractions", "probe_seeds", "recall_at"),
)
CURATION_ONLY = (
    *("videos", "transcripts", "asr", "images", "captions", "cache", "positive", "negative", "filter_models"),
    *("positive_labels", "negative_labels", "filter_crops", "vote", "scene_threshold", "min_duration", "language"),
    *("require_narrative", "still_similarity", "still_seconds", "words_per_chunk", "shortest_chunk", "longest_chunk"),
    *("speech_rate", "text_pad", "flush_tail", "fallback", "dedup", "image_size", "vocabulary", "correct", "topics"),
    *("llm", "formats", "shard_size", "workers", "threads"),
)
"""Options that only curate reads; those above, only train, or only train and evaluate."""


class Config(runs.Config):
    """Options of ``paperworks run quilt1m``."""

    action: Literal["curate", "train", "evaluate"] = Field(
        "curate",
        description="curate: pairs out of --videos; train: two encoders on --pairs; evaluate: a trained --model",
    )
    videos: Annotated[str, runs.File((BUNDLED_VIDEOS,))] = Field(
        BUNDLED_VIDEOS, description=f"curate: a video, a folder of videos, or {BUNDLED_VIDEOS}"
    )
    transcripts: Path | None = Field(
        None, description="folder of transcripts (.srt, .vtt, .json) with the videos' names; default beside the videos"
    )
    asr: Path | None = Field(
        None, description="folder of a Whisper model of transformers, for videos without a transcript"
    )
    images: Path | None = Field(None, description="folder of pictures to pair with --captions, in place of videos")
    captions: Path | None = Field(None, description="table with the columns image and caption")
    cache: Annotated[Path | None, runs.File(made=True)] = Field(
        None, description="folder that keeps what was computed of each video, for later runs; default this run only"
    )
    positive: Path | None = Field(None, description="folder of pictures that show the domain, to fit the frame filter")
    negative: Path | None = Field(None, description="folder of pictures that do not")
    filter_models: tuple[Path, ...] = Field(
        (), description="folders of image classifiers, or of CLIP models, as frame filters in place of examples"
    )
    positive_labels: tuple[str, ...] = Field((), description="classes (or prompts, for CLIP) that show the domain")
    negative_labels: tuple[str, ...] = Field((), description="prompts for what does not, for CLIP")
    filter_crops: tuple[int, ...] = Field(
        (), description="side of the centre crop per filter model, as in the released code (300, 300, 224)"
    )
    vote: Literal["any", "majority"] = Field("any", description="a frame is accepted by any filter, or by most")
    scene_threshold: float = Field(0.008, ge=0, lt=1, description="scene score above which a frame is a key frame")
    min_duration: float = Field(60.0, ge=0, le=1e6, description="seconds; shorter videos are left out")
    language: Literal["any", "en"] = Field("any", description="en leaves out transcripts that are not English")
    require_narrative: bool = Field(False, description="leave out videos that fail the narrative test")
    image_encoder: Annotated[str, runs.File((SMALL,))] = Field(
        SMALL,
        description=f"folder of an image model of transformers, or {SMALL}: what is trained (it begins at random), and "
        "what the narrative test of curate compares frames by (then colours and low frequencies)",
    )
    still_similarity: float = Field(0.98, gt=0, le=1, description="similarity from which two patches are the same")
    still_seconds: float = Field(3.0, gt=0, le=1e6, description="seconds of the shortest still segment")
    words_per_chunk: int = Field(20, ge=1, le=1000, description="words spoken in one chunk length")
    shortest_chunk: float = Field(
        0.0, ge=0, le=1e6, description="seconds; a shorter chunk length is raised to it (0: none is)"
    )
    longest_chunk: float | None = Field(None, gt=0, le=1e6, description="seconds; a longer chunk length is cut to it")
    speech_rate: Literal["video", "speech"] = Field(
        "video", description="words per second of the whole video, or of the time that is spoken"
    )
    text_pad: float = Field(0.5, ge=0, le=5, description="chunk lengths added at either end of a chunk for its text")
    flush_tail: bool = Field(True, description="pair the run that is open at the end; the released code drops it")
    fallback: bool = Field(True, description="take key frames where a chunk has no still segment")
    dedup: Literal["ssim", "phash", "embed"] = Field("phash", description="how those key frames are told apart")
    image_size: int | None = Field(None, ge=16, le=4096, description="side in pixels of the pictures; default as is")
    vocabulary: Path | None = Field(
        None, description="table with the columns term and id, or a text file with a term a line"
    )
    correct: bool = Field(True, description="correct the text by the vocabulary, where there is one")
    topics: Path | None = Field(None, description="table with the columns label and description: topics of the videos")
    llm: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a language model that corrects and chooses sentences, in place of rules"
    )
    formats: tuple[Literal["webdataset", "datasets"], ...] = Field(
        ("webdataset",), description="further forms of the pairs: webdataset, datasets"
    )
    shard_size: int = Field(10_000, ge=1, le=1_000_000_000, description="most pairs in a WebDataset shard")
    workers: int = Field(1, ge=1, le=256, description="processes that decode videos")
    threads: int = Field(0, ge=0, le=256, description="threads of each decoder; 0 leaves it to ffmpeg")
    pairs: Annotated[str, runs.File((BUNDLED_PAIRS,))] = Field(
        BUNDLED_PAIRS,
        description=f"train, evaluate: a folder of pairs as curate writes it, a table with the columns image and "
        f"caption, or {BUNDLED_PAIRS}",
    )
    text_encoder: Annotated[str, runs.File((BUNDLED_TEXT,))] = Field(
        BUNDLED_TEXT, description=f"folder of a text model of transformers, or {BUNDLED_TEXT}"
    )
    image_tuning: Literal["full", "lora", "frozen"] = Field("full", description="what is trained of the image encoder")
    text_tuning: Literal["full", "lora", "frozen"] = Field("frozen", description="what is trained of the text encoder")
    dimensions: int = Field(128, ge=1, le=4096, description="columns of the common space")
    max_length: int = Field(77, ge=3, le=8192, description="tokens of a text; longer ones are cut")
    epochs: float = Field(30, gt=0, le=10_000, description="passes over the pairs")
    batch_size: int = Field(128, ge=2, le=65_536, description="pairs in a step: the others are an image's negatives")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="highest of AdamW; default 1e-5 for a trained image encoder, 2e-3 for the small one",
    )
    weight_decay: float = Field(0.1, ge=0, le=1, description="of AdamW")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of the videos (or pictures) that is held out")
    model: Path | None = Field(None, description="evaluate: folder of a trained model, as train writes it")
    labelled: Annotated[str | None, runs.File((BUNDLED_PAIRS,))] = Field(
        None, description="labelled pictures for zero-shot and linear probe: a folder with a folder per class"
    )
    templates: tuple[str, ...] = Field((), description="prompts with {c} for the class; default the paper's four")
    fractions: tuple[float, ...] = Field((0.01, 0.1, 1.0), description="shares of the training data in linear probes")
    probe_seeds: int = Field(3, ge=2, le=100, description="draws of each share")
    recall_at: tuple[int, ...] = Field((1, 50, 200), description="numbers of results in retrieval")

    @model_validator(mode="after")
    def _of_the_action(self) -> Config:
        """An option that the action does not read is refused: it would do nothing."""
        others: tuple[str, ...] = ENCODERS_ONLY if self.action == "curate" else CURATION_ONLY
        others += (
            ("model",)
            if self.action == "train"
            else (*TRAINING_ONLY, "image_encoder")
            if self.action == "evaluate"
            else ()
        )
        for name in others:
            field = type(self).model_fields[name]
            if getattr(self, name) != field.default:
                option = f"--{name.replace('_', '-')}"
                raise InputError(
                    name, getattr(self, name), f"no {option} with --action {self.action}, which ignores it"
                )
        return self

    @model_validator(mode="after")
    def _together(self) -> Config:
        if (self.positive is None) != (self.negative is None):
            raise InputError("negative" if self.negative is None else "positive", "nothing", "folders of both kinds")
        if self.filter_models and not self.positive_labels:
            raise InputError(
                "positive_labels", "nothing beside filter_models", "classes or prompts that show the domain"
            )
        if self.filter_crops and len(self.filter_crops) != len(self.filter_models):
            raise InputError("filter_crops", f"{len(self.filter_crops)} numbers", "one for each filter model")
        if any(not 8 <= crop <= 384 for crop in self.filter_crops):
            raise InputError("filter_crops", str(self.filter_crops), "sides from 8 to 384")
        if (self.images is None) != (self.captions is None):
            raise InputError("captions" if self.captions is None else "images", "nothing", "both, or neither")
        if self.action == "evaluate" and self.model is None:
            raise InputError("model", "nothing", "the folder of a trained model, for --action evaluate")
        if self.longest_chunk is not None and self.longest_chunk < self.shortest_chunk:
            raise InputError("longest_chunk", self.longest_chunk, f"at least {self.shortest_chunk}")
        if any("{c}" not in template for template in self.templates):
            raise InputError("templates", str(self.templates), "texts with {c} in each")
        if not self.fractions or any(not 0 < f <= 1 for f in self.fractions):
            raise InputError("fractions", str(self.fractions), "shares above 0, up to 1")
        if not self.recall_at or any(k < 1 for k in self.recall_at):
            raise InputError("recall_at", str(self.recall_at), "whole numbers of 1 or more")
        return self
