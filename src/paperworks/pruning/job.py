"""The same work for every method: one checkpoint, one budget, one text, one seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.language import Calibration, load_model, token_windows
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class PruningJob:
    """What a method is asked to do.

    Attributes
    ----------
    folder : the dense checkpoint. Its files are never changed.
    target : the most parameters that the pruned model may have.
    texts : for calibration, and for training where the method trains.
    sequences, length, batch_size : calibration sequences, their tokens, and how many are computed together.
    train_steps : optimiser steps of ``batch_size`` sequences that a method may take while it prunes. Methods that
        choose in one shot take none.
    learning_rate : of that training.
    state : a folder of its own, for checkpoints that a resumed job goes on from.
    """

    folder: Path
    target: int
    texts: tuple[str, ...]
    state: Path
    sequences: int = 128
    length: int = 128
    batch_size: int = 8
    train_steps: int = 300
    learning_rate: float = 1e-3
    seed: int = 0
    device: str = "auto"
    progress: Progress = no_progress

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)

    def load(self) -> tuple[Any, PreTrainedTokenizerBase]:
        """A new copy of the dense model in float32 and evaluation mode, and its tokenizer."""
        return load_model(self.folder, "float32", self.device)

    def calibration(self, tokenizer: PreTrainedTokenizerBase) -> Calibration:
        """``sequences`` windows drawn with the seed: the same for every method."""
        return Calibration.from_texts(tokenizer, list(self.texts), self.sequences, self.length, self.seed)

    def windows(self, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
        """All windows of the text, int64 ``[n, length]``, to train on."""
        return token_windows(tokenizer, list(self.texts), self.length)


@dataclass
class Pruned:
    """What a method gives back.

    Attributes
    ----------
    model : pruned, with adapters merged, on the job's device, ready for ``structure.save_model``.
    steps : optimiser steps that were taken.
    notes : what a reader must know.
    """

    model: Any
    steps: int = 0
    notes: list[str] = field(default_factory=list)
