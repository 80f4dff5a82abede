"""The claims, measured again: bounds and constructions exactly, critical n by fits, LIMIT with words of WordNet.

The paper's encoders have up to 7 billion weights and its corpus 50,000 documents. Here the encoder is all-MiniLM-L6-v2,
and sets have 46 to 1000 documents.
"""

from __future__ import annotations

from paperworks.papers.embedding_limits.studies.exact import beir, bounds, construction, curve, density, ranks
from paperworks.papers.embedding_limits.studies.fits import critical, twelve
from paperworks.papers.embedding_limits.studies.texts import limit, patterns, synonyms, truncation, tuned

__all__ = [
    "beir",
    "bounds",
    "construction",
    "critical",
    "curve",
    "density",
    "limit",
    "patterns",
    "ranks",
    "synonyms",
    "truncation",
    "tuned",
    "twelve",
]
