"""The classic criteria for units of traced groups (channels, neurons, heads): how much each matters.

All are ``score(model, groups, evidence) -> {group: float64 [n_units]}``, low scores leave first; ``UNIT_CRITERIA`` has
them by name with what they need, and ``score_units`` calls one. ``structure.trace.ranked_plan`` makes plans of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from paperworks.errors import InputError, nearest
from paperworks.nn import evaluation_mode
from paperworks.pruning.evidence import Evidence
from paperworks.pruning.taxonomy import By, Data
from paperworks.pruning.unit_activations import (
    UnitScores,
    activation_statistic,
    finite_scores,
    gate_scores,
    map_ranks,
    mean_size,
    nonzero_share,
    nuclear_norm_drop,
    reconstruction_order,
    standard_deviations,
)
from paperworks.structure import magnitude_scores, random_scores
from paperworks.structure.scores import parameter_at, score_reduce
from paperworks.structure.trace import TracedGroup, TracedGroups

Form = Literal["squared", "absolute", "elementwise"]
Score = Callable[[nn.Module, TracedGroups, Evidence], UnitScores]


@dataclass(frozen=True)
class UnitCriterion:
    """A criterion by name.

    Attributes
    ----------
    formula : the score of a unit, in words and symbols.
    data : what it needs: none, unlabelled or labelled examples.
    by : the family in the taxonomy.
    """

    name: str
    formula: str
    data: Data
    by: By
    function: Score


def _producer(model: nn.Module, group: TracedGroup) -> torch.Tensor:
    """The weights that make the units in the group's first layer, [n_units, rest]."""
    piece = next(p for p in group.units.slices if p.param == group.root)
    weight = parameter_at(model, piece).detach().movedim(piece.axis, 0)
    weight = weight.reshape(len(weight), -1)
    table = piece.index.table
    return weight[table.flatten().to(weight.device)].reshape(len(table), -1).double()


def filter_norms(model: nn.Module, groups: TracedGroups, order: Literal[1, 2] = 1) -> UnitScores:
    """``|W_o|_p`` of the filter that makes the unit (Li et al. 2017), the group's first layer alone."""
    return {key: _producer(model, groups[key[1]]).norm(p=order, dim=1).cpu() for key in groups.units}


def group_norms(model: nn.Module, groups: TracedGroups) -> UnitScores:
    """The mean over the members of a group of ``|slice|_2^2`` (DepGraph's group norm)."""
    return magnitude_scores(model, groups.units, 2, "mean")


def median_distances(model: nn.Module, groups: TracedGroups) -> UnitScores:
    """FPGM: ``sum_j |W_o - W_j|_2`` of raw filters; a small sum is near the geometric median."""
    found = {}
    for key in groups.units:
        filters = _producer(model, groups[key[1]])
        found[key] = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(1).cpu()
    return found


def norm_gains(model: nn.Module, groups: TracedGroups) -> UnitScores:
    """Network Slimming: ``|gamma|`` of the batch norms of the group, their mean.

    Groups without a batch norm have no score and keep everything. Raises InputError where no group has one.
    """
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine}
    found: UnitScores = {}
    for key in groups.units:
        pieces = [p for p in groups[key[1]].units.slices if p.param.rpartition(".")[0] in norms]
        gains = [p for p in pieces if p.param.endswith(".weight")]
        if gains:
            values = [p.index.reduce(parameter_at(model, p).detach().abs().double().cpu()) for p in gains]
            found[key] = torch.stack(values).mean(0)
    return finite_scores(found, "bn-scale")


def taylor_scores(
    model: nn.Module,
    groups: TracedGroups,
    evidence: Evidence,
    form: Form = "squared",
    *,
    batch_size: int | None = None,
    criterion: str = "taylor",
) -> UnitScores:
    """First-order Taylor of the mean loss over all parameters s of a unit, averaged over batches (Molchanov 2019).

    ``squared``: ``(sum_s g_s theta_s)^2``; ``absolute``: ``|sum_s g_s theta_s|``; ``elementwise``:
    ``sum_s |g_s theta_s|``.
    """
    if form not in ("squared", "absolute", "elementwise"):
        raise InputError("form", form, "squared, absolute or elementwise")
    units = groups.units
    parameters = {id(p): p for s in units.values() for p in (parameter_at(model, piece) for piece in s.slices)}
    flags = {id(p): p.requires_grad for p in parameters.values()}
    sums: UnitScores = {key: torch.zeros(s.n_units, dtype=torch.float64) for key, s in units.items()}
    batches = 0
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        with evaluation_mode(model), torch.enable_grad():
            for losses, _ in evidence.losses(model, criterion, batch_size):
                gradients = torch.autograd.grad(losses.mean(), list(parameters.values()), allow_unused=True)
                products = {
                    i: torch.zeros_like(p) if g is None else (p.detach() * g)
                    for (i, p), g in zip(parameters.items(), gradients, strict=True)
                }
                for key, unit_set in units.items():
                    total: torch.Tensor = torch.zeros(unit_set.n_units, dtype=torch.float64)
                    for piece in unit_set.slices:
                        product = products[id(parameter_at(model, piece))]
                        total += score_reduce(product.abs() if form == "elementwise" else product, piece).cpu()
                    sums[key] += {"squared": total.square(), "absolute": total.abs(), "elementwise": total}[form]
                batches += 1
    finally:
        for i, parameter in parameters.items():
            parameter.requires_grad_(flags[i])
    return finite_scores({key: value / batches for key, value in sums.items()}, criterion)


def fisher_scores(model: nn.Module, groups: TracedGroups, evidence: Evidence) -> UnitScores:
    """The sum over examples of the squared ``sum_s g_s theta_s`` of each example alone."""
    count = len(evidence.examples_of("fisher")[0])
    scores = taylor_scores(model, groups, evidence, batch_size=1, criterion="fisher")
    return {key: value * count for key, value in scores.items()}


def _random(model: nn.Module, groups: TracedGroups, evidence: Evidence) -> UnitScores:
    return random_scores(groups.units, evidence.generator)


def _statistic(name: str, statistic: Callable[[torch.Tensor], torch.Tensor]) -> Score:
    return lambda model, groups, evidence: activation_statistic(model, groups, evidence, name, statistic)


def _listed(*criteria: UnitCriterion) -> dict[str, UnitCriterion]:
    return {criterion.name: criterion for criterion in criteria}


UNIT_CRITERIA: dict[str, UnitCriterion] = _listed(
    UnitCriterion("random", "U(0, 1)", "none", "chance", _random),
    UnitCriterion("l1", "|W_o|_1 of the first layer", "none", "norm", lambda m, g, e: filter_norms(m, g, 1)),
    UnitCriterion("l2", "|W_o|_2 of the first layer", "none", "norm", lambda m, g, e: filter_norms(m, g, 2)),
    UnitCriterion("group-norm", "mean of |slice|_2^2 over members", "none", "norm", lambda m, g, e: group_norms(m, g)),
    UnitCriterion("fpgm", "sum_j |W_o - W_j|_2", "none", "norm", lambda m, g, e: median_distances(m, g)),
    UnitCriterion("bn-scale", "|gamma|", "none", "sparsity regularisation", lambda m, g, e: norm_gains(m, g)),
    UnitCriterion("taylor", "(sum g theta)^2, mean of batches", "labelled", "loss change", taylor_scores),
    UnitCriterion(
        "taylor-absolute",
        "|sum g theta|, mean of batches",
        "labelled",
        "loss change",
        lambda m, g, e: taylor_scores(m, g, e, "absolute", criterion="taylor-absolute"),
    ),
    UnitCriterion(
        "taylor-elementwise",
        "sum |g theta|, mean of batches",
        "labelled",
        "loss change",
        lambda m, g, e: taylor_scores(m, g, e, "elementwise", criterion="taylor-elementwise"),
    ),
    UnitCriterion("fisher", "sum over examples of (sum g theta)^2", "labelled", "loss change", fisher_scores),
    UnitCriterion("gates", "E |dL/dxi|, gate xi = 1 where it is read", "labelled", "sensitivity", gate_scores),
    UnitCriterion("apoz", "1 - share of zeros", "unlabelled", "sensitivity", _statistic("apoz", nonzero_share)),
    UnitCriterion("mean-activation", "E |a|", "unlabelled", "sensitivity", _statistic("mean-activation", mean_size)),
    UnitCriterion("activation-std", "std of a", "unlabelled", "sensitivity", standard_deviations),
    UnitCriterion("hrank", "E rank of the map", "unlabelled", "sensitivity", _statistic("hrank", map_ranks)),
    UnitCriterion(
        "chip", "E drop of the nuclear norm", "unlabelled", "sensitivity", _statistic("chip", nuclear_norm_drop)
    ),
    UnitCriterion("thinet", "greedy error of the next layer", "unlabelled", "reconstruction", reconstruction_order),
)


def unit_criterion(name: str) -> UnitCriterion:
    """By name. Raises InputError with the nearest for an unknown one."""
    if name not in UNIT_CRITERIA:
        raise InputError("criterion", name, f"one of {', '.join(UNIT_CRITERIA)}{nearest(name, UNIT_CRITERIA)}")
    return UNIT_CRITERIA[name]


def score_units(name: str, model: nn.Module, groups: TracedGroups, evidence: Evidence | None = None) -> UnitScores:
    """Scores of the units that plans of ``groups`` include by default, float64; higher matters more.

    Raises InputError for an unknown criterion, or examples or labels that it needs and that are missing.
    """
    return finite_scores(unit_criterion(name).function(model, groups, evidence or Evidence()), name)
