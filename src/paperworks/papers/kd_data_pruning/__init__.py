"""Data pruning with distillation: keep a part of a training set, and train on it with a teacher (arXiv 2403.07854)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.kd_data_pruning.pruner import DataPruner
    from paperworks.papers.kd_data_pruning.scoring import METHODS, ExampleScores, Method
    from paperworks.papers.kd_data_pruning.selection import coverage_centric, keep_best, rank
    from paperworks.papers.kd_data_pruning.students import choose_alpha, distillation_weight, train_student
    from paperworks.papers.kd_data_pruning.sweeps import recommend, sweep
    from paperworks.papers.kd_data_pruning.theory import expected_ridge_error, isotropic_error, ridge_student
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "METHODS",
    "DataPruner",
    "ExampleScores",
    "Method",
    "choose_alpha",
    "coverage_centric",
    "distillation_weight",
    "expected_ridge_error",
    "isotropic_error",
    "keep_best",
    "rank",
    "recommend",
    "ridge_student",
    "sweep",
    "train_student",
]
