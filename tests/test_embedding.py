"""Rank fusion and hybrid search against values computed by hand and by the definition of BM25."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.embedding import HybridIndex, reciprocal_rank_fusion


def test_fusion_by_hand() -> None:
    fused = reciprocal_rank_fusion([[2, 0, 1], [0, 2]], constant=60)
    assert fused == [
        (0, pytest.approx(1 / 62 + 1 / 61)),
        (2, pytest.approx(1 / 61 + 1 / 62)),
        (1, pytest.approx(1 / 63)),
    ]


@given(st.permutations(range(8)), st.permutations(range(8)))
def test_fusion_ranks_what_both_prefer_first(a: list[int], b: list[int]) -> None:
    order = [item for item, _ in reciprocal_rank_fusion([a, b])]
    assert sorted(order) == list(range(8))
    for better in range(8):
        for worse in range(8):
            if a.index(better) < a.index(worse) and b.index(better) < b.index(worse):
                assert order.index(better) < order.index(worse)


TEXTS = ["red apple pie", "green apple", "blue sky over red roofs", "nothing alike"]


def test_words_follow_bm25() -> None:
    found = dict(HybridIndex(TEXTS).by_words("the apples"))
    lengths = [len(text.split()) for text in TEXTS]
    k1, b, average = 1.2, 0.75, sum(lengths) / 4
    idf = math.log((4 - 2 + 0.5) / (2 + 0.5)) or 1e-6  # SQLite's floor for a word that half of the texts have
    assert found == {
        i: pytest.approx(idf * (k1 + 1) / (1 + k1 * (1 - b + b * lengths[i] / average)), rel=1e-6) for i in (0, 1)
    }
    assert list(found) == [1, 0]


def test_rare_words_count_more_than_frequent_ones() -> None:
    texts = ["red", "red", "blue red", "green", "grey", "black"]
    found = HybridIndex(texts).by_words("red blue")
    idf = {"red": math.log(3.5 / 3.5) or 1e-6, "blue": math.log(5.5 / 1.5)}
    longer = 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / (7 / 6)))
    assert found[0] == (2, pytest.approx((idf["red"] + idf["blue"]) * longer, rel=1e-6))
    assert [i for i, _ in found] == [2, 0, 1]


@pytest.mark.parametrize("query", ["the of and", "", '"', "NEAR( OR *", "a-b:c"])
def test_queries_are_words_and_not_syntax(query: str) -> None:
    assert HybridIndex(TEXTS).by_words(query) == []


def test_hybrid_uses_both() -> None:
    vectors = {**dict.fromkeys(TEXTS[:3], (0.0, 1.0)), TEXTS[3]: (1.0, 0.0), "apple": (1.0, 0.0)}

    def encode(texts) -> np.ndarray:
        return np.array([vectors[t] for t in texts])

    assert [i for i, _ in HybridIndex(TEXTS).search("apple")] == [1, 0]
    assert {i for i, _ in HybridIndex(TEXTS, encode).search("apple", limit=3)} == {0, 1, 3}
    assert HybridIndex(TEXTS, encode).by_meaning("apple")[0] == (3, 1.0)
