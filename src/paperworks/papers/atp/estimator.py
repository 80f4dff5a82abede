"""ATP: tune a model with LoRA and search its structure at once, then cut."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from paperworks.errors import InputError
from paperworks.nn import check_ids, model_inputs, resolve_device
from paperworks.papers.atp import decisions
from paperworks.papers.atp.adapters import attach
from paperworks.papers.atp.data import Examples, as_examples
from paperworks.papers.atp.fitting import Fitting, StepHook
from paperworks.papers.atp.losses import TaskLoss, mean_loss
from paperworks.papers.atp.report import ATPReport
from paperworks.papers.atp.settings import SPACES, Search, Space, TrainerArgs
from paperworks.papers.atp.size import KeptSize
from paperworks.parameters import check_seed
from paperworks.pruning.sparsity import zero_adapters
from paperworks.pruning.target import most_parameters
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import require_free
from paperworks.structure import KeepPlan, check_prunable, count, masked, prune, save_model, units_of
from paperworks.structure.units import Key, base_of
from paperworks.training import distillation_loss, merge_lora
from paperworks.training.losses import next_token_loss

if TYPE_CHECKING:
    from peft import LoraConfig

EVALUATED = 64


class ATP:
    """One-stage tuning and structural pruning (arXiv 2412.14426).

    Parameters
    ----------
    target_ratio : removed share of the prunable parameters, in (0, 1).
    target : instead, the most parameters of the whole model, or a budget in words, such as ``0.6p`` or ``4.5MiB``.
    space : ``layer_uniform`` (rotary pairs of query and key, value channels, both shared by the heads of a layer, and
        feed-forward channels), ``disp`` (each block reads and writes its own part of the stream, and feed-forward
        channels), or ``heads`` (key-value groups and feed-forward channels).
    lora : peft's ``LoraConfig``, of which rank and dropout count (the factor is 1, the targets are all matrices of the
        layers). None: rank 8 and dropout 0.1 behind A, for ``disp`` rank 32.
    svd_init : adapters start from the smallest singular components.
    generator : the search's options.
    alpha, beta : weights of R and of the group penalty.
    sparsity : ``penalty`` (first generation), ``proximal`` (second), ``none``; None: by space.
    control_epochs : epochs with a search, from ``trainer_args.control_start`` on.
    task_loss : see ``losses.TaskLoss``; None: next-token cross-entropy of the labelled tokens.
    teacher : its distribution over the next token is learned instead (``distillation_loss``), at
        ``teacher_temperature``, with a share ``teacher_share``; not with a task loss of one's own.
    seed, device : as everywhere; ``auto`` takes a GPU if there is one.

    After ``fit``: ``model_`` (merged and cut), ``plan_``, ``masks_`` (bool, by layer and kind), ``report_``,
    ``adapted_`` (cut, adapters not merged) with ``keep_adapter=True``.
    """

    def __init__(
        self,
        target_ratio: float = 0.4,
        *,
        target: int | str | None = None,
        space: Space = "layer_uniform",
        lora: LoraConfig | None = None,
        svd_init: bool = False,
        generator: Search | None = None,
        alpha: float = 5.0,
        beta: float = 0.3,
        sparsity: Literal["penalty", "proximal", "none"] | None = None,
        control_epochs: float | None = None,
        trainer_args: TrainerArgs | None = None,
        task_loss: TaskLoss | None = None,
        teacher: Any = None,
        teacher_temperature: float = 2.0,
        teacher_share: float = 1.0,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        check_seed("seed", seed)
        if not 0 < target_ratio < 1:
            raise InputError("target_ratio", target_ratio, "a removed share above 0 and below 1")
        if space not in SPACES:
            raise InputError("space", space, " or ".join(SPACES))
        if sparsity not in (None, "penalty", "proximal", "none"):
            raise InputError("sparsity", sparsity, "penalty, proximal or none")
        for name, weight in (("alpha", alpha), ("beta", beta)):
            if not weight >= 0:
                raise InputError(name, weight, "0 or more")
        if control_epochs is not None and not control_epochs > 0:
            raise InputError("control_epochs", control_epochs, "a positive number")
        if teacher is not None and task_loss is not None:
            raise InputError("teacher", "a task loss as well", "one of the two")
        self.target_ratio, self.target, self.space = target_ratio, target, space
        self.rank = lora.r if lora is not None else (32 if space == "disp" else 8)
        self.dropout = float(lora.lora_dropout) if lora is not None else 0.1
        self.svd_init, self.alpha, self.beta = svd_init, alpha, beta
        self.sparsity = sparsity or ("proximal" if space == "disp" else "penalty")
        self.search = (generator or Search()).resolved(space)
        self.args, self.control_epochs = trainer_args or TrainerArgs(), control_epochs
        self.task: TaskLoss = task_loss or next_token_loss
        self.teacher = teacher
        if teacher is not None:
            self.task = distillation_loss(
                teacher, temperature=teacher_temperature, alpha=teacher_share, targets="next_token"
            )
        self.seed, self.device = seed, device

    def size_of(self, model: Any) -> KeptSize:
        """The counts of a model under masks of the chosen space. Raises InputError for kinds that it does not have."""
        return KeptSize(model, units_of(model, SPACES[self.space]))

    def budget(self, model: Any, field: str = "target_ratio") -> int:
        """The most parameters that the result may have. Raises InputError, with the least, if that is out of reach."""
        size = self.size_of(model)
        if self.target is None:
            target = size.dense.parameters - round(self.target_ratio * size.dense.prunable)
        else:
            field = "target" if field == "target_ratio" else field
            target = most_parameters(self.target, model, field)
        size.check_target(target, field)
        return target

    def fit(
        self,
        model: Any,
        train_dataset: Any,
        calibration_dataset: Any = None,
        *,
        plan: KeepPlan | None = None,
        keep_adapter: bool = False,
        checkpoint_dir: Path | str | None = None,
        progress: Progress = no_progress,
        on_step: StepHook | None = None,
    ) -> ATP:
        """Tune and prune. ``model`` itself is changed and becomes ``model_``.

        Parameters
        ----------
        model : a stock model of a known family, weights of 16 bits or more.
        train_dataset : token ids int64 [n, T], a dictionary of tensors, a set of ``datasets``, or a list of rows
            {input_ids, attention_mask, labels}; labels of -100 are no targets.
        calibration_dataset : of the same forms, for the search. None: the training set.
        plan : prune this instead of searching (two-stage pruning with the same tuning).
        keep_adapter : also keep ``adapted_``, the smaller model with adapters that are not merged.
        checkpoint_dir : for checkpoints; a fit that finds one goes on from it, with the same losses.

        Raises
        ------
        InputError : a target out of reach, an empty set, examples without targets, quantised weights, an unknown
            family, or a loss that is not finite.
        """
        check_prunable(model)
        if base_of(model) is not model:
            raise InputError("model", "adapters on it", "merged adapters (merge_and_unload)")
        pad = getattr(model.config, "pad_token_id", None) or 0
        train = as_examples(train_dataset, "train_dataset", pad)
        search = train if calibration_dataset is None else as_examples(calibration_dataset, "calibration_dataset", pad)
        check_ids(model, train.input_ids, "train_dataset")
        check_ids(model, search.input_ids, "calibration_dataset")
        target = self.budget(model)
        if plan is not None:
            plan.validate(model, min_units=1)
        device = resolve_device(self.device)
        model.to(device).eval()
        if self.teacher is not None:
            self.teacher.to(device)
        size = self.size_of(model)
        before = count(model)
        adapted = attach(model, rank=self.rank, dropout=self.dropout, svd=self.svd_init, seed=self.seed)
        fitting = Fitting(
            adapted,
            size,
            self.search,
            self._args(len(train)),
            target=target,
            space=self.space,
            alpha=self.alpha,
            beta=self.beta,
            sparsity=self.sparsity,
            task=self.task,
            train=train,
            calibration=search,
            seed=self.seed,
            plan=plan,
            checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir),
            on_step=on_step,
        )
        fitting.run(progress)
        assert fitting.search.plan is not None
        self.plan_ = fitting.search.plan
        self.masks_: dict[Key, torch.Tensor] = {key: mask.bool().cpu() for key, mask in fitting.search.masks.items()}
        self._cut(adapted, fitting, search.take(slice(0, EVALUATED)), before, keep_adapter)
        return self

    def _args(self, examples: int) -> TrainerArgs:
        if self.control_epochs is None:
            return self.args
        steps = max(1, round(self.control_epochs * examples / (self.args.batch_size * self.args.accumulation)))
        return replace(self.args, control_steps=steps)

    def _cut(self, adapted: Any, fitting: Fitting, shown: Examples, before: Any, keep_adapter: bool) -> None:
        """Empty the adapters of pruned units, cut the model and its adapters, merge; measure that nothing changed."""
        adapted.eval()
        units, dropped = fitting.units, decisions.dropped_units(fitting.search.masks)
        adapters = sum(p.numel() for p in fitting.adapters)
        with masked(adapted, fitting.search.masks, base_only=True):
            unzeroed = self._loss(adapted, shown)
        zero_adapters(adapted, units, dropped)
        with masked(adapted, fitting.search.masks):
            zeroed, expected = self._loss(adapted, shown), _outputs(adapted, shown)
        prune(adapted, self.plan_)
        self.adapted_ = copy.deepcopy(adapted) if keep_adapter else None
        self.model_: Any = merge_lora(adapted).eval()
        after = count(self.model_)
        widths: dict[str, list[int]] = {}
        for key in size_order(fitting.search.masks):
            widths.setdefault(key[1], []).append(int(self.masks_[key].sum()))
        self.report_ = ATPReport(
            space=self.space,
            generation=self.search.generation or 1,
            target=fitting.target,
            parameters_before=before.parameters,
            parameters_after=after.parameters,
            prunable_before=before.prunable,
            prunable_after=after.prunable,
            macs_before=before.macs,
            macs_after=after.macs,
            steps=fitting.result.steps,
            search_steps=fitting.search.searched,
            returned_sampled=_returned(fitting.search.was_sampled_out, self.masks_),
            returned_decided=_returned(fitting.search.came_back, self.masks_),
            units=sum(len(mask) for mask in self.masks_.values()),
            loss_before_zeroing=unzeroed,
            loss_after_zeroing=zeroed,
            loss_after_cut=self._loss(self.model_, shown),
            masked_against_cut=float((_outputs(self.model_, shown) - expected).abs().max()),
            seconds=fitting.seconds,
            generator_parameters=sum(p.numel() for p in fitting.search.generator.parameters()),
            adapter_parameters=adapters,
            widths=widths,
            trajectory=fitting.trajectory,
            notes=self._notes(after, fitting),
        )

    def _notes(self, after: Any, fitting: Fitting) -> list[str]:
        if self.search.final == "sampled" and fitting.search.searched:
            gap = after.parameters - fitting.target
            return [f"The last sampled masks were kept: the model has {gap:+,} parameters against the target."]
        return []

    @torch.no_grad()
    def _loss(self, model: Any, examples: Examples) -> float:
        device, total, number = next(model.parameters()).device, 0.0, 0
        for start in range(0, len(examples), 16):
            part = examples.take(slice(start, start + 16))
            batch = part.batch(slice(None), device)
            total += float(mean_loss(self.task, model, batch)) * part.targets
            number += part.targets
        return total / number

    def save(self, folder: Path | str, tokenizer: Any = None, *, adapter: Path | str | None = None) -> Path:
        """Save the merged, smaller checkpoint with its report; ``from_pretrained`` loads it.

        ``adapter`` (after ``fit(keep_adapter=True)``): a folder for the alternative, with ``base`` (the smaller model
        without adapters) and ``adapter`` (peft, on that base). Raises InputError if a folder exists.
        """
        if adapter is not None:
            if getattr(self, "adapted_", None) is None:
                raise InputError("adapter", "a fit without adapters kept", "fit(..., keep_adapter=True)")
            require_free(Path(adapter), "adapter")
        report = {**self.report_.to_dict(), "plan": self.plan_.to_json()}
        saved = save_model(self.model_, folder, tokenizer, report)
        if adapter is not None:
            twin: Any = copy.deepcopy(self.adapted_)
            place = Path(adapter)
            place.mkdir(parents=True)
            with _quiet_card(twin, place / "base"):
                twin.save_pretrained(place / "adapter")
            save_model(twin.unload(), place / "base", tokenizer)
        return saved


def size_order(masks: dict[Key, torch.Tensor]) -> list[Key]:
    """Keys layer by layer."""
    return sorted(masks, key=lambda key: key[0] or 0)


def _returned(out: dict[Key, torch.Tensor], masks: dict[Key, torch.Tensor]) -> int:
    return sum(int((out[key] & masks[key]).sum()) for key in masks if key in out)


@torch.no_grad()
def _outputs(model: Any, examples: Examples) -> torch.Tensor:
    """Logits (or last states, of an encoder) of a few examples, at positions that are no padding."""
    batch = examples.take(slice(0, 8)).batch(slice(None), next(model.parameters()).device)
    found = model(**model_inputs(model, batch["input_ids"], batch["attention_mask"]))
    values = found.logits if hasattr(found, "logits") else found.last_hidden_state
    return values[batch["attention_mask"].bool()].float()


@contextmanager
def _quiet_card(adapted: Any, base: Path) -> Iterator[None]:
    """The adapter's configuration names the base that it was saved with."""
    config = adapted.peft_config["default"]
    before, config.base_model_name_or_path = config.base_model_name_or_path, str(base)
    try:
        yield
    finally:
        config.base_model_name_or_path = before
