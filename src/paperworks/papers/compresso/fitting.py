"""One fit: adapters, masks, the cut, the last phase, and the record of it."""

from __future__ import annotations

import copy
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from paperworks.errors import InputError
from paperworks.papers.compresso.constraint import Lagrangian
from paperworks.papers.compresso.data import Examples
from paperworks.papers.compresso.forward import prefixed_logits
from paperworks.papers.compresso.gates import Gates, Masks
from paperworks.papers.compresso.learning import Step, learn_masks, tune
from paperworks.papers.compresso.report import CompressoReport
from paperworks.papers.compresso.settings import Phase
from paperworks.papers.compresso.size import Size
from paperworks.runs import Progress
from paperworks.runs.files import write_text
from paperworks.runs.usage import UsageMeter
from paperworks.structure import Cost, KeepPlan, count, masked, prune
from paperworks.structure.units import family_of, records_of, stream_width
from paperworks.training import add_lora, merge_lora

if TYPE_CHECKING:
    from paperworks.papers.compresso.estimator import Compresso


MOST_MISSED = 0.03
"""Where the settled masks miss the asked sparsity by more, the final ones are chosen by the budget in any case."""


class Fit:
    """One fit: its phases in order, and what they leave for the report."""

    def __init__(
        self,
        method: Compresso,
        model: Any,
        examples: Examples,
        size: Size,
        target: int,
        checkpoint_dir: str | Path | None,
        progress: Progress,
        on_step: Callable[[int, Step], None] | None,
    ) -> None:
        self.method, self.model, self.examples = method, model, examples
        self.size, self.target = size, target
        self.folder = None if checkpoint_dir is None else Path(checkpoint_dir)
        self.progress, self.on_step = progress, on_step
        args, n = method.args, len(examples)
        self.settings = {phase: args.settings(phase, n, method.device, method.seed) for phase in get_args(Phase)}
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        self.losses: dict[str, list[float]] = {"tuning": [], "final": []}

    def run(self) -> None:
        method, args = self.method, self.method.args
        pruning = self.settings["pruning"]
        if pruning is None or pruning.steps is None:
            raise InputError("pruning_steps", 0, "at least one step")
        self._mark()
        units = method.units(self.model)
        heads_elsewhere = any(
            record["heads"] for number, record in enumerate(records_of(self.model)) if (number, "kv_group") not in units
        )
        gates = Gates(
            units,
            drop_rate=method.drop_rate,
            layer_gates=method.layer_gates,
            layer_start=method.layer_start,
            heads_elsewhere=heads_elsewhere,
            generator=torch.Generator().manual_seed(method.seed),
        )
        warmup = round(method.warmup * pruning.steps)
        if warmup >= pruning.steps:
            self._note(
                f"The target rises over {warmup} steps and pruning takes {pruning.steps}: the masks have no "
                "time to settle at it."
            )
        self.sparsity = 1 - self.target / self.size.whole
        lagrangian = Lagrangian(self.sparsity, warmup, method.schedule)
        adapted = self._adapt()
        self.adapters = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        self.gate_count = sum(p.numel() for p in gates.parameters())
        self._tune(adapted, "tuning")
        started = time.monotonic()
        device = next(adapted.parameters()).device
        gates.to(device)
        lagrangian.to(device)
        self.course = learn_masks(
            adapted,
            self.examples,
            gates,
            lagrangian,
            self.size,
            pruning,
            mask_rate=args.mask_learning_rate,
            penalty_factor=args.penalty_factor,
            clip_norm=args.clip_norm,
            checkpoint_dir=self._phase("pruning"),
            progress=self.progress,
            on_step=self.on_step,
        )
        self.seconds["pruning"] = time.monotonic() - started
        self._fix(gates)
        self._cut(adapted)
        self._tune(adapted, "final")
        self.model = merge_lora(adapted)
        self.model.eval()

    def _adapt(self) -> Any:
        lora, block = self.method.lora, family_of(self.model).attention
        ends = [path.rsplit(".", 1)[-1] for path in block.inputs]
        options: dict[str, Any] = {"r": 8, "alpha": 8, "dropout": 0.0}
        targets: Sequence[str] = [ends[0], ends[-1]] if len(ends) == 3 else ends
        if lora is not None:
            if getattr(lora, "use_dora", False) or getattr(lora, "bias", "none") != "none":
                raise InputError("lora", "DoRA or trained biases", "plain LoRA: r, lora_alpha, lora_dropout, targets")
            options = {"r": lora.r, "alpha": lora.lora_alpha, "dropout": lora.lora_dropout}
            named = lora.target_modules
            targets = [named] if isinstance(named, str) else sorted(named) if named else targets
        return add_lora(self.model, targets, seed=self.method.seed, **options)

    def _tune(self, adapted: Any, phase: Literal["tuning", "final"]) -> None:
        settings = self.settings[phase]
        if settings is None:
            return
        started = time.monotonic()
        done = tune(adapted, self.examples, settings, checkpoint_dir=self._phase(phase), progress=self.progress)
        self.losses[phase] = done.losses
        self.seconds[phase] = time.monotonic() - started

    @torch.no_grad()
    def _fix(self, gates: Gates) -> None:
        """Deterministic masks, made to meet the budget."""
        masks = gates.deterministic()
        self.sparsity_expected = 1 - float(self.size(gates.expected())) / self.size.whole
        self.sparsity_masks = 1 - self.size(_numbers(masks)) / self.size.whole
        missed = abs(self.sparsity_masks - self.sparsity) > MOST_MISSED
        if self.method.exact_fill or missed or self.method.round_to > 1:
            masks = gates.fill(masks, self.size, self.target)
        if self.method.round_to > 1:
            masks = gates.rounded(masks, self.size, self.target, self.method.round_to)
        self.masks: Masks = {key: mask.cpu() for key, mask in masks.items()}
        self.sparsity_realised = 1 - self.size(_numbers(masks)) / self.size.whole
        if abs(self.sparsity_masks - self.sparsity) > 0.02:
            self._note(
                f"The masks settled at a sparsity of {self.sparsity_masks:.3f} where {self.sparsity:.3f} was "
                "asked for: give pruning more steps, or more of them after the warm-up."
                + (" The final masks were chosen by the budget." if missed else "")
            )

    @torch.no_grad()
    def _cut(self, adapted: Any) -> None:
        """Fold and cut, with the difference that it makes on the first examples."""
        started = time.monotonic()
        adapted.eval()
        self.plan = KeepPlan.from_masks(self.masks)
        ids = self.examples.input_ids[:4].to(next(adapted.parameters()).device)
        with masked(adapted, self.masks, ffn_gate="gate_up"):
            wanted = prefixed_logits(adapted, self.examples.prefix, ids).double()
        prune(adapted, self.plan, fold=self.masks, ffn_gate="gate_up")
        found = prefixed_logits(adapted, self.examples.prefix, ids).double()
        self.difference = float((found - wanted).abs().max() / wanted.abs().max())
        self.seconds["cutting"] = time.monotonic() - started

    def report(self, before: Cost, shape: dict[str, Any], meter: UsageMeter) -> CompressoReport:
        after, now = count(self.model), shape_of(self.model)
        size = self.size
        return CompressoReport(
            measure="parameters" if self.method.target is not None else "prunable",
            target=self.target,
            target_sparsity=self.sparsity,
            sparsity_expected=self.sparsity_expected,
            sparsity_masks=self.sparsity_masks,
            sparsity_realised=1 - size(_numbers(self.masks)) / size.whole,
            parameters_before=before.parameters,
            parameters_after=after.parameters,
            prunable_before=before.prunable,
            prunable_after=after.prunable,
            macs_before=before.macs,
            macs_after=after.macs,
            cache_values_before=before.cache_values,
            cache_values_after=after.cache_values,
            **now,
            **{f"{name}_before": value for name, value in shape.items()},
            trainable_adapters=self.adapters,
            trainable_masks=self.gate_count,
            masked_against_cut=self.difference,
            course=self.course,
            tuning_losses=self.losses["tuning"],
            final_losses=self.losses["final"],
            prompt_tokens=len(self.examples.prefix),
            examples=len(self.examples),
            plan=self.plan.to_json(),
            seconds=self.seconds,
            start_bytes=meter.start_bytes,
            peak_bytes=meter.peak_bytes,
            notes=self.notes,
        )

    def _phase(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name

    def _note(self, text: str) -> None:
        self.notes.append(text)
        warnings.warn(text, UserWarning, stacklevel=4)

    def _mark(self) -> None:
        """Checkpoints are those of this very fit, or there are none."""
        if self.folder is None:
            return
        method = self.method
        digest = hashlib.sha256()
        for name in ("prefix", "input_ids", "labels"):
            digest.update(getattr(self.examples, name).numpy().tobytes())
        for parameter in self.model.parameters():
            digest.update(str(tuple(parameter.shape)).encode())
            digest.update(parameter.detach().flatten()[:256].double().cpu().numpy().tobytes())
        lora = method.lora.to_dict() if method.lora is not None else None
        identity = json.dumps(
            {
                "data and weights": digest.hexdigest(),
                "target": self.target,
                "kinds": method.kinds,
                "layers": method.layers,
                "layer_gates": method.layer_gates,
                "warmup": method.warmup,
                "schedule": method.schedule,
                "drop_rate": method.drop_rate,
                "layer_start": method.layer_start,
                "round_to": method.round_to,
                "lora": {name: lora[name] for name in ("r", "lora_alpha", "lora_dropout")} if lora else None,
                "args": {k: v for k, v in vars(method.args).items() if k != "checkpoint_every"},
                "seed": method.seed,
            }
        )
        mark = self.folder / "fit.json"
        if mark.exists() and mark.read_text(encoding="utf-8") != identity:
            raise InputError("checkpoint_dir", f"{self.folder}, checkpoints of another fit", "those of this, or none")
        write_text(mark, identity)


def _numbers(masks: Masks) -> dict[Any, int]:
    return {key: int((mask != 0).sum()) for key, mask in masks.items()}


def shape_of(model: Any) -> dict[str, Any]:
    records = copy.deepcopy(records_of(model))
    return {
        "heads": [record["heads"] for record in records],
        "key_value_heads": [record["kv_heads"] for record in records],
        "channels": [record["ffn"] for record in records],
        "hidden": stream_width(model),
    }
