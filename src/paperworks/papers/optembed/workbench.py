"""Full and smaller tables trained alike on the same rows: what the recipe and the studies compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.optembed.bags import Bags
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
from paperworks.papers.optembed.relaxed import (
    ChoiceTraining,
    RelaxedTable,
    dimension_masks,
    field_masks,
    likeliest_dimensions,
    likeliest_fields,
)
from paperworks.papers.optembed.table import OptEmbedding
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainingCallback

DENSE, UNIFORM, FREQUENT, RANDOM, HASHED, PEP, AUTODIM, AUTOFIELD = (
    "full table",
    "smaller dimension for all fields",
    "most frequent rows",
    "random masks of the same size",
    "quotient-remainder hashing",
    "single entries (PEP)",
    "dimensions by gradient (AutoDim)",
    "whole fields (AutoField)",
)
OTHERS = (UNIFORM, FREQUENT, RANDOM, HASHED, PEP, AUTODIM, AUTOFIELD)
"""Tables that are no larger than the found one."""


@dataclass(frozen=True)
class Bench:
    """Rows, and how base models are built and trained on them.

    Attributes
    ----------
    train, validation, test : the rows. field_dims : the fields' sizes.
    model, dim, hidden, dropout : the base model. training : its training. seed : of weights and order.
    bags : of fields of several values.
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
    bags: Bags | None = None

    def build(self, make: Callable[[], nn.Module], dim: int | None = None) -> ClickModel:
        """A base model on a table that ``make`` makes; its weights depend on the seed only."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return make_model(
                self.model, make(), self.field_dims, dim or self.dim, hidden=self.hidden, dropout=self.dropout
            )

    def trained(
        self,
        model: nn.Module,
        folder: Path | None = None,
        progress: Progress = no_progress,
        callbacks: Sequence[TrainingCallback] = (),
    ) -> dict[str, float]:
        """Train, and give AUC and log loss on the test rows."""
        fit_clicks(
            model,
            self.train,
            self.validation,
            self.training,
            device=self.device,
            seed=self.seed,
            checkpoint_dir=folder,
            callbacks=callbacks,
            progress=progress,
        )
        return scores_of(model, self.test)

    def plain(self, dim: int | None = None) -> OptEmbedding:
        """An ordinary table, of the full or of a given dimension."""
        bags = {} if self.bags is None else self.bags.to_dict()
        return OptEmbedding(self.field_dims, dim or self.dim, rows=False, dimensions=False, **bags)

    def baseline(
        self, name: str, found: OptEmbedding, folder: Path | None = None, progress: Progress = no_progress
    ) -> tuple[int, dict[str, float]]:
        """A table no larger than a found one by another way: its parameters, and scores on the test rows.

        Raises InputError naming ``budget``, where that way has no table as small as that.
        """
        size = found.parameters_kept()
        kept, dimensions = torch.ones(sum(self.field_dims), dtype=torch.bool), [self.dim] * len(self.field_dims)
        if name == DENSE:
            model = self.build(self.plain)
            return sum(self.field_dims) * self.dim, self.trained(model, folder, progress)
        if name == UNIFORM:
            dim, values = uniform_dimension(size, self.field_dims, self.dim), sum(self.field_dims)
            if dim * values > size:
                raise InputError("budget", f"{size:,} parameters", f"{values:,} or more, a dimension for each value")
            model = self.build(lambda: self.plain(dim), dim)
            return sum(self.field_dims) * dim, self.trained(model, folder, progress)
        if name == HASHED:
            hashed = QREmbedding(self.field_dims, self.dim, size)
            model = self.build(lambda: QREmbedding(self.field_dims, self.dim, size, self.bags))
            return hashed.counted_parameters(), self.trained(model, folder, progress)
        if name == PEP:
            return self._pep(size, folder, progress)
        if name in (AUTODIM, AUTOFIELD):
            kept, dimensions = self._relaxed(name, size, folder, progress)
            folder = None if folder is None else folder / "retrained"
        model = self.build(self.plain)
        table = model.embedding
        assert isinstance(table, OptEmbedding)
        if name == FREQUENT:
            counts = row_counts(self.train.ids, self.field_dims, self.bags)
            kept, dimensions = most_frequent(counts, size // self.dim), [self.dim] * len(self.field_dims)
        elif name == RANDOM:
            kept, drawn = random_masks(found, np.random.default_rng(self.seed))
            dimensions = list(drawn)
        table.fix(kept, dimensions)
        return table.parameters_kept(), self.trained(model, folder, progress)

    def _relaxed(self, name: str, size: int, folder: Path | None, progress: Progress) -> tuple[torch.Tensor, list[int]]:
        """The rows and dimensions that AutoDim or AutoField choose within a number of parameters."""
        candidates, masks = dimension_masks(self.dim)
        masks = masks if name == AUTODIM else field_masks(self.dim)
        model = self.build(lambda: RelaxedTable(self.field_dims, masks, self.bags))
        table = model.embedding
        assert isinstance(table, RelaxedTable)

        def chosen() -> tuple[torch.Tensor, list[int]]:
            rows = torch.tensor(self.field_dims)
            if name == AUTODIM:
                found = likeliest_dimensions(table.logits, candidates, self.field_dims, size)
                return torch.ones(int(rows.sum()), dtype=torch.bool), found
            keep = likeliest_fields(table.logits, self.field_dims, self.dim, size)
            return torch.repeat_interleave(torch.tensor(keep), rows), [self.dim] * len(rows)

        chosen()  # whether anything is as small does not depend on the training
        choices = ChoiceTraining(model, table, self.validation, self.training.batch_size, self.seed)
        self.trained(model, None if folder is None else folder / "choices", progress, [choices])
        return chosen()

    def _pep(self, size: int, folder: Path | None, progress: Progress) -> tuple[int, dict[str, float]]:
        model = self.build(lambda: PEPEmbedding(self.field_dims, self.dim, bags=self.bags))
        start = {name: value.clone() for name, value in model.state_dict().items()}
        self.trained(model, None if folder is None else folder / "thresholds", progress)
        table = model.embedding
        assert isinstance(table, PEPEmbedding)
        table.keep_largest(size)
        mask = table.mask.clone()
        model.load_state_dict(start)
        table.mask.copy_(mask)
        return int(mask.sum()), self.trained(model, None if folder is None else folder / "retrained", progress)
