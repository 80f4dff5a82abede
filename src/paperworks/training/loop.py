"""The training loop.

    for each step:  callbacks
                    examples -> sum of losses / number of targets -> gradient -> clip -> AdamW
                    now and then: evaluate, keep the best, stop early, write a checkpoint

Everything that decides the weights (order of the examples, dropout masks, learning rates) is a function of the seed and
of the step's number, so that a training that was stopped and resumed has the same losses as one that was not.

Started by ``accelerate launch``, several processes share the examples of every step (DDP, or FSDP with whole weights
back at the end). Only the main process shows progress and writes checkpoints; a stop anywhere stops them all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, broadcast, gather_object

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, preserved_modes, resolve_device
from paperworks.runs import Cancelled, Progress, no_progress
from paperworks.training.callbacks import TrainingCallback
from paperworks.training.checkpoints import State, load_trainable, read_checkpoint, trainable_state, write_checkpoint
from paperworks.training.data import Examples, Shuffled, as_examples
from paperworks.training.losses import Batch, Loss, next_token_loss
from paperworks.training.settings import TrainSettings
from paperworks.training.sharding import Whole, allow_on_cpu, load_optimizer, optimizer_state


@dataclass
class TrainResult:
    """What a training did.

    Attributes
    ----------
    losses : mean loss per target of every optimiser step, before the step was taken.
    evals : (steps done, evaluation loss) of every evaluation.
    steps : optimiser steps done.
    best_step : steps done at the best evaluation; without evaluations, ``steps``.
    seconds : time spent in the loop, over all attempts.
    stopped_early : whether patience ran out.
    """

    losses: list[float] = field(default_factory=list)
    evals: list[tuple[int, float]] = field(default_factory=list)
    steps: int = 0
    best_step: int = 0
    seconds: float = 0.0
    stopped_early: bool = False


def train(
    model: torch.nn.Module,
    data: Examples,
    settings: TrainSettings,
    *,
    evaluate: Callable[[torch.nn.Module], float] | None = None,
    loss: Loss = next_token_loss,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
    on_step: Callable[[int, float, float], None] | None = None,
    generator: torch.Generator | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    callbacks: Sequence[TrainingCallback] = (),
) -> TrainResult:
    """Train a model in place.

    Parameters
    ----------
    model : its parameters with ``requires_grad`` are trained. It ends on the device and in the mode it came in.
    data : examples: a set or sequence of dictionaries of tensors, one example each, all of one shape (a set may have
        ``set_epoch``); or token ids int64 ``[n, T]``; or a dictionary of tensors with one row per example.
    evaluate : gives the loss (lower is better) that decides the best weights and early stopping.
    loss : the sum over targets and their number, for one batch.
    checkpoint_dir : where checkpoints go, and where an earlier attempt is looked for and gone on from.
    on_step : called after every step, in every process, with (steps done, loss, learning rate).
    generator : a CPU generator that the seed is drawn from, in place of ``settings.seed``.
    optimizer : used in place of a new AdamW, with the moments that it has; for parts of the model with rates of their
        own (a group's ``lr_factor`` multiplies the rate), or to carry moments from one training to the next (see
        ``adamw``, and ``optimizer`` of ``structure.prune``). The settings' betas, eps and decay then do not count.
    callbacks : called in their order before and after every step; their state is kept in the checkpoints.

    Raises
    ------
    InputError : nothing to train, no data, a checkpoint of another training, or a loss that is not finite.
    Cancelled : through ``progress``; a checkpoint was written before.
    """
    job = _Training(model, data, settings, evaluate, loss, checkpoint_dir, generator, optimizer, callbacks)
    return job.run(progress, on_step)


def adamw(model: torch.nn.Module, settings: TrainSettings, *, fused: bool = True) -> torch.optim.AdamW:
    """The optimiser that ``train`` makes: AdamW on the trained parameters, with decay on matrices only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        fused=fused,
    )


class _Training:
    def __init__(
        self,
        model: torch.nn.Module,
        data: Examples,
        settings: TrainSettings,
        evaluate: Callable[[torch.nn.Module], float] | None,
        loss: Loss,
        checkpoint_dir: Path | None,
        generator: torch.Generator | None,
        optimizer: torch.optim.Optimizer | None,
        callbacks: Sequence[TrainingCallback],
    ) -> None:
        self.model, self.settings, self.evaluate, self.loss = model, settings, evaluate, loss
        self.callbacks = tuple(callbacks)
        self.data = as_examples(data)
        self.seed = settings.seed if generator is None else int(torch.randint(2**62, (), generator=generator))
        if not any(p.requires_grad for p in model.parameters()):
            raise InputError("model", "no parameter with requires_grad", "at least one parameter to train")
        self.given = optimizer
        self.folder = checkpoint_dir
        # a block that was cut to nothing is passed over, and its adapters get no gradient
        self.accelerator = _accelerator(settings, unused=any(p.numel() == 0 for p in model.parameters()))
        if callbacks and self.accelerator.distributed_type == DistributedType.FSDP:
            raise InputError("training", "FSDP, with masks that are learned beside it",
                             "DDP or one process: masks reach into whole modules")  # fmt: skip
        processes = self.accelerator.num_processes
        self.total_steps = settings.total_steps(len(self.data), processes)
        self.order = Shuffled(len(self.data), settings.examples_per_step(processes), self.seed)
        self.epoch = -1
        self.result = TrainResult()
        self.best: State | None = None
        self.whole: Whole | None = None

    def run(self, progress: Progress, on_step: Callable[[int, float, float], None] | None) -> TrainResult:
        device = next(self.model.parameters()).device
        attributes = set(vars(self.model))
        together = False
        try:
            # processes have examples of their own, and so dropout masks of their own
            seed = self.seed + self.accelerator.process_index
            with preserved_modes(self.model), _own_randomness(self.accelerator.device, seed):
                self._prepare()
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
            self.model.to(device)
            self.optimizer.zero_grad(set_to_none=True)
        return self.result

    def _prepare(self) -> None:
        settings = self.settings
        optimizer = self.given
        if optimizer is None:
            optimizer = adamw(self.model, settings, fused=self.accelerator.device.type in ("cpu", "cuda"))
        sharded = self.accelerator.distributed_type == DistributedType.FSDP
        self.whole = Whole(self.model, optimizer) if sharded else None
        self.prepared, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        if self.whole is not None:
            self.whole.empty()
        self.stepped = cast(torch.nn.Module, torch.compile(self.prepared)) if settings.compile else self.prepared

    def _loop(self, progress: Progress, on_step: Callable[[int, float, float], None] | None) -> None:
        settings, result = self.settings, self.result
        started = time.monotonic() - result.seconds
        try:
            steps = progress(range(result.steps, self.total_steps), "training", self.total_steps - result.steps)
            for step in self._together(steps):
                if result.stopped_early:
                    break
                rate = settings.rate(step, self.total_steps)
                value = self._step(step, rate)
                result.losses.append(value)
                result.steps = step + 1
                result.seconds = time.monotonic() - started
                for callback in self.callbacks:
                    callback.after_step(step, value, rate)
                if on_step is not None:
                    on_step(result.steps, value, rate)
                last = result.steps == self.total_steps
                if self.evaluate is not None and (
                    last or (settings.eval_every and result.steps % settings.eval_every == 0)
                ):
                    self._evaluate()
                    result.seconds = time.monotonic() - started
                if settings.checkpoint_every and result.steps % settings.checkpoint_every == 0:
                    self._checkpoint()
        except Cancelled:
            self._checkpoint()
            raise
        self._checkpoint()
        self.accelerator.wait_for_everyone()
        if self.evaluate is None:
            result.best_step = result.steps
        elif settings.restore_best and result.best_step != result.steps and self.best is not None:
            load_trainable(self.model, self.best, "checkpoint_dir")

    def _together(self, steps: Iterable[int]) -> Iterator[int]:
        """The steps, until any process is to stop: then all of them do, so that none waits for another forever."""
        iterator = iter(steps)
        while True:
            wish: Cancelled | None = None
            try:
                step = next(iterator)
            except StopIteration:
                return
            except Cancelled as cancelled:
                wish = cancelled
            if self.accelerator.num_processes > 1:
                stops = torch.tensor(float(wish is not None), device=self.accelerator.device)
                if float(cast(torch.Tensor, self.accelerator.reduce(stops, "sum"))):
                    raise wish or Cancelled
            elif wish is not None:
                raise wish
            yield step

    def _step(self, step: int, rate: float) -> float:
        settings, accelerator = self.settings, self.accelerator
        for callback in self.callbacks:
            callback.before_step(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_factor", 1.0)
        self.model.train()
        batches = self._batches(step)
        total = torch.zeros((), device=accelerator.device)
        count = torch.zeros((), device=accelerator.device)
        nominal = 0
        for number, batch in enumerate(batches):
            # Divided by a number known beforehand, so that half-precision gradients keep their scale; put right below.
            size = next(iter(batch.values())).numel() * len(batches)
            last = number == len(batches) - 1
            with nullcontext() if last else accelerator.no_sync(self.prepared), accelerator.autocast():
                loss_sum, targets = self.loss(self.stepped, batch)
                accelerator.backward(loss_sum / size)
            total += loss_sum.detach().float()
            count += targets
            nominal = size
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
        share = nominal * accelerator.num_processes / float(count)
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(share)
        if settings.clip_norm:
            accelerator.clip_grad_norm_(self.prepared.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value

    def _batches(self, step: int) -> list[Batch]:
        size, mine = self.settings.batch_size, self.accelerator.process_index
        per_process = self.settings.examples_per_step()
        examples = []
        for epoch, row in self.order.rows(step)[mine * per_process : (mine + 1) * per_process]:
            if epoch != self.epoch and hasattr(self.data, "set_epoch"):
                self.data.set_epoch(epoch)
            self.epoch = epoch
            examples.append(self.data[row])
        return [
            {
                name: torch.stack([e[name] for e in examples[i : i + size]]).to(self.accelerator.device)
                for name in examples[0]
            }
            for i in range(0, per_process, size)
        ]

    def _evaluate(self) -> None:
        assert self.evaluate is not None
        with evaluation_mode(self.model), torch.no_grad():
            value = float(self.evaluate(self.model))
        if self.accelerator.num_processes > 1:  # what decides when to stop must be one number
            shared = broadcast(torch.tensor(value, dtype=torch.float64, device=self.accelerator.device))
            value = float(cast(torch.Tensor, shared))
        evals = self.result.evals
        best = min((v for _, v in evals), default=math.inf)
        evals.append((self.result.steps, value))
        if value < best:
            self.result.best_step = self.result.steps
            self.best = trainable_state(self.model)
        without_gain = sum(1 for steps, _ in evals if steps > self.result.best_step)
        self.result.stopped_early = bool(self.settings.patience) and without_gain >= self.settings.patience

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {
            **self.settings.what_decides_the_weights(),
            "seed": self.seed,
            "examples": len(self.data),
            "processes": self.accelerator.num_processes,
            "callbacks": [type(callback).__name__ for callback in self.callbacks],
        }

    def _checkpoint(self) -> None:
        if self.folder is None:
            return
        result, accelerator = self.result, self.accelerator
        main = accelerator.is_main_process
        rng = gather_object([_random_state(accelerator.device)])
        if not main and self.whole is None:
            return
        model, optimizer = trainable_state(self.model), optimizer_state(self.optimizer)  # of shards: all together
        if not main:
            return
        scaler = accelerator.scaler
        write_checkpoint(
            self.folder / "training.pt",
            {
                "identity": self._identity(),
                "model": model,
                "best": self.best,
                "optimizer": optimizer,
                "scaler": None if scaler is None else scaler.state_dict(),
                "rng": rng,
                "losses": result.losses,
                "evals": result.evals,
                "best_step": result.best_step,
                "stopped_early": result.stopped_early,
                "seconds": result.seconds,
                "callbacks": [dict(callback.state_dict()) for callback in self.callbacks],
            },
        )

    def _resume(self) -> None:
        if self.folder is None or not (self.folder / "training.pt").exists():
            return
        saved = read_checkpoint(self.folder / "training.pt")
        mine = self._identity()
        for name in mine:
            if saved["identity"].get(name) != mine[name]:
                raise InputError(
                    "checkpoint_dir",
                    f"{self.folder}, a training with {name} {saved['identity'].get(name)}",
                    f"one with {name} {mine[name]}, or an empty folder",
                )
        load_trainable(self.model, saved["model"], "checkpoint_dir")
        load_optimizer(self.optimizer, saved["optimizer"])
        if self.accelerator.scaler is not None and saved["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        _set_random_state(self.accelerator.device, saved["rng"][self.accelerator.process_index])
        for callback, state in zip(self.callbacks, saved["callbacks"], strict=True):
            callback.load_state_dict(state)
        self.best = saved["best"]
        evals = [(int(steps), float(value)) for steps, value in saved["evals"]]
        self.result = TrainResult(
            losses=list(saved["losses"]),
            evals=evals,
            steps=len(saved["losses"]),
            best_step=saved["best_step"],
            seconds=saved["seconds"],
            stopped_early=saved["stopped_early"],
        )


def _accelerator(settings: TrainSettings, unused: bool) -> Accelerator:
    # accelerate keeps one state per process and refuses a second precision or device: start from none, as Trainer does
    AcceleratorState._reset_state(reset_partial_state=True)
    on_cpu = settings.device.startswith("cpu")
    precision = settings.precision
    if precision == "fp16" and resolve_device(settings.device).type != "cuda":
        raise InputError("precision", "fp16 on a machine or device without CUDA", "no or bf16")
    ddp = DistributedDataParallelKwargs(find_unused_parameters=unused)
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=[ddp])
    allow_on_cpu(accelerator)
    wanted = settings.device
    if wanted not in ("auto", "cpu") and torch.device(wanted).type != accelerator.device.type:
        raise InputError("device", wanted, f"auto, cpu or {accelerator.device.type}, which this machine has")
    return accelerator


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(device: torch.device, state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def _own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Dropout draws from PyTorch's global generators and no others: seed them, and put them back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
