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
    found = HybridIndex(TEXTS).by_words("apples")
    lengths = [3, 2, 4, 2]  # "over" is a stop word here or not: the order of the two apples does not depend on it
    k1, b, average = 1.5, 0.75, sum(lengths) / 4
    idf = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    by_hand = {i: idf / (1 + k1 * (1 - b + b * lengths[i] / average)) for i in (0, 1)}
    assert [i for i, _ in found] == sorted(by_hand, key=lambda i: -by_hand[i]) == [1, 0]


def test_hybrid_uses_both() -> None:
    vectors = {**dict.fromkeys(TEXTS[:3], (0.0, 1.0)), TEXTS[3]: (1.0, 0.0), "apple": (1.0, 0.0)}

    def encode(texts) -> np.ndarray:
        return np.array([vectors[t] for t in texts])

    assert [i for i, _ in HybridIndex(TEXTS).search("apple")] == [1, 0]
    assert {i for i, _ in HybridIndex(TEXTS, encode).search("apple", limit=3)} == {0, 1, 3}
    assert HybridIndex(TEXTS, encode).by_meaning("apple")[0] == (3, 1.0)
