"""Training on texts with any of the objectives: packing, the transformation of each sequence, the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from paperworks.errors import InputError
from paperworks.papers.codegen2.corruption import IGNORED, SpanCorruption, pad
from paperworks.papers.codegen2.models import context_length, fused_kernels
from paperworks.papers.codegen2.objectives import PrefixLMMask, fim_transform, ul2_denoisers
from paperworks.papers.codegen2.packing import LEAST, Packed, deduplicate, pack, tokenize
from paperworks.papers.codegen2.tokens import InfillTokens, infill_tokens
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.training import (
    Batch,
    Rows,
    Shuffled,
    TrainResult,
    TrainSettings,
    Weighted,
    add_lora,
    merge_lora,
    next_token_loss,
)
from paperworks.training import train as train_loop
from paperworks.training.losses import labels_of, next_token_logits

Objective = Literal["clm", "mix", "prefix", "psm", "spm", "ul2"]
ADAPTER = "adapter_model.safetensors"
"""The name that peft looks for."""
OBJECTIVES: tuple[str, ...] = get_args(Objective)
DEFAULTS = TrainSettings(
    epochs=1.0, batch_size=8, learning_rate=1e-5, betas=(0.9, 0.999), weight_decay=0.0, schedule="cosine"
)
"""Those of the fine-tuning example of jaxformer, with smaller batches: give your own."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters in place of training all weights: rank, scale times rank, dropout.

    ``token_rows`` are ids whose rows of the embedding and of the head are trained beside them: those of tokens that the
    tokenizer was given, which mean nothing yet.
    """

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    token_rows: tuple[int, ...] = ()


@dataclass
class Trained:
    """What ``train`` gives.

    Attributes
    ----------
    model : the trained model; adapters are merged into it.
    adapter, adapter_config : tensors and configuration of the adapters before they were merged; None without LoRA.
    result : losses and evaluations by step.
    packed : the sequences of each source, by name.
    duplicates : texts that were left out because another one is the same.
    """

    model: torch.nn.Module
    adapter: dict[str, torch.Tensor] | None
    result: TrainResult
    packed: dict[str, Packed]
    duplicates: int
    adapter_config: Any = None

    def save_adapter(self, folder: Path) -> None:
        """Write the adapters alone into a new folder, for ``peft.PeftModel.from_pretrained``."""
        from safetensors.torch import save_file

        if self.adapter is None:
            raise InputError("lora", "none", "a training with adapters")
        with new_folder(folder) as aside:
            save_file({name: tensor.contiguous() for name, tensor in self.adapter.items()}, aside / ADAPTER)
            self.adapter_config.save_pretrained(aside)


class TransformedSequences(Dataset[dict[str, Any]]):
    """Packed sequences as an objective shows them: a function of the seed, of the epoch and of the number of the row.

    A row has ``input_ids`` and ``prefix_len``, the tokens at its start that are no targets and may see each other.
    """

    def __init__(
        self,
        sequences: Sequence[np.ndarray],
        tokens: InfillTokens,
        objective: Objective,
        *,
        max_len: int,
        p_causal: float = 0.5,
        ratio: tuple[float, float] = (0.05, 1.0),
        span: tuple[int, int | None] = (1, None),
        seed: int = 0,
    ) -> None:
        check_seed("seed", seed)
        if objective not in OBJECTIVES:
            raise InputError("objective", repr(objective), f"one of {', '.join(OBJECTIVES)}")
        if objective in ("psm", "spm") and tokens.fim is None:
            raise InputError("tokenizer", "one without <fim_prefix> and its like", "add_infill_tokens(..., fim=True)")
        if objective == "ul2" and tokens.modes is None:
            raise InputError("tokenizer", "one without <ul2_r> and its like", "add_infill_tokens(..., modes=True)")
        self.sequences, self.tokens, self.objective = sequences, tokens, objective
        self.max_len, self.p_causal, self.seed, self.epoch = max_len, p_causal, seed, 0
        self.corruption = SpanCorruption(tokens, p_causal, ratio, span, max_len=max_len, seed=seed)

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for the given epoch. The training loop calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = np.asarray(self.sequences[index], dtype=np.int64)
        rng = np.random.Generator(np.random.PCG64([self.seed, self.epoch, index]))
        if self.objective == "mix":
            return {"input_ids": self.corruption.corrupt(ids, rng), "prefix_len": 0}
        ids = ids[: self.max_len]
        if self.objective == "prefix":
            return {"input_ids": ids, "prefix_len": int(rng.integers(1, max(len(ids), 2)))}
        if self.objective in ("psm", "spm") and rng.random() >= self.p_causal:
            return {"input_ids": self._fim(ids, rng), "prefix_len": 0}
        if self.objective == "ul2" and len(ids) > 1:
            return self._ul2(ids, rng)
        return {"input_ids": ids, "prefix_len": 0}

    def _fim(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Every file of a sequence reordered; the raw sequence is shortened so that the result fits."""
        prefix, suffix, middle = cast(tuple[int, int, int], self.tokens.fim)
        end = self.tokens.end
        files = int((ids[:-1] == end).sum()) + 1
        ids = ids[: max(self.max_len - 4 * files, 1)]
        borders = np.flatnonzero(ids == end) + 1
        made: list[int] = []
        for file in np.split(ids, borders[borders < len(ids)]):
            mode = cast(Literal["psm", "spm"], self.objective)
            made += fim_transform(file, mode, prefix_id=prefix, suffix_id=suffix, middle_id=middle, eos_id=end, rng=rng)
        return np.asarray(made[: self.max_len], dtype=np.int64)

    def _ul2(self, ids: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        state = rng.bit_generator.state
        options: dict[str, Any] = {
            "mode_ids": self.tokens.modes,
            "mask_ids": self.tokens.masks,
            "eos_id": self.tokens.end,
        }
        made, prefix = ul2_denoisers(ids, rng, **options)
        while len(made) > self.max_len and len(ids) > 2:
            ids = ids[: max(2, len(ids) - (len(made) - self.max_len))]
            rng.bit_generator.state = state
            made, prefix = ul2_denoisers(ids, rng, **options)
        return {"input_ids": np.asarray(made, dtype=np.int64), "prefix_len": prefix}


def collate(rows: list[Any], pad_id: int, width: int | None = None) -> Batch:
    """A batch for ``code_loss``: rows padded on the right, prefixes without labels.

    There is no attention mask: padding stands behind all tokens, where a causal model does not see it.
    """
    batch = pad([row["input_ids"] for row in rows], pad_id, width)
    del batch["attention_mask"]
    prefix = torch.tensor([row["prefix_len"] for row in rows])
    if bool(prefix.any()):
        batch["prefix_len"] = prefix
        batch["labels"] = PrefixLMMask(prefix).labels(batch["labels"])
    return batch


def prefix_logits(model: Any, input_ids: torch.Tensor, prefix_len: torch.Tensor) -> torch.Tensor:
    """Logits ``[n, T, V]`` of a model that reads each row's prefix in both directions. No cache is used.

    The model must add a mask ``[n, 1, T, T]`` to its scores, as models of transformers with eager attention do.
    """
    dtype = next(model.parameters()).dtype
    mask = PrefixLMMask(prefix_len.to(input_ids.device)).additive(input_ids.shape[1], dtype)
    return model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits


def code_loss(z_loss: float = 0.0) -> Callable[[torch.nn.Module, Batch], tuple[torch.Tensor, torch.Tensor]]:
    """Cross-entropy of all targets, and ``z_loss * (log Z)^2`` of each; a ``prefix_len`` is read in both directions."""

    def loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if "prefix_len" not in batch and not z_loss:
            return next_token_loss(model, batch)
        if "prefix_len" in batch:
            logits, labels = prefix_logits(model, batch["input_ids"], batch["prefix_len"]), batch["labels"]
        else:
            logits, labels = next_token_logits(model, batch), labels_of(batch)
        flat, targets = logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
        wanted = targets != IGNORED
        total = functional.cross_entropy(flat, targets, ignore_index=IGNORED, reduction="sum")
        if z_loss:
            total = total + z_loss * flat.logsumexp(-1)[wanted].square().sum()
        return total, wanted.sum()

    return loss


Source = str | Path | Sequence[str] | np.ndarray
"""Texts; or a path: a folder or file with code, JSON lines with ``text``, or a ``.npy`` file of token ids."""


def train(
    model: torch.nn.Module,
    tokenizer: Any,
    data: Source | Mapping[str, Source],
    *,
    objective: Objective = "mix",
    mixture: Mapping[str, Source] | None = None,
    settings: TrainSettings = DEFAULTS,
    length: int | None = None,
    p_causal: float = 0.5,
    ratio: tuple[float, float] = (0.05, 1.0),
    span: tuple[int, int | None] = (1, None),
    least: int = LEAST,
    z_loss: float = 0.0,
    lora: Lora | None = None,
    evaluate: Callable[[torch.nn.Module], float] | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> Trained:
    """Train a causal language model on texts, in place.

    Parameters
    ----------
    model, tokenizer : of transformers; the tokenizer with the infill tokens (``add_infill_tokens``), the model with
        rows for them (``resize``).
    data : texts, a path (see ``Source``), or several of them by name: sources are drawn from with equal probability.
    objective : "clm", "mix" (CodeGen2), "prefix", "psm", "spm" (half of the sequences as they are) or "ul2".
    mixture : sources by name, such as ``{"nl": "notes/", "pl": "src/"}``, in addition to ``data``.
    settings : of the training loop. ``epochs`` counts sequences of all sources together.
    length : tokens of a sequence; default the model's context.
    p_causal, ratio, span : see ``SpanCorruption``.
    least : shorter rests of documents are dropped.
    z_loss : factor of the squared log-normaliser; 1e-4 in jaxformer.
    lora : adapters on all linear layers in place of training all weights.
    evaluate, checkpoint_dir, progress : see ``paperworks.training.train``.

    Raises
    ------
    InputError : no texts, ids beyond the vocabulary, missing tokens, or options out of bounds.
    """
    tokens = infill_tokens(tokenizer)
    longest = context_length(model)
    size = longest if length is None else length
    if not 2 <= size <= longest:
        raise InputError("length", size, f"from 2 to {longest} tokens, the model's context")
    rows = int(cast(Any, model).get_input_embeddings().weight.shape[0])
    needed = max((*tokens.reserved, tokens.end))
    if needed >= rows:
        raise InputError("model", f"{rows} rows of its embedding", f"{needed + 1}, as the tokenizer has: call resize")
    packed, duplicates = _packed(data, mixture, tokenizer, tokens, size, least, settings.seed)
    sequences = [s for p in packed.values() for s in p.sequences]
    _check_vocabulary(sequences, rows)
    shown = TransformedSequences(
        sequences, tokens, objective, max_len=size, p_causal=p_causal, ratio=ratio, span=span, seed=settings.seed
    )
    weights = np.concatenate([np.full(len(p), 1 / len(p)) for p in packed.values()])
    sampler = Shuffled() if len(packed) == 1 else Weighted(weights)
    source = Rows(cast(Any, shown), sampler, collate=lambda made: collate(made, tokens.end))
    trained: Any = model if lora is None else _adapted(model, lora, settings.seed)
    with fused_kernels(trained):
        result = train_loop(
            trained,
            source,
            settings,
            loss=code_loss(z_loss),
            evaluate=evaluate,
            checkpoint_dir=checkpoint_dir,
            progress=progress,
        )
    if lora is None:
        return Trained(model, None, result, packed, duplicates)
    from peft import get_peft_model_state_dict

    stored = get_peft_model_state_dict(trained, save_embedding_layers=False)  # of the rows only those that were trained
    adapter = {name: tensor.detach().clone() for name, tensor in stored.items()}
    config = trained.peft_config["default"]
    return Trained(merge_lora(trained), adapter, result, packed, duplicates, config)


def linear_layers(model: torch.nn.Module) -> list[str]:
    """Last parts of the names of the linear layers of the blocks: what adapters are put on."""
    head = cast(Any, model).get_output_embeddings()
    found = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if (isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D") and module is not head
    }
    return sorted(found)


def _adapted(model: torch.nn.Module, lora: Lora, seed: int) -> torch.nn.Module:
    options: dict[str, Any] = {"r": lora.r, "alpha": lora.alpha, "dropout": lora.dropout, "token_rows": lora.token_rows}
    return add_lora(model, linear_layers(model), **options, seed=seed)


def _packed(
    data: Source | Mapping[str, Source],
    mixture: Mapping[str, Source] | None,
    tokenizer: Any,
    tokens: InfillTokens,
    size: int,
    least: int,
    seed: int,
) -> tuple[dict[str, Packed], int]:
    from paperworks.papers.codegen2.repository import read_source

    sources: dict[str, Source] = dict(data) if isinstance(data, Mapping) else {"data": data}
    sources |= dict(mixture or {})
    packed, duplicates = {}, 0
    for name, source in sources.items():
        found = read_source(source, name)
        if isinstance(found, np.ndarray):
            documents: Any = [d for d in np.split(found, np.flatnonzero(found == tokens.end) + 1) if len(d)]
            documents = [d[:-1] if d[-1] == tokens.end else d for d in documents]
        else:
            kept = deduplicate(found)
            duplicates += len(found) - len(kept)
            documents = tokenize(tokenizer, [found[i] for i in kept])
        packed[name] = pack(documents, size, eos_id=tokens.end, least=min(least, size), seed=seed)
    if not packed:
        raise InputError("data", "no source", "texts, or a path")
    return packed, duplicates


def _check_vocabulary(sequences: Sequence[np.ndarray], rows: int) -> None:
    low, high = min(int(s.min()) for s in sequences), max(int(s.max()) for s in sequences)
    if low < 0 or high >= rows:
        raise InputError("data", f"token id {low if low < 0 else high}", f"ids from 0 to {rows - 1}, as the model has")


def with_epochs(settings: TrainSettings, epochs: float) -> TrainSettings:
    """The same settings over another number of epochs: the schedule is stretched to its end."""
    return replace(settings, epochs=epochs, steps=None)
