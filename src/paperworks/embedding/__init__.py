"""Text encoders, nearest vectors, BM25 and hybrid search.

text.py      the bundled sentence encoder
eight_bit.py products for queries that need not be exact
search.py    hybrid search over a list of texts, and rank fusion
postings.py  BM25 over an inverted index in memory
vectors.py   nearest vectors
"""

from paperworks.embedding.search import HybridIndex, reciprocal_rank_fusion
from paperworks.embedding.text import sentence_encoder

__all__ = ["HybridIndex", "reciprocal_rank_fusion", "sentence_encoder"]
