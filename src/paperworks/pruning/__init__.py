"""What every method that prunes language models shares above the core: budgets in words, a common job, figures.

A paper's folder that prunes has a ``method.py`` with ``prune(job) -> Pruned`` for language models or
``prune_module(job) -> PrunedModule`` for any traced module, and its ``TAXONOMY``. ``paperworks compare-methods`` calls
them.
Light to import: torch and transformers come with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.pruning.architecture import architecture_of, lora_targets
    from paperworks.pruning.baselines import BASELINES
    from paperworks.pruning.classifiers import accuracy, reestimate_norms, steps_of, train_classifier
    from paperworks.pruning.first_weights import new_weights
    from paperworks.pruning.image_options import ImageOptions
    from paperworks.pruning.images import ImageTask, PlainCNN, StridedCNN, image_task, model_maker
    from paperworks.pruning.job import Pruned, PruningJob
    from paperworks.pruning.module_job import ModuleJob, PrunedModule
    from paperworks.pruning.quality import measured, quality_of
    from paperworks.pruning.recovery import recover
    from paperworks.pruning.size import size_of, weights_bytes
    from paperworks.pruning.tables import (
        before_and_after,
        kept_widths_figure,
        quality_said,
        size_said,
        trajectory_figure,
    )
    from paperworks.pruning.target import Target, most_parameters, resolved
    from paperworks.pruning.taxonomy import Taxonomy
    from paperworks.pruning.texts import TextParts, text_parts
    from paperworks.pruning.uniform import export_uniform, taylor_ranking, with_uniform
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "BASELINES",
    "ImageOptions",
    "ImageTask",
    "ModuleJob",
    "PlainCNN",
    "Pruned",
    "PrunedModule",
    "PruningJob",
    "StridedCNN",
    "Target",
    "Taxonomy",
    "TextParts",
    "accuracy",
    "architecture_of",
    "before_and_after",
    "export_uniform",
    "image_task",
    "kept_widths_figure",
    "lora_targets",
    "measured",
    "model_maker",
    "most_parameters",
    "new_weights",
    "quality_of",
    "quality_said",
    "recover",
    "reestimate_norms",
    "resolved",
    "size_of",
    "size_said",
    "steps_of",
    "taylor_ranking",
    "text_parts",
    "train_classifier",
    "trajectory_figure",
    "weights_bytes",
    "with_uniform",
]
