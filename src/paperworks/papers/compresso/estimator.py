"""``Compresso``: learn what to cut while adapters are tuned, then cut it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from paperworks.errors import InputError
from paperworks.papers.compresso.constraint import Schedule
from paperworks.papers.compresso.data import Data, Examples, build_examples
from paperworks.papers.compresso.fitting import Fit, shape_of
from paperworks.papers.compresso.forward import prefixed_logits
from paperworks.papers.compresso.gates import LayerGates, kinds_for
from paperworks.papers.compresso.learning import Step
from paperworks.papers.compresso.prompt import PromptTemplate, with_chat_template
from paperworks.papers.compresso.settings import TrainerArgs
from paperworks.papers.compresso.size import HIDDEN, Measure, Size
from paperworks.parameters import check_seed
from paperworks.pruning.target import most_parameters
from paperworks.runs import Progress, no_progress
from paperworks.runs.usage import UsageMeter
from paperworks.structure import check_prunable, count, save_model, units_of
from paperworks.structure.plan import name_of
from paperworks.structure.units import base_of, family_of, records_of

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerBase

MASKS_FILE = "compresso_masks.safetensors"


class Compresso:
    """Structured pruning with learned masks, adapters and a collaborative prompt (arXiv 2310.05015).

    Parameters
    ----------
    target_sparsity : share of the prunable entries (the matrices inside the layers) to remove, in (0, 1).
    target : most parameters that the model may have, embeddings and head among them, or a budget in words, such as
        ``0.75x`` or ``4.5MiB``; in place of the former.
    units : of ``heads`` (key-value groups with their query heads), ``ffn`` (channels), ``hidden`` (dimensions of the
        stream, one choice for the whole model).
    layers : (first, end): only these layers lose heads and channels. None: all.
    layer_gates : ``none``; ``layer`` or ``blocks`` learn which layers are pruned at all (see ``Gates``).
    lora : rank 8, alpha 8, no dropout, on the matrices of queries and values, where None.
    prompt : ``collaborative``, ``plain``, ``none``, a system part of one's own, or a ``PromptTemplate``.
    warmup : share of the pruning steps over which the target rises to its value.
    schedule : how it rises, ``linear`` or ``cubic``.
    exact_fill : drop or restore the units nearest to the threshold until the target is met (see ``Gates.fill``).
    round_to : numbers of kept channels and dimensions are multiples of this, or all; the target is met exactly then.
    drop_rate : share of channels that is closed at first.
    layer_start : log_alpha of layer gates at first.
    trainer_args : phases, rates and batches.
    seed, device : of everything.

    After ``fit``: ``model_`` (pruned, merged), ``masks_``, ``plan_``, ``template_``, ``report_``.
    """

    def __init__(
        self,
        target_sparsity: float | None = None,
        *,
        target: int | str | None = None,
        units: Sequence[str] = ("heads", "ffn", "hidden"),
        layers: tuple[int, int] | None = None,
        layer_gates: LayerGates = "none",
        lora: LoraConfig | None = None,
        prompt: str | PromptTemplate = "collaborative",
        warmup: float = 4 / 7,
        schedule: Schedule = "linear",
        exact_fill: bool = True,
        round_to: int = 1,
        drop_rate: float = 0.01,
        layer_start: float = 10.0,
        trainer_args: TrainerArgs | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        check_seed("seed", seed)
        if (target_sparsity is None) == (target is None):
            raise InputError("target", "both or none", "target_sparsity or target")
        if target_sparsity is not None and not 0 < target_sparsity < 1:
            raise InputError("target_sparsity", target_sparsity, "a share above 0 and below 1")
        if warmup < 0:
            raise InputError("warmup", warmup, "a share of the pruning steps, such as 0.5")
        if isinstance(round_to, bool) or not isinstance(round_to, int) or round_to < 1:
            raise InputError("round_to", round_to, "a whole number, 1 or more")
        self.round_to = round_to
        self.kinds = kinds_for(units)
        self.template_ = PromptTemplate.of(prompt)
        self.target_sparsity, self.target, self.layers, self.lora = target_sparsity, target, layers, lora
        self.layer_gates: LayerGates = layer_gates
        self.warmup, self.exact_fill, self.drop_rate, self.layer_start = warmup, exact_fill, drop_rate, layer_start
        self.schedule: Schedule = schedule
        self.args = trainer_args or TrainerArgs()
        self.seed, self.device = seed, device

    def fit(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase | None,
        dataset: Data | Examples,
        *,
        checkpoint_dir: str | Path | None = None,
        progress: Progress = no_progress,
        on_step: Callable[[int, Step], None] | None = None,
    ) -> Self:
        """Prune ``model`` in place; it becomes ``model_``.

        Parameters
        ----------
        model : a causal language model of transformers without adapters, float32, bfloat16 or float16.
        dataset : see ``paperworks.papers.compresso.data.Data``, or finished ``Examples``.
        checkpoint_dir : where checkpoints go, and where an earlier attempt is gone on from. A finished fit leaves them.
        on_step : called with every step of pruning.

        Raises
        ------
        InputError : a model that cannot be pruned, a target that these units cannot reach (with the least that they
            can), data without anything to learn, or checkpoints of another fit.
        """
        self._check(model)
        examples = dataset if isinstance(dataset, Examples) else self._examples(dataset, tokenizer)
        size, target = self.budget(model)
        _check_activations(model, examples)
        before, shape = count(model), shape_of(model)
        job = Fit(self, model, examples, size, target, checkpoint_dir, progress, on_step)
        with UsageMeter() as meter:
            job.run()
        self.instructions_ = examples.kind == "instruction"
        self.model_, self.masks_, self.plan_ = job.model, job.masks, job.plan
        self.report_ = job.report(before, shape, meter)
        return self

    def save(self, folder: str | Path, tokenizer: PreTrainedTokenizerBase | None = None) -> Path:
        """Save the pruned model with its report, its masks, its prompt and a tokenizer whose chat template is it.

        Raises InputError if something is at ``folder`` already.
        """
        from safetensors.torch import save_file

        if not hasattr(self, "model_"):
            raise InputError("model", "nothing fitted yet", "a call of fit first")
        if tokenizer is not None and self.instructions_:
            tokenizer = with_chat_template(tokenizer, self.template_)
        made = save_model(self.model_, folder, tokenizer, self.report_.to_dict())
        self.template_.save(made)
        masks = {name_of(key): mask.detach().cpu().float().contiguous() for key, mask in self.masks_.items()}
        save_file(masks, made / MASKS_FILE)
        return made

    def _examples(self, dataset: Data, tokenizer: PreTrainedTokenizerBase | None) -> Examples:
        if tokenizer is None and not isinstance(dataset, torch.Tensor):
            raise InputError("tokenizer", None, "the model's tokenizer")
        tokens: Any = tokenizer
        return build_examples(dataset, tokens, self.template_, self.args.max_length)

    def _check(self, model: Any) -> None:
        check_prunable(model)
        if base_of(model) is not model:
            raise InputError("model", "a model with adapters", "one without: merge them first")
        if not family_of(model).head:
            raise InputError("model", type(model).__name__, "a causal language model")
        number = len(records_of(model))
        if self.layers is not None and not 0 <= self.layers[0] < self.layers[1] <= number:
            raise InputError("layers", self.layers, f"(first, end) with 0 <= first < end <= {number}")

    def units(self, model: Any) -> Any:
        """The unit sets that get masks."""
        return units_of(model, self.kinds, None if self.layers is None else range(*self.layers), ffn_gate="gate_up")

    def budget(self, model: Any) -> tuple[Size, int]:
        """The size that is constrained, and the most it may be."""
        measure: Measure = "prunable" if self.target is None else "parameters"
        size = Size.of(model, measure)
        if self.target is not None:
            target, field = most_parameters(self.target, model), "target"
        else:
            assert self.target_sparsity is not None
            target, field = int((1 - self.target_sparsity) * size.whole), "target_sparsity"
        if target >= size.whole:
            raise InputError(field, f"{target:,} parameters", f"fewer than the model has, {size.whole:,}")
        units = self.units(model)
        least = size(least_kept(units, records_of(model)))
        if target < least:
            found = f"{target:,} of {size.whole:,} parameters"
            least_said = f"at least {least:,} ({1 - least / size.whole:.3f} removed), the least these units can reach"
            raise InputError(field, found, least_said)
        return size, target


@torch.no_grad()
def _check_activations(model: Any, examples: Examples) -> None:
    """Raise InputError for tokens that the model has not, or outputs that are not finite, before anything changes."""
    vocabulary, longest = model.config.vocab_size, getattr(model.config, "max_position_embeddings", None)
    most = max(int(ids.max()) for ids in (examples.input_ids, examples.prefix) if ids.numel())
    if most >= vocabulary:
        raise InputError("dataset", f"token id {most}", f"ids below {vocabulary}, the model's vocabulary")
    length = len(examples.prefix) + examples.input_ids.shape[1]
    if longest is not None and length > longest:
        raise InputError("max_length", f"{length} tokens", f"at most {longest}, the longest input of this model")
    ids = examples.input_ids[:2].to(next(model.parameters()).device)
    if not bool(torch.isfinite(prefixed_logits(model, examples.prefix, ids)).all()):
        raise InputError("model", "NaN or infinite activations on the first examples", "finite ones: a wider dtype?")


def least_kept(units: Any, records: Sequence[dict[str, Any]]) -> dict[Any, int]:
    """The fewest units that can be left: one hidden dimension, one key-value group in the model, and no channel."""
    kept = {key: 1 if key == HIDDEN else 0 for key in units}
    heads = [key for key in units if key[1] == "kv_group"]
    outside = any(record["heads"] for number, record in enumerate(records) if (number, "kv_group") not in units)
    if heads and not outside:
        kept[heads[0]] = 1
    return kept
