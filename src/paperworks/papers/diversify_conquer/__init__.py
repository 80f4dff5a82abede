"""Diversify and Conquer: a budget shared by clusters, quality inside them, and feedback (arXiv 2409.11378)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.diversify_conquer.allocation import allocate_budget, round_sizes
    from paperworks.papers.diversify_conquer.coverage import near_duplicates, nearest_distances
    from paperworks.papers.diversify_conquer.iterative import IterativeSelector
    from paperworks.papers.diversify_conquer.methods import METHODS, select
    from paperworks.papers.diversify_conquer.pool import ChunkedEncoder, Pool, chunked_encoder, row_text
    from paperworks.papers.diversify_conquer.scorers import (
        CallableScorer,
        CommandScorer,
        DeitaScorer,
        PerplexityScorer,
        RewardModelScorer,
        Scorer,
        feedback_scores,
    )
    from paperworks.papers.diversify_conquer.selector import KMeansSelector
    from paperworks.papers.diversify_conquer.silhouette import choose_n_clusters, sampled_silhouette
    from paperworks.papers.diversify_conquer.state import IterationState
    from paperworks.papers.diversify_conquer.trainers import CommandTrainer, LanguageModelTrainer, Trainer
    from paperworks.papers.diversify_conquer.weights import InertFeedbackWarning, update_weights
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "METHODS",
    "CallableScorer",
    "ChunkedEncoder",
    "CommandScorer",
    "CommandTrainer",
    "DeitaScorer",
    "InertFeedbackWarning",
    "IterationState",
    "IterativeSelector",
    "KMeansSelector",
    "LanguageModelTrainer",
    "PerplexityScorer",
    "Pool",
    "RewardModelScorer",
    "Scorer",
    "Trainer",
    "allocate_budget",
    "choose_n_clusters",
    "chunked_encoder",
    "feedback_scores",
    "near_duplicates",
    "nearest_distances",
    "round_sizes",
    "row_text",
    "sampled_silhouette",
    "select",
    "update_weights",
]
