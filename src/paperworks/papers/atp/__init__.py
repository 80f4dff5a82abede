"""ATP (arXiv 2412.14426): tunes a language model on a domain and prunes its structure in one go.

from paperworks.papers.atp import ATP, TrainerArgs

method = ATP(target_ratio=0.4, trainer_args=TrainerArgs(steps=300, batch_size=12, learning_rate=2e-3))
method.fit(model, train_dataset, calibration_dataset)   # LoRA and pruning decisions, alternately
method.model_.generate(...)
method.save("smaller", tokenizer)
"""

# ruff: noqa: F401 - names that type checkers see; at run time __getattr__ brings each when it is first used
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paperworks.papers.atp.estimator import ATP
    from paperworks.papers.atp.generator import DecisionGenerator
    from paperworks.papers.atp.losses import ratio_loss
    from paperworks.papers.atp.report import ATPReport
    from paperworks.papers.atp.settings import Search, TrainerArgs
    from paperworks.papers.atp.size import KeptSize

_HOME = {
    "ATP": "estimator",
    "ATPReport": "report",
    "DecisionGenerator": "generator",
    "KeptSize": "size",
    "Search": "settings",
    "TrainerArgs": "settings",
    "ratio_loss": "losses",
}

__all__ = sorted(_HOME)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
