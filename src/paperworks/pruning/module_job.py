"""The same work for every method that makes any torch module smaller: one module, one cost, the same data and steps."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.parameters import check_number, check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.structure.trace import TracedCost, TracedGroups, analyze


@dataclass(frozen=True)
class ModuleJob:
    """What a method is asked to do: ``prune_module(job) -> PrunedModule`` in a paper's ``method.py``.

    Attributes
    ----------
    model : the dense module. It is never changed: methods work on ``job.copy()``.
    example_inputs : what ``structure.trace.analyze`` takes: a tensor (a batch of 2 is enough), a tuple or a dict.
    macs : the share of the dense module's multiply-accumulates that the result may have at most, in (0, 1].
    data : labelled examples (inputs float ``[n, ...]``, labels int64 ``[n]``), or None.
    unlabelled : inputs float ``[n, ...]``, or None. ``job.inputs`` has either.
    train_steps : optimiser steps of ``batch_size`` examples that a method may take, fine-tuning included. Methods that
        choose in one shot may leave them: the recovery is the caller's.
    learning_rate : highest rate of those steps.
    state : a folder of its own for checkpoints that a resumed job goes on from; None: nothing is kept.
    ignore : patterns of parameter names whose channels stay, as in ``analyze``.
    """

    model: nn.Module
    example_inputs: Any
    macs: float
    data: torch.utils.data.TensorDataset | None = None
    unlabelled: torch.Tensor | None = None
    train_steps: int = 0
    learning_rate: float = 1e-2
    batch_size: int = 64
    seed: int = 0
    device: str = "auto"
    state: Path | None = None
    progress: Progress = no_progress
    ignore: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        check_whole("train_steps", self.train_steps)
        check_whole("batch_size", self.batch_size, 1)
        check_number("learning_rate", self.learning_rate)
        if not isinstance(self.macs, int | float) or not 0 < self.macs <= 1:
            raise InputError("macs", self.macs, "a share above 0 and at most 1")
        if self.data is not None and len(self.data.tensors) != 2:
            raise InputError("data", f"{len(self.data.tensors)} tensors", "inputs and labels")

    def copy(self) -> nn.Module:
        """A copy of the dense module on the job's device, in evaluation mode."""
        return copy.deepcopy(self.model).to(resolve_device(self.device)).eval()

    def analyze(self, model: nn.Module) -> TracedGroups:
        """The groups of ``model`` at the job's example inputs, which are moved to its device."""
        place = next((p.device for p in model.parameters()), torch.device("cpu"))
        inputs = torch.utils._pytree.tree_map_only(torch.Tensor, lambda x: x.to(place), self.example_inputs)
        return analyze(model, inputs, ignore=self.ignore)

    def dense_cost(self) -> TracedCost:
        """Parameters and multiply-accumulates of the dense module."""
        return self.analyze(self.model).cost()

    def labelled(self, what: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels. Raises InputError, naming ``what`` needs them, where there are none."""
        if self.data is None:
            raise InputError("data", "no labels", f"labelled examples, which {what} needs")
        return self.data.tensors[0], self.data.tensors[1]

    def inputs(self, what: str) -> torch.Tensor:
        """Inputs without labels, of ``unlabelled`` or else of ``data``. Raises InputError where there are none."""
        if self.unlabelled is not None:
            return self.unlabelled
        if self.data is None:
            raise InputError("unlabelled", "no examples", f"inputs, which {what} needs")
        return self.data.tensors[0]


@dataclass
class PrunedModule:
    """What a method gives back.

    Attributes
    ----------
    module : smaller, on the job's device, in evaluation mode. Made by ``structure.trace.cut``, it can be saved by
        ``save_cut``.
    steps : optimiser steps that were taken.
    notes : what a reader must know.
    """

    module: nn.Module
    steps: int = 0
    notes: list[str] = field(default_factory=list)
