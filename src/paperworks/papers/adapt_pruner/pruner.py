"""Adapt-Pruner: many small cuts, each shared out among the layers by how little they change their input."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.adapt_pruner.allocation import Filler, next_sparsity, removals, rounded, weakest_removed
from paperworks.papers.adapt_pruner.calibration import FreshBatches, Source
from paperworks.papers.adapt_pruner.depth import drop_layers
from paperworks.papers.adapt_pruner.importance import (
    LayerFunction,
    LayerMetric,
    Normalisation,
    Ranker,
    UnitFunction,
    measure,
    normalised,
)
from paperworks.papers.adapt_pruner.report import PruneReport, StepRecord
from paperworks.papers.adapt_pruner.settings import (
    Part,
    check_amounts,
    check_choices,
    check_model,
    experts_of,
    head_dims_of,
    sets_to_prune,
    weights_fingerprint,
    widths,
)
from paperworks.pruning.target import most_parameters
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import write_text
from paperworks.structure import KeepPlan, Units, count, prune, save_model, uniform_export
from paperworks.structure.scores import Reduction, Taylor
from paperworks.structure.units import Key


@dataclass
class Sparsity:
    """Where a pruning call starts, or ended: S ``[layers]``, and the widths that it is relative to."""

    values: list[float]
    kv_groups: list[int]
    ffn: list[int]
    experts: list[int] = field(default_factory=list)


class AdaptPruner:
    """Progressive structured pruning with a sparsity of its own for every layer (the paper's first algorithm).

    At each of ``steps`` steps, on fresh calibration sequences: ``I_i = -mean cos(layer input, layer output)``, centred
    and scaled to ``I_hat`` in [-1, 1]; ``S_i += R/T - A I_hat_i``; the least important FFN channels and KV-head groups
    (with their query heads) of every layer go. Hidden size and embeddings stay.

    Parameters
    ----------
    target : stop at this many parameters, embeddings included; or a budget in words, such as ``0.75x`` or ``4.5MiB``.
    ratio : R, the sparsity that all steps together aim at; 1 where only ``target`` is given (the paper).
    steps : T. ``R / T`` is the increment of a step. Where the target needs more, equal steps for all layers follow.
    amplitude : A. 0 is uniform pruning.
    layer_importance : ``cosine`` (the paper), ``euclidean``, ``manhattan``, or ``f(model, batches) -> [layers]``.
    normalise : ``max`` (the paper), ``zscore`` or ``rank``; see ``normalised``.
    unit_importance : ``taylor`` (the paper), ``l1``, ``l2``, ``random``, or ``f(model, units, batches) -> scores``.
    taylor, reduction : how element scores are made, and how those of a unit's matrices become one.
    prune : ``attention``, ``mlp`` or both.
    layers : numbers of the layers to prune; None is all.
    mode : ``width``, or ``layer_wise``: whole layers go (``drop`` by number, or the least important one at a time,
        measured anew after each, until the target).
    exact : shorten the last step, so that the model ends within one unit under the target; False overshoots by up to a
        step, as the official code does.
    round_to : the channels that a layer keeps are a multiple of this in the end, or all; inside the target.
    examples, length, batch_size, resample : calibration of a step; see ``FreshBatches``.

    Attributes, after ``fit``: ``model_``, ``report_``, ``plan_`` (all cuts together), ``sparsity_``.
    """

    model_: Any
    report_: PruneReport
    plan_: KeepPlan
    sparsity_: Sparsity | None

    def __init__(
        self,
        target: int | str | None = None,
        *,
        ratio: float | None = None,
        steps: int = 50,
        amplitude: float = 0.02,
        layer_importance: LayerMetric | LayerFunction = "cosine",
        normalise: Normalisation = "max",
        unit_importance: Ranker | UnitFunction = "taylor",
        taylor: Taylor = "param_first",
        reduction: Reduction = "sum",
        prune: Sequence[Part] = ("attention", "mlp"),
        layers: Sequence[int] | None = None,
        mode: Literal["width", "layer_wise"] = "width",
        drop: Sequence[int] | None = None,
        exact: bool = True,
        round_to: int = 1,
        examples: int = 512,
        length: int = 64,
        batch_size: int = 16,
        resample: bool = True,
        seed: int = 42,
    ) -> None:
        if mode not in ("width", "layer_wise"):
            raise InputError("mode", repr(mode), "width or layer_wise")
        if drop is not None and mode != "layer_wise":
            raise InputError("drop", list(drop), "None, or mode layer_wise")
        if mode == "layer_wise" and (target is None) == (drop is None):
            raise InputError("drop", drop, "numbers of layers to drop, or target, for mode layer_wise")
        if mode == "width":
            check_amounts(target, ratio, steps, amplitude)
        check_choices(layer_importance, normalise, unit_importance, taylor, reduction)
        self.target, self.ratio, self.steps, self.amplitude = target, ratio, steps, amplitude
        self.layer_importance, self.normalise = layer_importance, normalise
        self.unit_importance, self.taylor, self.reduction = unit_importance, taylor, reduction
        self.prune, self.layers, self.mode, self.drop = tuple(prune), layers, mode, drop
        self.exact, self.round_to, self.examples, self.length = exact, round_to, examples, length
        self.batch_size, self.resample, self.seed = batch_size, resample, seed

    def with_target(self, target: int, seed: int | None = None) -> AdaptPruner:
        """The same settings with another target (and seed): Adapt-Accel prunes to one target after another."""
        other = copy.copy(self)
        other.target, other.seed = target, self.seed if seed is None else seed
        return other

    def settings(self) -> dict[str, Any]:
        """All options as plain values; functions by name."""
        names = (
            "target",
            "ratio",
            "steps",
            "amplitude",
            "layer_importance",
            "normalise",
            "unit_importance",
            "taylor",
            "reduction",
            "prune",
            "layers",
            "mode",
            "drop",
            "exact",
            "round_to",
            "examples",
            "length",
            "batch_size",
            "resample",
            "seed",
        )
        values = {name: getattr(self, name) for name in names}
        plain = {n: getattr(v, "__qualname__", "function") if callable(v) else v for n, v in values.items()}
        return json.loads(json.dumps(plain, default=list))

    def fit(
        self,
        model: Any,
        calibration: Source = None,
        *,
        tokenizer: Any = None,
        inplace: bool = True,
        optimizer: torch.optim.Optimizer | None = None,
        start: Sparsity | None = None,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Prune a causal language model of transformers.

        Parameters
        ----------
        model : float32 or bfloat16, stock or pruned before. It becomes its pruned class.
        calibration : texts, token ids ``[n, T]``, a data set, or a function of the step; see ``FreshBatches``.
        inplace : False prunes a copy, which ``model_`` is then.
        optimizer : its moments are cut with the weights.
        start : go on from the sparsities of an earlier call; None starts at 0, relative to the widths now (the paper).
        checkpoint_dir : the cuts are noted there after every step, and gone on from, with the same model.

        Raises
        ------
        InputError : a model, target, layer or calibration that cannot be used; the least reachable count is named.
        """
        check_model(model, self.unit_importance == "taylor")
        if not inplace:
            if optimizer is not None:
                raise InputError("inplace", False, "True where an optimizer is to follow")
            model = copy.deepcopy(model)
        batches = None
        if calibration is not None:
            batches = (
                calibration
                if isinstance(calibration, FreshBatches)
                else FreshBatches(
                    calibration,
                    examples=self.examples,
                    length=self.length,
                    batch_size=self.batch_size,
                    seed=self.seed,
                    resample=self.resample,
                    tokenizer=tokenizer,
                )
            )
        elif self.drop is None:
            raise InputError("calibration", None, "texts, token ids or a function that gives batches")
        mode = self.mode
        began = time.monotonic()
        target = None if self.target is None else most_parameters(self.target, model)
        self.plan_, self.sparsity_ = KeepPlan(), None
        with evaluation_mode(model):
            if mode == "layer_wise":
                report, self.plan_ = drop_layers(model, self, target, batches, optimizer, progress)
            else:
                assert batches is not None
                call = _Call(self, model, target, batches, optimizer, start, checkpoint_dir)
                report = call.run(progress)
                self.plan_, self.sparsity_ = call.plan, call.sparsity_now()
        report.seconds += time.monotonic() - began
        self.model_, self.report_ = model, report
        return self

    def save(self, folder: str | Path, tokenizer: Any = None) -> Path:
        """Save the pruned model with its report; the folder must be free."""
        report = self._fitted()
        method = {"method": "adapt-pruner", "settings": self.settings(), **report.to_dict()}
        return save_model(self.model_, folder, tokenizer, method)

    def uniform(self, multiple_of: int = 1) -> Any:
        """A model of the stock class with equal widths in all layers, for serving engines: narrow ones get zeros."""
        self._fitted()
        return uniform_export(self.model_, "round", multiple_of=multiple_of)

    def _fitted(self) -> PruneReport:
        if not hasattr(self, "report_"):
            raise InputError("pruner", "not fitted", "fit() first")
        return self.report_


class _Call:
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
