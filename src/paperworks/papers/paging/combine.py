"""Robust combinations: a real cache that follows whichever of several algorithms does well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.paging.lazy import (
    DETERMINISTIC,
    FOLLOWED,
    RANDOMISED,
    SWITCH,
    SWITCHES,
    empty_follower,
    follow_one,
    grown_follower,
    replay_lazily,
)
from paperworks.papers.paging.policy import Evictions, Policy, checked_seed

Rule = Literal["deterministic", "switch", "randomised"]
_RULES: dict[str, int] = {"deterministic": DETERMINISTIC, "switch": SWITCH, "randomised": RANDOMISED}


class Combined(Policy):
    """Run several policies on caches of their own and let the real cache follow one of them.

    Parameters
    ----------
    policies : at least two policies of one size. Those that take predictions must take the same kind. The first is
        followed first.
    rule : ``deterministic`` goes round, leaving a policy when its misses pass a bound that grows by
        ``1 + gamma / (number - 1)`` per step (Fiat et al. 1994; ``gamma=0.01`` as in the public implementations,
        ``gamma=1`` for the worst-case factor of about 2); ``switch`` follows the one with the fewest misses so far
        (Chledowski et al. 2021); ``randomised`` follows policy ``i`` with probability proportional to
        ``(1 - epsilon / 2) ** misses[i]`` and moves only as often as these probabilities demand (Blum, Burch 2000).
    random_state : the stream of the randomised rule; the policies keep their own.

    Raises InputError for fewer than two policies, different sizes, or different kinds of predictions.
    """

    name = "Combined"

    def __init__(
        self,
        policies: Sequence[Policy],
        *,
        rule: Rule = "deterministic",
        gamma: float = 0.01,
        epsilon: float = 0.5,
        random_state: int | np.random.Generator = 0,
    ) -> None:
        self.seed = checked_seed(random_state)
        if rule not in _RULES:
            raise InputError("rule", repr(rule), f"one of {', '.join(_RULES)}")
        if len(policies) < 2:
            raise InputError("policies", f"{len(policies)} policies", "two or more")
        if len({p.k for p in policies}) > 1:
            raise InputError("policies", f"sizes {', '.join(str(p.k) for p in policies)}", "one size")
        kinds = {p.prediction for p in policies} - {"none"}
        if len(kinds) > 1:
            raise InputError("policies", f"predictions of kinds {', '.join(sorted(kinds))}", "one kind of prediction")
        if not gamma > 0:
            raise InputError("gamma", gamma, "more than 0")
        if not 0 < epsilon < 1:
            raise InputError("epsilon", epsilon, "between 0 and 1")
        self.policies = [p.clone() for p in policies]
        self.rule, self.gamma, self.epsilon = rule, gamma, epsilon
        self.k = policies[0].k
        self.lazy = True
        self.prediction = kinds.pop() if kinds else "none"
        self.randomised = rule == "randomised" or any(p.randomised for p in policies)
        self.name = " + ".join(p.name for p in policies) + f" ({rule})"
        self.reset()

    def __repr__(self) -> str:
        return f"Combined({self.policies!r}, rule={self.rule!r})"

    def clone(self, *, k: int | None = None, random_state: int | None = None) -> Combined:
        """As ``Policy.clone``; a new seed is given to the rule and to every policy."""
        return Combined(
            [p.clone(k=k, random_state=random_state) for p in self.policies],
            rule=self.rule,
            gamma=self.gamma,
            epsilon=self.epsilon,
            random_state=self.seed if random_state is None else random_state,
        )

    @property
    def followed(self) -> Policy:
        """The policy that the real cache follows now."""
        assert self._follower is not None
        return self.policies[self._follower.n[FOLLOWED]]

    @property
    def switches(self) -> int:
        """How often the followed policy changed."""
        assert self._follower is not None
        return int(self._follower.n[SWITCHES])

    def replay(
        self, pages: np.ndarray, predictions: np.ndarray, *, distinct: int, log: bool = False
    ) -> tuple[np.ndarray, int, Evictions | None]:
        """As ``Policy.replay``."""
        misses, evictions = [], []
        for policy in self.policies:
            miss, _, out = policy.replay(pages, predictions, distinct=distinct, log=True)
            assert out is not None
            misses.append(miss)
            evictions.append(out)
        return replay_lazily(
            pages,
            misses,
            evictions,
            self.k,
            distinct,
            rule=_RULES[self.rule],
            seed=self.seed,
            gamma=self.gamma,
            epsilon=self.epsilon,
            log=log,
        )

    def _begin(self, pages: int) -> None:
        for policy in self.policies:
            policy.reset()
        self._follower = empty_follower(
            self.k, pages, len(self.policies), self.seed, gamma=self.gamma, epsilon=self.epsilon
        )

    def _serve(self, number: int, prediction: int) -> bool:
        missed = [not p._serve(number, prediction) for p in self.policies]
        assert self._follower is not None
        return follow_one(self._follower, _RULES[self.rule], number, missed, [p._gone() for p in self.policies])

    def _room(self) -> int:
        assert self._follower is not None
        return len(self._follower.present)

    def _make_room(self, pages: int) -> None:
        for policy in self.policies:
            policy._make_room(pages)
        assert self._follower is not None
        self._follower = grown_follower(self._follower, pages)
