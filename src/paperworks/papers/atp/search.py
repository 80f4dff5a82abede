"""The search for masks: the generator, its updates, the masks that it draws, and the last decision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.atp import decisions
from paperworks.papers.atp.data import Examples
from paperworks.papers.atp.generator import DecisionGenerator
from paperworks.papers.atp.losses import TaskLoss, mean_loss, ratio_loss
from paperworks.papers.atp.settings import Search
from paperworks.papers.atp.size import KeptSize
from paperworks.structure import KeepPlan, StraightThroughGumbel, masked
from paperworks.training.samplers import RowOrder

PER_STEP = 16
"""Seeds that one step may use."""


class MaskSearch:
    """The masks of an adapted model in the course of a training.

    Every random draw is a function of the seed and of the step's number, and every process of a training sees the same
    calibration batches: masks are the same everywhere without being sent, and after a resumption.

    Parameters
    ----------
    size : counts of the model as it was without adapters.
    control : the steps of the search. ``share`` : wanted share of the prunable parameters.
    target : the most parameters after the decision.
    plan : masks that are fixed from the beginning, in place of a search.

    Attributes
    ----------
    masks : of the present step, by (layer, kind), on the model's device.
    plan : what is kept, once that is decided.
    searched : steps of the search so far.
    was_sampled_out, was_decided_out : units that some step's masks left out, with and without the noise of sampling.
    came_back : units that a later step took in again after it had been decided, without noise, to leave them out.
    """

    def __init__(
        self,
        model: Any,
        size: KeptSize,
        options: Search,
        control: range,
        *,
        share: float,
        target: int,
        space: str,
        alpha: float,
        task: TaskLoss,
        calibration: Examples,
        batch_size: int,
        seed: int,
        plan: KeepPlan | None = None,
    ) -> None:
        self.model, self.size, self.options, self.control = model, size, options, control
        self.share, self.target, self.space, self.alpha, self.task = share, target, space, alpha, task
        self.calibration, self.seed, self.plan = calibration, seed, plan
        self.device = next(model.parameters()).device
        self.generator = DecisionGenerator(
            {key: unit_set.n_units for key, unit_set in size.units.items()},
            generation=options.generation or 1,
            head=options.head,
            smoothing=options.smoothing,
            seed=seed,
        ).to(self.device)
        self.gumbel = StraightThroughGumbel(options.temperature or 0.4, options.offset)
        self.rate = options.learning_rate or 1e-3
        self.optimizer = torch.optim.AdamW(self.generator.parameters(), lr=self.rate)
        self.order = RowOrder(len(calibration), batch_size, seed + 1)
        self.adapters = [p for p in model.parameters() if p.requires_grad]
        self.calm, self.searched = 0, 0
        masks = {key: torch.ones(u.n_units) for key, u in size.units.items()}
        if plan is not None:
            masks |= plan.masks()
        self.masks = {key: mask.to(self.device) for key, mask in masks.items()}
        self.was_sampled_out = {key: torch.zeros(u.n_units, dtype=torch.bool) for key, u in size.units.items()}
        self.was_decided_out = {key: mask.clone() for key, mask in self.was_sampled_out.items()}
        self.came_back = {key: mask.clone() for key, mask in self.was_sampled_out.items()}

    def advance(self, step: int) -> dict[str, float]:
        """Bring the masks to a step: draw new ones in the search, decide behind it. Gives the figures of the update."""
        if self.plan is None and step in self.control:
            return self._update(step)
        if self.plan is None and step == self.control.stop:
            self.decide()
        return {}

    def decide(self) -> None:
        """Fix the masks: the exact budget by the generator's logits, or the last ones that were drawn."""
        if self.plan is not None:
            return
        if self.options.final == "exact":
            with evaluation_mode(self.generator), torch.no_grad():
                logits = self.generator()
            self.plan = decisions.exact(self.model, self.size, logits, self.target, self.options.round_to)
            self.masks = {key: mask.to(self.device) for key, mask in self.plan.masks().items()}
        else:
            self.plan = KeepPlan.from_masks(self.masks)

    def _update(self, step: int) -> dict[str, float]:
        """Update the generator on a calibration batch, model frozen and in evaluation mode; then draw new masks."""
        self.searched += 1
        settled = self.options.settle and step >= self.control.stop - len(self.control) // 5
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * (0.2 if settled else 1.0)
        batch = self.calibration.batch([row for _, row in self.order.rows(step)], self.device)
        with self._dropout(step):
            logits = self.generator()
        soft, hard = decisions.relaxed(self.gumbel, logits, self._noise(step, 1))
        # the first generation masks both gate and up, so that a soft value counts twice
        twice = "ffn" if self.space == "layer_uniform" else ""
        seen = {key: mask.square() if key[1] == twice else mask for key, mask in soft.items()}
        with self._frozen(), evaluation_mode(self.model), masked(self.model, seen):
            loss = finite(mean_loss(self.task, self.model, batch), "search", step)
            ratio = ratio_loss(self.size.share(hard).clamp(min=1e-9), self.share)
            (loss + self.alpha * ratio.to(loss)).backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), self.options.clip_norm or 3.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._draw(step)
        self.calm = self.calm + 1 if float(ratio.detach()) < self.options.stop_ratio else 0
        if self.options.stop_after and self.calm >= self.options.stop_after:
            self.control = range(self.control.start, step + 1)
        return {"search_loss": float(loss.detach()), "ratio": float(ratio.detach())}

    @torch.no_grad()
    def _draw(self, step: int) -> None:
        with evaluation_mode(self.generator):
            logits = self.generator()
        sampled = decisions.relaxed(self.gumbel, logits, self._noise(step, 2))[1]
        sampled = decisions.at_least_one(sampled, logits)
        quiet = decisions.decided(self.gumbel, logits)
        self.masks = sampled if self.options.masks == "sampled" else quiet
        for key in self.masks:
            self.was_sampled_out[key] |= sampled[key].cpu() == 0
            out = quiet[key].cpu() == 0
            self.came_back[key] |= self.was_decided_out[key] & ~out
            self.was_decided_out[key] |= out

    def _seed(self, step: int, use: int) -> int:
        return ((self.seed * 1_000_003 + step) * PER_STEP + use) % 2**63

    def _noise(self, step: int, use: int) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed(step, use))

    @contextmanager
    def _dropout(self, step: int) -> Iterator[None]:
        """Dropout draws from the global generator: seeded for the step, and put back behind it."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self._seed(step, 0))
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

    def identity(self) -> dict[str, Any]:
        """What a search that goes on must share with the one before it."""
        return {
            "target": self.target,
            "space": self.space,
            "alpha": self.alpha,
            "search": str(self.options),
            "seed": self.seed,
            "calibration": len(self.calibration),
        }

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, by names of masks."""

        def plain(values: decisions.Masks) -> dict[str, torch.Tensor]:
            return {f"{key[0]}/{key[1]}": value.cpu() for key, value in values.items()}

        return {
            "identity": self.identity(),
            "generator": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "masks": plain(self.masks),
            "sampled_out": plain(self.was_sampled_out),
            "decided_out": plain(self.was_decided_out),
            "came_back": plain(self.came_back),
            "plan": None if self.plan is None else self.plan.to_json(),
            "calm": self.calm,
            "searched": self.searched,
            "control": [self.control.start, self.control.stop],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises InputError for the state of another search."""
        for name, value in self.identity().items():
            if state["identity"].get(name) != value:
                found = state["identity"].get(name)
                raise InputError("checkpoint_dir", f"a training with {name} {found}", f"{name} {value}")
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, place in (
            ("masks", self.masks),
            ("sampled_out", self.was_sampled_out),
            ("decided_out", self.was_decided_out),
            ("came_back", self.came_back),
        ):
            for key in place:
                place[key] = state[name][f"{key[0]}/{key[1]}"].to(place[key].device)
        self.plan = None if state["plan"] is None else KeepPlan.from_json(state["plan"])
        self.calm, self.searched = state["calm"], state["searched"]
        self.control = range(*state["control"])


def finite(loss: torch.Tensor, where: str, step: int) -> torch.Tensor:
    """The loss. Raises InputError naming ``model`` if it is not finite."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise InputError(
            "model",
            f"a {where} loss of {value} at step {step + 1}",
            "finite activations: check the weights and the learning rates",
        )
    return loss
