"""Recommendation as a game: which archetype of users is this one, and so what to recommend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.active_learn.observations import Binary, Gaussian
from paperworks.papers.active_learn.policies import Policy, replay
from paperworks.papers.active_learn.problem import ActiveProblem


@dataclass(frozen=True)
class Archetypes:
    """Clusters of users.

    Attributes
    ----------
    means : mean rating of each item ``[k, items]``. sizes : users of each ``[k]``.
    recommended : the items that are recommended to each ``[k, m]``, best first. sigma : of a rating around its mean.
    two_valued : whether ratings take the values -1 and 1 only.
    """

    means: np.ndarray
    sizes: np.ndarray
    recommended: np.ndarray
    sigma: float
    two_valued: bool


def find_archetypes(ratings: ArrayLike, k: int, recommend: int = 1, seed: int = 0) -> Archetypes:
    """k-means over users whose missing ratings are filled with the item's mean; means are over what was rated.

    Raises InputError for fewer different users than archetypes, and for more items to recommend than there are.
    """
    from sklearn.cluster import KMeans

    values = np.asarray(ratings, dtype=np.float64)
    if values.ndim != 2 or np.isnan(values).all(1).any() or np.isinf(values).any():
        raise InputError("ratings", "users who rated nothing, infinities, or no matrix", "ratings [users, items]")
    if not 1 <= recommend < values.shape[1]:
        raise InputError("recommend", recommend, f"from 1 to {values.shape[1] - 1}, fewer than the items")
    missing = np.isnan(values)
    if missing.all(0).any():
        column = int(missing.all(0).argmax()) + 1
        raise InputError("ratings", f"column {column}, which nobody rated", "one rating of each item or more")
    mean = np.nanmean(values, 0)
    filled = np.where(missing, mean, values)
    if not 2 <= k <= len(np.unique(filled, axis=0)):
        raise InputError("archetypes", k, f"from 2 to {len(np.unique(filled, axis=0))}, the number of different users")
    groups = KMeans(k, n_init=10, random_state=seed % 2**32).fit_predict(filled)
    # a rating of the item's overall mean is added, for items that few of a cluster rated
    rated = np.stack([(~missing[groups == g]).sum(0) for g in range(k)])
    sums = np.stack([np.where(missing[groups == g], 0, values[groups == g]).sum(0) for g in range(k)])
    means = (sums + mean) / (rated + 1)
    residual = (values - means[groups])[~missing]
    present = values[~missing]
    order = np.argsort(-means, axis=1, kind="stable")[:, :recommend]
    two_valued = bool(np.isin(present, (-1, 1)).all())
    return Archetypes(means, np.bincount(groups, minlength=k), order, max(float(residual.std()), 1e-3), two_valued)


def archetype_problem(
    found: Archetypes, horizon: int = 20, items: Sequence[str] = (), n_recommended: int | None = None
) -> ActiveProblem:
    """The game of naming a user's archetype: items are asked about, and the loss is the regret of what is recommended.

    The regret of archetype z for theta is the mean rating of theta's best items less that of z's.
    """
    means, best = found.means, found.recommended[:, :n_recommended]
    gained = means[:, best].mean(2)
    loss = np.maximum(np.diag(gained)[:, None] - gained, 0)
    if loss.max() <= 0:
        raise InputError("archetypes", "archetypes with the same recommendations", "more archetypes, or recommend 1")
    law: Binary | Gaussian = Binary(-1.0, 1.0) if found.two_valued else Gaussian(found.sigma)
    return ActiveProblem(
        np.eye(means.shape[1]),
        len(means),
        law,
        loss,
        horizon,
        means,
        query_names=items,
        output_names=[f"archetype {i + 1} ({n} users)" for i, n in enumerate(found.sizes)],
    )


def recommendation_regret(
    policy: Policy, ratings: ArrayLike, found: Archetypes, repeats: int = 20, seed: int = 3
) -> np.ndarray:
    """Regret of real users ``[users]``: they answer with their own ratings, and are recommended the archetype's items.

    The mean rating of a user's best items less that of the recommended ones, over ``repeats`` episodes. Users must have
    rated every item.
    """
    values = np.asarray(ratings, dtype=np.float64)
    if np.isnan(values).any():
        raise InputError("ratings", "missing ratings", "users who rated every item")
    generator = torch.Generator().manual_seed(seed)
    answers = torch.from_numpy(values).float().repeat(repeats, 1)
    outputs = replay(policy, answers, generator).numpy().reshape(repeats, len(values))
    m = found.recommended.shape[1]
    best = np.sort(values, axis=1)[:, -m:].mean(1)
    gained = np.stack([values[np.arange(len(values))[:, None], found.recommended[z]].mean(1) for z in outputs])
    return best - gained.mean(0)
