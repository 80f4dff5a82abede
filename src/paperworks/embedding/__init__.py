"""Encoders of text and images, nearest neighbours, clusters, subset selection, and search.

encoders.py   the protocol ``Encoder``, what makes one, and encoding into a file
text_encoders.py   text encoders from folders of sentence-transformers or transformers
image_encoders.py  image encoders from folders of transformers, and any module
text.py       the bundled sentence encoder
contrastive.py   contrastive losses in bounded memory, gradient caching
dual_encoder.py  two towers trained on pairs
eight_bit.py  products for queries that need not be exact
kmeans.py     k-means with bounded memory
shards.py     sets of many files, encoded and assigned in parts, here or on a Ray cluster
parts.py      ranges of JSON lines, Parquet and .npy files
sharded_rows.py  vectors in several files as rows of one array
selection.py  k-center, herding, facility location, best score first
neighbors.py  nearest neighbours, exact and approximate
search.py     hybrid search over a list of texts, and rank fusion
postings.py   BM25 over an inverted index in memory
vectors.py    nearest vectors of an index that changes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.embedding.contrastive import (
        LearnableTemperature,
        cached_backward,
        clip_loss,
        gather_features,
        info_nce,
        nt_xent,
        similarity_logsumexp,
        supervised_contrastive_loss,
    )
    from paperworks.embedding.dual_encoder import DualEncoder, dual_encoder_loss
    from paperworks.embedding.encoders import (
        CallableEncoder,
        Encoder,
        TruncationWarning,
        encode_to_file,
        load_image_encoder,
        load_text_encoder,
    )
    from paperworks.embedding.image_encoders import ImageEncoder, ModuleEncoder
    from paperworks.embedding.kmeans import KMeans
    from paperworks.embedding.neighbors import NearestNeighbors
    from paperworks.embedding.search import HybridIndex, reciprocal_rank_fusion
    from paperworks.embedding.selection import (
        coverage_radius,
        facility_location,
        herding,
        k_center_greedy,
        score_first,
    )
    from paperworks.embedding.sharded_rows import ShardedRows
    from paperworks.embedding.shards import assign_shards, encode_shards
    from paperworks.embedding.text import SentenceEncoder, sentence_encoder
    from paperworks.embedding.text_encoders import TextEncoder
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "CallableEncoder",
    "DualEncoder",
    "Encoder",
    "HybridIndex",
    "ImageEncoder",
    "KMeans",
    "LearnableTemperature",
    "ModuleEncoder",
    "NearestNeighbors",
    "SentenceEncoder",
    "ShardedRows",
    "TextEncoder",
    "TruncationWarning",
    "assign_shards",
    "cached_backward",
    "clip_loss",
    "coverage_radius",
    "dual_encoder_loss",
    "encode_shards",
    "encode_to_file",
    "facility_location",
    "gather_features",
    "herding",
    "info_nce",
    "k_center_greedy",
    "load_image_encoder",
    "load_text_encoder",
    "nt_xent",
    "reciprocal_rank_fusion",
    "score_first",
    "sentence_encoder",
    "similarity_logsumexp",
    "supervised_contrastive_loss",
]
