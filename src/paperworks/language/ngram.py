"""The n-gram model that a small neural one has to beat: interpolated modified Kneser-Ney (Chen and Goodman 1998).

    p(w | h) = max(c(hw) - D(c(hw)), 0) / sum_w' c(hw')  +  gamma(h) p(w | h')

where h' is h without its first word. D is D1, D2 or D3+ for a count of 1, 2 or more (their section 3, eq. 26):

    Y = n1 / (n1 + 2 n2),   D1 = 1 - 2 Y n2/n1,   D2 = 2 - 3 Y n3/n2,   D3+ = 3 - 4 Y n4/n3

with n_r the number of n-grams of count r, and gamma(h) = (D1 N1(h) + D2 N2(h) + D3+ N3+(h)) / sum_w c(hw), so that each
distribution sums to one. Below the highest order, c is not how often an n-gram occurs, but in how many different words'
company: the number of words seen before it. Below the unigrams stands the uniform distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paperworks.errors import InputError

USUAL_DISCOUNTS = (0.5, 1.0, 1.5)
"""For texts so small that the formula has no value or one out of bounds (the choice of KenLM)."""


@dataclass(frozen=True)
class _Order:
    """The counts of one order. An n-gram is one number: its words are digits in base V, the last word the lowest."""

    grams: np.ndarray  # uint64, sorted
    counts: np.ndarray  # int64
    contexts: np.ndarray  # uint64, sorted: the n-grams without their last word
    totals: np.ndarray  # float64, the contexts' sums of counts
    gammas: np.ndarray  # float64, the weight of the lower order in each context
    discounts: np.ndarray  # float64 [4], by min(count, 3)


class KneserNey:
    """An n-gram model over token ids.

    Parameters
    ----------
    tokens : integers ``[N]`` in [0, vocabulary), one running text.
    vocabulary : number of token ids.
    order : length of the longest n-grams; ``vocabulary ** order`` must be below 2 ** 64.
    """

    def __init__(self, tokens: np.ndarray, vocabulary: int, order: int = 5) -> None:
        tokens = self._checked(tokens, vocabulary)
        if order < 1 or vocabulary**order >= 2**64:
            raise InputError(
                "order", f"{order} with {vocabulary} token ids", "1 or more, with vocabulary ** order below 2 ** 64"
            )
        if len(tokens) < order:
            raise InputError("tokens", f"{len(tokens)} tokens", f"at least {order}")
        self.vocabulary, self.order = vocabulary, order
        grams, counts = np.unique(self._codes(tokens, order), return_counts=True)
        orders = []
        for n in range(order, 0, -1):
            orders.append(self._count(grams, counts))
            if n > 1:
                grams, counts = np.unique(grams % np.uint64(vocabulary ** (n - 1)), return_counts=True)
        self._orders = orders[::-1]

    def log_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """Natural logarithm of the probability of each token given all those before it, float64 ``[N]``."""
        tokens = self._checked(tokens, self.vocabulary)
        p = np.full(len(tokens), 1 / self.vocabulary)
        for n in range(1, min(self.order, len(tokens)) + 1):
            p[n - 1 :] = self._refine(n, self._codes(tokens, n), p[n - 1 :])
        return np.log(p)

    def distribution(self, context: np.ndarray) -> np.ndarray:
        """The probabilities of all tokens after ``context``, float64 ``[vocabulary]``."""
        context = self._checked(context, self.vocabulary)
        words = np.arange(self.vocabulary, dtype=np.uint64)
        p = np.full(self.vocabulary, 1 / self.vocabulary)
        for n in range(1, min(self.order, len(context) + 1) + 1):
            code = self._codes(context[len(context) - n + 1 :], n - 1)[0] if n > 1 else np.uint64(0)
            p = self._refine(n, code * np.uint64(self.vocabulary) + words, p)
        return p

    @property
    def discounts(self) -> list[tuple[float, float, float]]:
        """D1, D2 and D3+ of each order, from the unigrams up."""
        return [(float(o.discounts[1]), float(o.discounts[2]), float(o.discounts[3])) for o in self._orders]

    def _refine(self, n: int, codes: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """p of order n from that of order n - 1; a context that was never seen leaves it as it is."""
        order = self._orders[n - 1]
        at, seen = _find(order.contexts, codes // np.uint64(self.vocabulary))
        place, there = _find(order.grams, codes)
        counts = np.where(there, order.counts[place], 0)
        kept = counts - order.discounts[np.minimum(counts, 3)]
        return np.where(seen, kept / order.totals[at] + order.gammas[at] * lower, lower)

    def _count(self, grams: np.ndarray, counts: np.ndarray) -> _Order:
        discounts = np.array([0.0, *modified_discounts(np.bincount(np.minimum(counts, 5), minlength=6)[1:5])])
        contexts, starts = np.unique(grams // np.uint64(self.vocabulary), return_index=True)
        totals = np.add.reduceat(counts, starts).astype(np.float64)
        gammas = np.add.reduceat(discounts[np.minimum(counts, 3)], starts) / totals
        return _Order(grams, counts, contexts, totals, gammas, discounts)

    def _codes(self, tokens: np.ndarray, n: int) -> np.ndarray:
        codes = np.zeros(len(tokens) - n + 1, dtype=np.uint64)
        for k in range(n):
            codes = codes * np.uint64(self.vocabulary) + tokens[k : k + len(codes)]
        return codes

    @staticmethod
    def _checked(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
            raise InputError("tokens", f"{tokens.dtype} of shape {tokens.shape}", "integers [N]")
        if tokens.size and (int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary):
            raise InputError("tokens", f"ids from {tokens.min()} to {tokens.max()}", f"ids from 0 to {vocabulary - 1}")
        return tokens.astype(np.uint64)


def modified_discounts(counts_of_counts: np.ndarray) -> tuple[float, float, float]:
    """D1, D2 and D3+ from n1 to n4 (Chen and Goodman 1998, eq. 26)."""
    n1, n2, n3, n4 = (float(n) for n in counts_of_counts)
    if min(n1, n2, n3) == 0:
        return USUAL_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 <= d <= k for k, d in enumerate(found, 1)) else USUAL_DISCOUNTS


def _find(table: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each key is in a sorted table, and whether it is there at all."""
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return at, table[at] == keys
