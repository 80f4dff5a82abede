"""Full and smaller tables trained alike on the same rows: what the recipe and the studies compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paperworks.papers.optembed.baselines import (
    PEPEmbedding,
    QREmbedding,
    most_frequent,
    random_masks,
    row_counts,
    uniform_dimension,
)
from paperworks.papers.optembed.fitting import Clicks, ClickTraining, fit_clicks, scores_of
from paperworks.papers.optembed.models import ClickModel, make_model
from paperworks.papers.optembed.table import OptEmbedding
from paperworks.runs import Progress, no_progress

DENSE, UNIFORM, FREQUENT, RANDOM, HASHED, PEP = (
    "full table",
    "smaller dimension for all fields",
    "most frequent rows",
    "random masks of the same size",
    "quotient-remainder hashing",
    "single entries (PEP)",
)


@dataclass(frozen=True)
class Bench:
    """Rows, and how base models are built and trained on them.

    Attributes
    ----------
    train, validation, test : the rows. field_dims : the fields' sizes.
    model, dim, hidden, dropout : the base model. training : its training. seed : of weights and order.
    """

    train: Clicks
    validation: Clicks
    test: Clicks
    field_dims: Sequence[int]
    model: str
    dim: int
    hidden: Sequence[int]
    training: ClickTraining
    seed: int = 0
    dropout: float = 0.0
    device: str = "auto"

    def build(self, make: Callable[[], nn.Module], dim: int | None = None) -> ClickModel:
        """A base model on a table that ``make`` makes; its weights depend on the seed only."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return make_model(
                self.model, make(), self.field_dims, dim or self.dim, hidden=self.hidden, dropout=self.dropout
            )

    def fit(self, model: nn.Module, folder: Path | None = None, progress: Progress = no_progress) -> dict[str, float]:
        """Train, and give AUC and log loss on the test rows."""
        fit_clicks(
            model,
            self.train,
            self.validation,
            self.training,
            device=self.device,
            seed=self.seed,
            checkpoint_dir=folder,
            progress=progress,
        )
        return scores_of(model, self.test)

    def plain(self, dim: int | None = None) -> OptEmbedding:
        """An ordinary table, of the full or of a given dimension."""
        return OptEmbedding(self.field_dims, dim or self.dim, rows=False, dimensions=False)

    def baseline(
        self, name: str, found: OptEmbedding, folder: Path | None = None, progress: Progress = no_progress
    ) -> tuple[int, dict[str, float]]:
        """A table no larger than a found one by another way: its parameters, and scores on the test rows."""
        size = found.parameters_kept()
        if name == DENSE:
            model = self.build(self.plain)
            return sum(self.field_dims) * self.dim, self.fit(model, folder, progress)
        if name == UNIFORM:
            dim = uniform_dimension(size, self.field_dims, self.dim)
            model = self.build(lambda: self.plain(dim), dim)
            return sum(self.field_dims) * dim, self.fit(model, folder, progress)
        if name == HASHED:
            hashed = QREmbedding(self.field_dims, self.dim, size)
            model = self.build(lambda: QREmbedding(self.field_dims, self.dim, size))
            return hashed.counted_parameters(), self.fit(model, folder, progress)
        if name == PEP:
            return self._pep(size, folder, progress)
        model = self.build(self.plain)
        table = model.embedding
        assert isinstance(table, OptEmbedding)
        if name == FREQUENT:
            kept = most_frequent(row_counts(self.train.ids, self.field_dims), size // self.dim)
            dimensions: Sequence[int] = [self.dim] * len(self.field_dims)
        else:
            kept, dimensions = random_masks(found, np.random.default_rng(self.seed))
        table.fix(kept, dimensions)
        return table.parameters_kept(), self.fit(model, folder, progress)

    def _pep(self, size: int, folder: Path | None, progress: Progress) -> tuple[int, dict[str, float]]:
        model = self.build(lambda: PEPEmbedding(self.field_dims, self.dim))
        start = {name: value.clone() for name, value in model.state_dict().items()}
        self.fit(model, None if folder is None else folder / "thresholds", progress)
        table = model.embedding
        assert isinstance(table, PEPEmbedding)
        table.keep_largest(size)
        mask = table.mask.clone()
        model.load_state_dict(start)
        table.mask.copy_(mask)
        return int(mask.sum()), self.fit(model, None if folder is None else folder / "retrained", progress)
