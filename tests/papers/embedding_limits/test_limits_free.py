"""Free embeddings: gradients, chunks, accuracy, the search for critical n, and the ceiling of a user's result sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from paperworks.errors import InputError
from paperworks.papers.embedding_limits import (
    FreeEmbeddings,
    all_subsets,
    as_qrels,
    critical_n,
    make_qrels,
    result_set_ceiling,
)
from paperworks.papers.embedding_limits.critical import _search
from paperworks.papers.embedding_limits.free import FreeLoss


def uneven(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = rng.random((30, 12)) < 0.25
    matrix[np.arange(30), rng.integers(12, size=30)] = True
    return matrix


@pytest.mark.parametrize("temperature", [0.1, 0.01])
@pytest.mark.parametrize("chunk_bytes", [1, 300, 1 << 20])
def test_loss_and_gradient_are_those_of_autograd(temperature: float, chunk_bytes: int) -> None:
    matrix = torch.from_numpy(uneven()).float()
    vectors = torch.nn.functional.normalize(torch.randn(42, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    leaf = vectors.clone().requires_grad_()
    log_p = torch.log_softmax(leaf[:30] @ leaf[30:].T / temperature, dim=1)
    expected = -(matrix * log_p).sum() / matrix.sum()
    expected.backward()
    gradient = torch.empty_like(vectors)
    loss = FreeLoss(uneven(), 5, temperature, chunk_bytes=chunk_bytes).loss_and_gradient(vectors, gradient)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    assert leaf.grad is not None
    assert torch.allclose(gradient, leaf.grad, atol=1e-5 / temperature**0.5)


def test_steps_are_those_of_adam_with_a_projection() -> None:
    qrels = all_subsets(7)
    fitted = FreeEmbeddings(3, max_iter=20, log_every=20, seed=5).fit(qrels)
    start = FreeEmbeddings(3, max_iter=1, log_every=1, seed=5, lr=1e-12).fit(qrels)
    q, d = (torch.tensor(x, requires_grad=True) for x in (start.query_embeddings_, start.doc_embeddings_))
    relevant = torch.from_numpy(qrels.toarray()).float()
    adam = torch.optim.Adam([q, d], lr=0.01)
    for _ in range(20):
        adam.zero_grad()
        (-(relevant * torch.log_softmax(q @ d.T / 0.1, 1)).sum() / relevant.sum()).backward()
        adam.step()
        with torch.no_grad():
            q.div_(q.norm(dim=1, keepdim=True))
            d.div_(d.norm(dim=1, keepdim=True))
    assert np.allclose(fitted.query_embeddings_, q.detach(), atol=1e-4)
    assert np.allclose(fitted.doc_embeddings_, d.detach(), atol=1e-4)
    assert np.linalg.norm(fitted.doc_embeddings_, axis=1) == pytest.approx(1, abs=1e-5)


def test_accuracy_counts_pairs_and_ties_are_misses() -> None:
    matrix = uneven(1)
    problem = FreeLoss(matrix, 4, 0.1, chunk_bytes=200)
    rng = np.random.default_rng(2)
    vectors = rng.integers(-1, 2, size=(42, 4)).astype(np.float32)  # many ties
    scores = vectors[:30] @ vectors[30:].T
    hits = 0
    for row, relevant in zip(scores, matrix, strict=True):
        k = relevant.sum()
        for j in np.flatnonzero(relevant):
            above = (row[~relevant] >= row[j]).sum() + (row[relevant] > row[j]).sum()
            before = (row[relevant][: relevant[:j].sum()] == row[j]).sum()  # equal relevant ones take places in turn
            hits += above + before < k
    assert problem.accuracy(torch.from_numpy(vectors)) == pytest.approx(hits / matrix.sum())
    zeros = torch.zeros(42, 4)
    assert problem.accuracy(zeros) == 0


def test_fit_succeeds_stops_and_repeats() -> None:
    one = FreeEmbeddings(4, seed=3).fit(all_subsets(7))
    two = FreeEmbeddings(4, seed=3, chunk_bytes=200).fit(all_subsets(7))
    assert one.accuracy_ == 1.0
    assert one.n_iter_ % 50 == 0
    assert one.history_[-1][2] == 1.0
    assert two.accuracy_ == 1.0
    again = FreeEmbeddings(4, seed=3).fit(all_subsets(7))
    assert (one.query_embeddings_ == again.query_embeddings_).all()
    relevant = all_subsets(7).toarray()
    scores = one.query_embeddings_ @ one.doc_embeddings_.T
    assert (np.where(relevant, scores, 9).min(1) > np.where(relevant, -9, scores).max(1)).all()
    hopeless = FreeEmbeddings(1, patience=60, max_iter=5000).fit(all_subsets(7))
    assert hopeless.accuracy_ < 1
    assert hopeless.n_iter_ < 5000
    assert hopeless.accuracy_ == max(a for _, _, a in hopeless.history_)


def test_more_starting_points_are_tried_until_one_succeeds() -> None:
    settings = {"max_iter": 150}
    each = [FreeEmbeddings(4, seed=s, **settings).fit(all_subsets(8)).accuracy_ for s in range(4)]  # type: ignore[arg-type]
    several = FreeEmbeddings(4, seed=0, n_init=4, **settings).fit(all_subsets(8))  # type: ignore[arg-type]
    assert several.accuracy_ == max(each)
    assert several.seed_ == each.index(max(each))


@pytest.mark.parametrize(
    "options",
    [{"d": 0}, {"lr": 0.0}, {"temperature": -1.0}, {"patience": 0}, {"min_delta": -1.0}, {"d": 2.5}, {"seed": -1}],
)
def test_bad_settings(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        FreeEmbeddings(**({"d": 2} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [1, 2, 7, 10, 11, 40])
@pytest.mark.parametrize("start", [1, 5, 10, 30])
def test_search_finds_a_monotone_limit(limit: int, start: int) -> None:
    asked: list[int] = []

    def solved(n: int) -> bool:
        asked.append(n)
        return n <= limit

    assert _search(solved, start) == limit
    assert min(asked) >= 1
    assert len(asked) <= 14


def test_critical_n_is_cached_and_swept(tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    found = critical_n(2, start=3, max_iter=400, sweep=(1, 2), cache=cache)
    assert found.tried[found.n] == 1.0
    assert found.n + 1 not in found.tried or found.tried[found.n + 1] < 1
    written = cache.read_text()
    assert critical_n(2, start=3, max_iter=400, sweep=(1, 2), cache=cache) == found
    assert cache.read_text() == written
    cache.write_text("[1")
    with pytest.raises(InputError, match="cache"):
        critical_n(2, cache=cache)
    with pytest.raises(InputError, match="cache"):
        critical_n(2, cache=tmp_path)
    numbers = critical_n(np.int64(2), start=3, max_iter=np.int64(400), sweep=(1, 2), cache=tmp_path / "new.json")  # type: ignore[arg-type]
    assert (numbers.n, numbers.tried) == (found.n, found.tried)
    with pytest.raises(InputError, match="subsets"):
        critical_n(8, k=12, start=40)


def test_ceiling_of_result_sets() -> None:
    base = all_subsets(6).toarray()
    # every query twice, two documents in no result set, and one document twice
    matrix = np.hstack([base, np.zeros((15, 2), bool)])[np.repeat(np.arange(15), 2)]
    matrix = np.hstack([matrix, matrix[:, :1]])
    found = result_set_ceiling(matrix, (1, 8), ks=(3,), max_iter=3000)
    assert found.least is not None
    assert 2 < found.least <= 8
    assert found.dimensions == found.least
    scores = found.queries @ found.documents.T
    assert scores.shape == matrix.shape
    assert (np.where(matrix, scores, 9).min(1) > np.where(matrix, -9, scores).max(1)).all()
    last = found.table.iloc[-1]
    assert last["sets returned"] == 30
    assert last["recall@3 (%)"] == 100
    first = found.table.iloc[0]
    assert first["sets returned"] < 30
    assert first["recall@3 (%)"] < 100
    with pytest.raises(InputError, match="dims"):
        result_set_ceiling(matrix, ())


def test_ceiling_goes_on_from_its_state(tmp_path: Path) -> None:
    qrels = make_qrels("cycle", 9, 9, 2)
    one = result_set_ceiling(qrels, (1, 2), max_iter=300, state=tmp_path)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    two = result_set_ceiling(qrels, (1, 2), max_iter=300, state=tmp_path)
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert one.table.equals(two.table)
    assert as_qrels(qrels).shape == (9, 9)


def test_more_dimensions_than_documents_take_no_more_memory() -> None:
    matrix = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]])
    found = result_set_ceiling(matrix, (10**9,), find_least=False, max_iter=2000)
    assert found.table["sets returned"].tolist() == [3]
    assert (found.documents.shape, found.dimensions) == ((4, 4), 4)
