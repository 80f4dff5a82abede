"""ModHiFi-P: structured pruning without labels, loss or gradient, by fidelity."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch
from torch import nn

from paperworks.errors import InputError, nearest
from paperworks.nn import evaluation_mode
from paperworks.papers.modhifi.analyzer import CenterChoice
from paperworks.papers.modhifi.compensation import (
    Compensation,
    RidgeMode,
    Target,
    compensated,
    too_few_rows,
    without_dropped,
)
from paperworks.papers.modhifi.layers import ReadLayer
from paperworks.papers.modhifi.moments import Moments, batches_of, call, collect, count_samples, split_batches
from paperworks.papers.modhifi.normalised import normalised_layers
from paperworks.papers.modhifi.scores import SCORES
from paperworks.papers.modhifi.selection import (
    KINDS,
    Prunable,
    Rank,
    by_key,
    prunable_groups,
    reader_scores,
    union_of_best,
    unit_scores,
)
from paperworks.papers.modhifi.spreading import spread
from paperworks.papers.modhifi.targets import call_order, paired_moments, restored_bias, target_of
from paperworks.parameters import check_number, check_seed, check_whole
from paperworks.pruning.classifiers import reestimate_norms
from paperworks.runs import Progress, no_progress
from paperworks.structure.plan import KeepPlan
from paperworks.structure.scores import magnitude_scores, random_scores
from paperworks.structure.trace import TracedGroups, analyze, cut, ranked_plan
from paperworks.structure.trace.positions import kept_positions
from paperworks.structure.units import Units

BASELINES = ("magnitude", "random")
"""Scores of other methods, for comparison: the sum of squares of a unit's weights, and noise."""
Of = Literal["macs", "params", "channels"]


@dataclass(frozen=True)
class LayerChange:
    """What happened to one layer that reads pruned units, in one round.

    Attributes
    ----------
    inputs, kept : input channels before and after.
    fidelity_zeroed, fidelity : 1 - E||Y - Y'||^2 / E||Y||^2 over all outputs on the calibration samples, with zeros in
        place of what is dropped, and after compensation. Of centred outputs where the mean is restored or normalised.
    held_out_zeroed, held_out : the same on samples that the compensation was not fitted on.
    compensated : False where it made the held-out error worse, so that the weights stayed as they were.
    """

    round: int
    path: str
    inputs: int
    kept: int
    fidelity_zeroed: float
    fidelity: float
    held_out_zeroed: float
    held_out: float
    compensated: bool


@dataclass(frozen=True)
class PruneReport:
    """What was pruned.

    Attributes
    ----------
    kept : units that stay, by name of the group, numbered as in the dense model.
    sizes : units of every group of the dense model that could be pruned.
    layers : one entry for each round and layer.
    macs, parameters : (before, after).
    statistics : BatchNorm layers whose statistics were renewed.
    """

    kept: dict[str, tuple[int, ...]]
    sizes: dict[str, int]
    layers: list[LayerChange]
    macs: tuple[int, int]
    parameters: tuple[int, int]
    statistics: int
    notes: list[str] = field(default_factory=list)


class ModHiFiPruner:
    """Structured pruning by fidelity, for any network that ``structure.trace`` can trace.

    ::

        for each round:
            score the inputs of every reading layer on the calibration samples        (no labels, no gradients)
            drop units that are in no output's best p (Algorithm 3), or those with the least score until the target
            rescale what stays in every reading layer; renew the statistics of the BatchNorms
            cut

    Parameters
    ----------
    target, of : the share of multiply-accumulates, parameters or prunable units that stays, above 0 and at most 1.
    p : the paper's rule in place of a target: a unit stays if it is among the best share p of the inputs of at least
        one output. How much that leaves is then an outcome.
    rounds : the target is approached in equal ratios; with ``p`` the rule is applied anew in each.
    score, center : see ``FidelityAnalyzer``; ``magnitude`` and ``random`` are scores of others, for comparison.
    rank, scope : how scores of outputs become one for each unit (``selection.unit_scores``), and which units are
        compared (``structure.trace.ranked_plan``).
    compensation, ridge, ridge_mode : see ``compensation.compensated``.
    statistics, passes : renew the running statistics of BatchNorms, and how often to go through the samples.
    restore_mean : add the mean that an output lost to the layer's bias, where no renewed BatchNorm follows.
    sequential : fit each layer on what it reads after the layers in front of it were edited, with the dense output as
        the target. One pass through both models for each layer.
    held_out : share of the samples on which a compensation is checked. Where it makes the error larger than zeros
        do, the layer's weights stay as they were. 0 checks nothing.
    kinds, groups : kinds of groups that are pruned; or their names.
    ignore : patterns of parameters whose channels stay.
    min_share, multiple_of : no group keeps less; kept numbers are rounded up to multiples.
    mode : ``cut`` removes units; ``mask`` leaves zeros in their place.
    batch_size : samples in a forward.
    seed : of ``random`` scores.

    Attributes
    ----------
    model_ : the pruned network, of the class of the given one, which is not changed.
    report_ : a ``PruneReport``.
    """

    def __init__(
        self,
        target: float = 0.5,
        of: Of = "macs",
        *,
        p: float | None = None,
        rounds: int = 1,
        score: str = "auto",
        center: CenterChoice = "auto",
        rank: Rank = "sum",
        scope: Literal["global", "group", "isomorphic"] = "global",
        compensation: Compensation = "scalar",
        ridge: float = 1e-4,
        ridge_mode: RidgeMode = "relative",
        statistics: bool = True,
        passes: int = 1,
        restore_mean: bool = True,
        sequential: bool = False,
        held_out: float = 0.2,
        kinds: Sequence[str] = KINDS,
        groups: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        min_share: float = 0.05,
        multiple_of: int = 1,
        mode: Literal["cut", "mask"] = "cut",
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        for name, value, choices in (
            ("of", of, ("macs", "params", "channels")),
            ("score", score, ("auto", *SCORES, *BASELINES)),
            ("center", center, ("auto", "none", "channel", "map")),
            ("rank", rank, ("sum", "share", "entry")),
            ("compensation", compensation, ("scalar", "kernel", "none")),
            ("ridge_mode", ridge_mode, ("relative", "absolute")),
            ("mode", mode, ("cut", "mask")),
        ):
            if value not in choices:
                raise InputError(name, repr(value), f"one of {', '.join(choices)}{nearest(str(value), choices)}")
        if not 0 < target <= 1:
            raise InputError("target", target, "a share above 0, at most 1")
        if p is not None and not 0 < p <= 1:
            raise InputError("p", p, "a share above 0, at most 1")
        if p is not None and score in BASELINES:
            raise InputError("p", f"{p} with score {score}", "a score of contributions, or a target")
        check_whole("rounds", rounds, 1)
        check_whole("multiple_of", multiple_of, 1)
        check_whole("batch_size", batch_size, 2)
        check_number("ridge", ridge)
        check_seed("seed", seed)
        if not 0 <= held_out < 1:
            raise InputError("held_out", held_out, "a share from 0 to below 1")
        self.target, self.of, self.p, self.rounds = target, of, p, rounds
        self.score, self.center, self.rank, self.scope = score, center, rank, scope
        self.compensation, self.ridge, self.ridge_mode = compensation, ridge, ridge_mode
        self.statistics, self.passes, self.restore_mean = statistics, passes, restore_mean
        self.sequential, self.held_out, self.kinds, self.groups = sequential, held_out, kinds, groups
        self.ignore, self.min_share, self.multiple_of = ignore, min_share, multiple_of
        self.mode, self.batch_size, self.seed = mode, batch_size, seed
        self.model_: nn.Module
        self.report_: PruneReport

    def fit(
        self, model: nn.Module, calibration: Any, *, example_inputs: Any = None, progress: Progress = no_progress
    ) -> Self:
        """Prune a copy of ``model``.

        Parameters
        ----------
        calibration : unlabelled samples, synthetic ones will do: see ``moments.batches_of``.
        example_inputs : what the network is traced with; default two of the samples.

        Raises
        ------
        InputError : fewer than two samples, a network that cannot be traced or has nothing to prune, a target that
            cannot be reached.
        """
        first = next(model.parameters(), None)
        batches = batches_of(calibration, self.batch_size, device="cpu" if first is None else first.device)
        if count_samples(batches) < 2:
            raise InputError("calibration", "1 sample", "2 or more")
        example = _two_of(batches) if example_inputs is None else example_inputs
        work = copy.deepcopy(model)
        dense = groups = analyze(work, example, ignore=self.ignore)
        prunable, notes = prunable_groups(groups, work, self.kinds, self.groups)
        self._sizes = {name: one.group.n_units for name, one in prunable.items()}
        kept = {name: tuple(range(size)) for name, size in self._sizes.items()}
        before = dense.cost()
        changes: list[LayerChange] = []
        for number in range(self.rounds):
            if number:
                groups = analyze(work, example, ignore=self.ignore)
                prunable, _ = prunable_groups(groups, work, self.kinds, self.groups)
            plan, more, said = self._round(groups, work, prunable, batches, number, before, progress)
            changes += more
            notes += said
            for (_, name), ids in plan.kept.items():
                kept[name] = tuple(kept[name][i] for i in ids)
            work = cut(groups, plan, inplace=True)
            after = groups.cost_model(plan)
            renewed = 0
            if self.statistics:
                renewed = reestimate_norms(work, batches, passes=self.passes, progress=progress)
        if self.mode == "mask":
            work = spread(copy.deepcopy(model), work, kept_positions(dense.of(model), dense.keep(kept)))
        self.model_ = work.eval()
        self.report_ = PruneReport(
            kept,
            self._sizes,
            changes,
            (int(before.macs), int(after.macs)),
            (int(before.parameters), int(after.parameters)),
            renewed,
            list(dict.fromkeys(notes)),
        )
        return self

    def _round(
        self,
        groups: TracedGroups,
        work: nn.Module,
        prunable: Mapping[str, Prunable],
        batches: list[Any],
        number: int,
        before: Any,
        progress: Progress,
    ) -> tuple[KeepPlan, list[LayerChange], list[str]]:
        layers = {r.layer.path: r.layer for one in prunable.values() for r in one.readers}
        fitted, held = split_batches(batches, self.held_out) if self.held_out else (batches, [])
        with normalised_layers(work) as normalised, evaluation_mode(work), torch.no_grad():
            call(work, batches[0])
        moments = collect(work, fitted, layers, progress=progress)
        checked = collect(work, held, layers, progress=progress, what="held-out samples") if held else moments
        whole = {path: moments[path] + checked[path] for path in layers} if held else moments
        plan = self._plan(groups, work, prunable, whole, normalised, number, before)
        dropped = _dropped_inputs(prunable, plan, layers)
        changes, notes = [], []
        source = copy.deepcopy(work) if self.sequential else None
        order = call_order(work, batches[0], layers) if self.sequential else list(layers)
        for path in progress(order, f"round {number + 1}: rescaling what stays", len(order)):
            layer = layers[path]
            gone = dropped[path]
            if not bool(gone.any()) and source is None:
                continue
            free = path in normalised and self.statistics
            centered = free or (self.restore_mean and layer.bias is not None)
            parts: list[Target]
            if source is None:
                parts = [target_of(m[path], centered) for m in (moments, checked, whole)]
                means = (whole[path].mean, whole[path].mean)
            else:
                pairs = [paired_moments(source, work, path, part or batches) for part in (fitted, held, batches)]
                parts = [pair.target(centered) for pair in pairs]
                means = (pairs[2].dense_mean / pairs[2].rows, pairs[2].mean / pairs[2].rows)
            rows = whole[path].rows
            change, matrix, said = self.edited(layer, gone, parts, rows, number, bool(held))
            bias = None if free or not self.restore_mean else restored_bias(layer, layer.matrix(), matrix, *means)
            layer.write(matrix, bias)
            changes.append(change)
            notes += [said] if said else []
        return plan, changes, notes

    def edited(
        self,
        layer: ReadLayer,
        gone: torch.Tensor,
        parts: Sequence[Target],
        rows: int,
        number: int = 0,
        checked: bool = True,
    ) -> tuple[LayerChange, torch.Tensor, str]:
        """Rescale one layer: fitted on one part of the samples, checked on another, then fitted on all.

        Returns what happened, the matrix [c_out, d] without the inputs ``gone`` (bool), and a warning or "".
        """
        fitted, held, whole = parts
        matrix, blocks = layer.matrix(), layer.blocks()
        zeroed = without_dropped(matrix, blocks, gone)
        options: Any = {"mode": self.compensation, "ridge": self.ridge, "ridge_mode": self.ridge_mode}
        kept = int((~gone).sum())
        warning = too_few_rows(rows, layer, kept, self.compensation)

        def fidelity(target: Target, edited: torch.Tensor) -> float:
            energy = target.energy(matrix)
            return 1 - target.error(matrix, edited) / energy if energy > 0 else 1.0

        found = compensated(matrix, fitted, blocks, gone, **options)
        used = self.compensation != "none" and (
            not checked or held.error(matrix, found) <= held.error(matrix, zeroed) + 1e-12
        )
        held_figures = (fidelity(held, zeroed), fidelity(held, found))
        final = zeroed
        if used:
            final = compensated(matrix, whole, blocks, gone, **options) if checked else found
        change = LayerChange(
            number + 1,
            layer.path,
            len(gone),
            kept,
            fidelity(whole, zeroed),
            fidelity(whole, final),
            *held_figures,
            used,
        )
        return change, final, warning

    def _plan(
        self,
        groups: TracedGroups,
        work: nn.Module,
        prunable: Mapping[str, Prunable],
        moments: Mapping[str, Moments],
        normalised: Mapping[str, str],
        number: int,
        before: Any,
    ) -> KeepPlan:
        if self.score in BASELINES:
            units = Units([one.group.units for one in prunable.values()])
            generator = torch.Generator().manual_seed(self.seed + number)
            by_unit = magnitude_scores(work, units) if self.score == "magnitude" else random_scores(units, generator)
        else:
            found = {n: reader_scores(o, moments, self.score, self.center, normalised) for n, o in prunable.items()}
            if self.p is not None:
                return groups.keep({name: union_of_best(scores, self.p) for name, scores in found.items()})
            by_unit = by_key(prunable, {name: unit_scores(scores, self.rank) for name, scores in found.items()})
        share = self.target ** ((number + 1) / self.rounds)
        options: Any = {"scope": self.scope, "min_share": self.min_share, "multiple_of": self.multiple_of}
        if self.rank == "entry" and self.score not in BASELINES:
            options["normaliser"] = "none"
        if self.of == "channels":
            now = sum(one.group.n_units for one in prunable.values())
            return ranked_plan(groups, by_unit, keep=min(1.0, share * sum(self._sizes.values()) / now), **options)
        name = "macs" if self.of == "macs" else "parameters"
        left = getattr(groups.cost(), name) / getattr(before, name)
        return ranked_plan(groups, by_unit, **{name: min(1.0, share / left)}, **options)


def _two_of(batches: list[Any]) -> Any:
    batch = max(batches, key=lambda b: count_samples([b]))
    if count_samples([batch]) < 2:
        raise InputError("calibration", "batches of one sample", "batches of 2 samples or more")
    return {name: value[:2] for name, value in batch.items()} if isinstance(batch, Mapping) else batch[:2]


def _dropped_inputs(
    prunable: Mapping[str, Prunable], plan: KeepPlan, layers: Mapping[str, ReadLayer]
) -> dict[str, torch.Tensor]:
    """For every reading layer which of its inputs go, bool [inputs]."""
    found = {path: torch.zeros(layer.inputs, dtype=torch.bool) for path, layer in layers.items()}
    for one in prunable.values():
        ids = plan.kept.get(one.group.key)
        if ids is None:
            continue
        gone = torch.ones(one.group.n_units, dtype=torch.bool)
        gone[list(ids)] = False
        for reader in one.readers:
            found[reader.layer.path][reader.positions[gone].flatten()] = True
    return found
