"""Loki: predict labels that a classifier has never seen, from its probabilities and a distance between the labels
(arXiv 2307.12226)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.loki.classifier import LokiClassifier, calibrate
    from paperworks.papers.loki.evaluation import Score, best_constant, evaluate
    from paperworks.papers.loki.files import load_space, save_space
    from paperworks.papers.loki.frechet import FrechetMean, keep_top, loki_predict
    from paperworks.papers.loki.graphs import GraphSpace, TreeSpace, from_edges, ordinal, random_tree
    from paperworks.papers.loki.head import LokiHead, LokiModel, loki_loss, surrogate_loss
    from paperworks.papers.loki.hierarchies import from_text_encoder, from_wordnet
    from paperworks.papers.loki.loci import is_locus_cover, locus, membership, minimum_cover
    from paperworks.papers.loki.selection import next_class, plan, random_observed
    from paperworks.papers.loki.spaces import EmbeddingSpace, GridSpace, LabelSpace, MatrixSpace, complete, cycle
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "EmbeddingSpace",
    "FrechetMean",
    "GraphSpace",
    "GridSpace",
    "LabelSpace",
    "LokiClassifier",
    "LokiHead",
    "LokiModel",
    "MatrixSpace",
    "Score",
    "TreeSpace",
    "best_constant",
    "calibrate",
    "complete",
    "cycle",
    "evaluate",
    "from_edges",
    "from_text_encoder",
    "from_wordnet",
    "is_locus_cover",
    "keep_top",
    "load_space",
    "locus",
    "loki_loss",
    "loki_predict",
    "membership",
    "minimum_cover",
    "next_class",
    "ordinal",
    "plan",
    "random_observed",
    "random_tree",
    "save_space",
    "surrogate_loss",
]
