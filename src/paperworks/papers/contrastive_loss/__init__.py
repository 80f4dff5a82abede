"""Contrastive losses and what they do to embeddings (arXiv 2012.09740)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.contrastive_loss.banks import MemoryBank, MomentumQueue, update_momentum_copy
    from paperworks.papers.contrastive_loss.diagnosis import Diagnosis, diagnose
    from paperworks.papers.contrastive_loss.gradients import (
        GradientShares,
        gradient_shares,
        penalty_distribution,
        penalty_entropy,
    )
    from paperworks.papers.contrastive_loss.losses import ContrastiveLoss, LossStats
    from paperworks.papers.contrastive_loss.metrics import (
        Estimate,
        SeparationCurve,
        alignment,
        separation_curve,
        tolerance,
        uniform_law,
        uniformity,
    )
    from paperworks.papers.contrastive_loss.sweep import SweepResult, TemperatureSweep
    from paperworks.papers.contrastive_loss.trainer import ContrastiveTrainer
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "ContrastiveLoss",
    "ContrastiveTrainer",
    "Diagnosis",
    "Estimate",
    "GradientShares",
    "LossStats",
    "MemoryBank",
    "MomentumQueue",
    "SeparationCurve",
    "SweepResult",
    "TemperatureSweep",
    "alignment",
    "diagnose",
    "gradient_shares",
    "penalty_distribution",
    "penalty_entropy",
    "separation_curve",
    "tolerance",
    "uniform_law",
    "uniformity",
    "update_momentum_copy",
]
