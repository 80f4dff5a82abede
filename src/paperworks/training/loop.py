"""The training loop.

    for each step:  callbacks before
                    examples -> sum of losses / number of targets -> gradient -> clip -> optimiser
                    callbacks after
                    now and then: evaluate, keep the best, stop early, write a checkpoint

Everything that decides the weights (order of the examples, dropout masks, learning rates) is a function of the seed and
of the step's number, so that a training that was stopped and resumed has the same losses as one that was not.

Started by ``accelerate launch``, several processes share the examples of every step (DDP, or FSDP with whole weights
back at the end). Only the main process shows progress and writes checkpoints; a stop anywhere stops them all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import DistributedType, gather_object

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, preserved_modes
from paperworks.runs import Cancelled, Progress, no_progress
from paperworks.training.callbacks import TrainingCallback
from paperworks.training.checkpoints import (
    State,
    check_identity,
    load_training_state,
    read_checkpoint,
    training_state,
    write_checkpoint,
)
from paperworks.training.losses import Batch, Loss, next_token_loss
from paperworks.training.optimizers import Turn, make_optimizer, set_learning_rate, turn_of
from paperworks.training.processes import (
    make_accelerator,
    own_randomness,
    random_state,
    set_random_state,
    share_buffers,
    shared_number,
    step_optimizer,
    until_any_is_cancelled,
)
from paperworks.training.results import TrainResult
from paperworks.training.settings import TrainSettings
from paperworks.training.sharding import UnshardedState, load_optimizer, optimizer_state
from paperworks.training.sources import BatchSource, Examples, as_source

OnStep = Callable[[int, float, float], None]
"""``on_step(steps done, loss, learning rate)``."""


def train(
    model: torch.nn.Module,
    data: Examples | BatchSource,
    settings: TrainSettings,
    *,
    loss: Loss = next_token_loss,
    evaluate: Callable[[torch.nn.Module], float] | None = None,
    callbacks: Sequence[TrainingCallback] = (),
    optimizer: torch.optim.Optimizer | None = None,
    turns: Sequence[Turn] = (),
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
    on_step: OnStep | None = None,
    generator: torch.Generator | None = None,
) -> TrainResult:
    """Train a model in place.

    Parameters
    ----------
    model : its parameters with ``requires_grad`` are trained. It ends on the device and in the modes it came in.
    data : a batch source (``Rows``, ``Generated``, ``Stream``, or your own); or examples, which ``Rows`` shuffles: a
        data set or sequence of dictionaries of tensors, token ids int64 ``[n, T]``, or a dictionary of tensors with one
        row per example.
    loss : the sum over targets and their number, for one batch: ``cross_entropy_loss()``, ``next_token_loss``,
        ``distillation_loss(teacher)``, or your own.
    evaluate : gives the loss (lower is better) that decides the best weights and early stopping.
    callbacks : called in their order before and after every step; their state is kept in the checkpoints.
    optimizer : used in place of the one that ``make_optimizer`` makes, with the moments that it has: for options by
        group of parameters, or to carry moments from one training to the next. The settings give its learning rate;
        their other options of optimisers do not count.
    turns : several optimisers that take turns, in place of one.
    checkpoint_dir : where checkpoints go, and where an earlier attempt is looked for and gone on from.
    on_step : called after every step, in every process, with (steps done, loss, learning rate).
    generator : a CPU generator that the seed is drawn from, in place of ``settings.seed``.

    Raises
    ------
    InputError : nothing to train, no data, a checkpoint of another training, or a loss that is not finite.
    Cancelled : through ``progress``; a checkpoint was written before.
    """
    if optimizer is not None and turns:
        raise InputError("optimizer", "one, with turns of others", "one optimizer, or turns")
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError("model", "no parameter with requires_grad", "at least one parameter to train")
    seed = settings.seed if generator is None else int(torch.randint(2**62, (), generator=generator))
    job = _Training(model, as_source(data), settings, loss, evaluate, tuple(callbacks), checkpoint_dir, seed)
    return job.run(optimizer, turns, progress, on_step)


class _Training:
    def __init__(
        self,
        model: torch.nn.Module,
        data: BatchSource,
        settings: TrainSettings,
        loss: Loss,
        evaluate: Callable[[torch.nn.Module], float] | None,
        callbacks: tuple[TrainingCallback, ...],
        folder: Path | None,
        seed: int,
    ) -> None:
        self.model, self.data, self.settings, self.loss = model, data, settings, loss
        self.evaluate, self.callbacks, self.folder, self.seed = evaluate, callbacks, folder, seed
        # a block that was cut to nothing is passed over, and its adapters get no gradient
        unused = any(p.numel() == 0 for p in model.parameters())
        self.accelerator = make_accelerator(settings, unused_parameters=unused)
        self.sharded = self.accelerator.distributed_type == DistributedType.FSDP
        if callbacks and self.sharded:
            raise InputError("training", "FSDP, with callbacks that reach into whole modules", "DDP or one process")
        self.per_step = settings.examples_per_step(self.accelerator.num_processes)
        self.total_steps = data.steps(settings.epochs, self.per_step) if settings.steps is None else settings.steps
        self.result = TrainResult()
        self.best: State | None = None
        self.whole: UnshardedState | None = None

    def run(
        self,
        optimizer: torch.optim.Optimizer | None,
        turns: Sequence[Turn],
        progress: Progress,
        on_step: OnStep | None,
    ) -> TrainResult:
        device = next(self.model.parameters()).device
        attributes = set(vars(self.model))
        together = False
        self.optimizers: list[Any] = []
        self.prepared = self.model
        try:
            # processes have examples of their own, and so dropout masks of their own
            seed = self.seed + self.accelerator.process_index
            with preserved_modes(self.model), own_randomness(self.accelerator.device, seed):
                self._prepare(optimizer, turns)
                self._resume()
                self._loop(progress if self.accelerator.is_main_process else no_progress, on_step)
            together = True
        except (Cancelled, InputError):  # raised in every process
            together = True
            raise
        finally:
            if self.whole is not None and together:  # a process that failed alone must not wait for the others
                self.whole.restore()
            self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False)
            for name in set(vars(self.model)) - attributes:  # accelerate's marks, and its bound copy of forward
                delattr(self.model, name)
            self.model.to(device).zero_grad(set_to_none=True)
        return self.result

    def _prepare(self, optimizer: torch.optim.Optimizer | None, turns: Sequence[Turn]) -> None:
        if not turns:
            fused = self.accelerator.device.type in ("cpu", "cuda")
            turns = [Turn(make_optimizer(self.model, self.settings, fused=fused) if optimizer is None else optimizer)]
        optimizers = [turn.optimizer for turn in turns]
        self.turns = tuple(turns)
        self.sources = [self.data if turn.data is None else as_source(turn.data) for turn in turns]
        self.whole = UnshardedState(self.model, optimizers) if self.sharded else None
        self.prepared, *self.optimizers = self.accelerator.prepare(self.model, *optimizers)
        if self.whole is not None:
            self.whole.empty()
        self.stepped = self.prepared
        if self.settings.compile:
            self.stepped = cast(torch.nn.Module, torch.compile(self.prepared))

    def _loop(self, progress: Progress, on_step: OnStep | None) -> None:
        settings, result = self.settings, self.result
        started = time.monotonic() - result.seconds
        try:
            steps = progress(range(result.steps, self.total_steps), "training", self.total_steps - result.steps)
            for step in until_any_is_cancelled(steps, self.accelerator):
                if result.stopped_early:
                    break
                rate = settings.rate(step, self.total_steps)
                for callback in self.callbacks:
                    callback.before_step(step)
                value = self._step(step, rate)
                result.losses.append(value)
                result.steps = step + 1
                result.seconds = time.monotonic() - started
                for callback in self.callbacks:
                    callback.after_step(step, value, rate)
                if on_step is not None:
                    on_step(result.steps, value, rate)
                if self._is_due(settings.eval_every) or result.steps == self.total_steps:
                    self._evaluate()
                    result.seconds = time.monotonic() - started
                if self._is_due(settings.checkpoint_every):
                    self._checkpoint()
        except Cancelled:
            self._checkpoint()
            raise
        self._checkpoint()
        self.accelerator.wait_for_everyone()
        if self.evaluate is None:
            result.best_step = result.steps
        elif settings.restore_best and result.best_step != result.steps and self.best is not None:
            load_training_state(self.model, self.best, "checkpoint_dir")
        share_buffers(self.model, self.accelerator)

    def _is_due(self, every: int) -> bool:
        return bool(every) and self.result.steps % every == 0

    def _step(self, step: int, rate: float) -> float:
        settings, accelerator = self.settings, self.accelerator
        turn, turn_step = turn_of(step, self.turns)
        optimizer, loss = self.optimizers[turn], self.turns[turn].loss or self.loss
        set_learning_rate(optimizer, rate)
        self.model.train()
        if self.sharded:  # DDP does it by itself
            share_buffers(self.model, accelerator)
        total = torch.zeros((), device=accelerator.device)
        count = torch.zeros((), device=accelerator.device)
        expected = 1
        for number in range(settings.accumulation):
            batch = self._batch(self.sources[turn], turn_step, number)
            last = number == settings.accumulation - 1
            # Divided by a number known beforehand, so that half-precision gradients keep their scale; put right below.
            expected = _targets_expected(batch) * settings.accumulation
            with nullcontext() if last else accelerator.no_sync(self.prepared), accelerator.autocast():
                loss_sum, targets = loss(self.stepped, batch)
                accelerator.backward(loss_sum / expected)
            total += loss_sum.detach().float()
            count += targets
        total, count = (cast(torch.Tensor, accelerator.reduce(t, "sum")) for t in (total, count))
        if count == 0:
            raise InputError(
                "data", f"no target in the examples of step {step + 1}", "at least one target in every step"
            )
        value = float(total / count)
        if not math.isfinite(value):
            raise InputError(
                "learning_rate",
                f"{settings.learning_rate:g}, with a loss of {value} at step {step + 1}",
                "a rate that keeps it finite",
            )
        share = expected * accelerator.num_processes / float(count)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for parameter in parameters:
            parameter.grad.mul_(share)
        if settings.clip_norm:
            clipped = parameters if len(self.turns) > 1 else self.prepared.parameters()
            accelerator.clip_grad_norm_(clipped, settings.clip_norm)
        step_optimizer(optimizer, accelerator)
        self.prepared.zero_grad(set_to_none=True)
        return value

    def _batch(self, source: BatchSource, step: int, number: int) -> Batch:
        """The examples of forward pass ``number`` of a step, in this process, on its device."""
        size = self.settings.batch_size
        first = self.accelerator.process_index * self.settings.examples_per_step() + number * size
        batch = source.batch(step, range(first, first + size), per_step=self.per_step, seed=self.seed)
        return {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}

    def _evaluate(self) -> None:
        if self.evaluate is None:
            return
        share_buffers(self.model, self.accelerator)
        with evaluation_mode(self.model), torch.no_grad():
            value = float(self.evaluate(self.model))
        # what decides when to stop must be one number
        if self.result.note_evaluation(shared_number(value, self.accelerator), self.settings.patience):
            self.best = training_state(self.model)

    def _identity(self) -> dict[str, Any]:
        found = {**self.settings.what_decides_the_weights(), "seed": self.seed, **self.data.identity()}
        found["processes"] = self.accelerator.num_processes
        found["callbacks"] = [type(callback).__name__ for callback in self.callbacks]
        found["turns"] = [turn.steps for turn in self.turns]
        return found

    def _checkpoint(self) -> None:
        if self.folder is None:
            return
        accelerator = self.accelerator
        rng = gather_object([random_state(accelerator.device)])
        if not accelerator.is_main_process and not self.sharded:
            return
        model = training_state(self.model)  # of shards: all processes together
        optimizers = [optimizer_state(optimizer) for optimizer in self.optimizers]
        if not accelerator.is_main_process:
            return
        content = {
            "identity": self._identity(),
            "model": model,
            "best": self.best,
            "optimizers": optimizers,
            "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            "rng": rng,
            "result": self.result.to_dict(),
            "callbacks": [dict(callback.state_dict()) for callback in self.callbacks],
        }
        write_checkpoint(self.folder / "training.pt", content)

    def _resume(self) -> None:
        if self.folder is None or not (self.folder / "training.pt").exists():
            return
        saved = read_checkpoint(self.folder / "training.pt")
        check_identity(saved["identity"], self._identity(), self.folder)
        load_training_state(self.model, saved["model"], "checkpoint_dir")
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            load_optimizer(optimizer, state)
        if self.accelerator.scaler is not None and saved["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        set_random_state(self.accelerator.device, saved["rng"][self.accelerator.process_index])
        for callback, state in zip(self.callbacks, saved["callbacks"], strict=True):
            callback.load_state_dict(state)
        self.best = saved["best"]
        self.result = TrainResult.from_dict(saved["result"])


def _targets_expected(batch: Batch) -> int:
    """About how many targets a batch has: entries of its labels or tokens, or else its examples."""
    for name in ("labels", "input_ids"):
        if name in batch:
            return max(batch[name].numel(), 1)
    return max(len(next(iter(batch.values()))), 1)
