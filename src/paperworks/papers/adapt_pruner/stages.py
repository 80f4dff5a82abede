"""What the stages of Adapt-Accel read and leave behind: their parts of the data, and their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from paperworks.errors import InputError
from paperworks.language import token_windows
from paperworks.nn import tokens_first
from paperworks.runs.files import write_text
from paperworks.structure import KeepPlan
from paperworks.training.checkpoints import read_checkpoint, write_checkpoint

Example = Mapping[str, torch.Tensor]
COLUMNS = ("input_ids", "attention_mask", "labels")


class _Columns(Dataset[Example]):
    def __init__(self, columns: Mapping[str, torch.Tensor]) -> None:
        self.columns = dict(columns)
        if len({len(t) for t in columns.values()}) != 1:
            raise InputError("data", {n: len(t) for n, t in columns.items()}, "tensors of equally many rows")

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, index: int) -> Example:
        return {name: tensor[index] for name, tensor in self.columns.items()}


def examples_of(data: Any, tokenizer: Any, length: int) -> Any:
    """A set of examples, dictionaries with ``input_ids``, out of what a user has. Texts are cut into windows."""
    if isinstance(data, str) or (isinstance(data, list | tuple) and data and all(isinstance(d, str) for d in data)):
        if tokenizer is None:
            raise InputError("tokenizer", None, "a tokenizer, where the data is texts")
        data = token_windows(tokenizer, data, length)
    columns = getattr(data, "column_names", None)
    if columns is not None:
        if "input_ids" not in columns:
            raise InputError("data", f"a data set of {', '.join(columns)}", "a column input_ids")
        data = {name: torch.as_tensor(list(data[name])) for name in COLUMNS if name in columns}
    if isinstance(data, torch.Tensor):
        if data.ndim != 2:
            raise InputError("data", f"a tensor of shape {tuple(data.shape)}", "token ids [n, T]")
        data = {"input_ids": data}
    if isinstance(data, Mapping):
        if "input_ids" not in data:
            raise InputError("data", f"a dictionary of {', '.join(data)}", "one with input_ids")
        data = _Columns(data)
    if not hasattr(data, "__len__") or len(data) == 0:
        raise InputError("data", "no examples", "at least one")
    return data


def part_of(data: Any, length: int) -> Mapping[str, torch.Tensor]:
    """The first ``length`` tokens of at most 8,192 examples, to calibrate on the data that is trained on."""
    rows = [data[i] for i in range(0, len(data), max(1, len(data) // 8192))]
    names = [name for name in ("input_ids", "attention_mask") if name in rows[0]]
    found = {name: torch.stack([row[name] for row in rows]) for name in names}
    if "attention_mask" in found:
        order = tokens_first(found["attention_mask"])
        found = {name: tensor.gather(1, order) for name, tensor in found.items()}
    return {name: tensor[:, :length] for name, tensor in found.items()}


class Part(Dataset[Example]):
    """Examples ``first .. first + n - 1`` of the endless sequence of shuffled passes over a set."""

    def __init__(self, data: Any, first: int, n: int, seed: int) -> None:
        self.data, self.first, self.n, self.seed = data, first, n, seed
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Example:
        epoch, place = divmod(self.first + index, len(self.data))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.data))
        return self.data[int(self._order[place])]


class StageFiles:
    """The folder of a stage: ``pruned.pt`` and ``trained.pt`` with weights, ``*.json`` with the records.

    A record is written after its weights, so that a record that is there is whole. Cuts are kept as plans, weights as
    tensors: no module is pickled.
    """

    def __init__(self, folder: Path, number: int, identity: dict[str, Any]) -> None:
        self.folder = folder / f"stage-{number:03}"
        self.folder.mkdir(parents=True, exist_ok=True)
        note = folder / "run.json"
        if note.is_file():
            saved = json.loads(note.read_text(encoding="utf-8"))
            if saved != identity:
                odd = sorted(name for name in identity if saved.get(name) != identity[name])
                expected = "the same model, data and settings, or an empty folder"
                raise InputError("checkpoint_dir", f"{folder}, a run with another {', '.join(odd)}", expected)
        else:
            write_text(note, json.dumps(identity))

    def trained(self) -> dict[str, Any] | None:
        """The record of a stage that is finished."""
        return self._read("trained")

    def pruned(self) -> dict[str, Any] | None:
        """The record of a stage whose cuts are made."""
        return self._read("pruned")

    def weights(self, what: str) -> tuple[KeepPlan, dict[str, torch.Tensor], dict[str, Any] | None]:
        """The cuts of this stage, the weights after it, and the optimiser's state."""
        saved = read_checkpoint(self.folder / f"{what}.pt")
        plan = self._read("pruned")
        return KeepPlan.from_json(plan["plan"] if plan else "{}"), saved["model"], saved["optimizer"]

    def keep_pruned(
        self, model: Any, optimizer: torch.optim.Optimizer | None, plan: KeepPlan | None, content: dict[str, Any]
    ) -> None:
        """Note the cuts of this stage."""
        self._write("pruned", model, optimizer, {**content, "plan": (plan or KeepPlan()).to_json()})

    def keep_trained(self, model: Any, optimizer: torch.optim.Optimizer | None, content: dict[str, Any]) -> None:
        """Note the end of this stage; what only its middle needed goes."""
        self._write("trained", model, optimizer, content)
        for name in ("pruned.pt", "training.pt", "pruning.json"):
            (self.folder / name).unlink(missing_ok=True)

    def _read(self, what: str) -> dict[str, Any] | None:
        file = self.folder / f"{what}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def _write(self, what: str, model: Any, optimizer: Any, content: dict[str, Any]) -> None:
        state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        moments = None if optimizer is None else optimizer.state_dict()
        write_checkpoint(self.folder / f"{what}.pt", {"model": state, "optimizer": moments})
        write_text(self.folder / f"{what}.json", json.dumps(content))
