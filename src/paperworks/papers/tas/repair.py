"""The most probable network, moved to a wanted cost: for searches that end outside the band."""

from __future__ import annotations

import torch

from paperworks.errors import InputError
from paperworks.papers.tas.space import SearchSpace

DRAWS = 2000
"""Networks that are drawn where single moves do not end within the band."""


def repaired(space: SearchSpace, target: float, tolerance: float) -> list[int]:
    """The most probable network, moved step by step into the band around a target cost.

    Each step moves one choice to the next candidate towards the target: the one that loses least log-probability per
    cost moved. Steps that pass the band are taken only where there is no other, and no network is visited twice. Where
    this does not end within the band, networks are drawn with the probabilities of the choices, and the most
    probable one within it is taken.

    Parameters
    ----------
    target : in the unit of ``space.cost_of``.
    tolerance : half of the band, as a share of the target.

    Returns
    -------
    the place of every choice's candidate.

    Raises
    ------
    InputError : no such network was met; the nearest is named.
    """
    logs = [p.detach().log() for p in space.probabilities()]
    places, nearest = space.best(), float("inf")
    visited: set[tuple[int, ...]] = set()
    for _ in range(20 * sum(len(row) for row in logs)):
        cost = _cost(space, places)
        if abs(cost / target - 1) <= tolerance:
            return places
        nearest = min(nearest, cost, key=lambda found: abs(found - target))
        visited.add(tuple(places))
        moves = _moves(space, places, logs, target, tolerance, visited)
        if not moves:
            break
        _, _, places = min(moves)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([torch.multinomial(row.exp(), DRAWS, replacement=True, generator=generator) for row in logs], 1)
    chances = sum(row[column] for row, column in zip(logs, drawn.T, strict=True))
    assert isinstance(chances, torch.Tensor)
    for number in chances.argsort(descending=True).tolist():
        cost = _cost(space, drawn[number].tolist())
        if abs(cost / target - 1) <= tolerance:
            return list(drawn[number].tolist())
        nearest = min(nearest, cost, key=lambda found: abs(found - target))
    share = nearest / space.full_cost
    raise InputError("tolerance", f"{tolerance:g}, and the nearest network that was met has {share:.3f}", "a wider one")


def _moves(
    space: SearchSpace,
    places: list[int],
    logs: list[torch.Tensor],
    target: float,
    tolerance: float,
    visited: set[tuple[int, ...]],
) -> list[tuple[bool, float, list[int]]]:
    """(passes the band, log-probability lost per cost, places) of the single steps towards the target."""
    cost = _cost(space, places)
    direction = -1 if cost > target else 1
    moves = []
    for number, place in enumerate(places):
        step = place + direction
        if not 0 <= step < len(logs[number]):
            continue
        tried = [*places[:number], step, *places[number + 1 :]]
        reached = _cost(space, tried)
        moved = direction * (reached - cost)
        if moved > 0 and tuple(tried) not in visited:
            passes = direction * (reached - target) > tolerance * target
            moves.append((passes, float(logs[number][place] - logs[number][step]) / moved, tried))
    return moves


def _cost(space: SearchSpace, places: list[int]) -> float:
    return space.cost_of(space.genotype_at(places))
