"""Kneser-Ney against a slow one written from the formulas with dictionaries."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.language.ngram import USUAL_DISCOUNTS, KneserNey, modified_discounts


class Slow:
    """The same model, from the text of Chen and Goodman, one probability at a time."""

    def __init__(self, tokens: list[int], vocabulary: int, order: int) -> None:
        self.vocabulary = vocabulary
        self.counts: dict[int, Counter[tuple[int, ...]]] = {
            order: Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))
        }
        for n in range(order - 1, 0, -1):
            before: dict[tuple[int, ...], set[int]] = defaultdict(set)
            for gram in self.counts[n + 1]:
                before[gram[1:]].add(gram[0])
            self.counts[n] = Counter({gram: len(words) for gram, words in before.items()})
        self.discounts = {}
        for n, counts in self.counts.items():
            times = Counter(counts.values())
            self.discounts[n] = modified_discounts(np.array([times[r] for r in (1, 2, 3, 4)]))

    def p(self, word: int, context: tuple[int, ...]) -> float:
        n = len(context) + 1
        lower = 1 / self.vocabulary if n == 1 else self.p(word, context[1:])
        seen = {gram: c for gram, c in self.counts[n].items() if gram[:-1] == context}
        if not seen:
            return lower
        d = (0.0, *self.discounts[n])
        total = sum(seen.values())
        gamma = sum(d[min(c, 3)] for c in seen.values()) / total
        count = seen.get((*context, word), 0)
        return (count - d[min(count, 3)]) / total + gamma * lower


def test_discounts_by_hand() -> None:
    # Y = 10 / (10 + 8) = 5/9
    found = modified_discounts(np.array([10, 4, 2, 1]))
    assert found == pytest.approx((1 - 10 / 9 * 0.4, 2 - 15 / 9 * 0.5, 3 - 20 / 9 * 0.5))
    assert modified_discounts(np.array([5, 0, 1, 1])) == USUAL_DISCOUNTS
    assert modified_discounts(np.array([10, 20, 1, 0])) != USUAL_DISCOUNTS
    assert modified_discounts(np.array([1, 1, 100, 1])) == USUAL_DISCOUNTS  # D2 would be below 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=4, max_size=60), st.integers(1, 4), st.lists(st.integers(0, 5), max_size=6))
def test_equals_the_slow_model_and_sums_to_one(tokens: list[int], order: int, context: list[int]) -> None:
    fast, slow = KneserNey(np.array(tokens), 6, order), Slow(tokens, 6, order)
    found = fast.distribution(np.array(context, dtype=np.int64))
    used = tuple(context[max(0, len(context) - order + 1) :])
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert found == pytest.approx([slow.p(word, used) for word in range(6)], abs=1e-12)
    assert (found > 0).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=5, max_size=60), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_log_probabilities_are_those_of_the_distributions(tokens: list[int], text: list[int]) -> None:
    model = KneserNey(np.array(tokens), 6, 3)
    found = model.log_probabilities(np.array(text))
    expected = [math.log(model.distribution(np.array(text[:i], dtype=np.int64))[w]) for i, w in enumerate(text)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_large_vocabularies_and_errors() -> None:
    tokens = np.array([3071, 0, 3071, 5, 3071, 0, 3071, 5, 9], dtype=np.uint16)
    model = KneserNey(tokens, 3072, 5)
    assert model.distribution(np.array([3071, 0, 3071])).argmax() == 5
    assert model.distribution(tokens[:4]).sum() == pytest.approx(1)
    with pytest.raises(InputError, match="order: found 6 with 3072"):
        KneserNey(tokens, 3072, 6)
    with pytest.raises(InputError, match="ids from 0 to 3071; expected ids from 0 to 99"):
        KneserNey(tokens, 100, 2)
    with pytest.raises(InputError, match="at least 5"):
        KneserNey(tokens[:4], 3072, 5)
    with pytest.raises(InputError, match="integers"):
        KneserNey(np.zeros(9), 10, 2)
