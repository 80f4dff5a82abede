"""BM25 in memory against SQLite's own; nearest vectors against all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.embedding import postings as postings_module
from paperworks.embedding import vectors as vectors_module
from paperworks.embedding.postings import FEW, K1, B, Postings, inverse_frequency
from paperworks.embedding.vectors import VectorIndex

WORDS = st.sampled_from(["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"])
DOCUMENTS = st.lists(
    st.tuples(st.lists(WORDS, max_size=3), st.lists(WORDS, min_size=1, max_size=12)), min_size=1, max_size=25
)


@pytest.fixture(scope="module", params=[0, FEW], ids=["compiled", "numpy"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Many documents are ranked by compiled code, few by numpy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings_module, "FEW", request.param)
        yield


def fts5(documents) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE d USING fts5(title, body)")
    connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(d, 'instance')")
    rows = [(7 * i + 3, " ".join(t), " ".join(b)) for i, (t, b) in enumerate(documents)]
    connection.executemany("INSERT INTO d(rowid, title, body) VALUES (?, ?, ?)", rows)
    return connection


def postings(connection: sqlite3.Connection, weight: float) -> Postings:
    rows = connection.execute("SELECT term, doc, col FROM v")
    return Postings.build((term, doc, weight if col == "title" else 1.0) for term, doc, col in rows)


@pytest.mark.usefixtures("both_ways")
@settings(deadline=None)
@given(
    DOCUMENTS,
    st.lists(WORDS, min_size=1, max_size=4, unique=True),
    st.sampled_from([1.0, 2.0, 3.5]),
    st.integers(1, 30),
)
def test_scores_are_sqlites(documents, query, weight, limit) -> None:
    connection = fts5(documents)
    expected = connection.execute(
        "SELECT rowid, -bm25(d, ?, 1.0) FROM d WHERE d MATCH ?", (weight, " OR ".join(query))
    ).fetchall()
    index = postings(connection, weight)
    idf = {t: inverse_frequency(len(index), index.frequency(t)) for t in query}
    ids, scores = index.top(idf, limit)
    by_id = dict(expected)
    assert len(ids) == min(limit, len(expected))
    assert list(scores) == pytest.approx([by_id[i] for i in ids], rel=1e-4, abs=1e-9)
    assert list(scores) == pytest.approx(sorted(by_id.values(), reverse=True)[:limit], rel=1e-4, abs=1e-9)
    again, _ = index.top(idf, limit)
    assert list(again) == list(ids)  # the scratch was left clean


@pytest.mark.usefixtures("both_ways")
@settings(deadline=None)
@given(DOCUMENTS, st.lists(WORDS, min_size=1, max_size=3, unique=True), st.randoms(use_true_random=False))
def test_only_allowed_rows(documents, query, random) -> None:
    index = postings(fts5(documents), 1.0)
    allowed = np.array([random.random() < 0.5 for _ in range(len(index))], bool)
    idf = dict.fromkeys(query, 1.5)
    every, scores = index.top(idf, 100)
    kept = set(index.ids[allowed].tolist())
    expected = [(i, s) for i, s in zip(every.tolist(), scores.tolist(), strict=True) if i in kept]
    found = index.top(idf, 100, allowed)
    assert [(i, s) for i, s in zip(found[0].tolist(), found[1].tolist(), strict=True)] == expected


@pytest.mark.usefixtures("both_ways")
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([1, 5, 60]), st.sampled_from([0.0, 0.5, 0.97]))
def test_frequent_words_are_read_only_where_they_can_matter(seed: int, limit: int, hidden: float) -> None:
    """Against the sum over all postings, on documents whose words are as unevenly frequent as in a language."""
    rng = np.random.default_rng(seed)
    chance = 0.9 / (1 + np.arange(30)) ** rng.uniform(0.2, 1.5)
    has = rng.random((2_000, 30)) < chance
    has[:, 29] = True
    numbers, documents = np.nonzero(has.T)
    weights = rng.integers(1, 6, len(numbers)).astype(float)
    index = Postings.build((f"t{n}", int(d), w) for n, d, w in zip(numbers, documents, weights, strict=True))
    norm = K1 * (1 - B + B * has.sum(1) / has.sum(1).mean())
    counts = np.zeros(has.shape)
    counts[documents, numbers] = weights
    allowed = rng.random(2_000) >= hidden
    for _ in range(5):
        query = rng.choice(30, rng.integers(1, 8), replace=False)
        idf = {f"t{n}": inverse_frequency(2_000, index.frequency(f"t{n}")) for n in query}
        parts = counts * (K1 + 1) / (counts + norm[:, None])
        scores = sum(parts[:, n] * idf[f"t{n}"] for n in query) * allowed
        best = np.sort(scores[scores > 0])[::-1][:limit]
        ids, found = index.top(idf, limit, allowed)
        np.testing.assert_allclose(found, best, rtol=1e-4)
        np.testing.assert_allclose(scores[ids], best, rtol=1e-4)
        assert len(set(ids.tolist())) == len(ids)


@pytest.mark.usefixtures("both_ways")
def test_equal_scores_are_in_order_and_files_keep_all(tmp_path: Path) -> None:
    index = postings(fts5([([], ["cat"])] * 40 + [(["cat"], ["cat"])]), 2.0)
    ids, scores = index.top({"cat": 1.0}, 10)
    assert ids.tolist() == [7 * 40 + 3, *(7 * i + 3 for i in range(9))]
    index.save(tmp_path / "words.npz")
    loaded = Postings.load(tmp_path / "words.npz")
    for before, after in zip((ids, scores), loaded.top({"cat": 1.0}, 10), strict=True):
        np.testing.assert_array_equal(before, after)
    empty = Postings.build([])
    empty.save(tmp_path / "empty.npz")
    assert len(Postings.load(tmp_path / "empty.npz").top({"cat": 1.0}, 3)[0]) == 0


def unit(count: int, width: int, seed: int = 0, centres: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, width))
    if centres:
        vectors = 0.7 * vectors + 2 * rng.standard_normal((centres, width))[rng.integers(0, centres, count)]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_few_vectors_are_all_compared(tmp_path: Path) -> None:
    vectors, ids = unit(300, 24), np.arange(300) * 5 + 1
    index = VectorIndex(ids, vectors)
    for query in unit(20, 24, seed=1):
        cosines = vectors @ query
        found, values = index.nearest(query, 10)
        assert values == pytest.approx(np.sort(cosines)[::-1][:10], abs=2e-3)
        allowed = ids[::3]
        found, values = index.nearest(query, 10, allowed)
        assert set(found) <= set(allowed)
        assert values == pytest.approx(np.sort(cosines[::3])[::-1][:10], abs=2e-3)
    index.save(tmp_path / "v")
    np.testing.assert_array_equal(
        VectorIndex.load(tmp_path / "v").nearest(vectors[3], 5)[0], index.nearest(vectors[3], 5)[0]
    )
    assert len(VectorIndex(np.empty(0, np.int64), np.empty((0, 8), np.float32)).nearest(unit(1, 8)[0], 3)[0]) == 0


def test_replacing_and_removing() -> None:
    vectors, ids = unit(100, 16), np.arange(100)
    index = VectorIndex(ids, vectors)
    moved = unit(2, 16, seed=9)
    index.replace(np.array([7, 500]), moved)
    assert len(index) == 101
    assert index.nearest(moved[0], 1)[0].tolist() == [7]
    assert index.nearest(moved[1], 1)[0].tolist() == [500]
    index.remove(np.array([7, 12345]))
    assert len(index) == 100
    assert 7 not in index.nearest(moved[0], 100)[0]


def test_many_vectors_are_searched_in_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "EXACT_BELOW", 1000)
    vectors = unit(12_000, 32, centres=200)
    index = VectorIndex(np.arange(12_000), vectors)
    assert index._index.nlist == int(vectors_module.CELLS_PER_ROOT * 12_000**0.5)
    hits = 0
    for query in vectors[:200] + 0.1 * unit(200, 32, seed=3):
        query /= np.linalg.norm(query)
        exact = set(np.argsort(-(vectors @ query))[:10].tolist())
        hits += len(exact & set(index.nearest(query, 10)[0].tolist()))
    assert hits / 2000 > 0.95
    index.replace(np.array([3, 20_000]), unit(2, 32, seed=5))
    assert index.nearest(unit(2, 32, seed=5)[1], 1)[0].tolist() == [20_000]
    assert set(index.nearest(vectors[0], 5, [1, 2, 3])[0]) <= {1, 2, 3}
