"""The paper's claims, measured with models of 0.2 million parameters on 8 to 10 bits."""

from __future__ import annotations

from paperworks.papers.icl_discrete.studies.classes import parity, simple_classes, thresholds
from paperworks.papers.icl_discrete.studies.exact import optimal_learners, teaching_sequences
from paperworks.papers.icl_discrete.studies.models import frozen_language_model, robustness, teaching, without_attention

__all__ = [
    "frozen_language_model",
    "optimal_learners",
    "parity",
    "robustness",
    "simple_classes",
    "teaching",
    "teaching_sequences",
    "thresholds",
    "without_attention",
]
