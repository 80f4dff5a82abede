"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.options import TableOptions
from paperworks.inputs.tables import BUNDLED as TABLES
from paperworks.inputs.texts import BUNDLED as TEXTS

IMAGES = ("digits", "mnist", "fashion-mnist")
LANGUAGE = ("bundled-texts",)
BUNDLED = tuple(dict.fromkeys((*IMAGES, *TEXTS, *LANGUAGE, *TABLES)))
ON_FOLDER = ("delete", "verify", "serve", "status", "retrain")


class Config(TableOptions):
    """Options of ``paperworks run s3t``."""

    other_names: ClassVar = {"target": "label"}
    error_names: ClassVar = {"budget_gpu_hours": "gpu_hours"}

    action: Literal["fit", "delete", "verify", "serve", "status", "retrain", "plan"] = Field(
        "fit",
        description="train; delete records from a trained --folder, verify it, answer --data with it, say what is "
        "live, or train dead shards again; or plan shards and slices for a budget",
    )
    folder: Path | None = Field(None, description="folder of a trained system (s3t in the output of fit)")
    data: Annotated[str, runs.File(BUNDLED)] = Field(
        "digits",
        description="records: a folder or file of images, a table or texts in a .csv, .tsv, .parquet or .jsonl file, "
        f"or one of {', '.join(BUNDLED)}",
    )
    kind: Literal["auto", "images", "table", "text", "language"] = Field(
        "auto", description="what the records are; language: texts without labels for a language model"
    )
    label: str | None = Field(None, description="column with the label")
    text: str | None = Field(None, description="column with the text")
    id: str | None = Field(None, description="column with a record's id; default the row's number, or an image's name")
    owner: str | None = Field(None, description="column with a record's owner: records of one owner share a slice")
    risk: str | None = Field(
        None, description="column with how likely a record's deletion is: sequences are matched to it"
    )
    model: Annotated[str | None, runs.File()] = Field(
        None,
        description="folder of a model of transformers that never saw the records; default a small network, the "
        "bundled sentence encoder (texts), or the bundled language model",
    )
    ids: tuple[str, ...] = Field((), description="ids of the records to delete or to verify")
    ids_file: Path | None = Field(None, description="text file with such ids, one a line")
    key_file: Path | None = Field(None, description="file with a secret that seals the manifest (HMAC)")
    shards: int = Field(2, ge=1, le=1000, description="shards: each trains and answers by itself")
    slices: int = Field(4, ge=1, le=64, description="slices of a shard: each has its block of layers")
    sequences: int | None = Field(
        None, ge=1, le=65_536, description="orders of the slices per shard; default slices, 1 is SISA"
    )
    selection: Literal["auto", "cyclic", "matching", "conditional", "sorted", "random"] = Field(
        "auto", description="how the orders are chosen; auto: rotation, or matching where there are risks"
    )
    layers_per_slice: int | None = Field(
        None, ge=1, le=65_536, description="layers of a block; default as many as there are"
    )
    blocks: Literal["top-down", "bottom-up", "random"] = Field("top-down", description="order of the blocks")
    aggregation: Literal["mean_probs", "mean_logits", "vote"] = Field(
        "mean_probs", description="how the answers of shards are combined"
    )
    layers: int = Field(8, ge=1, le=64, description="layers of the small network for images and tables")
    width: int = Field(64, ge=4, le=4096, description="width of the small network")
    length: int = Field(64, ge=4, le=8192, description="tokens of a text; longer ones are cut")
    rank: int = Field(8, ge=1, le=512, description="rank of the adapters")
    alpha: float = Field(16, gt=0, le=1024, description="scale of the adapters, times the root of the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the adapters")
    epochs: float = Field(6, gt=0, le=1000, description="passes over the data of each stage")
    batch_size: int = Field(32, ge=1, le=65_536, description="records in a step")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="highest of AdamW; default 0.005 for the small network, 0.001 for a trained one"
    )
    test_size: float = Field(0.25, gt=0, lt=1, description="share of the records that is held out to measure on")
    streams: int = Field(1000, ge=10, le=100_000, description="simulated streams of requests")
    gpu_hours: float | None = Field(None, gt=0, le=1e9, description="plan: hours of one device for all training")
    storage: float | None = Field(None, gt=0, le=1e9, description="plan: megabytes for adapters")
    records: int | None = Field(
        None, ge=1, le=1_000_000_000, description="plan: number of records; default those of the data"
    )
    seconds_per_record: float = Field(
        0.01, gt=0, le=1e6, description="plan: seconds of a training step over its records"
    )
    adapter_size: float = Field(10.0, gt=0, le=1e9, description="plan: megabytes of an adapter of all layers")
    max_shards: int = Field(16, ge=1, le=1024, description="plan: most shards; each answers every request")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.action in ON_FOLDER and self.folder is None:
            raise InputError("folder", "nothing", f"the folder of a trained system, for --action {self.action}")
        if self.action not in ON_FOLDER and self.folder is not None:
            raise InputError("folder", str(self.folder), f"no folder with --action {self.action}")
        if self.action == "delete" and not self.ids and self.ids_file is None:
            raise InputError("ids", "nothing", "ids of records, or a file with them")
        if self.action == "plan" and self.gpu_hours is None and self.storage is None:
            raise InputError("gpu_hours", "nothing", "hours, or storage in megabytes, for --action plan")
        if self.action == "fit" and self.slices > self.layers and self.model is None and self.kind != "text":
            raise InputError("slices", self.slices, f"at most {self.layers}, the layers of the network")
        return self
