"""Adapt-Pruner (arXiv 2502.03460): a small language model from a larger one, by many tiny cuts and training between.

import paperworks as pw

pruner = pw.adapt_pruner.AdaptPruner(target="0.75x")
pruner.fit(model, texts, tokenizer=tokenizer).report_           # edits the model; token tensors and callables serve too
accel = pw.adapt_pruner.AdaptAccel(pruner, stages=8, train_steps=400)
accel.fit(model, windows).report_                               # prune a little, train a little, eight times
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.adapt_pruner.accel import AccelReport, AdaptAccel, Distillation, Lora, StageRecord
    from paperworks.papers.adapt_pruner.calibration import FreshBatches
    from paperworks.papers.adapt_pruner.pruner import AdaptPruner
    from paperworks.papers.adapt_pruner.report import PruneReport, StepRecord
    from paperworks.papers.adapt_pruner.shares import data_shares
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "AccelReport",
    "AdaptAccel",
    "AdaptPruner",
    "Distillation",
    "FreshBatches",
    "Lora",
    "PruneReport",
    "StageRecord",
    "StepRecord",
    "data_shares",
]
