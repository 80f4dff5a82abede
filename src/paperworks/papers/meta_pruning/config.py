"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.pruning.image_options import ImageOptions

METANETWORKS = ("auto", "bundled")
"""Metanetworks that need no folder."""


class Config(ImageOptions):
    """Options of ``paperworks run meta-pruning``."""

    action: Literal["prune", "train"] = Field(
        "prune", description="prune a network with a trained metanetwork, or train a metanetwork for a family"
    )
    metanetwork: Annotated[str, runs.File(METANETWORKS)] = Field(
        "auto",
        description="folder of a metanetwork; bundled: those that come with the paper; auto: a bundled one if it is "
        "for this family of networks, else one is trained first",
    )
    models: tuple[Annotated[str, runs.File()], ...] = Field(
        (),
        description="folders of trained networks to train the metanetwork on, the last of them to choose the epoch; "
        "default: n_models are trained here",
    )
    n_models: int = Field(
        5, ge=2, le=1000, description="networks trained to train the metanetwork on; one chooses the epoch"
    )
    speedup: float = Field(2.0, ge=1, le=1000, description="dense over kept multiply-accumulates of the pruned network")
    criterion: Literal["group-l2", "group-l2-mean", "group-l2-none", "random", "unstructured", "2:4"] = Field(
        "group-l2",
        description="what prunes: group L2 over the group's largest, over its mean, or as it is; random channels; "
        "single weights by magnitude; two of four",
    )
    layout: Literal["auto", "paper"] = Field("auto", description="layout of the graph; paper is for ResNet and VGG")
    hidden: int = Field(16, ge=2, le=1024, description="width of the metanetwork, an even number")
    layers: int = Field(4, ge=1, le=64, description="layers of message passing")
    rho: float = Field(0.1, ge=0, le=1, description="size of the metanetwork's edits")
    meta_epochs: int = Field(30, ge=1, le=100_000, description="passes of meta-training over the networks")
    meta_batches: int = Field(
        3, ge=1, le=65_536, description="steps of meta-training with each network in a pass, a batch each"
    )
    meta_learning_rate: float = Field(1e-3, gt=0, le=1, description="learning rate of meta-training (AdamW)")
    reg: float = Field(
        0.01, ge=0, le=1000, description="size of the sparsity gradient, relative to a mean cross-entropy's"
    )
    alpha: float = Field(16.0, ge=1, le=1e6, description="how much harder weak channels are pulled than strong ones")
    norms: Literal["stored", "batch"] = Field(
        "batch", description="statistics of batch norms in the meta-loss: running ones, or those of the batch"
    )
    select_every: int = Field(
        3, ge=1, le=100_000, description="passes between two looks at the network that chooses the epoch"
    )
    epochs: int = Field(40, ge=1, le=100_000, description="epochs of networks that are trained here")
    learning_rate: float = Field(0.1, gt=0, le=10, description="learning rate of networks that are trained here (SGD)")
    finetune_epochs: int = Field(20, ge=0, le=100_000, description="epochs between the edit and the pruning")
    finetune_rate: float = Field(0.01, gt=0, le=10, description="learning rate of fine-tuning (SGD)")
    final_epochs: int = Field(20, ge=0, le=100_000, description="epochs after the pruning")
    steps: int = Field(200, ge=1, le=100_000_000, description="portions in which channels leave")
    onnx: bool = Field(False, description="write the pruned network as ONNX as well, checked in onnxruntime")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.hidden % 2:
            raise InputError("hidden", self.hidden, "an even number")
        if len(self.models) == 1:
            raise InputError("models", "one folder", "two or more: the last one chooses the epoch")
        if self.action == "train" and self.onnx:
            raise InputError("onnx", "true, with action train", "false: no network is pruned")
        if self.action == "train" and self.metanetwork not in ("auto",):
            raise InputError("metanetwork", self.metanetwork, "auto where one is trained")
        return self
