"""The training loop: one step of the search, one step of the tuning, in turn.

    for each step:  in the search:  generator <- CE(search forward, soft masks) + alpha R(share of hard masks, target)
                    masks           <- the generator's, fixed once the search is over
                    adapters        <- CE(LoRA-aware forward, masks) + beta GL, or a proximal step instead of GL

Every random draw is a function of the seed and of the step's number, so that a resumed training has the same losses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.papers.atp import decisions
from paperworks.papers.atp.data import Examples, Sampler
from paperworks.papers.atp.generator import DecisionGenerator
from paperworks.papers.atp.losses import TaskLoss, mean_loss, ratio_loss, thresholds
from paperworks.papers.atp.report import Trajectory
from paperworks.papers.atp.settings import Search, TrainerArgs
from paperworks.papers.atp.size import KeptSize
from paperworks.runs import Cancelled, Progress, no_progress
from paperworks.structure import KeepPlan, StraightThroughGumbel, masked, units_of
from paperworks.structure.units import Key, base_of
from paperworks.training import group_penalty, lora_group_norms, proximal_step
from paperworks.training.checkpoints import load_trainable, read_checkpoint, trainable_state, write_checkpoint

StepHook = Callable[[int, dict[str, float]], None]
"""``on_step(steps done, figures of the step)``."""
PER_STEP = 16
"""Seeds that one step may use."""


class Fitting:
    """One training of an adapted model with its generator.

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
        self.model, self.size, self.search, self.args = model, size, search, args
        self.target, self.space, self.alpha, self.beta, self.sparsity = target, space, alpha, beta, sparsity
        self.task, self.train_set, self.calibration, self.seed, self.on_step = task, train, calibration, seed, on_step
        self.device = next(model.parameters()).device
        dense = size.dense
        self.share = max(dense.prunable - (dense.parameters - target), 1) / dense.prunable
        self.units = units_of(model, {kind for _, kind in size.units})
        self.generator = DecisionGenerator(
            {key: unit_set.n_units for key, unit_set in size.units.items()},
            generation=search.generation or 1, head=search.head, smoothing=search.smoothing, seed=seed,
        ).to(self.device)  # fmt: skip
        self.gumbel = StraightThroughGumbel(search.temperature or 0.4, search.offset)
        self.adapters = [p for p in model.parameters() if p.requires_grad]
        self.tuner = torch.optim.AdamW(self.adapters, lr=args.learning_rate, weight_decay=args.weight_decay)
        self.searcher = torch.optim.AdamW(self.generator.parameters(), lr=search.learning_rate or 1e-3)
        self.total = args.total(len(train))
        self.control = args.control(self.total) if plan is None else range(0)
        size_c = args.calibration_batch_size or args.batch_size
        self.train_rows = Sampler(len(train), args.batch_size, seed)
        self.calibration_rows = Sampler(len(calibration), size_c, seed + 1)
        self.step, self.calm, self.seconds, self.searched = 0, 0, 0.0, 0
        self.trajectory = Trajectory()
        self.masks = {key: torch.ones(u.n_units) for key, u in size.units.items()}
        self.plan = plan
        if plan is not None:
            self.masks |= plan.masks()
        self.masks = {key: mask.to(self.device) for key, mask in self.masks.items()}
        self.was_sampled_out = {key: torch.zeros(u.n_units, dtype=torch.bool) for key, u in size.units.items()}
        self.was_decided_out = {key: mask.clone() for key, mask in self.was_sampled_out.items()}
        self.file = None if checkpoint_dir is None else checkpoint_dir / "atp.pt"

    def run(self, progress: Progress = no_progress) -> None:
        """Train to the end; with a checkpoint, go on from it."""
        self._resume()
        started = time.monotonic() - self.seconds
        if self.args.gradient_checkpointing:
            base_of(self.model).gradient_checkpointing_enable({"use_reentrant": False})
            base_of(self.model).enable_input_require_grads()
        try:
            for _ in progress(range(self.step, self.total), "tuning and pruning", self.total - self.step):
                figures = self._one_step()
                self.step += 1
                self.seconds = time.monotonic() - started
                if self.on_step is not None:
                    self.on_step(self.step, figures)
                if self.step % self.args.checkpoint_every == 0:
                    self._checkpoint()
        except Cancelled:
            self._checkpoint()
            raise
        finally:
            if self.args.gradient_checkpointing:
                base_of(self.model).gradient_checkpointing_disable()
            self.model.eval()
        if self.plan is None:
            self._decide()
        self._checkpoint()

    def _one_step(self) -> dict[str, float]:
        before = self.masks
        figures: dict[str, float] = {}
        tuned = True
        with self._randomness(0):
            if self.plan is None and self.step in self.control:
                figures |= self._search_step()
                tuned = self.args.tune_while_searching
            elif self.plan is None and self.step == self.control.stop:
                self._decide()
            if tuned:
                figures["tuning_loss"] = self._tuning_step()
        changed = sum(int((before[key] != self.masks[key]).sum()) for key in before)
        figures["flips"] = changed / sum(len(mask) for mask in before.values())
        figures["remaining"] = float(self.size.share(self.masks))
        for name, value in figures.items():
            getattr(self.trajectory, name).append(value)
        if self.step % self.args.record_every == 0:
            self._record_norms()
        return figures

    def _search_step(self) -> dict[str, float]:
        """Update the generator on a calibration batch, model frozen and in evaluation mode; then draw new masks."""
        self.searched += 1
        settled = self.search.settle and self.step >= self.control.stop - len(self.control) // 5
        for group in self.searcher.param_groups:
            group["lr"] = (self.search.learning_rate or 1e-3) * (0.2 if settled else 1.0)
        self.model.eval()
        self.generator.train()
        batch = self.calibration.batch(self.calibration_rows.rows(self.step), self.device)
        soft, hard = decisions.relaxed(self.gumbel, self.generator(), self._noise(1))
        # v1 masks both gate and up, so that a soft value counts twice
        twice = "ffn" if self.space == "layer_uniform" else ""
        seen = {key: mask.square() if key[1] == twice else mask for key, mask in soft.items()}
        with self._frozen(), masked(self.model, seen):
            loss = self._finite(mean_loss(self.task, self.model, batch), "search")
            ratio = ratio_loss(self.size.share(hard).clamp(min=1e-9), self.share)
            (loss + self.alpha * ratio.to(loss)).backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), self.search.clip_norm or 3.0)
        self.searcher.step()
        self.searcher.zero_grad(set_to_none=True)
        self.generator.eval()
        with torch.no_grad():
            logits = self.generator()
            sampled = decisions.at_least_one(decisions.relaxed(self.gumbel, logits, self._noise(2))[1], logits)
        quiet = decisions.decided(self.gumbel, logits)
        self.masks = sampled if self.search.masks == "sampled" else quiet
        for key in self.masks:
            self.was_sampled_out[key] |= sampled[key].cpu() == 0
            self.was_decided_out[key] |= quiet[key].cpu() == 0
        self.calm = self.calm + 1 if float(ratio.detach()) < self.search.stop_ratio else 0
        if self.search.stop_after and self.calm >= self.search.stop_after:
            self.control = range(self.control.start, self.step + 1)
        return {"search_loss": float(loss.detach()), "ratio": float(ratio.detach())}

    def _tuning_step(self) -> float:
        """Update the adapters under the masks."""
        rate = self.args.rate(self.step, self.total)
        for group in self.tuner.param_groups:
            group["lr"] = rate
        self.model.train()
        batch = self.train_set.batch(self.train_rows.rows(self.step), self.device)
        dropped = decisions.dropped_units(self.masks)
        with masked(self.model, self.masks, base_only=True):
            loss = self._finite(mean_loss(self.task, self.model, batch), "tuning")
            whole = loss
            if self.sparsity == "penalty" and self.beta:
                whole = loss + self.beta * group_penalty(self.model, self.units, dropped)
            whole.backward()
        torch.nn.utils.clip_grad_norm_(self.adapters, self.args.clip_norm)
        self.tuner.step()
        self.tuner.zero_grad(set_to_none=True)
        if self.sparsity == "proximal":
            taus = thresholds(dropped, rate, (self.step + 1) / self.total)
            proximal_step(self.model, self.units, dropped, taus)
        return float(loss.detach())

    def _decide(self) -> None:
        """Fix the masks: the exact budget by the generator's logits, or the last ones that were drawn."""
        if self.search.final == "exact":
            self.generator.eval()
            with torch.no_grad():
                logits = self.generator()
            self.plan = decisions.exact(self.model, self.size, logits, self.target)
            self.masks = {key: mask.to(self.device) for key, mask in self.plan.masks().items()}
        else:
            self.plan = KeepPlan.from_masks(self.masks)

    @torch.no_grad()
    def _record_norms(self) -> None:
        norms = {True: 0.0, False: 0.0}
        number = {True: 0, False: 0}
        for key, mask in self.masks.items():
            found = lora_group_norms(self.model, self.units[key])
            for kept in (True, False):
                part = found[(mask != 0) == kept]
                norms[kept] += float(part.sum())
                number[kept] += len(part)
        self.trajectory.norm_steps.append(self.step)
        self.trajectory.kept_norm.append(norms[True] / max(number[True], 1))
        self.trajectory.dropped_norm.append(norms[False] / max(number[False], 1))

    def _finite(self, loss: torch.Tensor, where: str) -> torch.Tensor:
        if not math.isfinite(float(loss.detach())):
            raise InputError(
                "model", f"a {where} loss of {float(loss.detach())} at step {self.step + 1}",
                "finite activations: check the weights and the learning rates",
            )  # fmt: skip
        return loss

    def _noise(self, use: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + self.step) * PER_STEP + use)

    @contextmanager
    def _randomness(self, use: int) -> Iterator[None]:
        """Dropout draws from the global generator: seeded for the step, and put back behind it."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed((self.seed * 1_000_003 + self.step) * PER_STEP + use)
            yield

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        for parameter in self.adapters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.adapters:
                parameter.requires_grad_(True)

    def _identity(self) -> dict[str, Any]:
        return {
            "target": self.target, "space": self.space, "seed": self.seed, "steps": self.total,
            "examples": len(self.train_set), "sparsity": f"{self.sparsity} {self.alpha} {self.beta}",
            "search": str(self.search), "batch_size": self.args.batch_size, "learning_rate": self.args.learning_rate,
        }  # fmt: skip

    def _checkpoint(self) -> None:
        if self.file is None:
            return
        names = {key: f"{key[0]}/{key[1]}" for key in self.masks}

        def plain(values: dict[Key, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {names[key]: value.cpu() for key, value in values.items()}

        write_checkpoint(
            self.file,
            {
                "identity": self._identity(), "step": self.step, "model": trainable_state(self.model),
                "tuner": self.tuner.state_dict(), "generator": self.generator.state_dict(),
                "searcher": self.searcher.state_dict(), "masks": plain(self.masks),
                "sampled_out": plain(self.was_sampled_out), "decided_out": plain(self.was_decided_out),
                "plan": None if self.plan is None else self.plan.to_json(), "trajectory": vars(self.trajectory),
                "calm": self.calm, "seconds": self.seconds, "searched": self.searched,
                "control": [self.control.start, self.control.stop],
            },
        )  # fmt: skip

    def _resume(self) -> None:
        if self.file is None or not self.file.exists():
            return
        saved, mine = read_checkpoint(self.file), self._identity()
        for name, value in mine.items():
            if saved["identity"].get(name) != value:
                raise InputError(
                    "checkpoint_dir", f"a training with {name} {saved['identity'].get(name)}", f"{name} {value}"
                )
        load_trainable(self.model, saved["model"], "checkpoint_dir")
        self.tuner.load_state_dict(saved["tuner"])
        self.generator.load_state_dict(saved["generator"])
        self.searcher.load_state_dict(saved["searcher"])
        for name, place in (("masks", self.masks), ("sampled_out", self.was_sampled_out),
                            ("decided_out", self.was_decided_out)):  # fmt: skip
            for key in place:
                place[key] = saved[name][f"{key[0]}/{key[1]}"].to(place[key].device)
        self.plan = None if saved["plan"] is None else KeepPlan.from_json(saved["plan"])
        self.trajectory = Trajectory(**saved["trajectory"])
        self.step, self.calm, self.searched = saved["step"], saved["calm"], saved["searched"]
        self.seconds = saved["seconds"]
        self.control = range(*saved["control"])
