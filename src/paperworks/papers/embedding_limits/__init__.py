"""On the limits of embedding-based retrieval: what an index of d dimensions can return, proved, fitted and measured
(arXiv 2508.21038)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.embedding_limits.bounds import (
        forster_bound,
        forster_bound_qrels,
        margin_bound,
        margin_bound_sets,
        subsets_bound,
    )
    from paperworks.papers.embedding_limits.capacity import CapacityReport, capacity_report
    from paperworks.papers.embedding_limits.ceiling import Ceiling, result_set_ceiling
    from paperworks.papers.embedding_limits.construction import (
        Construction,
        exact_margin,
        margins,
        moment_curve_embeddings,
    )
    from paperworks.papers.embedding_limits.critical import CriticalN, Curve, critical_n, fit_curve, paper_curve
    from paperworks.papers.embedding_limits.datasets import RetrievalData, make_limit, with_synonyms
    from paperworks.papers.embedding_limits.evaluation import Evaluation, evaluate
    from paperworks.papers.embedding_limits.files import load_beir, load_data, read_qrels, read_words
    from paperworks.papers.embedding_limits.free import FreeEmbeddings
    from paperworks.papers.embedding_limits.qrels import (
        QrelStats,
        all_subsets,
        as_qrels,
        make_qrels,
        qrel_stats,
        reduce_qrels,
    )
    from paperworks.papers.embedding_limits.ranks import SmallRanks, order_rank, sign_rank, small_ranks
    from paperworks.papers.embedding_limits.retrievers import (
        BM25,
        EmbeddingRetriever,
        ItemMatch,
        Retriever,
        ScoreRetriever,
        TokenRetriever,
        VectorRetriever,
    )
    from paperworks.papers.embedding_limits.wordlists import WordLists, bundled_words, synonyms_from_wordnet
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "BM25",
    "CapacityReport",
    "Ceiling",
    "Construction",
    "CriticalN",
    "Curve",
    "EmbeddingRetriever",
    "Evaluation",
    "FreeEmbeddings",
    "ItemMatch",
    "QrelStats",
    "RetrievalData",
    "Retriever",
    "ScoreRetriever",
    "SmallRanks",
    "TokenRetriever",
    "VectorRetriever",
    "WordLists",
    "all_subsets",
    "as_qrels",
    "bundled_words",
    "capacity_report",
    "critical_n",
    "evaluate",
    "exact_margin",
    "fit_curve",
    "forster_bound",
    "forster_bound_qrels",
    "load_beir",
    "load_data",
    "make_limit",
    "make_qrels",
    "margin_bound",
    "margin_bound_sets",
    "margins",
    "moment_curve_embeddings",
    "order_rank",
    "paper_curve",
    "qrel_stats",
    "read_qrels",
    "read_words",
    "reduce_qrels",
    "result_set_ceiling",
    "sign_rank",
    "small_ranks",
    "subsets_bound",
    "synonyms_from_wordnet",
    "with_synonyms",
]
