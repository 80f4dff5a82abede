"""LIMIT with words of WordNet: an encoder, its tokens, and word search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from paperworks import inputs, runs
from paperworks.inputs.wordnet import WordNet
from paperworks.metrics import Interval, bootstrap_interval, mean_interval
from paperworks.papers.embedding_limits.datasets import RetrievalData, make_limit, with_synonyms
from paperworks.papers.embedding_limits.evaluation import Evaluation, evaluate
from paperworks.papers.embedding_limits.qrels import PATTERNS, make_qrels
from paperworks.papers.embedding_limits.retrievers import (
    BM25,
    EmbeddingRetriever,
    ItemMatch,
    TokenRetriever,
    VectorRetriever,
)
from paperworks.papers.embedding_limits.wordlists import bundled_words, synonyms_from_wordnet
from paperworks.runs import Finding

DIMS = (32, 64, 128, 256)
SLACK = 2.0
"""Points by which a truncation curve may fall."""


def _data(n_docs: int, n_queries: int, pattern: Any = "dense", seed: int = 42, min_items: int = 45) -> RetrievalData:
    return make_limit(*bundled_words(), make_qrels(pattern, n_docs, n_queries, 2, seed), min_items=min_items, seed=seed)


def _points(found: Evaluation, k: int) -> np.ndarray:
    """Recall at k of each query, in points."""
    return 100 * found.hits[f"hits@{k}"].to_numpy() / found.hits["relevant"].to_numpy()


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _over_queries(values: np.ndarray) -> Interval:
    return bootstrap_interval(_mean, values)


@runs.study(
    claims=[
        "single-vector-models-fail",
        "lexical-search-nearly-solves-it",
        "multi-vector-between",
        "fewer-dimensions-lower-recall",
    ],
    title="LIMIT of 46 and 1000 documents",
    minutes=4,
)
def limit(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """MiniLM with all and with fewer dimensions, its tokens (46 documents), BM25, whole items."""
    sizes = (46, 200) if fast else (46, 1000)
    encoder = EmbeddingRetriever()
    dense, words = {}, {}
    for n in sizes:
        data = _data(n, 300 if fast else 1000)
        dense[n] = evaluate(encoder, data, (2, 10, 20), DIMS, progress=run.progress)
        words[n] = evaluate(BM25(), data, (2, 10, 20), progress=run.progress)
        items = evaluate(ItemMatch(), data, (2,), progress=run.progress)
        figures = f"recall at 2 / 10 / 20: MiniLM {_recalls(dense[n])}; BM25 {_recalls(words[n])}"
        yield Finding(
            "lexical-search-nearly-solves-it",
            f"{n} documents: recall at 2 of BM25 in percent.",
            "empirical",
            words[n].recall(2),
            ">=",
            90.0,
            unit="%",
            deterministic="fixed texts, an exact ranking",
            detail=figures,
        )
        yield Finding(
            "lexical-search-nearly-solves-it",
            f"{n} documents: recall at 2 of TF-IDF over whole items in percent.",
            "exact",
            items.recall(2),
            "==",
            100.0,
            tolerance=1e-9,
            unit="%",
        )
        yield Finding(
            "single-vector-models-fail",
            f"{n} documents: recall at 2, BM25 less MiniLM (384 dimensions), in points.",
            "empirical",
            _over_queries(_points(words[n], 2) - _points(dense[n], 2)),
            ">=",
            40.0,
            baseline=words[n].recall(2),
            baseline_name="BM25",
            unit="points",
            detail=figures,
        )
        curve = dense[n].table.sort_values("dimensions")
        for k in (2, 10, 20):
            values = curve[f"recall@{k}"].to_numpy()
            yield Finding(
                "fewer-dimensions-lower-recall",
                f"{n} documents: recall at {k} of MiniLM from 32 to 384 dimensions: smallest step (it may fall by "
                "2 points).",
                "empirical",
                float(np.diff(values).min()),
                ">=",
                -SLACK,
                unit="points",
                detail=", ".join(f"{d}: {v:.1f}" for d, v in zip(curve["dimensions"], values, strict=True))
                + ". MiniLM was not trained to be cut, which lowers recall for a second reason.",
                deterministic="one data set and one encoder",
            )
    few, many = sizes
    half = _points(dense[few], 10) / 2 - _points(dense[many], 10)
    yield Finding(
        "single-vector-models-fail",
        f"Recall at 10 of MiniLM: half of that on {few} documents less that on {many}, in points.",
        "empirical",
        _over_queries(half),
        ">",
        0.0,
        baseline=dense[few].recall(10) / 2,
        baseline_name=f"half of recall at 10 on {few} documents",
        unit="points",
    )
    tokens = evaluate(TokenRetriever(), _data(46, 300 if fast else 1000), (2, 10, 20), progress=run.progress)
    for name, better, worse in (
        ("MaxSim of MiniLM's tokens less MiniLM", tokens, dense[46]),
        ("BM25 less MaxSim of MiniLM's tokens", words[46], tokens),
    ):
        yield Finding(
            "multi-vector-between",
            f"46 documents: recall at 2, {name}, in points.",
            "empirical",
            _over_queries(_points(better, 2) - _points(worse, 2)),
            ">",
            0.0,
            baseline=worse.recall(2),
            baseline_name=name.split(" less ")[1],
            unit="points",
            detail=f"recall at 2 / 10 / 20: tokens {_recalls(tokens)}. They were not trained for MaxSim; the "
            "paper's model was.",
        )


@runs.study(claims=["fewer-dimensions-lower-recall"], title="32 of 384 dimensions, query by query", minutes=0.7)
def truncation(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Recall of the same vectors of MiniLM, whole and cut to 32 dimensions, over the same queries."""
    encoder = EmbeddingRetriever()
    for n in (46,) if fast else (46, 200):
        data = _data(n, 300 if fast else 1000)
        queries, documents = _kept(run, encoder, data, f"cut-{n}")
        whole = evaluate(VectorRetriever(queries, documents), data, (2, 10, 20))
        cut = evaluate(VectorRetriever(queries[:, : DIMS[0]], documents[:, : DIMS[0]]), data, (2, 10, 20))
        for k in (2, 10, 20):
            yield Finding(
                "fewer-dimensions-lower-recall",
                f"{n} documents: recall at {k} of MiniLM, 384 less {DIMS[0]} dimensions, in points.",
                "empirical",
                _over_queries(_points(whole, k) - _points(cut, k)),
                ">",
                0.0,
                baseline=cut.recall(k),
                baseline_name=f"{DIMS[0]} dimensions",
                unit="points",
                detail=f"recall at 2 / 10 / 20: 384 dimensions {_recalls(whole)}; {DIMS[0]} {_recalls(cut)}. MiniLM "
                "was not trained to be cut, which lowers recall for a second reason.",
            )


def _recalls(found: Evaluation) -> str:
    return " / ".join(f"{found.recall(k):.1f}" for k in (2, 10, 20))


@runs.study(claims=["dense-pattern-hardest"], title="the four patterns", minutes=5)
def patterns(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """200 queries, 400 documents of 20 items (which the dense pattern fills by itself), three seeds."""
    n, m, items = (120, 45, 9) if fast else (400, 200, 20)
    k = n // 6
    encoder = EmbeddingRetriever()
    recall: dict[str, list[float]] = {p: [] for p in PATTERNS}
    words: dict[str, list[float]] = {p: [] for p in PATTERNS}
    for seed in range(2 if fast else 3):
        for pattern in PATTERNS:
            data = _data(n, m, pattern, seed, items)
            vectors = VectorRetriever(*_kept(run, encoder, data, f"{pattern}-{seed}"))
            recall[pattern].append(evaluate(vectors, data, (k,)).recall(k))
            words[pattern].append(evaluate(BM25(), data, (k,)).recall(k))
    detail = f"recall at {k} by seed: " + "; ".join(
        f"{p}: {', '.join(f'{v:.1f}' for v in recall[p])} (BM25 {np.mean(words[p]):.1f})" for p in PATTERNS
    )
    for pattern in ("random", "cycle", "disjoint"):
        yield Finding(
            "dense-pattern-hardest",
            f"Recall at {k} of {n} documents, MiniLM: {pattern} less dense, in points.",
            "empirical",
            mean_interval(np.array(recall[pattern]) - np.array(recall["dense"])),
            ">",
            0.0,
            baseline=float(np.mean(recall["dense"])),
            baseline_name="dense",
            unit="points",
            detail=detail,
        )
    spread = np.ptp([words[pattern] for pattern in PATTERNS], axis=0)
    yield Finding(
        "dense-pattern-hardest",
        f"Recall at {k}, BM25: largest less smallest of the four patterns, in points.",
        "empirical",
        mean_interval(spread),
        "<=",
        2.0,
        unit="points",
        detail=detail,
    )


def _kept(run: runs.Run, encoder: EmbeddingRetriever, data: RetrievalData, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors, from an earlier attempt where there was one."""
    file = run.state / f"{name}.npz"
    if not file.exists():
        queries, documents = encoder.embed(data, run.progress)
        np.savez(file, queries=queries, documents=documents)
    with np.load(file) as stored:
        return stored["queries"], stored["documents"]


@runs.study(claims=["synonyms-remove-the-lexical-advantage"], title="documents with synonyms", minutes=0.5)
def synonyms(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Items of the documents replaced by other words of WordNet: BM25 and MiniLM before and after."""
    plain = _data(46, 300 if fast else 1000)
    assert plain.items is not None
    used = tuple(sorted({item for some in plain.items for item in some}))
    changed = with_synonyms(plain, synonyms_from_wordnet(used, WordNet(inputs.get("wordnet"))))
    encoder = EmbeddingRetriever()
    before, after = (evaluate(BM25(), d, (2, 10, 20)) for d in (plain, changed))
    dense, dense_after = (evaluate(encoder, d, (2, 10, 20), progress=run.progress) for d in (plain, changed))
    detail = (
        f"recall at 2 / 10 / 20: BM25 {_recalls(before)}, then {_recalls(after)}; MiniLM {_recalls(dense)}, then "
        f"{_recalls(dense_after)}. Chance at 2 is {200 / 46:.1f}."
    )
    yield Finding(
        "synonyms-remove-the-lexical-advantage",
        "46 documents: recall at 2 of BM25, plain less synonyms, in points.",
        "empirical",
        _over_queries(_points(before, 2) - _points(after, 2)),
        ">=",
        50.0,
        baseline=before.recall(2),
        baseline_name="BM25 on the plain version",
        unit="points",
        detail=detail,
    )
    yield Finding(
        "synonyms-remove-the-lexical-advantage",
        f"Synonyms: recall at 2, BM25 less MiniLM, in points (plain: {before.recall(2) - dense.recall(2):.1f}).",
        "empirical",
        _over_queries(_points(after, 2) - _points(dense_after, 2)),
        "<",
        10.0,
        baseline=dense_after.recall(2),
        baseline_name="MiniLM",
        unit="points",
        detail=detail,
    )


@runs.study(claims=["not-a-domain-shift"], title="a linear layer tuned on train or on test questions", minutes=0.7)
def tuned(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """A linear layer over MiniLM's frozen vectors, trained on other items or on the test questions themselves."""
    words = bundled_words()
    order = run.rng("split").permutation(len(words.items))
    halves = [[words.items[i] for i in order[:950]], [words.items[i] for i in order[950:]]]
    qrels = make_qrels("dense", 30, 435, 2)
    encoder = EmbeddingRetriever()
    test, train = (
        make_limit(half, words.first_names, words.last_names, qrels, seed=7 + s) for s, half in enumerate(halves)
    )
    vectors = {id(d): encoder.embed(d, run.progress) for d in (test, train)}
    steps = 50 if fast else 400
    untrained = evaluate(VectorRetriever(*vectors[id(test)]), test, (2, 10))
    results = {}
    for name, data in (("train", train), ("test", test)):
        layers = _linear(*vectors[id(data)], data.qrels.toarray(), steps, run)
        results[name] = evaluate(
            VectorRetriever(*(v @ layer for v, layer in zip(vectors[id(test)], layers, strict=True))), test, (2, 10)
        )
    detail = "recall at 2 / 10 on the test questions: " + "; ".join(
        f"{name} {found.recall(2):.1f} / {found.recall(10):.1f}"
        for name, found in (
            ("untrained", untrained),
            ("trained on other items", results["train"]),
            ("trained on them", results["test"]),
        )
    )
    yield Finding(
        "not-a-domain-shift",
        "Recall at 2 on the test questions (30 documents), trained on them less trained on other items.",
        "empirical",
        _over_queries(_points(results["test"], 2) - _points(results["train"], 2)),
        ">=",
        40.0,
        baseline=results["train"].recall(2),
        baseline_name="trained on other items",
        unit="points",
        detail=detail,
    )
    yield Finding(
        "not-a-domain-shift",
        "What training on other items gains at 2, in points.",
        "empirical",
        _over_queries(_points(results["train"], 2) - _points(untrained, 2)),
        "<",
        10.0,
        baseline=untrained.recall(2),
        baseline_name="untrained",
        unit="points",
        detail=detail,
    )


def _linear(
    queries: np.ndarray, documents: np.ndarray, relevant: np.ndarray, steps: int, run: runs.Run
) -> tuple[np.ndarray, np.ndarray]:
    """Layers [d, d] for queries and documents by the softmax loss, each positive against the irrelevant documents."""
    import torch

    q, d = torch.from_numpy(queries), torch.from_numpy(documents)
    mask = torch.from_numpy(relevant)
    layers = [torch.eye(q.shape[1], requires_grad=True) for _ in range(2)]
    adam = torch.optim.Adam(layers, lr=0.003)
    for _ in run.progress(range(steps), "a linear layer"):
        a, b = (torch.nn.functional.normalize(x @ layer, dim=1) for x, layer in zip((q, d), layers, strict=True))
        scores = a @ b.T / 0.05
        others = torch.logsumexp(scores.masked_fill(mask, -torch.inf), dim=1, keepdim=True)
        loss = torch.nn.functional.softplus(others - scores)[mask].mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return layers[0].detach().numpy(), layers[1].detach().numpy()
