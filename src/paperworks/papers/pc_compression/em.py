"""Expectation maximisation of a hidden Chow-Liu tree: parameters, passes over batches, mini-batch and full steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from paperworks.errors import InputError
from paperworks.papers.pc_compression import passes
from paperworks.papers.pc_compression.structure import Tree
from paperworks.runs.files import replace_file

if TYPE_CHECKING:
    from paperworks.papers.pc_compression.hclt import HCLT

TILE = 512
"""Samples that go through the tree together; their rows are a few ten megabytes for images of 28 x 28."""


@dataclass
class Parameters:
    """The weights of a hidden Chow-Liu tree with K latent states over D variables of C categories.

    ``prior`` [K] of the root's state. ``transitions`` [J, K, K] (parent's state, own state) of the inner nodes in the
    order of ``passes.Layout.inner``; the last one is the root's and unused. ``inputs`` [D, C + 1, K]: probability of a
    category given the state; the last category stands for a missing value and is all ones.
    """

    prior: np.ndarray
    transitions: np.ndarray
    inputs: np.ndarray

    @classmethod
    def random(
        cls, n_inner: int, n_variables: int, n_categories: int, n_latents: int, spread: float, rng: np.random.Generator
    ) -> Parameters:
        """Weights proportional to exp(-spread * u), u uniform in [0, 1): float32."""

        def draw(*shape: int) -> np.ndarray:
            return np.exp(-spread * rng.random(shape, dtype=np.float32), dtype=np.float32)

        prior, transitions = draw(n_latents), draw(n_inner, n_latents, n_latents)
        inputs = np.ones((n_variables, n_categories + 1, n_latents), dtype=np.float32)
        inputs[:, :-1] = draw(n_variables, n_categories, n_latents)
        inputs[:, :-1] /= inputs[:, :-1].sum(1, keepdims=True)
        return cls(prior / prior.sum(), transitions / transitions.sum(2, keepdims=True), inputs)

    def zeros(self) -> Parameters:
        """Arrays of the same shapes, all zero: to count flows in."""
        return Parameters(np.zeros_like(self.prior), np.zeros_like(self.transitions), np.zeros_like(self.inputs))

    def astype(self, dtype: type) -> Parameters:
        """A copy in another type."""
        return Parameters(*(array.astype(dtype) for array in self.arrays()))

    def copy(self) -> Parameters:
        """A copy."""
        return Parameters(*(array.copy() for array in self.arrays()))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three arrays."""
        return self.prior, self.transitions, self.inputs

    def save(self, path: Path, **more: Any) -> None:
        """Write to ``path`` (.npz), aside first."""
        with replace_file(path) as aside, aside.open("wb") as out:
            np.savez(out, prior=self.prior, transitions=self.transitions, inputs=self.inputs, **more)  # type: ignore[arg-type]

    @property
    def size(self) -> int:
        """Number of weights in use."""
        k = len(self.prior)
        return (
            (len(self.transitions) - 1) * k * k
            + k
            + (self.inputs.size // self.inputs.shape[1]) * (self.inputs.shape[1] - 1)
        )


@dataclass(frozen=True)
class Phase:
    """Epochs of mini-batch EM whose inertia (the weight of the old parameters) rises linearly; or of full-batch EM."""

    epochs: int
    start: float = 0.0
    end: float = 0.0
    full: bool = False

    def inertia(self, epoch: int) -> float:
        """Inertia of one epoch of this phase, 0 for the full-batch one."""
        if self.full:
            return 0.0
        return self.start + (self.end - self.start) * epoch / max(1, self.epochs - 1)


OFFICIAL = (Phase(100, 0.2, 0.9), Phase(100, 0.9, 0.95), Phase(20, full=True))
"""The schedule of the authors' MNIST example."""


class _Workspace:
    """Buffers of one thread, grown to what the tiles need."""

    def __init__(self) -> None:
        self.pools: tuple[np.ndarray, ...] = ()
        self.flows: Parameters | None = None

    def ensure(self, rows: int, k: int, dtype: np.dtype, n_pools: int) -> tuple[np.ndarray, ...]:
        if len(self.pools) < n_pools + 1 or self.pools[0].shape[0] < rows or self.pools[0].dtype != dtype:
            room = int(rows * 1.1) + 16
            self.pools = (*(np.empty((room, k), dtype) for _ in range(n_pools)), np.empty(room))
        return self.pools


@dataclass
class Passes:
    """Batches of samples through one tree: log-likelihoods, flows, messages.

    ``background`` [D] is the value of each variable that most samples have; it only decides what is shared.
    """

    tree: Tree
    background: np.ndarray
    n_jobs: int = 1
    layout: passes.Layout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = passes.layout_of(self.tree)
        self.background = np.ascontiguousarray(self.background, dtype=np.uint16)
        self._spaces = [_Workspace() for _ in range(self.n_jobs)]

    def log_likelihood(self, parameters: Parameters, codes: np.ndarray) -> np.ndarray:
        """log p(x) in nats, float64 [N], of ``codes`` [N, D] (C stands for missing), in the parameters' precision."""
        result = np.empty(len(codes))
        edges = np.ascontiguousarray(parameters.transitions.transpose(0, 2, 1))

        def work(space: _Workspace, tiles: Iterable[slice]) -> None:
            for tile in tiles:
                self._up(space, parameters, edges, codes[tile], result[tile], 2)

        self._spread(work, len(codes))
        return result

    def expect(self, parameters: Parameters, codes: np.ndarray) -> tuple[Parameters, np.ndarray]:
        """The E-step: flows of all weights over ``codes`` (still without the factor ``transitions``), and log p [N].

        The returned flows are overwritten by the next call.
        """
        result = np.empty(len(codes))
        edges = np.ascontiguousarray(parameters.transitions.transpose(0, 2, 1))
        for space in self._spaces:
            if space.flows is None or space.flows.inputs.dtype != parameters.inputs.dtype:
                space.flows = parameters.zeros()
            for array in space.flows.arrays():
                array[...] = 0

        def work(space: _Workspace, tiles: Iterable[slice]) -> None:
            assert space.flows is not None
            for tile in tiles:
                up = self._up(space, parameters, edges, codes[tile], result[tile], 4)
                columns, rows, offsets, (values, messages, flows, posterior, _) = up
                passes.downward(
                    columns,
                    self.background,
                    self.layout,
                    rows,
                    offsets,
                    parameters.inputs,
                    parameters.transitions,
                    parameters.prior,
                    values,
                    messages,
                    flows,
                    posterior,
                    space.flows.inputs,
                    space.flows.transitions,
                    space.flows.prior,
                )

        self._spread(work, len(codes))
        total = self._spaces[0].flows
        assert total is not None
        for space in self._spaces[1:]:
            assert space.flows is not None
            for array, other in zip(total.arrays(), space.flows.arrays(), strict=True):
                array += other
        return total, result

    def _up(
        self,
        space: _Workspace,
        parameters: Parameters,
        edges: np.ndarray,
        codes: np.ndarray,
        result: np.ndarray,
        n_pools: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        columns = np.ascontiguousarray(codes.T, dtype=np.uint16)
        rows, counts = passes.activity(columns, self.background, self.layout)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        pools = space.ensure(int(offsets[-1]), len(parameters.prior), parameters.inputs.dtype, n_pools)
        passes.upward(
            columns,
            self.background,
            self.layout,
            rows,
            offsets,
            parameters.inputs,
            edges,
            pools[0],
            pools[1],
            pools[-1],
        )
        passes.root_log_likelihood(rows, offsets, parameters.prior, pools[0], pools[-1], result)
        return columns, rows, offsets, pools

    def _spread(self, work: Callable[[_Workspace, Iterable[slice]], None], n: int) -> None:
        tile = TILE if self.n_jobs == 1 else max(1, min(TILE, -(-n // self.n_jobs)))
        tiles = [slice(start, min(start + tile, n)) for start in range(0, n, tile)]
        with threadpool_limits(1, user_api="blas"):
            if self.n_jobs == 1 or len(tiles) < 2:
                work(self._spaces[0], tiles)
                return
            with ThreadPoolExecutor(self.n_jobs) as pool:
                shares = [tiles[i :: self.n_jobs] for i in range(self.n_jobs)]
                for one in [pool.submit(work, s, t) for s, t in zip(self._spaces, shares, strict=True)]:
                    one.result()


def maximise(parameters: Parameters, flows: Parameters, pseudocount: float, inertia: float) -> None:
    """The M-step, in place. ``flows`` as ``Passes.expect`` returned them; they are used up."""
    passes.maximise(*parameters.arrays(), *flows.arrays(), float(pseudocount), float(inertia))


def epochs_of(schedule: Sequence[Phase]) -> Iterator[tuple[bool, float]]:
    """``(full batch, inertia)`` of every epoch of a schedule."""
    for phase in schedule:
        for epoch in range(phase.epochs):
            yield phase.full, phase.inertia(epoch)


def identity_of(model: HCLT, plan: object, codes: np.ndarray, held: np.ndarray | None) -> str:
    """Digest of what decides the weights of every epoch of a fit: rows, tree, first weights (the seed), options."""
    digest = hashlib.sha256(repr([plan, int(model.batch_size), float(model.pseudocount)]).encode())
    first = (model.tree_.parents, *model.parameters_.arrays())
    for array in (codes, np.zeros(0) if held is None else held, *first):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def run_epoch(
    machine: Passes,
    parameters: Parameters,
    codes: np.ndarray,
    *,
    full: bool,
    inertia: float,
    batch_size: int,
    pseudocount: float,
    rng: np.random.Generator,
) -> float:
    """One epoch in place; returns the mean log-likelihood in nats of the samples as they were met.

    Mini-batches are reshuffled, and the last incomplete one is dropped.
    """
    if full:
        flows, found = machine.expect(parameters, codes)
        maximise(parameters, flows, pseudocount, 0.0)
        return float(found.mean())
    size = min(batch_size, len(codes))
    order = rng.permutation(len(codes))
    total, seen = 0.0, 0
    for start in range(0, len(codes) - size + 1, size):
        flows, found = machine.expect(parameters, codes[np.sort(order[start : start + size])])
        maximise(parameters, flows, pseudocount, inertia)
        total += float(found.sum())
        seen += size
    mean = total / seen
    if not np.isfinite(mean):
        raise InputError(
            "pseudocount", f"{pseudocount}, with which some rows have probability 0", "a pseudocount above 0"
        )
    return mean
