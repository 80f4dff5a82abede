"""Recall of any retriever, also with embeddings cut to their first dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.embedding import Encoder
from paperworks.errors import InputError
from paperworks.metrics import hits_at_k
from paperworks.papers.embedding_limits.datasets import RetrievalData
from paperworks.papers.embedding_limits.retrievers import (
    EmbeddingRetriever,
    Retriever,
    ScoreQueries,
    ScoreRetriever,
    products,
)
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    import pandas as pd

SCORE_BYTES = 64 << 20
"""Memory for the scores of queries that are ranked at a time."""
LARGE = 100
"""Above so many documents recall is at 2, 10 and 100, as the paper has it; else at 2, 10 and 20."""


@dataclass(frozen=True)
class Evaluation:
    """Recall of one retriever.

    Attributes
    ----------
    table : one row for each number of dimensions, the whole embedding first: system, dimensions, truncated (whether it
        was cut, and whether the model was trained for that), recall@K in percent.
    hits : one row for each query (its id), one column hits@K: relevant documents among the K best, fractions where
        documents tie at the K-th place; and a column relevant.
    """

    table: pd.DataFrame
    hits: pd.DataFrame

    def recall(self, k: int) -> float:
        """Recall at k in percent, of the whole embedding."""
        if f"recall@{k}" not in self.table:
            raise InputError("k", k, f"one of {', '.join(c for c in self.table if c.startswith('recall'))}")
        return float(self.table[f"recall@{k}"].iloc[0])


def evaluate(
    retriever: Retriever | Encoder | Callable[[list[str], list[str]], Any] | np.ndarray,
    data: RetrievalData,
    ks: Sequence[int] | None = None,
    truncate_dims: Sequence[int] = (),
    *,
    matryoshka: bool = False,
    progress: Progress = no_progress,
) -> Evaluation:
    """Recall at K: relevant documents among the K best over all relevant ones of a query, mean over queries.

    Parameters
    ----------
    retriever : see ``retrievers``; also an encoder (anything with ``encode``, such as a SentenceTransformer), a
        function from (queries, documents) to scores, or a score matrix.
    ks : numbers of documents looked at; by default 2, 10 and 100 (20 where there are at most 100 documents). Those
        above the number of documents are left out.
    truncate_dims : embeddings are cut to these first dimensions too, and divided by their norm. Larger ones than the
        embedding has are left out.
    matryoshka : the model was trained to be cut. Others lose recall for a second reason; the table says which.

    Raises
    ------
    InputError : k below 1 or none left, or dimensions for a retriever without one vector per text.
    """
    import pandas as pd

    n = data.qrels.shape[1]
    wanted = ks if ks is not None else (2, 10, 100 if n > LARGE else 20)
    if any(k < 1 for k in wanted):
        raise InputError("ks", min(wanted), "1 or more")
    kept = [int(k) for k in dict.fromkeys(wanted) if k <= n]
    if not kept:
        raise InputError("ks", list(wanted), f"one of at most {n}, the number of documents")
    if not isinstance(retriever, Retriever):
        retriever = EmbeddingRetriever(retriever) if isinstance(retriever, Encoder) else ScoreRetriever(retriever)
    forms: list[tuple[int | None, str, ScoreQueries]] = []
    if hasattr(retriever, "embed"):
        queries, documents = retriever.embed(data, progress)
        width = queries.shape[1]
        forms.append((width, "", products(queries, documents, retriever.similarity)))  # type: ignore[attr-defined]
        for d in sorted({int(d) for d in truncate_dims}, reverse=True):
            if d < 1:
                raise InputError("truncate_dims", d, "1 or more")
            if d < width:
                note = "trained for it" if matryoshka else "not trained for it"
                forms.append((d, note, products(queries[:, :d], documents[:, :d], "cosine")))
    elif truncate_dims:
        raise InputError("truncate_dims", list(truncate_dims), f"none: {retriever.name} has not one vector per text")
    else:
        forms.append((None, "", retriever.prepare(data, progress)))
    sizes = np.diff(data.qrels.indptr)
    rows: list[dict[str, Any]] = []
    first: dict[str, np.ndarray] = {}
    for dimensions, note, score in forms:
        hits = _hits(score, data, kept, progress, retriever.name)
        rows.append({"system": retriever.name, "dimensions": dimensions, "truncated": note})
        rows[-1] |= {f"recall@{k}": 100 * float((hits[k] / sizes).mean()) for k in kept}
        first = first or {f"hits@{k}": hits[k] for k in kept}
    table = pd.DataFrame(rows).astype({"dimensions": "Int64"})
    return Evaluation(table, pd.DataFrame({**first, "relevant": sizes}, index=pd.Index(data.query_ids, name="query")))


def _hits(
    score: ScoreQueries, data: RetrievalData, ks: list[int], progress: Progress, name: str
) -> dict[int, np.ndarray]:
    m, n = data.qrels.shape
    step = max(1, min(256, SCORE_BYTES // (8 * n)))
    found = {k: np.empty(m) for k in ks}
    starts = range(0, m, step)
    for start in progress(starts, f"ranking by {name}", len(starts)):
        rows = np.arange(start, min(start + step, m))
        scores, relevant = score(rows), data.qrels[rows].toarray()
        for k in ks:
            found[k][rows] = hits_at_k(scores, relevant, k)
    return found
