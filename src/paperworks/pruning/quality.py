"""How large, how fast and how good a model is, dense or pruned: figures by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from paperworks.errors import InputError
from paperworks.language import load_model, measure_speed, perplexity, token_windows
from paperworks.language.choice import Question, choice_accuracy
from paperworks.language.models import check_model_folder
from paperworks.language.speed import Speed
from paperworks.runs import Progress, no_progress
from paperworks.structure import Cost, Family, count, spec_for
from paperworks.structure.modeling_sliced import MODEL_CLASSES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Figures = dict[str, float]


def family_of(folder: Path) -> Family:
    """The family of a checkpoint, dense, sliced or pruned. Raises InputError for an unknown one."""
    kind = str(check_model_folder(folder).get("model_type", ""))
    return spec_for(SimpleNamespace(model_type=kind.removeprefix("sliced_").removeprefix("pruned_")))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside a checkpoint. Raises InputError if there is none."""
    from transformers import AutoTokenizer

    check_model_folder(folder)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            "model", f"{folder}, whose tokenizer does not load ({first})", "a tokenizer beside it"
        ) from error


def check_length(folder: Path, length: int) -> None:
    """Raise InputError if sequences of ``length`` tokens are longer than the checkpoint's positions allow."""
    config = check_model_folder(folder)
    longest = config.get("max_position_embeddings") or config.get("n_positions")
    if longest is not None and length > longest:
        raise InputError("length", f"{length} tokens", f"at most {longest}, the longest input of this model")


def lora_targets(model: Path | Any) -> list[str]:
    """The last part of the names of all attention and feed-forward matrices, for a checkpoint folder or a model."""
    family = family_of(model) if isinstance(model, Path) else spec_of(model)
    paths = [p for block in (family.attention, family.feed_forward) for p in (*block.inputs, *block.outputs)]
    return list(dict.fromkeys(path.rsplit(".", 1)[-1] for path in paths))


def spec_of(model: Any) -> Family:
    """The family of a live model, dense, sliced or pruned."""
    kind = str(model.config.model_type).removeprefix("sliced_").removeprefix("pruned_")
    return spec_for(SimpleNamespace(model_type=kind))


def is_sliced(model: Any) -> bool:
    """Whether the stream of a live model was cut (SliceGPT), rather than its heads, channels or layers."""
    return type(model) in MODEL_CLASSES.values()


def size_of(model: Any, context: int = 0) -> Cost:
    """The counts of a live model, dense, pruned or sliced. ``parameters`` is ``sum(p.numel())``, tied ones once.

    A sliced model's residual matrices are inside its layers: they count as prunable parameters and are multiplied with.
    """
    if not is_sliced(model):
        return count(model, context=context)
    family, config = spec_of(model), model.config
    inside = f"{family.layers}."
    named = dict(model.named_parameters())
    matrices = {n: p.numel() for n, p in named.items() if n.startswith(inside) and p.ndim == 2}
    biases = sum(p.numel() for n, p in named.items() if n.startswith(inside) and _bias_of_matrix(n, matrices))
    head = model.get_output_embeddings()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    layers = config.num_hidden_layers
    each = next(iter(named.values())).element_size()
    return Cost(
        parameters=sum(p.numel() for p in named.values()),
        prunable=sum(matrices.values()) + biases,
        macs=sum(matrices.values())
        + (0 if head is None else head.weight.numel())
        + context * layers * heads * size * 2,
        bytes=sum(p.numel() * p.element_size() for p in named.values()),
        cache=layers * kv_heads * size * 2 * each,
    )


def _bias_of_matrix(name: str, matrices: Mapping[str, int]) -> bool:
    return name.endswith(".bias") and f"{name.removesuffix('bias')}weight" in matrices


def weights_bytes(folder: Path) -> int:
    """Bytes of a checkpoint's weights on disk."""
    found = [f for pattern in ("*.safetensors", "pytorch_model*.bin") for f in folder.glob(pattern)]
    return sum(f.stat().st_size for f in found)


def quality_of(
    model: Any,
    windows: torch.Tensor,
    questions: Sequence[Question] = (),
    *,
    batch_size: int = 8,
    progress: Progress = no_progress,
) -> Figures:
    """Token perplexity on held-out windows int64 ``[n, T]``; ``acc`` and ``acc_norm`` where questions are given."""
    found = {"perplexity": perplexity(model, windows, batch_size=batch_size, progress=progress)}
    if questions:
        scores = choice_accuracy(model, questions, batch_size=batch_size, progress=progress)
        found |= {"choice acc": scores["acc"], "choice acc_norm": scores["acc_norm"]}
    return found


def measured(
    model: Path | Any,
    texts: Sequence[str],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    length: int,
    sequences: int,
    batch_size: int = 8,
    questions: Sequence[Question] = (),
    device: str = "auto",
    progress: Progress = no_progress,
) -> Figures:
    """What a table of before and after shows but for speed, of a live model (with its tokenizer) or a folder (float32).

    Counts are at a context of ``length`` tokens; perplexity is over the first ``sequences`` held-out windows.
    ``weights on disk, bytes`` is there for folders.
    """
    folder = model if isinstance(model, Path) else None
    live: Any = model
    if folder is not None:
        live, tokenizer = load_model(folder, "float32", device)
    if tokenizer is None:
        raise InputError("tokenizer", "none", "the tokenizer of the live model")
    size = size_of(live, length)
    found: Figures = {
        "parameters": float(size.parameters),
        "of them in the layers' matrices": float(size.prunable),
        f"multiply-accumulates per token, context {length}": float(size.macs),
        "key-value cache per token, bytes": float(size.cache),
    }
    if folder is not None:
        found["weights on disk, bytes"] = float(weights_bytes(folder))
    windows = token_windows(tokenizer, list(texts), length)[:sequences]
    found |= quality_of(live, windows, questions, batch_size=batch_size, progress=progress)
    return found


def speeds_in_turn(
    folders: Mapping[str, Path],
    *,
    length: int,
    dtype: str = "float32",
    device: str = "auto",
    rounds: int = 3,
    progress: Progress = no_progress,
) -> dict[str, Figures]:
    """Reading and writing speed of checkpoints for a batch of 8, by the names given; medians over the rounds.

    In each round every checkpoint is loaded and measured once: what else the machine does falls on all of them, and one
    is in memory at a time.
    """
    found: dict[str, list[Speed]] = {name: [] for name in folders}
    turns = [name for _ in range(rounds) for name in folders]
    for name in progress(turns, "measuring speed in turn", len(turns)):
        model, _ = load_model(folders[name], dtype, device)
        found[name].append(measure_speed(
            model, batch_size=8, prompt=max(1, min(128, length // 2)), new_tokens=max(1, min(16, length // 2)),
            repetitions=1,
        ))  # fmt: skip
        del model
    return {
        name: {
            "prefill tokens/s": median(s.prefill_tokens_per_second for s in own),
            "decode tokens/s": median(s.decode_tokens_per_second for s in own),
            "decode latency per token, seconds": median(s.seconds_per_token for s in own),
        }
        for name, own in found.items()
    }
