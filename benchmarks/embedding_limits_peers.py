"""Recall and files of the embedding-limits paper beside beir and mteb, on the same LIMIT-style data.

    pip install --target peers --no-deps beir pytrec-eval-terrier mteb     # once, outside the project's environment
    PYTHONPATH=peers python benchmarks/embedding_limits_peers.py

The folder that ``save_beir`` wrote is read by beir's own loader; recall at K of BM25 and of MiniLM's vectors is
computed by beir (which is pytrec_eval) and by mteb's evaluator where they are installed, from the same scores. They
order scores that tie in one way, and ours are averaged over the ways: ties are broken before, so that all must agree.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from paperworks.papers.embedding_limits import (
    BM25,
    EmbeddingRetriever,
    RetrievalData,
    Retriever,
    bundled_words,
    evaluate,
    make_limit,
    make_qrels,
)

KS = (2, 10, 20)
Recall = Callable[[dict[str, dict[str, int]], dict[str, dict[str, float]]], dict[int, float]]


def by_beir(qrels: dict[str, dict[str, int]], results: dict[str, dict[str, float]]) -> dict[int, float]:
    """Recall by beir's EvaluateRetrieval, in percent."""
    from beir.retrieval.evaluation import EvaluateRetrieval

    _, _, recall, _ = EvaluateRetrieval.evaluate(qrels, results, list(KS))
    return {k: 100 * recall[f"Recall@{k}"] for k in KS}


def by_mteb(qrels: dict[str, dict[str, int]], results: dict[str, dict[str, float]]) -> dict[int, float]:
    """Recall by mteb's retrieval metrics, in percent."""
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    recall = calculate_retrieval_scores(results, qrels, list(KS)).recall
    return {k: 100 * recall[f"Recall@{k}"] for k in KS}


def scores_of(retriever: Retriever, data: RetrievalData) -> np.ndarray:
    """Scores [queries, documents] with ties broken by the order of the documents."""
    scores = retriever.prepare(data)(np.arange(data.qrels.shape[0])).astype(np.float64)
    return scores - np.arange(scores.shape[1]) * 1e-9


def main() -> None:
    data = make_limit(*bundled_words(), make_qrels("dense", 46, 1000, 2))
    relevant = data.qrels.toarray()
    qrels = {
        q: {data.document_ids[j]: 1 for j in np.flatnonzero(row)}
        for q, row in zip(data.query_ids, relevant, strict=True)
    }
    with tempfile.TemporaryDirectory() as folder:
        path = data.save_beir(Path(folder) / "limit")
        try:
            from beir.datasets.data_loader import GenericDataLoader

            corpus, queries, found = GenericDataLoader(str(path)).load(split="test")
            same = found == qrels and [c["text"] for c in corpus.values()] == list(data.documents or ())
            print(f"beir reads the folder: {len(corpus)} documents, {len(queries)} queries, equal to ours: {same}")
        except ImportError:
            print("beir is not installed")
    peers: dict[str, Recall] = {"beir": by_beir, "mteb": by_mteb}
    for retriever in (BM25(), EmbeddingRetriever()):
        scores = scores_of(retriever, data)
        ours = evaluate(scores, data, KS)
        results = {
            q: dict(zip(data.document_ids, row.tolist(), strict=True))
            for q, row in zip(data.query_ids, scores, strict=True)
        }
        for name, recall in peers.items():
            try:
                theirs = recall(qrels, results)
            except ImportError as error:
                print(f"{name} is not installed ({error})")
                continue
            print(
                f"{retriever.name:18} recall at {KS}: ours {', '.join(f'{ours.recall(k):.3f}' for k in KS)}; "
                f"{name} {', '.join(f'{theirs[k]:.3f}' for k in KS)}; "
                f"largest difference {max(abs(ours.recall(k) - theirs[k]) for k in KS):.1e}"
            )


if __name__ == "__main__":
    main()
