"""ATP (arXiv 2412.14426): tunes a language model on a domain and prunes its structure in one go.

from paperworks.papers.atp import ATP, TrainerArgs

method = ATP(target_ratio=0.4, trainer_args=TrainerArgs(steps=300, batch_size=12, learning_rate=2e-3))
method.fit(model, train_dataset, calibration_dataset)   # LoRA and pruning decisions, alternately
method.model_.generate(...)
method.save("smaller", tokenizer)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.atp.estimator import ATP
    from paperworks.papers.atp.generator import DecisionGenerator
    from paperworks.papers.atp.losses import ratio_loss
    from paperworks.papers.atp.report import ATPReport
    from paperworks.papers.atp.settings import Search, TrainerArgs
    from paperworks.papers.atp.size import KeptSize
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "ATP",
    "ATPReport",
    "DecisionGenerator",
    "KeptSize",
    "Search",
    "TrainerArgs",
    "ratio_loss",
]
