"""The state of an iterative selection between its steps, which can be saved and taken up days later."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.diversify_conquer.allocation import allocate_budget
from paperworks.papers.diversify_conquer.sampling import as_seed, draw_by_weight, fill_missing
from paperworks.papers.diversify_conquer.selector import KMeansSelector
from paperworks.papers.diversify_conquer.weights import cluster_scores, update_weights, warn_if_inert

ARRAYS = ("labels_", "centers_", "distances_", "cluster_sizes_", "eligible_")


class IterationState:
    """Where an iterative selection stands. Made by ``IterativeSelector.start``; ``load`` brings a saved one back.

    Attributes
    ----------
    weights : float64 [k], sum 1.
    weight_history : the weights before the first round and after each.
    batches : positions that each round has added, int64, ascending.
    to_score : positions that wait for a score; empty before the first batch and after an update.
    score_history : (positions, scores) of each update; a NaN score stays NaN.
    missing_scores : scores that were NaN, over all updates.
    seed : of the draws; the selector's ``random_state``, or a random number where that is None.
    """

    def __init__(
        self,
        selector: KMeansSelector,
        sizes: np.ndarray,
        weights: np.ndarray,
        *,
        transform: Any = "softmax",
        temperature: float = 1.0,
        accumulate: bool = True,
        max_ratio: float | None = None,
        probe: int = 0,
    ) -> None:
        self.selector = selector
        self.seed = as_seed(selector.random_state)
        self.round_sizes = np.asarray(sizes, np.int64)
        self.options: dict[str, Any] = {
            "transform": transform,
            "temperature": temperature,
            "accumulate": accumulate,
            "max_ratio": max_ratio,
        }
        self.probe = probe
        self.weights = np.asarray(weights, np.float64)
        self.weight_history = [self.weights]
        self.batches: list[np.ndarray] = []
        self.to_score = np.empty(0, np.int64)
        self.score_history: list[tuple[np.ndarray, np.ndarray]] = []
        self.missing_scores = 0

    @property
    def round(self) -> int:
        """The round whose batch was drawn last, from 1; 0 before the first."""
        return len(self.batches)

    @property
    def selected(self) -> np.ndarray:
        """All positions so far, in the order of the rounds."""
        return np.concatenate(self.batches) if self.batches else np.empty(0, np.int64)

    @property
    def done(self) -> bool:
        """Whether all rounds were drawn and scored."""
        return self.round == len(self.round_sizes) and not len(self.to_score)

    def next_batch(self) -> np.ndarray:
        """Draw the next round: counts by the weights, inside a cluster as the selector does; never a row twice.

        Clusters that are exhausted pass their share to the others.
        """
        if len(self.to_score):
            raise InputError("next_batch", f"round {self.round} without its scores", "update(scores) first")
        if self.round == len(self.round_sizes):
            raise InputError("next_batch", f"round {self.round + 1}", f"at most {len(self.round_sizes)} rounds")
        selector = self.selector
        free = self._free()
        left = np.bincount(selector.labels_[free], minlength=len(self.weights))
        counts = allocate_budget(left, int(self.round_sizes[self.round]), self.weights)
        batch = selector.draw(counts, free, self._rng(0))
        self.batches.append(batch)
        self.to_score = self._probe() if self.probe else self.selected
        return batch

    def update(self, scores: Any) -> np.ndarray:
        """Take one score for each of ``to_score``, and return the new weights.

        A missing score (NaN) counts as the median of its cluster's others. Warns where most scores are 0.
        """
        if not len(self.to_score):
            raise InputError("update", "scores before a batch", "next_batch() first")
        try:
            given = np.asarray(scores, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError("scores", f"what is no number ({error})", "finite numbers or NaN") from None
        if given.shape != self.to_score.shape or np.isinf(given).any():
            raise InputError("scores", f"shape {given.shape}", f"{len(self.to_score)} finite numbers or NaN")
        labels, k = self.selector.labels_[self.to_score], len(self.weights)
        self.missing_scores += int(np.isnan(given).sum())
        warn_if_inert(given)
        means, counts = cluster_scores(given, labels, k)
        if counts.any() and np.isnan(given).any():
            filled, _ = fill_missing(given, labels, k)
            means = np.where(counts > 0, cluster_scores(filled, labels, k)[0], np.nan)
        reference = self.weight_history[0]
        self.weights = update_weights(self.weights, means, reference=reference, **self.options)
        self.weight_history.append(self.weights)
        self.score_history.append((self.to_score, given))
        self.to_score = np.empty(0, np.int64)
        return self.weights

    def save(self, path: str | Path) -> None:
        """Write all to one ``.npz`` file, replaced in one step: the clusters, the draws, the weights, the scores."""
        from paperworks.runs.files import replace_file

        selector = self.selector
        arrays = {name: getattr(selector, name) for name in ARRAYS}
        if selector.quality_ is not None:
            arrays["quality_"] = selector.quality_
        arrays |= {f"batch_{i}": b for i, b in enumerate(self.batches)}
        for i, (rows, found) in enumerate(self.score_history):
            arrays |= {f"scored_{i}": rows, f"scores_{i}": found}
        meta = {
            "selector": {n: v for n, v in selector.get_params().items() if n not in ("progress", "kmeans", "grid")},
            "options": self.options,
            "probe": self.probe,
            "rounds": self.round,
            "scored": len(self.score_history),
            "missing": self.missing_scores,
            "seed": self.seed,
        }
        path = Path(path)
        with replace_file(path) as aside, aside.open("wb") as out:
            np.savez(
                out,
                **arrays,
                round_sizes=self.round_sizes,
                weight_history=np.array(self.weight_history),
                to_score=self.to_score,
                meta=np.array(json.dumps(meta, default=_plain)),
            )

    @classmethod
    def load(cls, path: str | Path) -> IterationState:
        """Read back what ``save`` wrote. Raises InputError for anything else."""
        try:
            with np.load(Path(path), allow_pickle=False) as stored:
                held = {name: stored[name] for name in stored.files}
            meta = json.loads(str(held["meta"]))
            selector = KMeansSelector(**meta["selector"])
            for name in ARRAYS:
                setattr(selector, name, held[name])
            selector.quality_ = held.get("quality_")
            selector.n_missing_quality_, selector.silhouette_ = 0, None
            history = list(held["weight_history"])
            state = cls(selector, held["round_sizes"], history[0], probe=meta["probe"], **meta["options"])
            state.batches = [held[f"batch_{i}"] for i in range(meta["rounds"])]
            state.score_history = [(held[f"scored_{i}"], held[f"scores_{i}"]) for i in range(meta["scored"])]
            state.weight_history, state.weights = history, history[-1]
            state.to_score, state.missing_scores = held["to_score"], meta["missing"]
            state.seed = int(meta.get("seed", state.seed))
        except (OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile, zlib.error) as error:
            raise InputError("path", f"{path} ({error})", "a file that IterationState.save wrote") from error
        return state

    def _free(self) -> np.ndarray:
        free = self.selector.eligible_.copy()
        free[self.selected] = False
        return free

    def _probe(self) -> np.ndarray:
        """Rows of every cluster that are not selected, as many as ``probe`` where there are."""
        free = self._free()
        rows = np.flatnonzero(free)
        labels = self.selector.labels_[rows]
        have = np.bincount(labels, minlength=len(self.weights))
        if not len(rows):
            raise InputError("feedback", "probe, with every row selected", "selected, or a budget below all rows")
        return rows[draw_by_weight(np.zeros(len(rows)), labels, np.minimum(have, self.probe), self._rng(1))]

    def _rng(self, stream: int) -> np.random.Generator:
        """Of the round and the purpose, so that a loaded state draws what an unbroken one does."""
        return np.random.default_rng([self.seed, self.round, stream])


def _plain(number: Any) -> Any:
    """A number of numpy as one of Python, which JSON takes."""
    if isinstance(number, np.generic):
        return number.item()
    raise TypeError(f"{type(number).__name__} in the options of a selection")
