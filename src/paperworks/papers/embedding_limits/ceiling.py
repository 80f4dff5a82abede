"""How many of the user's result sets an index of d dimensions can return: free embeddings fitted to his own qrels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from paperworks.errors import InputError
from paperworks.metrics import hits_at_k
from paperworks.papers.embedding_limits.construction import margins, returned_by_construction
from paperworks.papers.embedding_limits.qrels import ReducedQrels, as_qrels, reduce_qrels
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import replace_file

if TYPE_CHECKING:
    import pandas as pd

SCORE_BYTES = 64 << 20


@dataclass(frozen=True)
class Ceiling:
    """What fitted vectors of each dimension return of the result sets.

    Every figure was reached by vectors that exist, so an index of that dimension can do at least this. That more is
    impossible is not proved: local minima may stand in the way.

    Attributes
    ----------
    table : one row for each dimension: dimensions, sets returned (queries whose relevant documents are all strictly
        above all others), of all (%), recall@K (%), margin (half of the smallest gap, where all sets are returned), by
        construction (sets that the moment curve returns in float32 without any fit; its gaps are tiny).
    least : the fewest dimensions in which all sets were returned; None where none of the tried was enough.
    queries, documents : float32 unit vectors of the last fit in which most sets were returned, one row for each query
        and document.
    dimensions : of those vectors.
    """

    table: pd.DataFrame
    least: int | None
    queries: np.ndarray
    documents: np.ndarray
    dimensions: int


@dataclass
class _Vectors:
    d: int
    queries: np.ndarray
    documents: np.ndarray
    gaps: np.ndarray


def result_set_ceiling(
    qrels: Any,
    dims: Sequence[int] = (2, 4, 8, 16, 32, 64),
    *,
    ks: Sequence[int] = (),
    find_least: bool = True,
    state: Path | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> Ceiling:
    """Fit free embeddings of each dimension to a relevance matrix, and count the result sets that they return.

    Equal result sets, and documents of the same queries, are fitted once (``reduce_qrels``): the answer is the same.
    Once a dimension returns every set, larger ones do (with zeros), and are not fitted.

    Parameters
    ----------
    qrels : relevance matrix [queries, documents].
    dims : dimensions to try.
    ks : recall at these is reported too. Those above the number of documents are left out.
    find_least : also search between the last dimension that fails and the first that returns every set.
    state : folder in which finished fits are kept; what is in it is not fitted again.
    settings : of ``FreeEmbeddings`` (n_init, seed, device, ...).

    Raises
    ------
    InputError : a matrix that is no relevance matrix, or no dimensions.
    """
    import pandas as pd

    matrix = as_qrels(qrels)
    wanted = sorted({int(d) for d in dims})
    if not wanted or wanted[0] < 1:
        raise InputError("dims", list(dims), "one dimension or more, each 1 or more")
    small = reduce_qrels(matrix)
    tried: dict[int, _Vectors] = {}

    def returns_all(d: int) -> bool:
        if d not in tried:
            tried[d] = _fit(small, d, state, progress, settings)
        return bool((tried[d].gaps > 0).all())

    least = next((d for d in wanted if returns_all(d)), None)
    if least is not None and find_least:
        low = max((d for d in wanted if d < least), default=0)
        while least - low > 1:
            middle = (low + least) // 2
            low, least = (low, middle) if returns_all(middle) else (middle, least)
    kept = [k for k in dict.fromkeys(ks) if 1 <= k <= matrix.shape[1]]
    rows = []
    best = None
    for d in sorted({*wanted, *tried}):
        found = tried.get(d)
        if found is None:  # larger than one that returns everything
            assert least is not None
            found = tried[least]
        row = {"dimensions": d, **_row(found, small, matrix, kept)}
        row["by construction"] = int(returned_by_construction(small.matrix, d)[small.query_of].sum())
        rows.append(row)
        if best is None or row["sets returned"] > best[0]:
            best = (row["sets returned"], found)
    assert best is not None
    vectors = best[1]
    return Ceiling(
        pd.DataFrame(rows),
        least,
        vectors.queries[small.query_of],
        vectors.documents[small.document_of],
        vectors.d,
    )


def _row(found: _Vectors, small: ReducedQrels, matrix: sparse.csr_array, ks: list[int]) -> dict[str, Any]:
    returned = found.gaps[small.query_of] > 0
    row: dict[str, Any] = {
        "sets returned": int(returned.sum()),
        "of all (%)": 100 * float(returned.mean()),
    }
    row |= {f"recall@{k} (%)": value for k, value in _recall(found, small, matrix, ks).items()}
    least = float(found.gaps.min())
    row["margin"] = least / 2 if returned.all() and least < float("inf") else None
    return row


def _recall(found: _Vectors, small: ReducedQrels, matrix: sparse.csr_array, ks: list[int]) -> dict[int, float]:
    """Recall over all documents; of those in no result set, which share a vector, as many as could matter."""
    if not ks:
        return {}
    judged = np.bincount(matrix.indices, minlength=matrix.shape[1]) > 0
    others = np.flatnonzero(~judged)[: max(ks)]
    columns = np.concatenate([np.flatnonzero(judged), others])
    documents = found.documents[small.document_of[columns]]
    sizes = np.diff(matrix.indptr)
    totals = dict.fromkeys(ks, 0.0)
    step = max(1, SCORE_BYTES // (8 * len(columns)))
    for start in range(0, matrix.shape[0], step):
        relevant = matrix[start : start + step][:, columns].toarray()
        scores = found.queries[small.query_of[start : start + step]] @ documents.T
        for k in ks:
            hits = hits_at_k(scores, relevant, min(k, len(columns)))
            totals[k] += float((hits / sizes[start : start + step]).sum())
    return {k: 100 * total / matrix.shape[0] for k, total in totals.items()}


def _fit(small: ReducedQrels, d: int, state: Path | None, progress: Progress, settings: dict[str, Any]) -> _Vectors:
    from paperworks.papers.embedding_limits.free import FreeEmbeddings

    size = min(d, small.matrix.shape[1])  # one for each document returns every set; more could take all memory
    file = None if state is None else state / f"ceiling-{d}.npz"
    if file is not None and file.exists():
        with np.load(file) as stored:
            return _Vectors(size, stored["queries"], stored["documents"], stored["gaps"])
    fitted = FreeEmbeddings(size, **settings).fit(small.matrix, progress=progress)
    queries, documents = fitted.query_embeddings_, fitted.doc_embeddings_
    gaps = margins(queries, documents, small.matrix)
    if file is not None:
        with replace_file(file) as aside, aside.open("wb") as out:
            np.savez(out, queries=queries, documents=documents, gaps=gaps)
    return _Vectors(size, queries, documents, gaps)
