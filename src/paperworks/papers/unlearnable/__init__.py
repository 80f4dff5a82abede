"""Unlearnable examples by Bayes error optimisation: images that models learn badly from (arXiv 2511.08191)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.unlearnable.baselines import adversarial_poison, error_minimizing_noise, random_noise
    from paperworks.papers.unlearnable.budgets import project, quantise, visibility
    from paperworks.papers.unlearnable.countermeasures import (
        AdversarialTraining,
        grey,
        jpeg,
        orthogonal_projection,
        reduce_bits,
    )
    from paperworks.papers.unlearnable.discrete import bayes_error, classifier_error, mixture, pushed
    from paperworks.papers.unlearnable.estimator import BayesErrorEstimator
    from paperworks.papers.unlearnable.evaluation import MixedDataset, evaluate_protection, train_on, transfer
    from paperworks.papers.unlearnable.protector import BEOProtector
    from paperworks.papers.unlearnable.surrogates import SurrogateTraining, default_surrogate
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "AdversarialTraining",
    "BEOProtector",
    "BayesErrorEstimator",
    "MixedDataset",
    "SurrogateTraining",
    "adversarial_poison",
    "bayes_error",
    "classifier_error",
    "default_surrogate",
    "error_minimizing_noise",
    "evaluate_protection",
    "grey",
    "jpeg",
    "mixture",
    "orthogonal_projection",
    "project",
    "pushed",
    "quantise",
    "random_noise",
    "reduce_bits",
    "train_on",
    "transfer",
    "visibility",
]
