"""One pruning call, step by step: measure, share out, cut, and note what was cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.adapt_pruner.allocation import Filler, next_sparsity, removals, rounded, weakest_removed
from paperworks.papers.adapt_pruner.calibration import FreshBatches
from paperworks.papers.adapt_pruner.importance import (
    measure,
    normalised,
)
from paperworks.papers.adapt_pruner.report import PruneReport, StepRecord
from paperworks.papers.adapt_pruner.settings import (
    experts_of,
    head_dims_of,
    sets_to_prune,
    weights_fingerprint,
    widths,
)
from paperworks.runs import Progress
from paperworks.runs.files import write_text
from paperworks.structure import KeepPlan, Units, count, prune
from paperworks.structure.units import Key

if TYPE_CHECKING:
    from paperworks.papers.adapt_pruner.pruner import AdaptPruner


@dataclass
class Sparsity:
    """Where a pruning call starts, or ended: S ``[layers]``, and the widths that it is relative to."""

    values: list[float]
    kv_groups: list[int]
    ffn: list[int]
    experts: list[int] = field(default_factory=list)


class Call:
    """One pruning call: the state that its steps share."""

    def __init__(
        self,
        options: AdaptPruner,
        model: Any,
        target: int | None,
        batches: FreshBatches,
        optimizer: torch.optim.Optimizer | None,
        start: Sparsity | None,
        folder: Path | None,
    ) -> None:
        self.options, self.model, self.batches, self.optimizer = options, model, batches, optimizer
        self.target = target
        units = self._units()
        self.chosen = sorted({layer for layer, _ in units if layer is not None})
        if not self.chosen:
            raise InputError("layers", options.layers, "at least one layer with units to prune")
        groups, ffn = widths(model)
        self.start = Sparsity([0.0] * len(ffn), groups, ffn, experts_of(model)) if start is None else start
        if len(self.start.values) != len(ffn):
            raise InputError("start", f"{len(self.start.values)} layers", f"{len(ffn)}, as the model has")
        self.sparsity = torch.tensor(self.start.values, dtype=torch.float64)
        dense = count(model)
        self.plan = KeepPlan()
        self._check_target(units, dense.parameters)
        self.report = PruneReport(
            target, dense.parameters, dense.parameters, dense.prunable, dense.prunable, groups, ffn
        )
        self.file = None if folder is None else folder / "pruning.json"
        self.identity = (
            {}
            if folder is None
            else {
                **options.settings(),
                "weights": weights_fingerprint(model),
                "calibration": batches.fingerprint(),
                "start": asdict(self.start),
            }
        )

    def run(self, progress: Progress) -> PruneReport:
        self._resume()
        for step in progress(self._steps(), "pruning", None if self.target else self.options.steps):
            self._step(step)
        return self._finished()

    def sparsity_now(self) -> Sparsity:
        return Sparsity(self.sparsity.tolist(), self.start.kv_groups, self.start.ffn, self.start.experts)

    def _steps(self) -> Iterator[int]:
        target, step = self.target, len(self.report.steps) + 1
        while (step <= self.options.steps) if target is None else (self.report.parameters_after > target):
            yield step
            step += 1

    def _units(self) -> Units:
        return sets_to_prune(self.model, self.options.prune, self.options.layers)

    def _check_target(self, units: Units, now: int) -> None:
        target = self.target
        if target is None:
            return
        if target >= now:
            raise InputError("target", f"{target:,}", f"fewer than the model has, {now:,}")
        least = Filler(self.model, units).parameters({key: s.n_units - max(1, s.least) for key, s in units.items()})
        if target < least:
            raise InputError("target", f"{target:,}", f"at least {least:,}: one unit of every kind per layer")

    def _step(self, step: int) -> None:
        options, units = self.options, self._units()
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([options.seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        )
        found = measure(
            self.model,
            units,
            self.batches(step),
            layer_importance=options.layer_importance,
            unit_importance=options.unit_importance,
            taylor=options.taylor,
            reduction=options.reduction,
            generator=generator,
        )
        scaled = torch.zeros_like(found.layers)
        scaled[self.chosen] = normalised(found.layers[self.chosen], options.normalise)
        late = step > options.steps  # only with a target that T steps did not reach
        increment = (1.0 if options.ratio is None else options.ratio) / options.steps
        amplitude = 0.0 if late else options.amplitude
        before = self.sparsity.clone()
        self.sparsity[self.chosen] = next_sparsity(before[self.chosen], scaled[self.chosen], increment, amplitude)
        numbers = self._numbers(units)
        if late and torch.equal(before, self.sparsity) and not any(numbers.values()):
            numbers = {key: s.n_units - max(1, s.least) for key, s in units.items()}  # beyond the 0.99 that S is cut to
        target = self.target
        if target is not None and options.exact:
            filler = Filler(self.model, units)
            if filler.parameters(numbers) <= target:
                order = scaled.argsort(descending=True, stable=True).tolist()
                numbers = filler.fill({}, numbers, target, order)
        if options.round_to > 1 and self._last(units, numbers, step):
            numbers = rounded(units, numbers, Filler(self.model, units), target, self.start.ffn, options.round_to)
        plan = weakest_removed(units, found.units, numbers)
        if plan.kept:
            prune(self.model, plan, optimizer=self.optimizer)
            self.plan = self.plan.then(plan)
        cost = count(self.model)
        groups, ffn = widths(self.model)
        self.report.steps.append(
            StepRecord(
                step,
                found.layers.tolist(),
                scaled.tolist(),
                self.sparsity.tolist(),
                groups,
                ffn,
                cost.parameters,
                cost.macs,
                None if found.loss != found.loss else found.loss,
            )
        )
        self.report.parameters_after, self.report.prunable_after = cost.parameters, cost.prunable
        self._note()

    def _last(self, units: Units, numbers: dict[Key, int], step: int) -> bool:
        if self.target is None:
            return step == self.options.steps
        return Filler(self.model, units).parameters(numbers) <= self.target

    def _numbers(self, units: Units) -> dict[Key, int]:
        head_dims = head_dims_of(units)
        found: dict[Key, int] = {}
        for (layer, kind), unit_set in units.items():
            assert layer is not None
            start = {"ffn": self.start.ffn, "expert": self.start.experts}.get(kind, self.start.kv_groups)[layer]
            found[layer, kind] = removals(
                kind,
                start,
                unit_set.n_units,
                float(self.sparsity[layer]),
                head_dims.get(layer, 1),
                max(1, unit_set.least),
            )
        return found

    def _finished(self) -> PruneReport:
        report, options = self.report, self.options
        groups, ffn = widths(self.model)
        before = {"attention": sum(report.kv_groups), "mlp": sum(report.ffn)}
        after = {"attention": sum(groups), "mlp": sum(ffn)}
        report.realised = {part: 1 - after[part] / before[part] for part in before if before[part]}
        report.plan = self.plan.to_json()
        if len(report.steps) > options.steps:
            report.notes.append(
                f"{options.steps} steps did not reach the target: {len(report.steps) - options.steps} steps of equal "
                "sparsity for all layers followed"
            )
        if options.normalise == "max" and options.amplitude > 0 and len(self.chosen) > 3:
            report.notes += _outlier_note(report)
        return report

    def _note(self) -> None:
        if self.file is None:
            return
        content = {
            "identity": self.identity,
            "plan": self.plan.to_json(),
            "sparsity": self.sparsity.tolist(),
            "report": self.report.to_dict(),
        }
        write_text(self.file, json.dumps(content))

    def _resume(self) -> None:
        """The cuts so far are a plan: weights that nothing trained are cut from the model that came in."""
        if self.file is None or not self.file.is_file():
            return
        saved = json.loads(self.file.read_text(encoding="utf-8"))
        if saved["identity"] != self.identity:
            odd = sorted(n for n in self.identity if saved["identity"].get(n) != self.identity[n])
            expected = "the same model, calibration and settings, or an empty folder"
            raise InputError("checkpoint_dir", f"{self.file.parent}, a pruning with another {odd[0]}", expected)
        self.plan = KeepPlan.from_json(saved["plan"])
        if self.plan.kept:
            prune(self.model, self.plan, optimizer=self.optimizer)
        self.sparsity = torch.tensor(saved["sparsity"], dtype=torch.float64)
        self.report = PruneReport.from_dict(saved["report"])


def _outlier_note(report: PruneReport) -> list[str]:
    """Say where one layer alone decides the scale: the allocation then mostly means that it is protected."""
    if not report.steps:
        return []
    last = torch.tensor(report.steps[-1].normalised)
    sizes = last.abs().sort(descending=True).values
    if float(sizes[0]) < 3 * float(sizes[1]):
        return []
    layer = int(last.abs().argmax())
    return [
        f"Layer {layer} alone sets the scale of the importance; the other layers are nearly equal beside it. "
        "normalise='rank' or 'zscore' tells them apart"
    ]
