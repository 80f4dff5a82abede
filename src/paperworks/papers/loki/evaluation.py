"""What a prediction is worth beside what it must be compared with: argmax, the best constant, the best reachable label.

On a tree whose inner nodes are labels, the mean squared distance rewards predictions near the centre. A gain over
argmax alone says little: the best constant prediction, and Loki confined to the leaves, stand beside it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.loki.frechet import FrechetMean
from paperworks.papers.loki.graphs import TreeSpace
from paperworks.papers.loki.loci import locus
from paperworks.papers.loki.spaces import LabelSpace


@dataclass(frozen=True)
class Score:
    """How far predictions are from the truth.

    Attributes
    ----------
    squared : mean of d(y, prediction)^2, the objective.
    distance : mean of d(y, prediction).
    accuracy : share of predictions that are right.
    unobserved : share of predictions that are labels the classifier never saw.
    distinct : number of different labels predicted.
    precision, recall : of ancestors (hierarchical precision and recall), on trees; NaN elsewhere.
    """

    name: str
    squared: float
    distance: float
    accuracy: float
    unobserved: float
    distinct: int
    precision: float = float("nan")
    recall: float = float("nan")

    def to_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


def score(name: str, space: LabelSpace, truth: np.ndarray, predicted: np.ndarray, observed: np.ndarray) -> Score:
    """Compare predictions with the truth; both are indices of labels, int ``[B]``."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or not len(truth):
        raise InputError("truth", f"{len(truth)} labels for {len(predicted)} predictions", "one label per prediction")
    d = space.paired(truth, predicted)
    precision, recall = _of_ancestors(space, truth, predicted)
    return Score(
        name,
        float((d**2).mean()),
        float(d.mean()),
        float((truth == predicted).mean()),
        float((~np.isin(predicted, observed)).mean()),
        len(np.unique(predicted)),
        precision,
        recall,
    )


def _of_ancestors(space: LabelSpace, truth: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Hierarchical precision and recall: shared ancestors (without the root) over those of each side."""
    if not isinstance(space, TreeSpace) or space.degree.max() <= 2:  # a path has no hierarchy
        return float("nan"), float("nan")
    level = np.zeros(space.n_nodes)
    hops = np.ones(space.n_nodes)
    from paperworks.papers.loki import kernels

    kernels.descend(space.parent, hops, level)
    a, b = space.node[truth], space.node[predicted]
    shared = level[space.common_ancestor(a, b)].sum()
    return (
        float(shared / level[b].sum()) if level[b].sum() else float("nan"),
        float(shared / level[a].sum()) if level[a].sum() else float("nan"),
    )


def best_constant(space: LabelSpace, labels: np.ndarray, *, among: np.ndarray | None = None) -> int:
    """The single label of least mean squared distance to ``labels`` (indices), of all or of those ``among``."""
    present, count = np.unique(np.asarray(labels), return_counts=True)
    variance = FrechetMean(space, present).variances(count[None] / count.sum())[0]
    chosen = np.arange(len(space)) if among is None else np.asarray(among)
    return int(chosen[int(np.argmin(variance[chosen]))])


def restricted(mean: FrechetMean, weights: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Loki with outputs confined to some labels (the leaves, say): int64 ``[B]``."""
    among = np.asarray(among)
    out = np.empty(len(weights), dtype=np.int64)
    step = max(1, 2**24 // len(mean.space))
    for at in range(0, len(weights), step):
        part = mean.variances(weights[at : at + step])[:, among]
        out[at : at + step] = among[np.argmin(part, axis=1)]
    return out


def evaluate(
    mean: FrechetMean,
    weights: np.ndarray,
    truth: np.ndarray,
    *,
    training_labels: np.ndarray | None = None,
    reached: np.ndarray | None = None,
) -> list[Score]:
    """Loki beside its rivals on labelled rows.

    Parameters
    ----------
    weights : probabilities of the observed labels, float ``[B, K]``.
    truth : indices of the true labels, int ``[B]``.
    training_labels : labels that the best constant prediction is chosen on; those of the observed labels, once each,
        without them.
    reached : the locus, if known; computed where that is cheap (trees), else left out.

    Returns
    -------
    scores of: loki, argmax, minimum expected distance, the best constant, loki confined to leaves (trees with labelled
    inner nodes), and the oracle that predicts the nearest reachable label (a lower bound for any rule).
    """
    space, observed = mean.space, mean.observed
    argmax = observed[np.argmax(weights, axis=1)]
    constant = best_constant(space, observed if training_labels is None else training_labels)
    found = [
        score("Loki", space, truth, mean.predict(weights), observed),
        score("argmax", space, truth, argmax, observed),
        score("least expected distance", space, truth, mean.expected_cost(weights, 1), observed),
        score("best constant label", space, truth, np.full(len(truth), constant), observed),
    ]
    if isinstance(space, TreeSpace) and space.whole:
        leaves = space.leaves()
        if 0 < len(leaves) < len(space) and len(leaves) > 2:
            found.append(score("Loki, leaves only", space, truth, restricted(mean, weights, leaves), observed))
        if reached is None:
            reached = locus(space, observed)
    if reached is not None:
        nearest = np.empty(len(truth), dtype=np.int64)
        for label in np.unique(truth).tolist():
            nearest[truth == label] = reached[int(np.argmin(space.distances([label], reached)[0]))]
        found.append(score("nearest reachable label", space, truth, nearest, observed))
    return found
