"""Other networks of a search space at the same cost: one share for all widths, and widths and depths at random."""

from __future__ import annotations

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.tas.bilevel import check_target
from paperworks.papers.tas.space import Genotype, SearchSpace
from paperworks.parameters import check_seed

STEPS = 400
DRAWS = 500


def uniform_genotype(space: SearchSpace, target: float) -> Genotype:
    """All widths times one factor, all blocks kept: the network whose cost is nearest to a share of the full one.

    Widths need not be candidates. A space of depths only has no such network: there every stage keeps one share of
    its blocks.

    Raises InputError for a target outside (0, 1].
    """
    if not 0 < target <= 1:
        raise InputError("target", target, "a share above 0 and at most 1")
    kind = "widths" if any(k == "widths" and len(c) > 1 for (k, _), c in space.choices.items()) else "depths"

    def at(factor: float) -> Genotype:
        found: Genotype = {"widths": {}, "depths": {}}
        for (k, name), candidates in space.choices.items():
            full = max(candidates)
            found[k][name] = max(1, round(full * factor)) if k == kind and len(candidates) > 1 else full
        return found

    tried = [at(step / STEPS) for step in range(1, STEPS + 1)]
    return min(tried, key=lambda genotype: abs(space.cost_of(genotype) / space.full_cost - target))


def random_genotype(space: SearchSpace, target: float, seed: int, *, tolerance: float = 0.05) -> Genotype:
    """Candidates drawn at random, until the cost is within the tolerance of a share of the full network's.

    After some draws outside, choices taken at random are moved to the next candidate towards the target.

    Raises InputError for a target that the space does not reach, or where the moves end outside the band.
    """
    check_seed("seed", seed)
    check_target(space, target)
    rng = np.random.default_rng([seed, 20190523])
    sizes = [len(c) for c in space.choices.values()]
    wanted = target * space.full_cost

    def off(places: list[int]) -> float:
        return space.cost_of(space.genotype_at(places)) / wanted - 1

    places: list[int] = []
    for _ in range(DRAWS):
        places = [int(rng.integers(size)) for size in sizes]
        if abs(off(places)) <= tolerance:
            return space.genotype_at(places)
    for _ in range(100 * len(sizes)):
        distance = off(places)
        if abs(distance) <= tolerance:
            return space.genotype_at(places)
        number = int(rng.integers(len(sizes)))
        places[number] = min(sizes[number] - 1, max(0, places[number] + (-1 if distance > 0 else 1)))
    raise InputError("tolerance", tolerance, f"a wider band around {target:g}: random networks do not end in this one")
