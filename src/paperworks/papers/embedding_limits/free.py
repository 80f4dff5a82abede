"""Free embeddings: vectors of queries and documents fitted straight to the answers.

Full-batch Adam on the softmax loss of unit vectors, with a projection to unit length after every step. Gradients are
written out, and scores are made for a chunk of queries at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import sparse

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.embedding_limits.qrels import as_qrels
from paperworks.parameters import check_seed, check_whole
from paperworks.runs import Progress, no_progress

BETAS = (0.9, 0.999)
EPSILON = 1e-8
"""Adam's constants."""
SAFE_EXPONENT = 60.0
"""Below it, exp of a score over the temperature and sums of it stay within float32 without a shift."""


class FreeEmbeddings:
    """Vectors fitted to a relevance matrix, as far as d dimensions allow (section "free embeddings").

    Each iteration: loss = mean over relevant pairs (i, j) of -log softmax over documents of Q D^T / T; a step of Adam
    on Q and D; every row divided by its norm. All relevant documents of a query stay in its softmax. It ends when every
    result set is on top (tested every ``log_every`` iterations), when the loss has not fallen by ``min_delta`` for
    ``patience`` iterations, or after ``max_iter``.

    Parameters
    ----------
    d : dimensions.
    lr, temperature, max_iter, patience, min_delta, log_every, seed : the paper's values are the defaults.
    n_init : fits from different starting points (seed, seed + 1, ...); the first that succeeds, else the best, is kept.
    chunk_bytes : memory for the scores of a chunk of queries.
    device : torch device.

    Attributes
    ----------
    query_embeddings_, doc_embeddings_ : float32 [queries, d], [documents, d], unit rows, of the best accuracy seen.
    accuracy_ : best accuracy seen: relevant documents among the k best of their query, over all relevant pairs. A
        relevant document that ties with another one counts as missed.
    history_ : (iteration, loss, accuracy) of every test.
    n_iter_ : iterations of the fit that was kept.
    seed_ : its seed.
    """

    query_embeddings_: np.ndarray
    doc_embeddings_: np.ndarray
    accuracy_: float
    history_: list[tuple[int, float, float]]
    n_iter_: int
    seed_: int

    def __init__(
        self,
        d: int,
        *,
        lr: float = 0.01,
        temperature: float = 0.1,
        max_iter: int = 100_000,
        patience: int = 1000,
        min_delta: float = 1e-5,
        log_every: int = 50,
        seed: int = 42,
        n_init: int = 1,
        chunk_bytes: int = 1 << 20,
        device: str = "cpu",
    ) -> None:
        check_seed("seed", seed)
        for name, value in (
            ("d", d),
            ("max_iter", max_iter),
            ("patience", patience),
            ("log_every", log_every),
            ("n_init", n_init),
            ("chunk_bytes", chunk_bytes),
        ):
            check_whole(name, value, 1)
        for name, number in (("lr", lr), ("temperature", temperature)):
            if not 0 < number < float("inf"):
                raise InputError(name, number, "a number above 0")
        if not min_delta >= 0:
            raise InputError("min_delta", min_delta, "0 or more")
        self.d, self.lr, self.temperature, self.min_delta = int(d), float(lr), float(temperature), float(min_delta)
        self.max_iter, self.patience, self.log_every = int(max_iter), int(patience), int(log_every)
        self.seed, self.n_init, self.chunk_bytes, self.device = int(seed), int(n_init), int(chunk_bytes), device

    def fit(self, qrels: Any, *, progress: Progress = no_progress) -> FreeEmbeddings:
        """Fit to a relevance matrix [queries, documents]; returns self."""
        matrix = as_qrels(qrels)
        best: _Fit | None = None
        for seed in range(self.seed, self.seed + self.n_init):
            found = self._fit_once(matrix, seed, progress)
            if best is None or found.accuracy > best.accuracy:
                best, self.seed_ = found, seed
            if best.accuracy == 1.0:
                break
        assert best is not None
        m = matrix.shape[0]
        vectors = best.vectors.cpu().numpy()
        self.query_embeddings_, self.doc_embeddings_ = vectors[:m].copy(), vectors[m:].copy()
        self.accuracy_, self.history_, self.n_iter_ = best.accuracy, best.history, best.iterations
        return self

    def _fit_once(self, matrix: sparse.csr_array, seed: int, progress: Progress) -> _Fit:
        m, n = matrix.shape
        device = resolve_device(self.device)
        vectors = _unit_vectors(seed, m, n, self.d).to(device)
        problem = FreeLoss(matrix, self.d, self.temperature, chunk_bytes=self.chunk_bytes, device=device)
        gradient, first, second = (torch.zeros_like(vectors) for _ in range(3))
        work = torch.empty_like(vectors)
        norms = torch.empty(m + n, 1, device=device)
        fit = _Fit(vectors.clone())
        waited, lowest = 0, float("inf")
        blocks = range(0, self.max_iter, self.log_every)
        description = f"{m} result sets, {self.d} dimensions"
        with torch.inference_mode():
            for start in progress(blocks, description, len(blocks)):
                stopped, loss = False, float("nan")
                for t in range(start + 1, min(start + self.log_every, self.max_iter) + 1):
                    loss = problem.loss_and_gradient(vectors, gradient)
                    first.lerp_(gradient, 1 - BETAS[0])
                    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
                    torch.sqrt(second, out=work)
                    correction = (1 - BETAS[1] ** t) ** 0.5
                    # denominator sqrt(second) / correction + epsilon, with correction taken into the step
                    work.add_(EPSILON * correction)
                    vectors.addcdiv_(first, work, value=-self.lr * correction / (1 - BETAS[0] ** t))
                    torch.linalg.vector_norm(vectors, dim=1, keepdim=True, out=norms)
                    vectors.div_(norms)
                    fit.iterations = t
                    if loss < lowest - self.min_delta:
                        lowest, waited = loss, 0
                    else:
                        waited += 1
                        if waited >= self.patience:
                            stopped = True
                            break
                # the paper tests every log_every iterations only; a fit shorter than that is tested at its end
                if fit.iterations % self.log_every == 0 or not fit.history:
                    accuracy = problem.accuracy(vectors)
                    fit.history.append((fit.iterations, loss, accuracy))
                    if accuracy > fit.accuracy:
                        fit.accuracy = accuracy
                        fit.vectors.copy_(vectors)
                    stopped = stopped or accuracy == 1.0
                if stopped:
                    break
        return fit


@dataclass
class _Fit:
    vectors: torch.Tensor
    accuracy: float = -1.0
    iterations: int = 0
    history: list[tuple[int, float, float]] = field(default_factory=list)


def _unit_vectors(seed: int, m: int, n: int, d: int) -> torch.Tensor:
    """Normal rows of unit length; queries and documents from independent keys of one seed."""
    keys = np.random.SeedSequence(seed).spawn(2)
    queries, documents = (
        np.random.default_rng(key).standard_normal((rows, d), np.float32)
        for key, rows in zip(keys, (m, n), strict=True)
    )
    vectors = torch.from_numpy(np.concatenate([queries, documents]))
    return torch.nn.functional.normalize(vectors, dim=1)


@dataclass
class _Chunk:
    """Queries whose scores are made together."""

    rows: slice
    cells: torch.Tensor
    """Places of the relevant pairs in the chunk's scores, flat, row by row."""
    weights: torch.Tensor
    """Relevant documents of each query over all pairs and the temperature [rows, 1]."""
    sizes: torch.Tensor
    padded: torch.Tensor
    """Columns of the relevant documents [rows, largest set], filled up with ``n_docs``."""


class FreeLoss:
    """Loss, gradient and accuracy of vectors [queries + documents, d] for a relevance matrix.

    Parameters
    ----------
    qrels : relevance matrix [queries, documents].
    chunk_bytes : memory for the scores of a chunk of queries; at least one query's.
    """

    def __init__(
        self, qrels: Any, d: int, temperature: float, *, chunk_bytes: int = 1 << 20, device: torch.device | str = "cpu"
    ) -> None:
        matrix = as_qrels(qrels)
        self.m, self.n = matrix.shape
        self.pairs = int(matrix.nnz)
        self.temperature = temperature
        self._shifted = 1 / temperature > SAFE_EXPONENT
        rows = max(1, min(self.m, chunk_bytes // (4 * self.n)))
        self._scores = torch.empty(rows * self.n, device=device)
        self._sums = torch.empty(rows, 1, device=device)
        self._chunks = [self._chunk(matrix, start, rows, device) for start in range(0, self.m, rows)]

    def _chunk(self, matrix: sparse.csr_array, start: int, rows: int, device: torch.device | str) -> _Chunk:
        part = matrix[start : start + rows]
        sizes = np.diff(part.indptr)
        row_of = np.repeat(np.arange(len(sizes)), sizes)
        padded = np.full((len(sizes), sizes.max()), self.n)
        padded[row_of, np.arange(part.nnz) - np.repeat(part.indptr[:-1], sizes)] = part.indices
        cells = torch.from_numpy(row_of.astype(np.int64) * self.n + part.indices)
        weights = torch.from_numpy(sizes.astype(np.float32)[:, None] / (self.pairs * self.temperature))
        return _Chunk(
            slice(start, start + len(sizes)),
            cells.to(device),
            weights.to(device),
            torch.from_numpy(sizes.astype(np.int64)).to(device),
            torch.from_numpy(padded.astype(np.int64)).to(device),
        )

    def _each(self, vectors: torch.Tensor, scale: float) -> Iterator[tuple[_Chunk, torch.Tensor, torch.Tensor]]:
        """Chunks with their queries and their scores times ``scale`` [rows, documents], in memory used again."""
        documents = vectors[self.m :].t()
        for chunk in self._chunks:
            queries = vectors[chunk.rows]
            scores = self._scores[: len(queries) * self.n].view(len(queries), self.n)
            torch.addmm(scores, queries, documents, beta=0, alpha=scale, out=scores)
            yield chunk, queries, scores

    def loss_and_gradient(self, vectors: torch.Tensor, gradient: torch.Tensor) -> float:
        """The loss; its gradient is written into ``gradient`` [queries + documents, d]."""
        documents = vectors[self.m :]
        relevant: Any = 0.0
        total: Any = 0.0
        for number, (chunk, queries, scores) in enumerate(self._each(vectors, 1 / self.temperature)):
            flat = scores.view(-1)
            if self._shifted:
                scores.sub_(scores.amax(dim=1, keepdim=True))
            relevant = relevant + flat.take(chunk.cells).sum()
            scores.exp_()
            sums = self._sums[: len(queries)]
            torch.sum(scores, dim=1, keepdim=True, out=sums)
            total = total + torch.dot(sums.log().view(-1), chunk.weights.view(-1))
            scores.mul_(chunk.weights / sums)
            flat.index_add_(0, chunk.cells, self._minus(chunk))
            torch.mm(scores, documents, out=gradient[chunk.rows])
            torch.addmm(gradient[self.m :], scores.t(), queries, beta=0 if number == 0 else 1, out=gradient[self.m :])
        return float(total) * self.temperature - float(relevant) / self.pairs

    def _minus(self, chunk: _Chunk) -> torch.Tensor:
        return torch.full((), -1 / (self.pairs * self.temperature), device=chunk.cells.device).expand(len(chunk.cells))

    def accuracy(self, vectors: torch.Tensor) -> float:
        """Relevant documents among the k best of their query over all relevant pairs; ties are misses."""
        return sum(int(hits.sum()) for hits in self.hits(vectors)) / self.pairs

    def hits(self, vectors: torch.Tensor) -> Iterator[torch.Tensor]:
        """Number of relevant documents among the k best, int64 [rows], chunk by chunk of queries."""
        for chunk, _, scores in self._each(vectors, 1.0):
            most = chunk.padded.shape[1]
            inside = torch.cat([scores, scores.new_full((len(scores), 1), float("-inf"))], 1).gather(1, chunk.padded)
            inside = inside.sort(dim=1, descending=True).values
            scores.view(-1).index_fill_(0, chunk.cells, float("-inf"))
            outside = scores.topk(min(most, self.n), dim=1).values
            # the h-th best relevant one is a hit if it is above the (k - h + 1)-th best other one
            rank = torch.arange(most, device=scores.device)
            rival = (chunk.sizes[:, None] - 1 - rank).clamp(min=0, max=outside.shape[1] - 1)
            yield ((inside > outside.gather(1, rival)) & (rank < chunk.sizes[:, None])).sum(dim=1)
