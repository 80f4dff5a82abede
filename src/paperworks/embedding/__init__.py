"""Text encoders and hybrid search."""

from paperworks.embedding.search import HybridIndex, reciprocal_rank_fusion
from paperworks.embedding.text import sentence_encoder

__all__ = ["HybridIndex", "reciprocal_rank_fusion", "sentence_encoder"]
