"""From logits to outputs: batched beam search and sampling, with constraints on what may be pointed at.

Beams are rows of one batch: B instances times K beams share one matrix product per step. The score of an output is the
sum of its log-probabilities, the stop included; with a constraint the softmax ranges over what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.network import Memory, State

Constraint = Literal["simple", "permutation", "triangles"] | None
"""None: anything. ``simple``: no element twice, at least three. ``permutation``: every element once.
``triangles``: whole triples, each of increasing indices."""

CONSTRAINTS: tuple[Constraint, ...] = (None, "simple", "permutation", "triangles")


class Decodable(Protocol):
    """What beam search needs of a network: the pointer network and the fixed-dictionary models have it."""

    def encode(self, points: Tensor, lengths: Tensor | None = None) -> tuple[Memory, State]:
        """Read the input: the memory, and the first state with one row per instance."""
        ...

    def step(self, pointers: Tensor | None, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Logits [B, K, n + 1] and the new state after pointing at ``pointers`` [B, K]."""
        ...


@dataclass(frozen=True)
class Decoded:
    """The outputs for one instance, best first.

    Attributes
    ----------
    outputs : 0-based indices, without the stop.
    scores : log-probability of each.
    complete : whether each ended with a stop within the steps it was given.
    """

    outputs: list[list[int]]
    scores: list[float]
    complete: list[bool]

    @property
    def best(self) -> list[int]:
        """The output with the highest score."""
        return self.outputs[0]


@dataclass
class _Beams:
    """K sequences per instance: scores [B, K], outputs so far [B, K, t], visited [B, K, n + 1], done and cut [B, K]."""

    scores: Tensor
    outputs: Tensor
    visited: Tensor
    done: Tensor
    cut: Tensor

    def take(self, parents: Tensor) -> _Beams:
        """The sequences [B, K'] that the parents name."""
        wide = parents[..., None]
        return _Beams(
            self.scores.gather(1, parents),
            self.outputs.gather(1, wide.expand(-1, -1, self.outputs.shape[2])),
            self.visited.gather(1, wide.expand(-1, -1, self.visited.shape[2])),
            self.done.gather(1, parents),
            self.cut.gather(1, parents),
        )

    def extend(self, pointers: Tensor, scores: Tensor, limits: Tensor) -> _Beams:
        """Every sequence pointing at one element more; those that were done stay as they are."""
        frozen = self.done | self.cut
        outputs = torch.cat([self.outputs, pointers[..., None]], dim=2)
        visited = self.visited.scatter(2, pointers[..., None], True)
        done = self.done | (~frozen & (pointers == 0))
        cut = self.cut | (~frozen & (pointers != 0) & (outputs.shape[2] > limits[:, None]))
        return _Beams(scores, outputs, visited, done, cut)


@torch.no_grad()
def beam_search(
    network: Decodable,
    points: Tensor,
    lengths: Tensor | None = None,
    *,
    beams: int = 3,
    constraint: Constraint = None,
    limits: Tensor | None = None,
) -> list[Decoded]:
    """The outputs of highest score that a beam of width ``beams`` finds; width 1 is greedy decoding.

    Parameters
    ----------
    points, lengths : a padded batch, float [B, n, d] and int [B].
    limits : int [B], most elements of an output; by default each instance's length. An output that would be longer is
        cut off and marked incomplete.

    Returns
    -------
    per instance up to ``beams`` different outputs, best first.
    """
    _check(beams, "beams", constraint)
    memory, state = network.encode(points, lengths)
    counts, limits = _limits(memory, limits)
    kept = _start(memory, 1)
    pointers: Tensor | None = None
    while not bool((kept.done | kept.cut).all()):
        logits, state = network.step(pointers, state, memory)
        logp = _log_probabilities(logits, kept, constraint, counts)
        total = (kept.scores[..., None] + logp).flatten(1)
        scores, chosen = total.topk(min(beams, total.shape[1]), dim=1)
        parents, pointers = chosen // logp.shape[2], chosen % logp.shape[2]
        rows = (torch.arange(len(parents), device=parents.device)[:, None] * logp.shape[1] + parents).flatten()
        state = tuple(tensor[rows] for tensor in state)
        kept = kept.take(parents).extend(pointers, scores, limits)
        # What can no longer be finished or is no sequence at all must not keep the loop alive.
        kept.cut |= torch.isinf(kept.scores)
    return _decoded(kept)


@torch.no_grad()
def sample(
    network: Decodable,
    points: Tensor,
    lengths: Tensor | None = None,
    *,
    samples: int = 16,
    temperature: float = 1.0,
    constraint: Constraint = None,
    limits: Tensor | None = None,
    generator: torch.Generator,
) -> list[Decoded]:
    """Independent draws from the output distribution, best score first; repeated draws are kept.

    ``temperature`` divides the logits; scores are always those of temperature 1. The other parameters are those of
    ``beam_search``. Draws come from ``generator`` (on the CPU).
    """
    _check(samples, "samples", constraint)
    if not temperature > 0:
        raise InputError("temperature", temperature, "a positive number")
    memory, state = network.encode(points, lengths)
    counts, limits = _limits(memory, limits)
    kept = _start(memory, samples)
    state = tuple(tensor.repeat_interleave(samples, dim=0) for tensor in state)
    pointers: Tensor | None = None
    while not bool((kept.done | kept.cut).all()):
        logits, state = network.step(pointers, state, memory)
        logp = _log_probabilities(logits, kept, constraint, counts)
        heat = torch.softmax(logp / temperature, dim=-1).flatten(0, 1).cpu()
        pointers = torch.multinomial(heat, 1, generator=generator).reshape(logp.shape[:2]).to(logp.device)
        scores = kept.scores + logp.gather(2, pointers[..., None])[..., 0]
        kept = kept.extend(pointers, scores, limits)
    return _decoded(kept)


def _check(width: int, name: str, constraint: Constraint) -> None:
    if width < 1:
        raise InputError(name, width, "1 or more")
    if constraint not in CONSTRAINTS:
        raise InputError("constraint", repr(constraint), f"one of {', '.join(map(str, CONSTRAINTS))}")


def _limits(memory: Memory, limits: Tensor | None) -> tuple[Tensor, Tensor]:
    counts = memory.valid.sum(1) - 1
    limits = counts if limits is None else limits.to(counts.device)
    if limits.shape != counts.shape or bool((limits < 1).any()):
        raise InputError("limits", limits.tolist(), f"{len(counts)} numbers of 1 or more")
    return counts, limits


def _start(memory: Memory, width: int) -> _Beams:
    batch, n = memory.valid.shape
    device = memory.valid.device
    flags = torch.zeros(batch, width, dtype=torch.bool, device=device)
    return _Beams(
        torch.zeros(batch, width, device=device),
        torch.zeros(batch, width, 0, dtype=torch.long, device=device),
        torch.zeros(batch, width, n, dtype=torch.bool, device=device),
        flags,
        flags.clone(),
    )


def _log_probabilities(logits: Tensor, kept: _Beams, constraint: Constraint, counts: Tensor) -> Tensor:
    """[B, K, n + 1]: of the allowed elements; a sequence that is over can only stop, at no cost."""
    if logits.shape[1] != kept.visited.shape[1]:
        raise ValueError(f"{logits.shape[1]} beams in the logits, {kept.visited.shape[1]} in the search")
    allowed = allowed_pointers(kept.outputs, kept.visited, counts, constraint)
    over = kept.done | kept.cut
    # A row without any allowed element would give NaN; sequences that are over are put right below in any case.
    allowed[..., 0] |= over
    logp = torch.log_softmax(logits.float().masked_fill(~allowed, -torch.inf), dim=-1)
    stay = torch.full_like(logp, -torch.inf)
    stay[..., 0] = 0.0
    return torch.where(over[..., None], stay, logp)


def allowed_pointers(outputs: Tensor, visited: Tensor, counts: Tensor, constraint: Constraint) -> Tensor:
    """Which pointers [B, K, n + 1] may come next.

    Parameters
    ----------
    outputs : int [B, K, t], pointers so far.
    visited : bool [B, K, n + 1], those that occur in ``outputs``.
    counts : int [B], elements of each instance.
    """
    t = outputs.shape[2]
    positions = torch.arange(visited.shape[2], device=visited.device)
    present = (positions <= counts[:, None])[:, None].expand_as(visited)
    if constraint is None:
        return present.clone()
    stop = positions == 0
    most = counts[:, None, None]
    if constraint == "triangles":
        place = t % 3
        last = outputs[..., -1:] if place else torch.zeros_like(visited[..., :1], dtype=torch.long)
        allowed = present & (positions > last) & (positions <= most - (2 - place))
        return allowed | (stop & (place == 0) & (t >= 3))
    allowed = present & ~visited & ~stop
    least = most if constraint == "permutation" else most.clamp(max=3)
    return allowed | (stop & (t >= least))


def _decoded(kept: _Beams) -> list[Decoded]:
    order = kept.scores.argsort(dim=1, descending=True, stable=True)
    kept = kept.take(order)
    found = []
    for scores, outputs, done in zip(kept.scores.tolist(), kept.outputs.tolist(), kept.done.tolist(), strict=True):
        real = [k for k, score in enumerate(scores) if score > -torch.inf]
        found.append(
            Decoded([_until_stop(outputs[k]) for k in real], [scores[k] for k in real], [done[k] for k in real])
        )
    return found


def _until_stop(pointers: list[int]) -> list[int]:
    end = pointers.index(0) if 0 in pointers else len(pointers)
    return [p - 1 for p in pointers[:end]]
