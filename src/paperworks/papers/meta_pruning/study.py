"""The claims, measured again: exact ones on small networks of every kind, the rest on handwritten digits (8 x 8)."""

from __future__ import annotations

from paperworks.papers.meta_pruning.studies.convolutions import convolutions
from paperworks.papers.meta_pruning.studies.digits import digits
from paperworks.papers.meta_pruning.studies.graphs import graphs

__all__ = ["convolutions", "digits", "graphs"]
