"""Iterative selection (Algorithm 1): the budget is spent in rounds, and feedback moves the weights of the clusters.

state = IterativeSelector(selector, rounds=3).start(embeddings, quality)
while not state.done:
    new = state.next_batch()            # positions to add to the training set
    ...tune on state.selected, score what was selected...
    state.update(scores)                # one score for each of state.to_score
    state.save("state.npz")             # and IterationState.load(...) another day
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.diversify_conquer.allocation import resolve_budget, round_sizes
from paperworks.papers.diversify_conquer.selector import KMeansSelector
from paperworks.papers.diversify_conquer.state import IterationState
from paperworks.papers.diversify_conquer.weights import Transform

TrainFunction = Callable[[int, np.ndarray], Any]
"""``train(round, positions selected so far) -> model``."""
ScoreFunction = Callable[[Any, np.ndarray], Sequence[float] | np.ndarray]
"""``score(model, positions) -> score of each (Eq. 4)``; NaN where there is none."""


class IterativeSelector:
    """Spend a budget in rounds, with cluster weights that follow feedback from training (Algorithm 1).

    Parameters
    ----------
    selector : its clusters, its draw inside a cluster and its budget are used; fitted or not.
    rounds : N; the budget is divided evenly among them.
    train_fn, score_fn : what ``fit`` calls in each round; not needed to go step by step with ``start``.
    transform, temperature, accumulate, max_ratio : see ``update_weights``.
    init : weights of the first round: "proportional" to cluster sizes (section 2.2) or "uniform" (Algorithm 1).
    feedback : score what was "selected" (Eq. 5), or a "probe" of every cluster that the model was not trained on.
    probe : rows of each cluster in a probe; they are not counted in the budget, and may be chosen later.
    """

    def __init__(
        self,
        selector: KMeansSelector,
        rounds: int = 3,
        train_fn: TrainFunction | None = None,
        score_fn: ScoreFunction | None = None,
        *,
        transform: Transform = "softmax",
        temperature: float = 1.0,
        accumulate: bool = True,
        max_ratio: float | None = None,
        init: Literal["proportional", "uniform"] = "proportional",
        feedback: Literal["selected", "probe"] = "selected",
        probe: int = 4,
    ) -> None:
        checks = (
            ("transform", transform in ("softmax", "relu", "raw"), "softmax, relu or raw"),
            ("temperature", temperature > 0, "a positive number"),
            ("max_ratio", max_ratio is None or max_ratio >= 1, "1 or more, or None"),
            ("init", init in ("proportional", "uniform"), "proportional or uniform"),
            ("feedback", feedback in ("selected", "probe"), "selected or probe"),
            ("probe", probe >= 1, "1 or more rows of each cluster"),
        )
        for name, right, expected in checks:
            if not right:
                raise InputError(name, repr(locals()[name]), expected)
        if selector.replace:
            raise InputError("selector", "replace = True", "draws without replacement: rounds exclude what is selected")
        self.selector, self.rounds, self.train_fn, self.score_fn = selector, rounds, train_fn, score_fn
        self.transform: Transform = transform
        self.temperature, self.accumulate, self.max_ratio = temperature, accumulate, max_ratio
        self.init, self.feedback, self.probe = init, feedback, probe

    def start(self, X: Any = None, quality: Any = None, *, eligible: Any = None) -> IterationState:
        """Cluster (unless ``X`` is None and the selector is fitted), and prepare the first round."""
        if X is not None:
            self.selector.fit(X, quality, eligible=eligible)
        selector = self.selector
        if not hasattr(selector, "labels_"):
            raise InputError("X", "nothing", "embeddings, or a selector that is fitted")
        sizes = selector.cluster_sizes_
        budget = resolve_budget(selector.budget, int(sizes.sum()))
        weights = sizes / sizes.sum() if self.init == "proportional" else (sizes > 0) / (sizes > 0).sum()
        return IterationState(
            selector,
            round_sizes(budget, self.rounds),
            weights,
            transform=self.transform,
            temperature=self.temperature,
            accumulate=self.accumulate,
            max_ratio=self.max_ratio,
            probe=self.probe if self.feedback == "probe" else 0,
        )

    def fit(self, X: Any = None, quality: Any = None, *, eligible: Any = None) -> IterativeSelector:
        """Run all rounds with ``train_fn`` and ``score_fn``.

        Sets ``indices_`` (int64, ascending), ``rounds_`` (positions of each round), ``weights_`` float64
        [rounds + 1, k] (before the first round and after each), ``model_`` (of the last round), ``state_``.
        The model of the last round is scored too: ``weights_[-1]`` says where a further round would go.
        """
        if self.train_fn is None or self.score_fn is None:
            raise InputError("train_fn", "nothing", "functions that train and score, or start() to go step by step")
        state = self.start(X, quality, eligible=eligible)
        model: Any = None
        while not state.done:
            state.next_batch()
            model = self.train_fn(state.round, state.selected)
            state.update(self.score_fn(model, state.to_score))
        self.state_, self.model_ = state, model
        self.indices_, self.rounds_ = np.sort(state.selected), state.batches
        self.weights_ = np.array(state.weight_history)
        return self
