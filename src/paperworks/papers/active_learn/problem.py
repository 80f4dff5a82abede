"""Games of active learning: queries, outputs, the law of the answers, the loss, and what nature may choose."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.active_learn.inputs_check import (
    DTYPE,
    Box,
    are_indices,
    check_loss,
    check_means,
    check_span,
    matrix,
    merge_equal_rows,
    threshold_outputs,
    useful_queries,
)
from paperworks.papers.active_learn.observations import (
    HIGH,
    LOW,
    Binary,
    Observation,
    ObservationName,
    make_observation,
)

Loss = Literal["error", "regret"]


class QueryWarning(UserWarning):
    """Something about the queries that a user should know: one was dropped, items were merged."""


class ActiveProblem:
    """A game of ``horizon`` queries and one output at the end (the paper's section on the minimax game).

    An *instance* is what nature chose: a row of theta ``[n, d]`` (float) where ``theta_set`` is a box, an index
    ``[n]`` (int64) where it is a finite array. The mean answer of query x is <x, theta>, or ``link(theta)[x]``.

    Parameters
    ----------
    queries : X ``[queries, d]``.
    outputs : Z ``[outputs, d]``, or how many outputs there are where the loss is a matrix.
    observation : ``gaussian`` (real answers), ``bernoulli`` (0 or 1 with mean p), ``sign`` (-1 or 1), or a function
        from theta ``[n, d]`` (a tensor) to P(answer = 1) ``[n, queries]``, differentiable for a box.
    loss : ``error``: 1 for an output that is not argmax <z, theta>; ``regret``: max <z, theta> - <z_hat, theta>;
        or a matrix ``[thetas, outputs]`` for a finite set.
    horizon : T, how many queries are asked.
    theta_set : a ``Box``, or an array ``[thetas, d]``.
    sigma : standard deviation of a Gaussian answer.
    symmetric : whether relabelling queries and outputs together gives the same game (best arm).

    Raises
    ------
    InputError : (a ValueError) no outputs, two equal outputs, horizon 0, theta with NaN, probabilities outside 0 to 1,
        queries that do not tell outputs apart (the complexity would be infinite for all theta). A query with no effect
        on any theta is dropped with a ``QueryWarning``.
    """

    def __init__(
        self,
        queries: ArrayLike,
        outputs: ArrayLike | int,
        observation: ObservationName | Observation | Callable[[torch.Tensor], torch.Tensor] = "gaussian",
        loss: Loss | ArrayLike = "error",
        horizon: int = 20,
        theta_set: Box | ArrayLike | None = None,
        sigma: float = 1.0,
        *,
        query_names: Sequence[str] = (),
        output_names: Sequence[str] = (),
        symmetric: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        x = matrix("queries", queries)
        z = None if isinstance(outputs, (int, np.integer)) else matrix("outputs", outputs)
        n_outputs = int(outputs) if z is None else len(z)  # type: ignore[arg-type]
        if n_outputs < 1:
            raise InputError("outputs", "none", "at least one")
        if int(horizon) < 1:
            raise InputError("horizon", horizon, "at least 1 query")
        link = observation if callable(observation) else None
        if isinstance(observation, str):
            observation = make_observation(observation, sigma)
        elif link is not None:
            observation = Binary()
        law: Observation = observation  # type: ignore[assignment]
        names = tuple(map(str, query_names)) or tuple(f"query {i + 1}" for i in range(len(x)))
        titles = tuple(map(str, output_names)) or tuple(f"output {i + 1}" for i in range(n_outputs))
        for option, given, count in (("query_names", names, len(x)), ("output_names", titles, n_outputs)):
            if len(given) != count or len(set(given)) != count:
                raise InputError(option, f"{len(set(given))} different names", f"{count}, one each")
        probabilities = isinstance(law, Binary) and law.low == 0 and link is None
        thetas = (Box(LOW, HIGH) if probabilities else Box()) if theta_set is None else theta_set
        if not isinstance(thetas, Box):
            thetas = matrix("theta_set", thetas)
        losses = None if isinstance(loss, str) else matrix("loss", loss)
        kind = str(loss) if losses is None else "matrix"
        check_loss(kind, losses, z, n_outputs, thetas, x.shape[1])
        kept, said = useful_queries(x, names, thetas, link)
        for text in said:
            warnings.warn(text, QueryWarning, stacklevel=2)
        self.queries = x[kept]
        self.outputs = z
        self.observation = law
        self.loss = kind
        self.horizon = int(horizon)
        self.theta_set = thetas
        self.loss_matrix = losses
        self.link = link
        self.query_names = tuple(names[i] for i in kept)
        self.output_names = titles
        self.symmetric = symmetric
        self.notes = (*map(str, notes), *said)
        self._kept = kept
        self._means: torch.Tensor | None = None
        if isinstance(thetas, torch.Tensor):
            self._means = (thetas @ self.queries.T if link is None else link(thetas)[:, kept]).to(DTYPE)
            check_means(law, self._means)
        elif z is not None and link is None:
            check_span(self.queries, z)

    # -- sizes ----------------------------------------------------------------------------------------------------

    @property
    def n_queries(self) -> int:
        return len(self.queries)

    @property
    def n_outputs(self) -> int:
        return len(self.output_names)

    @property
    def arms(self) -> bool:
        """Whether the game is symmetric, with the unit vectors e_1 .. e_K as queries and as outputs."""
        unit = torch.eye(self.n_queries, dtype=self.queries.dtype)
        same = self.outputs is not None and torch.equal(self.queries, unit) and torch.equal(self.outputs, unit)
        return self.symmetric and same

    @property
    def finite(self) -> bool:
        """Whether nature chooses from a finite array."""
        return not isinstance(self.theta_set, Box)

    @property
    def thetas(self) -> torch.Tensor:
        """The finite set ``[thetas, d]``. Raises InputError for a box."""
        if isinstance(self.theta_set, Box):
            raise InputError("theta_set", "a box", "a finite array of theta")
        return self.theta_set

    @property
    def box(self) -> Box:
        """The box. Raises InputError for a finite set."""
        if not isinstance(self.theta_set, Box):
            raise InputError("theta_set", "a finite array", "a Box")
        return self.theta_set

    @property
    def scale(self) -> float:
        """Factor on the complexity of unit variance: sigma^2, or the largest variance of a two-valued answer."""
        law = self.observation
        return (law.high - law.low) ** 2 / 4 if isinstance(law, Binary) else law.sigma**2

    def with_horizon(self, horizon: int) -> ActiveProblem:
        """The same game with another number of queries."""
        if horizon < 1:
            raise InputError("horizon", horizon, "at least 1 query")
        other = copy.copy(self)
        other.horizon = int(horizon)
        return other

    # -- instances ------------------------------------------------------------------------------------------------

    def instances(self, thetas: ArrayLike | torch.Tensor | None = None) -> torch.Tensor:
        """Instances as the other methods take them: all of a finite set for None; rows of a finite set as indices.

        Raises InputError for rows that are not in the finite set, and outside the box for a wrong shape or NaN.
        """
        if thetas is None:
            return torch.arange(len(self.thetas))
        if self.finite and are_indices(thetas):
            index = torch.as_tensor(np.asarray(thetas), dtype=torch.int64).reshape(-1)
            if len(index) == 0 or not bool(((index >= 0) & (index < len(self.thetas))).all()):
                raise InputError(
                    "thetas", str(index.tolist()[:5]), f"one or more indices from 0 to {len(self.thetas) - 1}"
                )
            return index
        rows = matrix("thetas", np.atleast_2d(np.asarray(thetas, dtype=np.float64)))
        if rows.shape[1] != self.queries.shape[1] and self.link is None:
            raise InputError("thetas", f"{rows.shape[1]} numbers each", f"{self.queries.shape[1]}, as queries have")
        if not self.finite:
            return rows
        far = (rows[:, None] - self.thetas[None]).abs().amax(-1)
        nearest = far.argmin(1)
        if bool((far.amin(1) > 1e-6).any()):
            raise InputError("thetas", "a row that is not in theta_set", "rows of theta_set, or their indices")
        return nearest

    def means(self, instances: torch.Tensor) -> torch.Tensor:
        """Mean answers ``[n, queries]``."""
        if self._means is not None:
            return self._means[instances]
        if self.link is None:
            return instances @ self.queries.T
        return self.link(instances)[:, self._kept]

    def losses(self, instances: torch.Tensor) -> torch.Tensor:
        """Loss of each output ``[n, outputs]``."""
        if self.loss_matrix is not None:
            return self.loss_matrix[instances]
        values = self.values(instances)
        if self.loss == "regret":
            return values.amax(1, keepdim=True) - values
        return (values < values.amax(1, keepdim=True)).to(DTYPE)

    def values(self, instances: torch.Tensor) -> torch.Tensor:
        """<z, theta> ``[n, outputs]``; minus the loss where it is a matrix."""
        if self.outputs is None:
            return -self.losses(instances)
        rows = self.thetas[instances] if self.finite else instances
        return rows @ self.outputs.T

    def best(self, instances: torch.Tensor) -> torch.Tensor:
        """z*(theta): the right output ``[n]``; the first of several."""
        return self.losses(instances).argmin(1)

    def complexity(self, theta: ArrayLike | int) -> tuple[float, np.ndarray]:
        """C(theta) and the design that attains it: see ``complexity``."""
        from paperworks.papers.active_learn.designs import complexity

        return complexity(self, theta)

    def sample_class(self, radius: float, n: int, seed: int = 0) -> torch.Tensor:
        """Random instances with C(theta) <= radius: see ``classes.sample_class``."""
        from paperworks.papers.active_learn.classes import sample_class

        return sample_class(self, radius, n, torch.Generator().manual_seed(seed))

    # -- constructors ---------------------------------------------------------------------------------------------

    @classmethod
    def best_arm(
        cls,
        arms: int,
        horizon: int = 20,
        observation: ObservationName = "gaussian",
        loss: Loss = "error",
        theta_set: Box | ArrayLike | None = None,
        sigma: float = 1.0,
        names: Sequence[str] = (),
    ) -> ActiveProblem:
        """Best-arm identification: X = Z = {e_1 .. e_K}. Bernoulli arms have means from 0.02 to 0.98."""
        if arms < 2:
            raise InputError("arms", arms, "at least 2")
        names = names or [f"arm {i + 1}" for i in range(arms)]
        return cls(
            np.eye(arms),
            np.eye(arms),
            observation,
            loss,
            horizon,
            theta_set,
            sigma,
            query_names=names,
            output_names=names,
            symmetric=True,
        )

    @classmethod
    def thresholds(
        cls,
        n: int,
        horizon: int = 20,
        loss: Loss = "error",
        theta_set: Box | ArrayLike | None = None,
    ) -> ActiveProblem:
        """Binary classification of n points on a line: z_j(i) = 1{i >= j}, j = 0..n; answers are -1 or 1."""
        if n < 1:
            raise InputError("n", n, "at least 1 point")
        return cls(
            np.eye(n),
            threshold_outputs(n),
            "sign",
            loss,
            horizon,
            theta_set,
            query_names=[f"point {i + 1}" for i in range(n)],
            output_names=[f"cut {j}" for j in range(n + 1)],
        )

    @classmethod
    def flipped_thresholds(cls, hypotheses: int, flip: float, horizon: int) -> ActiveProblem:
        """n hypotheses on n - 1 points: the answer of point i is 1{i >= j}, flipped with probability ``flip``."""
        if hypotheses < 2:
            raise InputError("hypotheses", hypotheses, "at least 2")
        outputs = threshold_outputs(hypotheses - 1)
        return cls.twenty_questions(
            flip + (1 - 2 * flip) * outputs,
            horizon,
            questions=[f"point {i + 1}" for i in range(hypotheses - 1)],
            items=[f"cut {j}" for j in range(hypotheses)],
        )

    @classmethod
    def transductive(
        cls,
        queries: ArrayLike,
        outputs: ArrayLike,
        horizon: int = 20,
        observation: ObservationName = "gaussian",
        loss: Loss = "error",
        theta_set: Box | ArrayLike | None = None,
        sigma: float = 1.0,
        query_names: Sequence[str] = (),
        output_names: Sequence[str] = (),
    ) -> ActiveProblem:
        """Linear bandits where queries X and outputs Z are any sets of vectors of R^d."""
        return cls(
            queries,
            outputs,
            observation,
            loss,
            horizon,
            theta_set,
            sigma,
            query_names=query_names,
            output_names=output_names,
        )

    @classmethod
    def twenty_questions(
        cls,
        p_yes: ArrayLike,
        horizon: int = 20,
        items: Sequence[str] = (),
        questions: Sequence[str] = (),
        noise: float = 0.0,
    ) -> ActiveProblem:
        """20 Questions: ``p_yes[item, question]`` is P(yes); the output is the item.

        ``noise`` is the chance that an answer is flipped. Items with equal rows cannot be told apart: they become one,
        with a note.
        """
        p = matrix("p_yes", p_yes)
        if not bool(((p >= 0) & (p <= 1)).all()):
            raise InputError("p_yes", f"values from {p.min():g} to {p.max():g}", "probabilities from 0 to 1")
        if not 0 <= noise < 0.5:
            raise InputError("noise", noise, "a chance from 0 to below 0.5")
        names = list(map(str, items)) or [f"item {i + 1}" for i in range(len(p))]
        if len(names) != len(p):
            raise InputError("items", f"{len(names)} names", f"{len(p)}, one each")
        p, names, said = merge_equal_rows(p, names)
        if len(p) < 2:
            raise InputError(
                "p_yes", "questions that separate nothing: all items have equal rows", "two different rows"
            )
        p = noise + (1 - 2 * noise) * p
        for text in said:
            warnings.warn(text, QueryWarning, stacklevel=2)
        return cls(
            np.eye(p.shape[1]),
            len(p),
            "bernoulli",
            1 - np.eye(len(p)),
            horizon,
            p,
            query_names=questions,
            output_names=names,
            notes=said,
        )

    @classmethod
    def archetypes(
        cls,
        ratings: ArrayLike,
        k: int,
        horizon: int = 20,
        recommend: int = 1,
        items: Sequence[str] = (),
        seed: int = 0,
    ) -> ActiveProblem:
        """Recommendation: queries are items, outputs archetypes (clusters of users), the loss is the regret.

        ``ratings`` is ``[users, items]`` with NaN where missing; see ``archetypes.find_archetypes``.
        """
        from paperworks.papers.active_learn.archetypes import archetype_problem, find_archetypes

        return archetype_problem(find_archetypes(ratings, k, recommend, seed), horizon, items)
