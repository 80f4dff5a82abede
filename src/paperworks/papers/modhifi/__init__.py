"""ModHiFi: parts of high fidelity, to prune a network or to make it forget a class (arXiv 2511.19566)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.modhifi.analyzer import FidelityAnalyzer, FidelityReport
    from paperworks.papers.modhifi.fidelity import (
        hifi_set,
        optimal_scales,
        reconstruction_error,
        singleton_fidelity,
        subset_fidelity,
    )
    from paperworks.papers.modhifi.pruner import ModHiFiPruner, PruneReport
    from paperworks.papers.modhifi.synthetic import SyntheticImages, frechet_distance
    from paperworks.papers.modhifi.unlearner import ClassUnlearner, UnlearnReport
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "ClassUnlearner",
    "FidelityAnalyzer",
    "FidelityReport",
    "ModHiFiPruner",
    "PruneReport",
    "SyntheticImages",
    "UnlearnReport",
    "frechet_distance",
    "hifi_set",
    "optimal_scales",
    "reconstruction_error",
    "singleton_fidelity",
    "subset_fidelity",
]
