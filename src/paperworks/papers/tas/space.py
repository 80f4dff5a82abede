"""What the search needs of a search space, whatever its networks are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError, nearest
from paperworks.papers.tas.choices import ChoiceLogits, Draw

Genotype = dict[str, dict[str, int]]
"""A network of a space: ``widths`` by convolution or group, ``depths`` by stage."""


def kept_widths(genotype: Genotype) -> dict[str, int]:
    """The widths of a network by layer or group, 0 in blocks that leave (``stages.S.B...`` with B beyond the depth)."""
    found = dict(genotype["widths"])
    for name in found:
        stage, _, rest = name.removeprefix("stages.").partition(".")
        depth = genotype["depths"].get(f"stages.{stage}")
        if name.startswith("stages.") and depth is not None and int(rest.partition(".")[0]) >= depth:
            found[name] = 0
    return found


class SearchSpace(nn.Module):
    """Networks of several widths and depths that share weights, and the logits of the choices among them.

    Attributes
    ----------
    choices : (kind, name) of every choice, kind ``widths`` or ``depths``, with its candidates.
    full_cost : cost of the full network.
    temperature : of the Gumbel-softmax.
    generator : of the noise, on the CPU; None is torch's global one.
    """

    full_cost: float
    generator: torch.Generator | None

    def __init__(self, choices: Mapping[tuple[str, str], tuple[int, ...]], sampled: int) -> None:
        super().__init__()
        self.choices = dict(choices)
        self.sampled = sampled
        self.temperature, self.generator = 1.0, None
        self._certain: list[int] | None = None
        self._frozen = False
        by_kind = {kind: [c for (k, _), c in self.choices.items() if k == kind] for kind in ("widths", "depths")}
        self.widths = ChoiceLogits([len(c) for c in by_kind["widths"]])
        self.depths = ChoiceLogits([len(c) for c in by_kind["depths"]]) if by_kind["depths"] else None

    @abstractmethod
    def expected_cost(self) -> torch.Tensor:
        """The mean cost of the networks when every choice is made on its own, a float64 scalar with a gradient."""

    @abstractmethod
    def cost_of(self, genotype: Genotype) -> float:
        """The cost of a network, exactly. Its widths and depths need not be candidates."""

    @abstractmethod
    def build(self, genotype: Genotype, *, seed: int = 0) -> nn.Module:
        """A plain network with fresh weights, which depend on the seed only. Its widths need not be candidates."""

    @abstractmethod
    def inherit(self, trained: nn.Module, genotype: Genotype) -> nn.Module:
        """The network with slices of the weights of the trained full one: a departure from the paper."""

    def draw(self) -> tuple[list[Draw], list[Draw]]:
        """What a forward pass uses: draws of all widths and of all depths."""
        count = len(self.widths.sizes)
        if self._certain is not None:
            widths = self.widths.certain(self._certain[:count])
            return widths, [] if self.depths is None else self.depths.certain(self._certain[count:])
        widths = self.widths.draw(self.sampled, self.temperature, self.generator)
        if self.depths is None:
            return widths, []
        return widths, self.depths.draw(max(self.depths.sizes), self.temperature, self.generator)

    @contextmanager
    def architecture_only(self) -> Iterator[None]:
        """Gradients go to the logits of the choices; kernels of the network are constants."""
        self._frozen = True
        try:
            yield
        finally:
            self._frozen = False

    @contextmanager
    def certain(self, genotype: Genotype | None = None) -> Iterator[None]:
        """Nothing is drawn: the network of ``genotype`` (None: the most probable one) runs, with the shared weights."""
        self._certain = self.positions(self.genotype() if genotype is None else genotype)
        try:
            yield
        finally:
            self._certain = None

    def check(self, genotype: Genotype) -> None:
        """Raise InputError for a genotype of another space, and for a width or depth outside 1 to the full one."""
        for (kind, name), candidates in self.choices.items():
            value, full = genotype.get(kind, {}).get(name), max(candidates)
            if not isinstance(value, int) or not 1 <= value <= full:
                raise InputError(f"genotype[{kind}][{name}]", value, f"a whole number from 1 to {full}")
        for kind, values in genotype.items():
            for name in values:
                if (kind, name) not in self.choices:
                    known = [other for _, other in self.choices]
                    raise InputError(f"genotype[{kind}]", repr(name), f"a choice of this space{nearest(name, known)}")

    def positions(self, genotype: Genotype) -> list[int]:
        """The place of each chosen candidate, in the order of ``choices``.

        Raises InputError for a genotype of another space, and for widths or depths that are no candidates.
        """
        self.check(genotype)
        found = []
        for (kind, name), candidates in self.choices.items():
            value = genotype[kind][name]
            if value not in candidates:
                raise InputError(f"genotype[{kind}][{name}]", value, f"one of {candidates}")
            found.append(candidates.index(value))
        return found

    def genotype_at(self, positions: Sequence[int]) -> Genotype:
        """The network of the candidates at these places, in the order of ``choices``."""
        found: Genotype = {"widths": {}, "depths": {}}
        for (kind, name), place in zip(self.choices, positions, strict=True):
            found[kind][name] = self.choices[kind, name][place]
        return found

    def best(self) -> list[int]:
        """The place of the most probable candidate of every choice."""
        return [*self.widths.best(), *([] if self.depths is None else self.depths.best())]

    def genotype(self) -> Genotype:
        """The most probable network."""
        return self.genotype_at(self.best())

    def probabilities(self) -> list[torch.Tensor]:
        """Probabilities of the candidates, float64 ``[candidates]`` by choice, with a gradient."""
        return [*self.widths.probabilities(), *([] if self.depths is None else self.depths.probabilities())]

    def full(self) -> Genotype:
        """The largest candidate of every choice."""
        return self.genotype_at([len(c) - 1 for c in self.choices.values()])

    def least(self) -> Genotype:
        """The smallest candidate of every choice."""
        return self.genotype_at([0] * len(self.choices))

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The logits of widths and depths."""
        return [self.widths.logits, *([] if self.depths is None else [self.depths.logits])]

    def weight_parameters(self) -> list[nn.Parameter]:
        """The weights of the network that are trained."""
        ours = {id(p) for p in self.architecture_parameters()}
        return [p for p in self.parameters() if id(p) not in ours and p.requires_grad]

    def constant(self, weight: Any) -> Any:
        """A weight as a forward pass takes it: without a gradient while only the architecture learns."""
        return weight.detach() if self._frozen and weight is not None else weight
