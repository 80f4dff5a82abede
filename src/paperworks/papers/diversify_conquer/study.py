"""The paper's claims, measured again where the truth is known: digits and word glosses with noisy clusters, and a
language model of 5.7 million parameters.

WizardLM, Alpaca, Llama and their benchmarks are out of reach here. In their place stand pools in which some clusters
are bad by construction, so that what a selector should do is known.
"""

from __future__ import annotations

from paperworks.papers.diversify_conquer.studies.exact import budgets
from paperworks.papers.diversify_conquer.studies.geometry import coverage, number_of_clusters
from paperworks.papers.diversify_conquer.studies.language import language_model
from paperworks.papers.diversify_conquer.studies.noisy import noisy_clusters

__all__ = ["budgets", "coverage", "language_model", "noisy_clusters", "number_of_clusters"]
