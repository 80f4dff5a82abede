"""The paper's claims, measured again on random models of several families and on the bundled language model."""

from paperworks.papers.adapt_pruner.studies.allocation import allocation
from paperworks.papers.adapt_pruner.studies.exact import exact_properties
from paperworks.papers.adapt_pruner.studies.interleaving import interleaving, pretraining

__all__ = ["allocation", "exact_properties", "interleaving", "pretraining"]
