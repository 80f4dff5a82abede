"""Graph metanetworks: a network that edits trained networks so that pruning them costs less (arXiv 2506.12041)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.meta_pruning.controls import random_edit, sparse_fine_tune
    from paperworks.papers.meta_pruning.criterion import (
        group_importance,
        group_l2_scores,
        magnitude_masks,
        n_of_m_masks,
        pull,
        sparsity_gradient,
    )
    from paperworks.papers.meta_pruning.graph import Layout, NetGraph, make_layout
    from paperworks.papers.meta_pruning.meta_training import MetaSettings, Target, meta_train
    from paperworks.papers.meta_pruning.metanetwork import GraphMetaNetwork, aggregate
    from paperworks.papers.meta_pruning.planning import speed_plans
    from paperworks.papers.meta_pruning.pruner import MetaPruner, PrunedNetwork
    from paperworks.papers.meta_pruning.targets import (
        accuracy,
        accuracy_curve,
        fine_tune,
        train_targets,
    )
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "GraphMetaNetwork",
    "Layout",
    "MetaPruner",
    "MetaSettings",
    "NetGraph",
    "PrunedNetwork",
    "Target",
    "accuracy",
    "accuracy_curve",
    "aggregate",
    "fine_tune",
    "group_importance",
    "group_l2_scores",
    "magnitude_masks",
    "make_layout",
    "meta_train",
    "n_of_m_masks",
    "pull",
    "random_edit",
    "sparse_fine_tune",
    "sparsity_gradient",
    "speed_plans",
    "train_targets",
]
