"""The pruning survey as a workbench: its taxonomy, criteria, schedules and contrasts (arXiv 2308.06767)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.pruning_survey.bench import Bench, Protocol, Row
    from paperworks.papers.pruning_survey.contrasts import CONTRASTS, Contrast, Variant, run_contrast
    from paperworks.papers.pruning_survey.dynamic_sparse import DynamicSparseTraining, SoftFilters
    from paperworks.papers.pruning_survey.estimator import PrunedClassifier
    from paperworks.papers.pruning_survey.layerwise import input_grams, obs_row, sparsegpt, sparsegpt_layers
    from paperworks.papers.pruning_survey.masks import MaskCallback, by_pattern, keep_best, n_of_m, prunable_weights
    from paperworks.papers.pruning_survey.pruner import PruneResult, load_pruned, prune
    from paperworks.papers.pruning_survey.recommendation import Limits, Recommendation, recommend
    from paperworks.papers.pruning_survey.regularisers import gain_l1, group_lasso, growing_weights, weighted_decay
    from paperworks.papers.pruning_survey.runtime import GatedConvolution, macs_by_input, with_gates
    from paperworks.papers.pruning_survey.schedules import densities, masks_in_steps, rounds_of_magnitude_pruning
    from paperworks.papers.pruning_survey.spec import PruneSpec, read_spec
    from paperworks.papers.pruning_survey.weight_criteria import WEIGHT_CRITERIA, MovementScores, score_weights
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "CONTRASTS",
    "WEIGHT_CRITERIA",
    "Bench",
    "Contrast",
    "DynamicSparseTraining",
    "GatedConvolution",
    "Limits",
    "MaskCallback",
    "MovementScores",
    "Protocol",
    "PruneResult",
    "PruneSpec",
    "PrunedClassifier",
    "Recommendation",
    "Row",
    "SoftFilters",
    "Variant",
    "by_pattern",
    "densities",
    "gain_l1",
    "group_lasso",
    "growing_weights",
    "input_grams",
    "keep_best",
    "load_pruned",
    "macs_by_input",
    "masks_in_steps",
    "n_of_m",
    "obs_row",
    "prunable_weights",
    "prune",
    "read_spec",
    "recommend",
    "rounds_of_magnitude_pruning",
    "run_contrast",
    "score_weights",
    "sparsegpt",
    "sparsegpt_layers",
    "weighted_decay",
    "with_gates",
]
