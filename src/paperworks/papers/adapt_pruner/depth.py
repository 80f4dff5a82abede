"""The layer_wise mode: whole decoder layers go, by number or by how little they change their input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from paperworks.errors import InputError
from paperworks.papers.adapt_pruner.calibration import FreshBatches
from paperworks.papers.adapt_pruner.importance import measure, normalised
from paperworks.papers.adapt_pruner.report import PruneReport, StepRecord
from paperworks.papers.adapt_pruner.settings import widths
from paperworks.runs import Progress
from paperworks.structure import KeepPlan, Units, count, prune, units_of

if TYPE_CHECKING:
    from paperworks.papers.adapt_pruner.pruner import AdaptPruner


def drop_layers(
    model: Any,
    options: AdaptPruner,
    target: int | None,
    batches: FreshBatches | None,
    optimizer: torch.optim.Optimizer | None,
    progress: Progress,
) -> tuple[PruneReport, KeepPlan]:
    """Remove ``options.drop``, or the least important layer again and again until ``target`` parameters are met.

    Numbers of layers follow the cut, in the modules as in the configuration. At least one layer stays.
    """
    dense, (groups, ffn) = count(model), widths(model)
    report = PruneReport(target, dense.parameters, dense.parameters, dense.prunable, dense.prunable, groups, ffn)
    plan = KeepPlan()
    if options.drop is not None:
        layers = set(options.drop)
        if not layers or not layers < set(range(len(ffn))):
            raise InputError("drop", sorted(layers), f"some, but not all, numbers from 0 to {len(ffn) - 1}")
        plan = _without(model, layers)
        prune(model, plan, optimizer=optimizer)
        _note(model, report, 1, None, None)
    else:
        assert batches is not None
        assert target is not None
        _check(model, target)
        planned = range(1, len(ffn))
        for step in progress(planned, "dropping layers", len(planned)):
            if report.parameters_after <= target:
                break
            found = measure(
                model,
                Units([]),
                batches(step),
                layer_importance=options.layer_importance,
                unit_importance="random",
                generator=torch.Generator().manual_seed(0),
            )
            cut = _without(model, {int(found.layers.argmin())})
            prune(model, cut, optimizer=optimizer)
            plan = plan.then(cut)
            _note(model, report, step, found.layers, found.loss)
    after_groups, after_ffn = widths(model)
    report.realised = {"attention": 1 - sum(after_groups) / sum(groups), "mlp": 1 - sum(after_ffn) / sum(ffn)}
    report.plan = plan.to_json()
    return report, plan


def _without(model: Any, layers: set[int]) -> KeepPlan:
    units = units_of(model, ["layer"])
    return KeepPlan.of(units, {(None, "layer"): [i for i in range(units[None, "layer"].n_units) if i not in layers]})


def _check(model: Any, target: int) -> None:
    n = units_of(model, ["layer"])[None, "layer"].n_units
    now = count(model).parameters
    least = min(count(model, _without(model, set(range(n)) - {keep})).parameters for keep in range(n))
    if target >= now:
        raise InputError("target", f"{target:,}", f"fewer than the model has, {now:,}")
    if target < least:
        raise InputError("target", f"{target:,}", f"at least {least:,}: one layer stays")


def _note(model: Any, report: PruneReport, step: int, layers: torch.Tensor | None, loss: float | None) -> None:
    cost, (groups, ffn) = count(model), widths(model)
    raw = [] if layers is None else layers.tolist()
    scaled = [] if layers is None else normalised(layers).tolist()
    record = StepRecord(step, raw, scaled, [], groups, ffn, cost.parameters, cost.macs, loss)
    report.steps.append(record)
    report.parameters_after, report.prunable_after = cost.parameters, cost.prunable
