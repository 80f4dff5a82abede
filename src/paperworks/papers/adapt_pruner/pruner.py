"""Adapt-Pruner: many small cuts, each shared out among the layers by how little they change their input."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.adapt_pruner.calibration import FreshBatches, Source
from paperworks.papers.adapt_pruner.depth import drop_layers
from paperworks.papers.adapt_pruner.importance import (
    LayerFunction,
    LayerMetric,
    Normalisation,
    Ranker,
    UnitFunction,
)
from paperworks.papers.adapt_pruner.report import PruneReport
from paperworks.papers.adapt_pruner.settings import (
    Part,
    check_amounts,
    check_choices,
    check_model,
)
from paperworks.papers.adapt_pruner.steps import Call, Sparsity
from paperworks.parameters import check_seed
from paperworks.pruning.target import most_parameters
from paperworks.runs import Progress, no_progress
from paperworks.structure import KeepPlan, save_model, uniform_export
from paperworks.structure.scores import Reduction, Taylor


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
        check_seed("seed", seed)
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
                call = Call(self, model, target, batches, optimizer, start, checkpoint_dir)
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
