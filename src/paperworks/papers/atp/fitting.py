"""One step of the search, one step of the tuning, in turn, in the training loop that all methods share.

for each step:  in the search:  generator <- CE(search forward, soft masks) + alpha R(share of hard masks, target)
                masks           <- the generator's, fixed once the search is over
                adapters        <- CE(LoRA-aware forward, masks) + beta GL, or a proximal step instead of GL
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.nn import without_padding
from paperworks.papers.atp import decisions
from paperworks.papers.atp.data import Examples
from paperworks.papers.atp.losses import TaskLoss, summed_loss, thresholds
from paperworks.papers.atp.report import Trajectory
from paperworks.papers.atp.search import MaskSearch, finite
from paperworks.papers.atp.settings import Search, TrainerArgs
from paperworks.papers.atp.size import KeptSize
from paperworks.pruning.sparsity import group_penalty, lora_group_norms, proximal_step
from paperworks.runs import Cancelled, Progress, no_progress
from paperworks.structure import KeepPlan, masked, units_of
from paperworks.structure.units import base_of
from paperworks.training import TrainingCallback, TrainResult, train
from paperworks.training.checkpoints import read_checkpoint, write_checkpoint
from paperworks.training.losses import Batch

StepHook = Callable[[int, dict[str, float]], None]
"""``on_step(steps done, figures of the step)``."""


class Fitting(TrainingCallback):
    """One training of an adapted model with its masks; the training loop calls it before and after every step.

    Parameters
    ----------
    model : with LoRA on the matrices of the units, base frozen.
    size : counts of the model as it was without adapters.
    plan : masks that are fixed from the beginning, in place of a search.
    """

    def __init__(
        self,
        model: Any,
        size: KeptSize,
        search: Search,
        args: TrainerArgs,
        *,
        target: int,
        space: str,
        alpha: float,
        beta: float,
        sparsity: str,
        task: TaskLoss,
        train: Examples,
        calibration: Examples,
        seed: int,
        plan: KeepPlan | None = None,
        checkpoint_dir: Path | None = None,
        on_step: StepHook | None = None,
    ) -> None:
        self.model, self.size, self.args, self.target = model, size, args, target
        self.beta, self.sparsity, self.task, self.train_set = beta, sparsity, task, train
        self.folder, self.on_step = checkpoint_dir, on_step
        self.units = units_of(model, {kind for _, kind in size.units})
        self.adapters = [p for p in model.parameters() if p.requires_grad]
        total = args.total(len(train))
        control = args.control(total) if plan is None else range(0)
        self.first = 0 if args.tune_while_searching else len(control)  # steps of the search that has to go before
        device = str(next(model.parameters()).device)
        self.settings = args.train_settings(total - self.first, seed, device)
        self.optimizer = torch.optim.AdamW(self.adapters, lr=args.learning_rate, weight_decay=args.weight_decay)
        dense = size.dense
        self.search = MaskSearch(
            model,
            size,
            search,
            control,
            share=max(dense.prunable - (dense.parameters - target), 1) / dense.prunable,
            target=target,
            space=space,
            alpha=alpha,
            task=task,
            calibration=calibration,
            batch_size=args.calibration_batch_size or args.batch_size,
            seed=seed,
            plan=plan,
        )
        self.trajectory = Trajectory()
        self.live: decisions.Masks = {}
        self.before = self.search.masks
        self.figures: dict[str, float] = {}
        self.result = TrainResult()
        self.seconds = 0.0

    def run(self, progress: Progress = no_progress) -> None:
        """Train to the end; with a checkpoint, go on from it."""
        if self.first:
            self._search_before(progress)
        columns = {name: getattr(self.train_set, name) for name in ("input_ids", "attention_mask", "labels")}
        with ExitStack() as stack:
            self.live = stack.enter_context(masked(self.model, self.search.masks, base_only=True))
            if self.args.gradient_checkpointing:
                base_of(self.model).gradient_checkpointing_enable({"use_reentrant": False})
                base_of(self.model).enable_input_require_grads()
                stack.callback(base_of(self.model).gradient_checkpointing_disable)
            self.result = train(
                self.model,
                columns,
                self.settings,
                loss=self._loss,
                checkpoint_dir=self.folder,
                progress=progress,
                optimizer=self.optimizer,
                callbacks=[self],
            )
        self.model.eval()
        self.search.decide()
        self.seconds += self.result.seconds

    def _search_before(self, progress: Progress) -> None:
        """The search on the untuned model (two-stage pruning with the same generator)."""
        file = None if self.folder is None else self.folder / "search.pt"
        started = time.monotonic()
        if file is not None and file.exists():
            self.load_state_dict(read_checkpoint(file))

        def keep() -> None:
            if file is not None:
                write_checkpoint(file, self.state_dict())

        try:
            steps = range(self.search.searched, 0 if self.search.plan else self.first)
            for step in progress(steps, "searching", len(steps)):
                self.before = self.search.masks
                self._note(self.search.advance(step))
                if (step + 1) % self.args.checkpoint_every == 0:
                    keep()
                if step + 1 == self.search.control.stop:
                    break
        except Cancelled:
            keep()
            raise
        self.search.decide()
        keep()
        self.seconds = time.monotonic() - started

    # -- what the training loop calls ----------------------------------------------------------------------------

    def before_step(self, step: int) -> None:
        """The step's masks, where the hooks of the LoRA-aware forward look."""
        self.before = self.search.masks
        for key in self.live:
            self.live[key] = torch.ones_like(self.live[key])  # the search has its own masks, on complete outputs
        self.figures = self.search.advance(step)
        self.live.update(self.search.masks)
        self.dropped = decisions.dropped_units(self.search.masks)
        self.step, self.penalty = step, 0.0

    def _loss(self, wrapped: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        total, number = summed_loss(self.task, wrapped, without_padding(batch))
        finite(total, "tuning", self.step)
        if self.sparsity == "penalty" and self.beta:
            penalty = self.beta * group_penalty(self.model, self.units, self.dropped)
            self.penalty = float(penalty.detach())
            total = total + penalty * number  # the loop divides by the number of targets: it is to count once
        return total, number

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        done = step + 1
        if self.sparsity == "proximal":
            taus = thresholds(self.dropped, learning_rate, done / (self.settings.steps or done))
            proximal_step(self.model, self.units, self.dropped, taus)
        figures = {**self.figures, "tuning_loss": loss - self.penalty}
        self._note(figures)
        if step % self.args.record_every == 0:
            self._record_norms(self.first + step)
        if self.on_step is not None:
            self.on_step(self.first + done, figures)

    def _note(self, figures: dict[str, float]) -> None:
        masks = self.search.masks
        changed = sum(int((self.before[key] != masks[key]).sum()) for key in masks)
        figures["flips"] = changed / sum(len(mask) for mask in masks.values())
        figures["remaining"] = float(self.size.share(masks))
        for name, value in figures.items():
            getattr(self.trajectory, name).append(value)

    @torch.no_grad()
    def _record_norms(self, step: int) -> None:
        norms = {True: 0.0, False: 0.0}
        number = {True: 0, False: 0}
        for key, mask in self.search.masks.items():
            found = lora_group_norms(self.model, self.units[key])
            for kept in (True, False):
                part = found[(mask != 0) == kept]
                norms[kept] += float(part.sum())
                number[kept] += len(part)
        self.trajectory.norm_steps.append(step)
        self.trajectory.kept_norm.append(norms[True] / max(number[True], 1))
        self.trajectory.dropped_norm.append(norms[False] / max(number[False], 1))

    def state_dict(self) -> dict[str, Any]:
        """Masks, generator and trajectory."""
        penalty = f"{self.sparsity} {self.beta}"
        return {"search": self.search.state_dict(), "trajectory": vars(self.trajectory), "penalty": penalty}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises InputError for the state of another fit."""
        mine = f"{self.sparsity} {self.beta}"
        if state["penalty"] != mine:
            raise InputError("checkpoint_dir", f"a training with the penalty {state['penalty']}", mine)
        self.search.load_state_dict(state["search"])
        self.trajectory = Trajectory(**state["trajectory"])
