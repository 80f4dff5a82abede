"""In-context learning of Boolean functions: tasks, models, optimal learners, language models (arXiv 2310.03016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.icl_discrete.bayes import ExactBayes
    from paperworks.papers.icl_discrete.bundle import bundled_model_path
    from paperworks.papers.icl_discrete.classifier import InContextClassifier
    from paperworks.papers.icl_discrete.curves import curve, evaluate
    from paperworks.papers.icl_discrete.endpoint import Endpoint
    from paperworks.papers.icl_discrete.fitting import TrainOptions, fit
    from paperworks.papers.icl_discrete.functions import BooleanFunction
    from paperworks.papers.icl_discrete.heads import head_scores
    from paperworks.papers.icl_discrete.language_models import CallableModel, LocalModel, evaluate_llm
    from paperworks.papers.icl_discrete.learners import (
        Averaging,
        Elimination,
        LeastSquares,
        LinearProgram,
        MultilayerPerceptron,
        Neighbours,
        Null,
        ParityElimination,
        Perceptron,
        SparseParityEnumeration,
        reference_learners,
    )
    from paperworks.papers.icl_discrete.modeling import (
        InContextConfig,
        InContextModel,
        from_language_model,
        load_in_context_model,
        new_model,
    )
    from paperworks.papers.icl_discrete.networks import ARCHITECTURES
    from paperworks.papers.icl_discrete.tasks import TASKS, BooleanTask, MixedTask, Prompts
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "ARCHITECTURES",
    "TASKS",
    "Averaging",
    "BooleanFunction",
    "BooleanTask",
    "CallableModel",
    "Elimination",
    "Endpoint",
    "ExactBayes",
    "InContextClassifier",
    "InContextConfig",
    "InContextModel",
    "LeastSquares",
    "LinearProgram",
    "LocalModel",
    "MixedTask",
    "MultilayerPerceptron",
    "Neighbours",
    "Null",
    "ParityElimination",
    "Perceptron",
    "Prompts",
    "SparseParityEnumeration",
    "TrainOptions",
    "bundled_model_path",
    "curve",
    "evaluate",
    "evaluate_llm",
    "fit",
    "from_language_model",
    "head_scores",
    "load_in_context_model",
    "new_model",
    "reference_learners",
]
