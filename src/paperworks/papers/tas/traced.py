"""The search in the user's own module: one width for every traced group of units.

groups = structure.trace.analyze(model)         what has to leave together
each group: candidates, 2 drawn per forward     producers' outputs are mixed; a BatchNorm for each candidate
the mean cost                                   moments of the shares in the polynomial of the trace, exact
the found network                               structure.trace.cut, first units, fresh weights
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.tas.choices import RATIOS, Draw, width_candidates
from paperworks.papers.tas.mixing import (
    BATCH_NORMS,
    CONVOLUTIONS,
    LAYER_NORMS,
    NORMS,
    blend_function,
    instrumented,
    producers_and_norms,
)
from paperworks.papers.tas.space import Genotype, SearchSpace
from paperworks.parameters import check_seed, check_whole
from paperworks.pruning import new_weights
from paperworks.structure import Units, magnitude_scores
from paperworks.structure.plan import KeepPlan
from paperworks.structure.trace import Polynomial, TracedGroup, TracedGroups, analyze, cut, masked_outputs
from paperworks.structure.trace.capture import arguments, tensors_of
from paperworks.structure.trace.positions import largest_difference

Start = Literal["scratch", "given"]
Monomials = dict[tuple[tuple[str, int], ...], float]
"""Coefficients by (group, power)."""


class TracedSpace(SearchSpace):
    """The search space of widths in a module that ``structure.trace`` can trace.

    All layers of a group share their widths, so residual streams need no further convolutions. Narrower outputs are
    filled up with zeros, and every norm becomes one for each candidate, which is the function of the cut module; groups
    where that is not so (a sigmoid behind the units, a norm over units of several groups, units that no module makes)
    keep their width: see ``left_out``.

    Parameters
    ----------
    model : the full module. It is copied.
    example_inputs : a tensor (a batch of 2 is enough), a tuple, or a dict of keyword arguments.
    ratios : candidate widths as shares of the units of each group.
    sampled, blend : as in ``SearchNetwork``.
    cost : ``macs`` or ``parameters``.
    multiple_of : candidates are rounded up to multiples of this, where the group has as many.
    streams : search the widths of residual streams in front of a LayerNorm or RMSNorm, too. There a cut module is never
        the full one with zeros, so that inherited weights lose more.
    start : ``scratch``: the search begins with new weights, as in the paper (``pruning.new_weights``; a parameter for
        which the module's class has none keeps its value); ``given``: with those of the model.
    ignore : patterns of parameter names whose channels stay.
    seed : of new weights and logits.

    Attributes
    ----------
    groups : what was traced.
    left_out : groups that keep their width, with the reason.

    Raises
    ------
    InputError : a module that cannot be traced, or that has no group to search in.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        ratios: Sequence[float] = RATIOS,
        sampled: int = 2,
        blend: Literal["interpolate", "pad"] = "interpolate",
        cost: Literal["macs", "parameters"] = "macs",
        multiple_of: int = 1,
        streams: bool = True,
        start: Start = "scratch",
        ignore: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        check_seed("seed", seed)
        check_whole("sampled", sampled, 1)
        check_whole("multiple_of", multiple_of, 1)
        for name, value, allowed in (
            ("cost", cost, ("macs", "parameters")),
            ("start", start, ("scratch", "given")),
            ("blend", blend, ("interpolate", "pad")),
        ):
            if value not in allowed:
                raise InputError(name, repr(value), " or ".join(allowed))
        groups = analyze(copy.deepcopy(model).eval(), example_inputs, ignore=ignore)
        found, left_out = _searchable(groups, streams)
        known = {name: _candidates(groups[name].n_units, ratios, multiple_of) for name in found}
        if not found:
            reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items()) or "no group of units"
            raise InputError("model", f"nothing to search in ({reasons})", "convolutions or linear layers in a row")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__({("widths", name): known[name] for name in found}, sampled)
        self.groups, self.left_out, self.cost_name, self.seed = groups, left_out, cost, seed
        module = new_weights(groups.model, seed, bare="keep") if start == "scratch" else copy.deepcopy(groups.model)
        self.module = instrumented(self, module, found, known, blend_function(blend))
        self._now: list[Draw] = []
        polynomial = getattr(groups.cost_model, cost)
        self._monomials = monomials(polynomial, {groups[name].key: name for name in found})
        self.full_cost = float(getattr(groups.cost(), cost))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns, with freshly drawn widths."""
        self._now, _ = self.draw()
        return self.module(*args, **kwargs)

    def drawn(self, number: int) -> Draw:
        """What was drawn for a group in this forward pass."""
        return self._now[number]

    def expected_cost(self) -> torch.Tensor:
        """The mean over all combinations of widths, float64: moments of the shares in the polynomial of the cost."""
        powers: dict[tuple[str, int], torch.Tensor] = {}
        chances = dict(zip((name for _, name in self.choices), self.widths.probabilities(), strict=True))
        shares = {
            name: torch.tensor(known, dtype=torch.float64) / self.groups[name].n_units
            for (_, name), known in self.choices.items()
        }
        total = torch.zeros((), dtype=torch.float64)
        for monomial, factor in self._monomials.items():
            product: torch.Tensor | float = factor
            for name, power in monomial:
                if (name, power) not in powers:
                    powers[name, power] = (chances[name].cpu() * shares[name] ** power).sum()
                product = product * powers[name, power]
            total = total + product
        return total

    def plan(self, genotype: Genotype, *, scores: Mapping[Any, torch.Tensor] | None = None) -> KeepPlan:
        """The plan that keeps the first units of every group, or those with the best ``scores``."""
        self.check(genotype)
        kept = {}
        for name, width in genotype["widths"].items():
            order = None if scores is None else scores[self.groups[name].key].argsort(descending=True, stable=True)
            kept[name] = list(range(width)) if order is None else order[:width].sort().values.tolist()
        return self.groups.keep(kept)

    def cost_of(self, genotype: Genotype) -> float:
        """The cost of a network of the space, exactly."""
        self.check(genotype)
        shares = {
            self.groups[name].key: width / self.groups[name].n_units for name, width in genotype["widths"].items()
        }
        return float(round(getattr(self.groups.cost_model, self.cost_name)(shares)))

    def build(self, genotype: Genotype, *, seed: int = 0) -> nn.Module:
        """The cut module with new weights; ``structure.trace.save_cut`` keeps it."""
        return new_weights(cut(self.groups, self.plan(genotype)), seed, bare="keep")

    def inherit(self, trained: nn.Module, genotype: Genotype) -> nn.Module:
        """The cut module with the weights of ``trained``, of the units with the largest magnitude.

        Raises InputError where ``trained`` is not the module that was traced, with other weights.
        """
        groups = analyze(trained, self.groups.inputs)
        if {name: group.n_units for name, group in groups.items()} != {n: g.n_units for n, g in self.groups.items()}:
            raise InputError("trained", "a module with other groups of units", "the one that is searched in, trained")
        scores = magnitude_scores(trained, Units([groups[name].units for _, name in self.choices]))
        plan = self.plan(genotype, scores=scores)
        return cut(groups, plan)


def _candidates(units: int, ratios: Sequence[float], multiple_of: int) -> tuple[int, ...]:
    rounded = {min(units, -(-width // multiple_of) * multiple_of) for width in width_candidates(units, ratios)}
    return tuple(sorted(rounded))


def monomials(polynomial: Polynomial, names: Mapping[Any, str]) -> Monomials:
    """A polynomial of the trace, multiplied out; groups that are not in ``names`` keep all their units."""
    total: Counter[tuple[tuple[str, int], ...]] = Counter()
    for factor, lengths in polynomial.terms:
        expanded: dict[tuple[str, ...], float] = {(): factor}
        for length in lengths:
            following: Counter[tuple[str, ...]] = Counter()
            for members, value in expanded.items():
                for positions, keys in length:
                    more = [names[key] for key in keys if key in names]
                    following[tuple(sorted((*members, *more)))] += value * positions  # type: ignore[assignment]
            expanded = dict(following)
        for members, value in expanded.items():
            total[tuple(sorted(Counter(members).items()))] += value  # type: ignore[assignment]
    return dict(total)


def _searchable(groups: TracedGroups, streams: bool) -> tuple[list[str], dict[str, str]]:
    """The groups whose widths can be drawn in a forward pass, and why the others cannot."""
    found: list[str] = []
    left_out: dict[str, str] = {}
    owned: Counter[str] = Counter()
    wanted = {name: group for name, group in groups.items() if group.by_default or (streams and group.norm_coupled)}
    for group in wanted.values():
        owned.update({name for name, _ in producers_and_norms(groups.model, group)})
    for name, group in groups.items():
        why = _obstacle(groups, group, owned) if name in wanted else group.note or "not planned by default"
        if why:
            left_out[name] = why
        else:
            found.append(name)
    with _varied(groups.model):
        for name in list(found):
            why = _difference(groups, name)
            if why:
                found.remove(name)
                left_out[name] = why
    return found, left_out


@contextmanager
def _varied(model: nn.Module) -> Iterator[None]:
    """Noise on all weights and statistics, for a while: shifts of 0 and gains of 1 would hide differences."""
    kept = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                size = 0.3 if tensor.ndim < 2 else 0.1 * float(tensor.float().std(correction=0)) + 0.01
                tensor.add_(size * torch.rand(tensor.shape, generator=generator).to(tensor))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(kept[name])


def _obstacle(groups: TracedGroups, group: TracedGroup, owned: Counter[str]) -> str:
    points = producers_and_norms(groups.model, group)
    if not any(not isinstance(groups.model.get_submodule(name), NORMS) for name, _ in points):
        return "no convolution or linear layer makes the units"
    if group.n_units < 2:
        return "one unit"
    seen = {name for name, _ in points}
    for piece in group.units.slices:
        path, _, leaf = piece.param.rpartition(".")
        module = groups.model.get_submodule(path)
        if leaf == "weight" and isinstance(module, (*CONVOLUTIONS, nn.Linear)) and piece.axis == 1:
            continue  # the units enter here
        if path not in seen and not isinstance(module, nn.PReLU) and not group.norm_coupled:
            return f"{piece.param} is not of a convolution, a linear layer or a batch norm"
    for name, table in points:
        module = groups.model.get_submodule(name)
        size = len(module.get_parameter("weight"))
        if (table < 0).any() or table.numel() != size or owned[name] > 1:
            return f"{name} has channels of other groups, too"
        if isinstance(module, BATCH_NORMS) and not (module.affine and module.track_running_stats):
            return f"{name} has no gain or no running statistics"
        if isinstance(module, LAYER_NORMS) and len(module.normalized_shape) != 1:
            return f"{name} normalises several axes"
    return ""


def _difference(groups: TracedGroups, name: str) -> str:
    """Why the mixed module with half of a group's units does not compute what the cut module does; empty if it does."""
    width = max(1, groups[name].n_units // 2)
    plan = groups.keep({name: list(range(width))})
    if groups[name].norm_coupled:  # a norm over fewer units is another function than with zeros in their places
        args, kwargs = arguments(groups.inputs)
        try:
            smaller = cut(groups, plan)
        except InputError as error:
            return f"{groups[name].note}, and {str(error).splitlines()[0]}"
        with torch.no_grad():
            expected = tensors_of(smaller.eval()(*args, **kwargs))
    else:
        expected = masked_outputs(groups, plan)
    trial = _Trial(groups, name, width)
    same = largest_difference(expected, trial.outputs()) <= 1e-4 * max(1.0, *(float(t.abs().max()) for t in expected))
    return "" if same else "zeros in place of units are not the function of the cut module"


class _Trial:
    """One group at one width, in a copy of the module."""

    def __init__(self, groups: TracedGroups, name: str, width: int) -> None:
        self.groups = groups
        known = {name: (width, groups[name].n_units)}
        self.module = instrumented(self, copy.deepcopy(groups.model), [name], known, blend_function("interpolate"))

    def drawn(self, number: int) -> Draw:
        return Draw((0,), torch.ones(1))

    def outputs(self) -> list[torch.Tensor]:
        args, kwargs = arguments(self.groups.inputs)
        with torch.no_grad():
            return tensors_of(self.module.eval()(*args, **kwargs))
