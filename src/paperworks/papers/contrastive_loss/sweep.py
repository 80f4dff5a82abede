"""One encoder for each loss and temperature on the same data: what the temperature does (figures 4 to 7 and 9)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.contrastive_loss.gradients import gradient_shares
from paperworks.papers.contrastive_loss.losses import ContrastiveLoss
from paperworks.papers.contrastive_loss.metrics import separation_curve, tolerance, uniformity
from paperworks.papers.contrastive_loss.trainer import ContrastiveTrainer
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings

if TYPE_CHECKING:
    import pandas as pd

LOSSES = ("contrastive", "simple", "hard", "hard-simple")
"""The paper's four. The two simple ones have no temperature."""
PROBE_C = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Examples:
    """Labelled examples, cut into those that are trained on and those that figures are measured on.

    Attributes
    ----------
    train, test : float32 tensors ``[n, ...]``.
    train_labels, test_labels : ``[n]``.
    augment : one random view of a batch.
    """

    train: torch.Tensor
    test: torch.Tensor
    train_labels: np.ndarray
    test_labels: np.ndarray
    augment: Callable[[Any], Any]


@dataclass(frozen=True)
class SweepRow:
    """One training: what it was, and what came of it on the test examples."""

    loss: str
    temperature: float | None
    seed: int
    probe_accuracy: float
    uniformity: float
    tolerance: float
    positive: float
    nearest_negative: float
    top1: float
    effective_negatives: float
    final_loss: float


@dataclass(frozen=True)
class SweepResult:
    """All trainings of a sweep.

    Attributes
    ----------
    rows : one for each loss, temperature and seed.
    """

    rows: tuple[SweepRow, ...]

    def frame(self) -> pd.DataFrame:
        """A row for each training."""
        import pandas as pd

        return pd.DataFrame([asdict(r) for r in self.rows])

    def values(self, loss: str, temperature: float | None, name: str) -> np.ndarray:
        """A figure of one loss and temperature, by seed."""
        found = [getattr(r, name) for r in self.rows if r.loss == loss and r.temperature == temperature]
        return np.array(found, float)

    def mean(self, loss: str, temperature: float | None, name: str) -> float:
        """Its mean over seeds."""
        return float(self.values(loss, temperature, name).mean())


class TemperatureSweep:
    """Train, for each loss, temperature and seed, an encoder from the same start, and measure it.

    Parameters
    ----------
    encoder_factory : from a seed to a new encoder, features ``[B, w]``.
    data : the examples.
    taus : temperatures of the softmax losses.
    losses : of ``LOSSES``.
    settings : of the training loop; the seed is replaced.
    hard_k : negatives that the hard losses keep.
    seeds : of encoder and training.
    dimensions : columns of the projection, on which the metrics are measured (the probe is on the encoder's features).
    """

    def __init__(
        self,
        encoder_factory: Callable[[int], nn.Module],
        data: Examples,
        taus: Sequence[float] = (0.1, 0.3, 1.0),
        losses: Sequence[str] = LOSSES,
        *,
        settings: TrainSettings,
        hard_k: int = 32,
        seeds: Sequence[int] = (0,),
        dimensions: int = 128,
    ) -> None:
        unknown = [name for name in losses if name not in LOSSES]
        if unknown or not len(losses):
            raise InputError("losses", repr(unknown[0]) if unknown else "none", f"one or more of {', '.join(LOSSES)}")
        if not len(taus) or any(not (np.isfinite(t) and t > 0) for t in taus):
            raise InputError("taus", list(taus), "one or more numbers above 0")
        if len(np.unique(data.train_labels)) < 2:
            raise InputError("labels", "one class only", "two classes or more, for the probe")
        self.encoder_factory, self.data, self.losses = encoder_factory, data, tuple(losses)
        self.taus, self.seeds = tuple(float(t) for t in taus), tuple(int(s) for s in seeds)
        self.settings, self.hard_k, self.dimensions = settings, hard_k, dimensions

    @property
    def plan(self) -> list[tuple[str, float | None, int]]:
        """(loss, temperature, seed) of every training, in order."""
        return [
            (loss, tau, seed)
            for seed in self.seeds
            for loss in self.losses
            for tau in ((None,) if loss.endswith("simple") else self.taus)
        ]

    def run(
        self,
        state: Path | None = None,
        *,
        progress: Progress = no_progress,
        on_trained: Callable[[SweepRow, ContrastiveTrainer], None] | None = None,
    ) -> SweepResult:
        """All trainings. Those whose figures are in ``state`` already are not repeated."""
        rows = []
        for loss, tau, seed in progress(self.plan, "trainings", len(self.plan)):
            mark = None if state is None else state / f"{loss}-{tau}-{seed}.json"
            if mark is not None and mark.is_file():
                rows.append(SweepRow(**json.loads(mark.read_text(encoding="utf-8"))))
                continue
            row, trainer = self.train_one(loss, tau, seed)
            if on_trained is not None:
                on_trained(row, trainer)
            if mark is not None:
                write_text(mark, json.dumps(asdict(row)))
            rows.append(row)
        return SweepResult(tuple(rows))

    def train_one(self, loss: str, tau: float | None, seed: int) -> tuple[SweepRow, ContrastiveTrainer]:
        """One training and its figures."""
        data = self.data
        form: Any = "simple" if loss.endswith("simple") else "softmax"
        # The hard losses keep hard_k of the negatives; a small batch has fewer.
        hard = self.hard_k if loss.startswith("hard") else None
        module = ContrastiveLoss(tau or 1.0, form=form, hard_k=hard, pairs="symmetric")
        trainer = ContrastiveTrainer(
            self.encoder_factory(seed),
            module,
            replace(self.settings, seed=seed),
            augment=data.augment,
            dimensions=self.dimensions,
        ).fit(data.train)
        projected = trainer.encode(data.test, projected=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            views = [trainer.encode(data.augment(data.test), projected=True) for _ in range(2)]
        curve = separation_curve(views[0], views[1])
        similarities = views[0].astype(np.float64) @ views[1].T
        positive = np.diag(similarities).copy()
        np.fill_diagonal(similarities, -np.inf)
        # The simple losses push all the negatives that they keep alike: the share is 1 / kept.
        kept = min(hard or len(views[0]), len(views[0]) - 1)
        shares = None if tau is None else gradient_shares(positive, similarities, tau, hard and kept)
        row = SweepRow(
            loss,
            tau,
            seed,
            probe_accuracy(trainer.encode(data.train), data.train_labels, trainer.encode(data.test), data.test_labels),
            uniformity(projected, normalize=True).value,
            tolerance(projected, data.test_labels, normalize=True),
            curve.positive,
            float(curve.negatives[0]),
            1 / kept if shares is None else shares.top1,
            float(kept) if shares is None else shares.effective_negatives,
            float(trainer.result_.losses[-1]),
        )
        return row, trainer


def probe_accuracy(train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> float:
    """Test accuracy of logistic regression on standardised features; C is chosen on a fifth of the train rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def fitted(c: float, x: np.ndarray, y: np.ndarray) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000, tol=1e-3)).fit(x, y)

    counts = np.unique(labels, return_counts=True)[1]
    stratify = labels if counts.min() > 1 else None
    a, b, ya, yb = train_test_split(train, labels, test_size=0.2, random_state=0, stratify=stratify)
    best = max(PROBE_C, key=lambda c: (fitted(c, a, ya).score(b, yb), -c))
    return float(fitted(best, train, labels).score(test, test_labels))
