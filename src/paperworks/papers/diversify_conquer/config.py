"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from paperworks import runs
from paperworks.errors import InputError

DATA = ("definitions",)
QUALITIES = ("compression", "length", "none", "likelihood", "reward", "deita")
MethodName = Literal[
    "kmq",
    "km-random",
    "km-closest",
    "km-median",
    "random",
    "k-center",
    "deita",
    "qdit",
    "facility-location",
    "top-quality",
    "mid-quality",
]


class Config(runs.Config):
    """Options of ``paperworks run diversify-conquer``."""

    data: Annotated[str, runs.File(DATA)] = Field(
        "definitions",
        description="samples: a .jsonl, .parquet, .json or .csv file with messages, instruction and output, or prompt "
        "and completion; or definitions (bundled)",
    )
    ids: Literal["record", "row"] = Field("record", description="take each sample's own id, or number the rows")
    budget: float = Field(0.1, gt=0, le=1e9, description="share of the samples to choose (below 1), or how many")
    method: MethodName = Field("kmq", description="how samples are chosen; kmq and km-* are the paper's")
    rounds: int = Field(1, ge=1, le=100, description="above 1: iterative refinement in so many rounds, with training")
    clusters: str = Field(
        "auto", description="number of clusters, silhouette, or elbow; auto: silhouette up to 20,000 samples, else 1024"
    )
    restarts: int = Field(1, ge=1, le=100, description="k-means starts, of which the best is kept")
    normalize: bool = Field(False, description="cluster the directions of the vectors (unit length)")
    allocation: Literal["proportional", "equal"] = Field("proportional", description="budget of a cluster")
    quality: Annotated[str, runs.File(QUALITIES, also=r"[A-Za-z_][\w-]*")] = Field(
        "compression",
        description="what quality is: compression (how usual the text's density is), length, none; likelihood, reward "
        "or deita by a model; a column of the data; or a file .npy (one number per sample) or .csv (id, score)",
    )
    quality_temperature: float = Field(
        1.0, ge=0, le=1e6, description="0 takes the best of each cluster, large draws at random"
    )
    text: Literal["both", "prompt", "first-user"] = Field("both", description="what is embedded of a sample")
    encoder: Annotated[str | None, runs.File()] = Field(
        None, description="folder of sentence-transformers or transformers; default the bundled all-MiniLM-L6-v2"
    )
    embeddings: Annotated[str | None, runs.File()] = Field(
        None,
        description="your own vectors, one row per sample, in place of an encoder: a .npy file, or a folder of them",
    )
    keep_embeddings: bool = Field(False, description="write embeddings.npy, for the next run")
    duplicates: Literal["drop", "keep"] = Field("drop", description="samples with the same turns as an earlier one")
    near_duplicates: float | None = Field(
        None, gt=0, le=1, description="drop samples of a cosine of this or more to one of their cluster"
    )
    exclude: Annotated[str | None, runs.File()] = Field(
        None, description="file with ids that must not be chosen, one a line"
    )
    deita_threshold: float = Field(0.9, ge=0, le=100, description="deita: least squared distance of chosen samples")
    qdit_alpha: float = Field(0.5, ge=0, lt=1, description="qdit: weight of quality against similarity")
    represented: int = Field(
        10_000, ge=1, le=1_000_000_000, description="qdit, facility-location: samples that the function is summed over"
    )
    output: Literal["auto", "jsonl", "parquet"] = Field(
        "auto", description="form of the subset; auto: the rows as they are in the data"
    )
    model: Annotated[str | None, runs.File()] = Field(
        None, description="folder of the language model to tune; default the bundled one"
    )
    epochs: float = Field(3.0, gt=0, le=1000, description="passes over the selected samples in each round")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="highest rate of AdamW; default 2e-5, 3e-4 for the bundled model"
    )
    batch_size: int = Field(16, ge=1, le=4096, description="samples in a step of the training")
    max_length: int = Field(2048, ge=16, le=2**20, description="tokens of a sample in training, at most")
    max_new_tokens: int = Field(48, ge=1, le=8192, description="tokens of an answer of the model")
    restart: bool = Field(True, description="tune from the base model in each round, or go on from the last one")
    scorer: Literal["likelihood", "perplexity", "reward", "command"] = Field(
        "likelihood", description="what compares the given answer with the model's own; perplexity is the paper's Eq. 7"
    )
    judge: Annotated[str | None, runs.File(("tuned",))] = Field(
        None, description="model of likelihood and perplexity: a folder, or tuned; default the model before tuning"
    )
    reward_model: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a sequence classifier with one output, for scorer or quality reward"
    )
    complexity_model: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a language model that rates complexity 1 to 6, for quality deita"
    )
    quality_model: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a language model that rates quality 1 to 6, for quality deita"
    )
    trainer_command: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="your own program in place of the training: with {train}, {prompts} and {responses}"
    )
    scorer_command: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="your own program for scorer command: with {pairs} and {scores}"
    )
    feedback: Literal["selected", "probe"] = Field(
        "selected", description="score what was trained on (the paper), or samples of each cluster that were not"
    )
    transform: Literal["softmax", "relu", "raw"] = Field(
        "softmax", description="from mean scores to factors of weights"
    )
    feedback_temperature: float = Field(1.0, gt=0, le=1e6, description="of the softmax over mean scores")
    accumulate: bool = Field(True, description="multiply weights over the rounds (Eq. 6), or replace them")
    init: Literal["proportional", "uniform"] = Field("proportional", description="weights of the first round")
    max_ratio: float | None = Field(
        None, ge=1, le=1e9, description="most that feedback moves two clusters apart, such as 10; default no limit"
    )
    map_points: int = Field(1500, ge=0, le=20_000, description="samples in the picture of the data; 0 leaves it out")

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: float) -> float:
        if value >= 1 and value != int(value):
            raise ValueError("a share below 1, or a whole number of samples")
        return value

    @field_validator("clusters")
    @classmethod
    def _clusters(cls, value: str) -> str:
        if value not in ("auto", "silhouette", "elbow") and not (value.isascii() and value.isdigit() and int(value)):
            raise ValueError("auto, silhouette, elbow, or a whole number, 1 or more")
        return value

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.encoder is not None and self.embeddings is not None:
            raise InputError("embeddings", self.embeddings, "either encoder or embeddings")
        if "reward" in (self.quality, self.scorer if self.rounds > 1 else "") and self.reward_model is None:
            raise InputError("reward_model", "nothing", "a folder, for scorer or quality reward")
        if self.quality == "deita" and None in (self.complexity_model, self.quality_model):
            raise InputError("quality_model", "nothing", "complexity_model and quality_model, for quality deita")
        if self.rounds > 1 and (self.scorer == "command") != (self.scorer_command is not None):
            raise InputError("scorer_command", self.scorer_command, "a command, together with scorer command")
        if self.rounds > 1 and not self.method.startswith("km"):
            raise InputError("rounds", self.rounds, "1, or the method kmq or km-*: rounds weigh clusters")
        if self.rounds > 1 and self.judge == "tuned" and self.trainer_command is not None:
            raise InputError("judge", "tuned", "a folder: the program's model is not at hand")
        if self.quality == "none" and self.method in ("kmq", "deita", "qdit", "top-quality", "mid-quality"):
            raise InputError("quality", "none", f"a quality, for method {self.method}")
        return self
