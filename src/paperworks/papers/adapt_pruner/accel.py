"""Adapt-Accel: prune about 5 %, train on a share of the data, and again, with one learning-rate schedule over all."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch

from paperworks.errors import InputError
from paperworks.papers.adapt_pruner.calibration import FreshBatches, Source
from paperworks.papers.adapt_pruner.pruner import AdaptPruner
from paperworks.papers.adapt_pruner.report import PruneReport
from paperworks.papers.adapt_pruner.settings import check_model, weights_fingerprint
from paperworks.papers.adapt_pruner.shares import Split, data_shares, dealt
from paperworks.papers.adapt_pruner.stages import Part, StageFiles, examples_of, part_of
from paperworks.papers.adapt_pruner.steps import Sparsity
from paperworks.pruning import lora_targets, most_parameters
from paperworks.runs import Progress, no_progress
from paperworks.structure import count, prune, save_model
from paperworks.training import (
    Loss,
    TrainSettings,
    add_lora,
    distillation_loss,
    make_optimizer,
    merge_lora,
    next_token_loss,
    train,
)

PAPER_SETTINGS = TrainSettings(
    batch_size=32,
    accumulation=4,
    learning_rate=2e-5,
    final_factor=0.1,
    schedule="wsd",
    decay_fraction=0.1,
    betas=(0.9, 0.999),
    weight_decay=0.0,
    clip_norm=1.0,
    seed=42,
)
"""The paper's: AdamW, 128 sequences a step, WSD from 2e-5 to 2e-6."""


@dataclass(frozen=True)
class Distillation:
    """``alpha T^2 KL(teacher || student) + (1 - alpha) CE``. ``teacher`` None is a frozen copy of the dense model."""

    teacher: Any = None
    temperature: float = 2.0
    alpha: float = 1.0


@dataclass(frozen=True)
class Lora:
    """Train adapters on all attention and feed-forward matrices, merged at the end of every stage."""

    r: int = 128
    alpha: float = 16.0
    dropout: float = 0.05


@dataclass
class StageRecord:
    """One stage: its target, what was cut, and the losses of its training steps."""

    stage: int
    target: int
    parameters: int
    steps: int
    pruning: PruneReport | None
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class AccelReport:
    """The result of ``AdaptAccel.fit``."""

    target: int
    parameters_before: int
    parameters_after: int
    steps: int
    stages: list[StageRecord]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and texts."""
        return asdict(self)


Callback = Callable[[StageRecord, Any], None]
"""``callback(record, model)`` after every stage."""


class AdaptAccel:
    """Pruning and training by turns (the paper's second algorithm).

    ``for s = 1..stages: prune until P <= P_0 - (P_0 - P_T) s / stages; train on the share s of the data``

    Parameters
    ----------
    pruner : with ``target``. Its seed is that of the first stage; later stages draw other calibration.
    stages : T_s. The paper removes about 5 % of the parameters in each.
    data_split : shares of the data; see ``data_shares``.
    train_steps : optimiser steps of all stages together; None is one pass over the data.
    settings : of the training. ``steps``, ``epochs`` and the place in the schedule are set for every stage. 5 % of all
        steps warm up unless ``warmup_steps`` says otherwise.
    warmup : that share.
    distill : distil from a teacher; the paper's scripts do not.
    lora : adapters in place of full training.
    reset_optimizer : True makes a new AdamW for every stage (the paper); False carries its moments, cut with the
        weights.
    carry_sparsity : False starts S at 0 in every stage, relative to the widths then (the paper): with few KV heads a
        small stage never accumulates enough for one. True lets S go on over all stages.
    callbacks : called after every stage with its record and the model.
    """

    model_: Any
    report_: AccelReport

    def __init__(
        self,
        pruner: AdaptPruner,
        stages: int,
        *,
        data_split: Split = "linear",
        train_steps: int | None = None,
        settings: TrainSettings = PAPER_SETTINGS,
        warmup: float = 0.05,
        distill: Distillation | None = None,
        lora: Lora | None = None,
        reset_optimizer: bool = True,
        carry_sparsity: bool = False,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        if pruner.target is None:
            raise InputError("pruner", "no target", "a pruner with a target, which the stages share out")
        self.shares = data_shares(stages, data_split)
        if train_steps is not None and train_steps < 1:
            raise InputError("train_steps", train_steps, "1 or more, or None for one pass over the data")
        if not 0 <= warmup < 1:
            raise InputError("warmup", warmup, "a share from 0 to below 1")
        if lora is not None and not reset_optimizer:
            raise InputError("reset_optimizer", False, "True with adapters, which are new in every stage")
        self.pruner, self.stages, self.data_split, self.train_steps = pruner, stages, data_split, train_steps
        self.settings, self.warmup, self.distill, self.lora = settings, warmup, distill, lora
        self.reset_optimizer, self.carry_sparsity, self.callbacks = reset_optimizer, carry_sparsity, tuple(callbacks)

    def fit(
        self,
        model: Any,
        data: Any,
        *,
        calibration: Source = None,
        tokenizer: Any = None,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Prune and train ``model`` in place.

        Parameters
        ----------
        data : token ids int64 ``[n, T]``; a dictionary of tensors or a data set with ``input_ids`` and, where only
            some tokens are targets (an assistant's), ``labels`` with -100 elsewhere; or texts, with ``tokenizer``.
        calibration : see ``AdaptPruner.fit``; None takes the first ``pruner.length`` tokens of the examples.
        checkpoint_dir : a folder per stage is kept there; an interrupted run, given the same dense model, goes on
            inside the stage it was in. Without a stage's folder (and those after it), it is computed again.

        Raises
        ------
        InputError : what ``fit`` and ``train`` refuse; a checkpoint of another run.
        """
        check_model(model, self.pruner.unit_importance == "taylor")
        job = _Job(self, model, data, calibration, tokenizer, checkpoint_dir)
        records = [job.stage(number, progress) for number in range(1, self.stages + 1)]
        report = AccelReport(job.target, job.dense, count(model).parameters, sum(job.steps), records)
        report.notes += list(dict.fromkeys(n for r in records if r.pruning for n in r.pruning.notes))
        if count(model).prunable and all(not r.pruning or not r.pruning.realised.get("attention") for r in records):
            report.notes.append(
                "No KV head was removed: a stage's sparsity, which starts at 0 each time, never came to a whole one. "
                "carry_sparsity=True lets it accumulate over the stages"
            )
        self.model_, self.report_ = model, report
        return self

    def save(self, folder: str | Path, tokenizer: Any = None) -> Path:
        """Save the model with its report; the folder must be free."""
        if not hasattr(self, "report_"):
            raise InputError("accel", "not fitted", "fit() first")
        method = {"method": "adapt-accel", "settings": self.identity(), **self.report_.to_dict()}
        return save_model(self.model_, folder, tokenizer, method)

    def identity(self) -> dict[str, Any]:
        """All that decides the weights, as plain values."""
        distill = None if self.distill is None else [self.distill.temperature, self.distill.alpha]
        plain = {
            "pruner": self.pruner.settings(),
            "stages": self.stages,
            "data_split": self.data_split,
            "train_steps": self.train_steps,
            "settings": self.settings.what_decides_the_weights(),
            "warmup": self.warmup,
            "distill": distill,
            "lora": None if self.lora is None else asdict(self.lora),
            "reset_optimizer": self.reset_optimizer,
            "carry_sparsity": self.carry_sparsity,
        }
        return json.loads(json.dumps(plain, default=list))


class _Job:
    """One run: what its stages share."""

    def __init__(
        self, options: AdaptAccel, model: Any, data: Any, calibration: Source, tokenizer: Any, folder: Path | None
    ) -> None:
        self.options, self.model, self.folder = options, model, folder
        self.data = examples_of(data, tokenizer, options.pruner.length)
        self.calibration = part_of(self.data, options.pruner.length) if calibration is None else calibration
        self.tokenizer = tokenizer
        self.dense = count(model).parameters
        assert options.pruner.target is not None
        self.target = most_parameters(options.pruner.target, model)
        # refuse what cannot be reached before any work, not in the last stage
        if self.target >= self.dense:
            raise InputError("target", f"{self.target:,}", f"fewer than the model has, {self.dense:,}")
        per_step = options.settings.examples_per_step()
        examples = len(self.data)
        if options.train_steps is None:
            self.parts = dealt(examples, options.shares)
            self.steps = [-(-n // per_step) for n in self.parts]
        else:
            self.steps = dealt(options.train_steps, options.shares)
            self.parts = [steps * per_step for steps in self.steps]
        self.total_steps = max(1, sum(self.steps))
        self.loss = self._loss()
        self.optimizer: torch.optim.Optimizer | None = None
        self.sparsity: Sparsity | None = None
        self.identity = (
            {}
            if folder is None
            else {
                **options.identity(),
                "weights": weights_fingerprint(model),
                "data": self._data_fingerprint(),
                "calibration": self._batches(options.pruner).fingerprint(),
            }
        )

    def stage(self, number: int, progress: Progress) -> StageRecord:
        options = self.options
        files = None if self.folder is None else StageFiles(self.folder, number, self.identity)
        began = time.monotonic()
        target = self.dense - (self.dense - self.target) * number // options.stages
        if not options.reset_optimizer and self.optimizer is None:
            self.optimizer = make_optimizer(self.model, options.settings)
        done = files.trained() if files is not None else None
        if done is not None:
            assert files is not None
            self._restore(files, "trained", done["sparsity"])
            record = StageRecord(**done["record"])
            record.pruning = (
                None if done["record"]["pruning"] is None else PruneReport.from_dict(done["record"]["pruning"])
            )
            return record
        pruning = self._prune(number, target, files, progress)
        losses, rates = self._train(number, files, progress)
        record = StageRecord(
            number,
            target,
            count(self.model).parameters,
            self.steps[number - 1],
            pruning,
            losses,
            rates,
            time.monotonic() - began,
        )
        if files is not None:
            state = None if self.sparsity is None else asdict(self.sparsity)
            files.keep_trained(self.model, self.optimizer, {"record": asdict(record), "sparsity": state})
        for callback in options.callbacks:
            callback(record, self.model)
        return record

    def _prune(self, number: int, target: int, files: StageFiles | None, progress: Progress) -> PruneReport | None:
        if files is not None:
            kept = files.pruned()
            if kept is not None:
                self._restore(files, "pruned", kept["sparsity"])
                return None if kept["report"] is None else PruneReport.from_dict(kept["report"])
        if count(self.model).parameters <= target:
            report, plan = None, None  # the stage before overshot this one's target
        else:
            pruner = self.options.pruner.with_target(target, self.options.pruner.seed + 1000 * (number - 1))
            report = pruner.fit(
                self.model,
                self._batches(pruner),
                optimizer=self.optimizer,
                start=self.sparsity if self.options.carry_sparsity else None,
                checkpoint_dir=None if files is None else files.folder,
                progress=progress,
            ).report_
            plan, self.sparsity = pruner.plan_, pruner.sparsity_
        if files is not None:
            state = None if self.sparsity is None else asdict(self.sparsity)
            content = {"report": None if report is None else report.to_dict(), "sparsity": state}
            files.keep_pruned(self.model, self.optimizer, plan, content)
        return report

    def _train(self, number: int, files: StageFiles | None, progress: Progress) -> tuple[list[float], list[float]]:
        options, steps = self.options, self.steps[number - 1]
        if not steps:
            return [], []
        before = sum(self.steps[: number - 1])
        first = sum(self.parts[: number - 1])
        whole = options.settings
        settings = replace(
            whole,
            steps=steps,
            schedule_start=before,
            schedule_steps=self.total_steps,
            seed=whole.seed + number,
            warmup_steps=whole.warmup_steps or round(options.warmup * self.total_steps),
        )
        data = Part(self.data, first, self.parts[number - 1], whole.seed)
        trained: Any = self.model
        if options.lora is not None:
            trained = add_lora(
                self.model,
                lora_targets(self.model),
                r=options.lora.r,
                alpha=options.lora.alpha,
                dropout=options.lora.dropout,
                seed=settings.seed,
            )
        result = train(
            trained,
            data,
            settings,
            loss=self.loss,
            optimizer=self.optimizer,
            progress=progress,
            checkpoint_dir=None if files is None else files.folder,
        )
        if options.lora is not None:
            merge_lora(trained)
        return result.losses, [settings.rate(step, steps) for step in range(steps)]

    def _restore(self, files: StageFiles, what: str, sparsity: dict[str, Any] | None) -> None:
        """The weights of an earlier attempt, in a model cut as it was."""
        plan, weights, moments = files.weights(what)
        if plan.kept:
            prune(self.model, plan, optimizer=self.optimizer)
        self.model.load_state_dict(weights)
        if self.optimizer is not None and moments is not None:
            self.optimizer.load_state_dict(moments)
        self.sparsity = None if sparsity is None else Sparsity(**sparsity)

    def _loss(self) -> Loss:
        distill = self.options.distill
        if distill is None:
            return next_token_loss
        teacher = copy.deepcopy(self.model) if distill.teacher is None else distill.teacher
        for parameter in teacher.parameters():
            parameter.requires_grad_(False)
        return distillation_loss(teacher, temperature=distill.temperature, alpha=distill.alpha, targets="next_token")

    def _batches(self, pruner: AdaptPruner) -> FreshBatches:
        return FreshBatches(
            self.calibration,
            examples=pruner.examples,
            length=pruner.length,
            batch_size=pruner.batch_size,
            seed=pruner.seed,
            resample=pruner.resample,
            tokenizer=self.tokenizer,
        )

    def _data_fingerprint(self) -> str:
        digest = hashlib.sha256(str(len(self.data)).encode())
        for index in range(0, len(self.data), max(1, len(self.data) // 64)):
            for name, tensor in sorted(self.data[index].items()):
                digest.update(name.encode() + torch.as_tensor(tensor).numpy().tobytes())
        return digest.hexdigest()
