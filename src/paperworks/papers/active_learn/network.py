"""The policy network: from the history's sufficient statistics to logits of queries and of outputs.

    counts / T, sums / T, t / T, log posterior? -> hidden layers -> + guide -> query logits, output logits
                                                                      |
        posterior under a trained prior -> information of each query, mass of each output

For a finite set the log likelihood of a history is linear in counts and sums. The *guide* adds to the logits what the
posterior says: the information of a query and the log of an output's posterior mass, each times a trained factor, under
a trained prior. The last layers start at 0, so that training starts from a randomised Bayesian policy. Three forms of
the rest: ``mlp``; ``deepsets``, whose arms share an encoder so that relabelled arms give relabelled outputs; ``gru``.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn

from paperworks.nn.saving import SavedNetwork, require
from paperworks.papers.active_learn.observations import Binary, Gaussian
from paperworks.papers.active_learn.policies import History
from paperworks.papers.active_learn.problem import ActiveProblem

NetworkKind = Literal["auto", "mlp", "deepsets", "gru"]
ARM_FEATURES = 5
QUERY_FACTOR, OUTPUT_FACTOR = 10.0, 2.0
"""Of the information of a query, in nats, and of the log of an output's mass, at the start of short games."""
SHORT = 4
"""Queries of a short game. In longer ones the guide starts sharper, since each query counts for less."""
SOFTENED = 0.25
LOG_SCALE = 5.0
"""Log posteriors are divided by it, and cut at -4 of these units."""


class PolicyNetwork(SavedNetwork):
    """The network of a learned policy.

    Parameters
    ----------
    kind : mlp, deepsets (queries and outputs are the same arms) or gru.
    n_queries, n_outputs, horizon : of the game.
    hidden : widths of the hidden layers; a GRU's state has the first.
    n_thetas : size of a finite set, which the guide needs; 0 for none.
    n_dims : dimension d of a box, whose ridge estimate guides the outputs; 0 for none.
    low, high : the two answers; sigma : of real answers (low and high None).
    """

    count_table: torch.Tensor
    sum_table: torch.Tensor
    means: torch.Tensor
    gains: torch.Tensor
    query_rows: torch.Tensor
    output_rows: torch.Tensor
    middle: torch.Tensor

    def __init__(
        self,
        *,
        kind: str = "mlp",
        n_queries: int = 2,
        n_outputs: int = 2,
        horizon: int = 1,
        hidden: Any = (256, 256, 256),
        n_thetas: int = 0,
        n_dims: int = 0,
        low: float | None = None,
        high: float | None = None,
        sigma: float = 1.0,
    ) -> None:
        super().__init__(
            kind=kind,
            n_queries=n_queries,
            n_outputs=n_outputs,
            horizon=horizon,
            hidden=list(hidden),
            n_thetas=n_thetas,
            n_dims=n_dims,
            low=low,
            high=high,
            sigma=sigma,
        )
        require("network", repr(kind), kind in ("mlp", "deepsets", "gru"), "auto, mlp, deepsets or gru")
        require("hidden", hidden, len(hidden) >= 1 and all(w >= 1 for w in hidden), "one width of 1 or more at least")
        require("network", kind, kind != "deepsets" or n_queries == n_outputs, "mlp: arms are queries and outputs")
        self.kind, self.n_queries, self.n_outputs = kind, n_queries, n_outputs
        self.horizon, self.n_thetas, self.n_dims = horizon, n_thetas, n_dims
        self.law: Binary | Gaussian = Gaussian(sigma) if low is None or high is None else Binary(low, high)
        self._make_layers(list(hidden))
        for name, shape in (
            ("count_table", (n_queries, n_thetas)),
            ("sum_table", (n_queries, n_thetas)),
            ("means", (n_thetas, n_queries)),
            ("gains", (n_thetas, n_outputs)),
            ("query_rows", (n_queries, n_dims)),
            ("output_rows", (n_outputs, n_dims)),
            ("middle", (1,)),
        ):
            self.register_buffer(name, torch.zeros(shape))
        self.log_prior = nn.Parameter(torch.zeros(n_thetas))
        self.query_factor = nn.Parameter(torch.tensor(self._first_factor))
        self.output_factor = nn.Parameter(torch.tensor(math.log(OUTPUT_FACTOR * max(1.0, horizon / SHORT))))

    @property
    def _first_factor(self) -> float:
        return math.log(QUERY_FACTOR * max(1.0, self.horizon / SHORT) ** 2)

    def _make_layers(self, hidden: list[int]) -> None:
        def stack(first: int) -> nn.Sequential:
            widths = [first, *hidden]
            layers: list[nn.Module] = []
            for a, b in pairwise(widths):
                layers += [nn.Linear(a, b), nn.ReLU()]
            return nn.Sequential(*layers)

        q, z = self.n_queries, self.n_outputs
        if self.kind == "deepsets":
            self.encoder = stack(ARM_FEATURES)
            self.body = nn.Sequential(nn.Linear(2 * hidden[-1], hidden[-1]), nn.ReLU())
            self.query_head, self.output_head = nn.Linear(hidden[-1], 1), nn.Linear(hidden[-1], 1)
        else:
            extra = q if self.n_dims else self.n_thetas  # mean answers, or the log posterior
            first = 2 * q + 1 + extra
            if self.kind == "gru":
                self.cell = nn.GRUCell(2 * q + 1, hidden[0])
                first = hidden[0] + extra
            self.body = stack(first)
            self.query_head, self.output_head = nn.Linear(hidden[-1], q), nn.Linear(hidden[-1], z)
        for head in (self.query_head, self.output_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @classmethod
    def for_problem(
        cls, problem: ActiveProblem, kind: NetworkKind = "auto", hidden: tuple[int, ...] = (256, 256, 256)
    ) -> PolicyNetwork:
        """A network of the game's sizes, with the guide's tables filled in. ``auto`` is deepsets for best arm."""
        if kind == "auto":
            kind = "deepsets" if problem.symmetric else "mlp"
        require("network", kind, kind != "deepsets" or problem.symmetric, "mlp or gru: the game is not symmetric")
        law = problem.observation
        linear = not problem.finite and problem.outputs is not None and problem.link is None
        network = cls(
            kind=kind,
            n_queries=problem.n_queries,
            n_outputs=problem.n_outputs,
            horizon=problem.horizon,
            hidden=hidden,
            n_thetas=len(problem.thetas) if problem.finite else 0,
            n_dims=problem.queries.shape[1] if linear else 0,
            low=law.low if isinstance(law, Binary) else None,
            high=law.high if isinstance(law, Binary) else None,
            sigma=law.sigma if isinstance(law, Gaussian) else 1.0,
        )
        with torch.no_grad():
            network._fill(problem)
        return network

    @torch.no_grad()
    def soften(self) -> None:
        """Take a policy that has settled on few queries as a start: the heads shrink, the guide is as at first.

        A query that is never asked has no gradient, so that a settled policy would stay as it is.
        """
        for head in (self.query_head, self.output_head):
            head.weight.mul_(SOFTENED)
            head.bias.mul_(SOFTENED)
        self.query_factor.fill_(self._first_factor)
        self.log_prior.mul_(SOFTENED)

    def _fill(self, problem: ActiveProblem) -> None:
        if problem.finite:
            everyone = problem.instances()
            means, losses = problem.means(everyone), problem.losses(everyone)
            for buffer, value in zip(
                (self.count_table, self.sum_table), self.law.log_likelihood_tables(means), strict=True
            ):
                buffer.copy_(value)
            largest = float(losses.max()) or 1.0
            self.means.copy_(means)
            self.gains.copy_(1 - losses / largest)
            if not bool(((losses == 0) | (losses == largest)).all()):
                self.output_factor.fill_(math.log(10 * OUTPUT_FACTOR * max(1.0, self.horizon / SHORT)))
        elif self.n_dims:
            assert problem.outputs is not None
            self.query_rows.copy_(problem.queries)
            self.output_rows.copy_(problem.outputs)
            self.middle.fill_(problem.box.middle)
            self.output_factor.fill_(math.log(2 * math.sqrt(self.horizon / self.n_queries / problem.scale)))

    # -- parts ----------------------------------------------------------------------------------------------------

    def log_posterior(self, history: History) -> torch.Tensor:
        """Of the finite set under the trained prior ``[n, thetas]``."""
        logs = history.counts @ self.count_table + history.sums @ self.sum_table + self.log_prior
        return logs.log_softmax(1)

    def estimate(self, history: History) -> torch.Tensor:
        """Ridge estimates of theta ``[n, d]``, drawn towards the box's middle by one answer's weight."""
        rows = self.query_rows
        residual = history.sums - history.counts * (rows.sum(1) * self.middle)
        moment = residual @ rows
        if self.n_dims == self.n_queries and torch.equal(rows, torch.eye(self.n_dims, device=rows.device)):
            return self.middle + moment / (1 + history.counts)
        gram = torch.einsum("nq,qa,qb->nab", history.counts, rows, rows) + torch.eye(self.n_dims, device=rows.device)
        return self.middle + torch.linalg.solve(gram, moment[..., None])[..., 0]

    def _features(self, history: History, logs: torch.Tensor | None) -> torch.Tensor:
        n, t = history.counts, history.step / self.horizon
        clock = n.new_full((len(history), 1), t)
        if self.kind == "gru":
            state = history.memory.get("state")
            parts = [n.new_zeros(len(history), self.cell.hidden_size) if state is None else state]
        else:
            parts = [n / self.horizon, history.sums / self.horizon, clock]
        if logs is not None:
            parts.append((logs / LOG_SCALE).clamp(min=-4.0))
        elif self.n_dims:
            parts.append(history.sums / n.clamp(min=1))
        return self.body(torch.cat(parts, 1))

    def _arms(self, history: History) -> torch.Tensor:
        n = history.counts
        clock = torch.full_like(n, history.step / self.horizon)
        mean = history.sums / n.clamp(min=1)
        each = torch.stack([n / self.horizon, history.sums / self.horizon, mean, (1 + n).rsqrt(), clock], -1)
        codes = self.encoder(each)
        pooled = codes.mean(1, keepdim=True).expand_as(codes)
        return self.body(torch.cat([codes, pooled], -1))

    def query_logits(self, history: History) -> torch.Tensor:
        """``[n, queries]``."""
        return self._logits(history, outputs=False)

    def output_logits(self, history: History) -> torch.Tensor:
        """``[n, outputs]``."""
        return self._logits(history, outputs=True)

    def _logits(self, history: History, outputs: bool) -> torch.Tensor:
        head = self.output_head if outputs else self.query_head
        logs = self.log_posterior(history) if self.n_thetas else None
        codes = None if self.kind == "deepsets" else self._features(history, logs)
        logits = head(self._arms(history))[..., 0] if codes is None else head(codes)
        if logs is not None and outputs:
            mass = (logs.exp() @ self.gains).clamp(min=1e-6)
            return logits + self.output_factor.exp() * mass.log()
        if logs is not None:
            return logits + self.query_factor.exp() * self.law.information(logs.exp(), self.means)
        if outputs and self.n_dims:
            return logits + self.output_factor.exp() * (self.estimate(history) @ self.output_rows.T)
        return logits

    def remember(self, history: History, queries: torch.Tensor, answers: torch.Tensor) -> None:
        """The GRU's step; nothing for the others. ``history`` has the answer already."""
        if self.kind != "gru":
            return
        asked = nn.functional.one_hot(queries, self.n_queries).float()
        clock = history.counts.new_full((len(history), 1), history.step / self.horizon)
        state = history.memory.get("state")
        if state is None:
            state = history.counts.new_zeros(len(history), self.cell.hidden_size)
        history.memory["state"] = self.cell(torch.cat([asked, asked * answers.float()[:, None], clock], 1), state)
