"""Stage 4: the actor is tuned on preference pairs, the refiner on chats; from folder to folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from paperworks.errors import InputError
from paperworks.language import load_model
from paperworks.language.generation.local import context_of
from paperworks.papers.spar.examples import (
    chat_example,
    chat_of,
    pad_pairs,
    pad_rows,
    preference_of,
    read_chats,
    read_pairs,
)
from paperworks.papers.spar.loss import pair_batch, preference_training_loss, response_log_probabilities
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.training import Loss, Rows, TrainSettings, add_lora, merge_lora, next_token_loss, train

Rowlike = Mapping[str, Any]


@dataclass(frozen=True)
class TuneOptions:
    """How to tune; the defaults of ``dpo`` and ``sft`` are the authors'.

    Attributes
    ----------
    settings : of the training loop. Its ``warmup_steps`` are replaced by ``warmup``.
    warmup : share of the steps in which the rate rises.
    max_length : tokens of a chat; what is longer loses its end.
    lora_rank : rank of adapters on all linear maps but the head, merged at the end; 0 trains all weights.
    chat_template : of a tokenizer that has none (Jinja); it is saved with the model.
    """

    settings: TrainSettings
    warmup: float = 0.1
    max_length: int = 2048
    lora_rank: int = 0
    chat_template: str | None = None

    def __post_init__(self) -> None:
        for name, right, expected in (
            ("warmup", 0 <= self.warmup <= 1, "a share from 0 to 1"),
            ("max_length", self.max_length >= 2, "2 tokens or more"),
            ("lora_rank", self.lora_rank >= 0, "0 or more"),
        ):
            if not right:
                raise InputError(name, getattr(self, name), expected)

    @classmethod
    def dpo(cls, **changes: Any) -> TuneOptions:
        """Rate 2e-7, linear, 1 epoch, 2 pairs a pass and 2 passes a step; ``changes`` are of ``TuneOptions``."""
        settings = TrainSettings(epochs=1, batch_size=2, accumulation=2, learning_rate=2e-7, betas=(0.9, 0.999))
        return cls(**{"settings": settings, **changes})

    @classmethod
    def sft(cls, **changes: Any) -> TuneOptions:
        """Rate 2e-6, constant after the warm-up, 5 epochs, 2 chats a pass and 4 passes a step, 4096 tokens."""
        settings = TrainSettings(
            epochs=5, batch_size=2, accumulation=4, learning_rate=2e-6, schedule="constant", betas=(0.9, 0.999)
        )
        return cls(**{"settings": settings, "max_length": 4096, **changes})


@dataclass(frozen=True)
class Tuned:
    """What a training did.

    Attributes
    ----------
    folder : the new model, which ``AutoModelForCausalLM.from_pretrained`` loads.
    examples, left_out, shortened : rows trained on; rows of which no response token fits; rows that lost their end.
    losses : of every step.
    facts : accuracies and margins before and after, for pairs.
    """

    folder: Path
    examples: int
    left_out: int
    shortened: int
    losses: tuple[float, ...]
    facts: Mapping[str, float] = field(default_factory=dict)


def train_dpo(
    model_dir: str | Path | None,
    pairs: str | Path | Sequence[Rowlike],
    out_dir: str | Path,
    *,
    beta: float = 0.1,
    sft_weight: float = 0.1,
    options: TuneOptions | None = None,
    reference_dir: str | Path | None = None,
    trainer: Literal["own", "trl"] = "own",
    checkpoint_dir: Path | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Tuned:
    """Tune a causal language model on preference pairs.

    Parameters
    ----------
    model_dir : a Hugging Face folder; None is the bundled model.
    pairs : ``.jsonl`` in TRL's preference format, or its rows.
    out_dir : a new folder for the tuned model and its tokenizer.
    beta, sft_weight : see ``preference_loss``.
    reference_dir : the frozen reference; by default the model itself as it is before. Its log-probabilities are
        computed once, so that only one model is in memory while training.
    trainer : "own" is the loop of this package, which goes on from ``checkpoint_dir``; "trl" is TRL's ``DPOTrainer``.

    Raises
    ------
    InputError : no pair, a row of another form, a tokenizer without chat template, or an ``out_dir`` with files in it.
    """
    options = options or TuneOptions.dpo()
    loss = preference_training_loss(beta=beta, sft_weight=sft_weight)
    rows = _given(pairs, "pairs", read_pairs, preference_of)
    if trainer == "trl":
        from paperworks.papers.spar.trl_trainer import train_dpo_with_trl

        return train_dpo_with_trl(model_dir, rows, Path(out_dir), options, beta, sft_weight, device)
    if trainer != "own":
        raise InputError("trainer", repr(trainer), "own or trl")
    model, tokenizer = load_for_training(model_dir, device, options)
    found, left_out, shortened = _pair_examples(tokenizer, rows, _limit(model, options))
    reference = model if reference_dir is None else load_model(reference_dir, "float32", device)[0]
    before = _log_probabilities(reference, found, options.settings.batch_size, progress)
    for row, (good, bad) in zip(found, before, strict=True):
        row |= {"reference_chosen": good, "reference_rejected": bad}
    del reference
    tuned, losses = _tune(model, Rows(found, collate=pad_pairs), len(found), options, loss, checkpoint_dir, progress)
    after = _log_probabilities(tuned, found, options.settings.batch_size, progress)
    margins = [beta * ((g - b) - (rg - rb)) for (g, b), (rg, rb) in zip(after, before, strict=True)]
    facts = {
        "pairs with a higher chosen response before": _share([g > b for g, b in before]),
        "pairs with a higher chosen response after": _share([g > b for g, b in after]),
        "mean margin after": sum(margins) / len(margins),
    }
    _save(tuned, tokenizer, Path(out_dir))
    return Tuned(Path(out_dir), len(found), left_out, shortened, losses, facts)


def train_sft(
    model_dir: str | Path | None,
    chats: str | Path | Sequence[Rowlike],
    out_dir: str | Path,
    *,
    options: TuneOptions | None = None,
    trainer: Literal["own", "trl"] = "own",
    checkpoint_dir: Path | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Tuned:
    """Tune a causal language model on chats (``messages``); the loss is on the last turn's tokens only.

    Parameters and errors as in ``train_dpo``; ``chats`` is ``.jsonl`` with messages, or its rows.
    """
    options = options or TuneOptions.sft()
    rows = _given(chats, "chats", read_chats, chat_of)
    if trainer == "trl":
        from paperworks.papers.spar.trl_trainer import train_sft_with_trl

        return train_sft_with_trl(model_dir, rows, Path(out_dir), options, device)
    if trainer != "own":
        raise InputError("trainer", repr(trainer), "own or trl")
    model, tokenizer = load_for_training(model_dir, device, options)
    limit = _limit(model, options)
    made = [chat_example(tokenizer, row["messages"][:-1], row["messages"][-1]["content"], limit) for row in rows]
    found = [one for one in made if one is not None]
    if not found:
        raise InputError("chats", f"none with a response within {limit} tokens", "shorter chats")
    shortened = sum(len(one["input_ids"]) == limit for one in found)
    source = Rows(found, collate=pad_rows)
    tuned, losses = _tune(model, source, len(found), options, next_token_loss, checkpoint_dir, progress)
    _save(tuned, tokenizer, Path(out_dir))
    return Tuned(Path(out_dir), len(found), len(made) - len(found), shortened, losses)


def load_for_training(model_dir: str | Path | None, device: str, options: TuneOptions) -> tuple[Any, Any]:
    """Model in float32 and tokenizer, with a chat template. Raises InputError for a tokenizer without one."""
    model, tokenizer = load_model(model_dir, "float32", device)
    return model, with_template(tokenizer, options.chat_template)


def with_template(tokenizer: Any, template: str | None) -> Any:
    """The tokenizer with a chat template: its own, or else the one given."""
    if not getattr(tokenizer, "chat_template", None):
        if template is None:
            raise InputError(
                "chat_template", "a tokenizer without one", "a model with a chat template, or the option chat_template"
            )
        tokenizer.chat_template = template
    return tokenizer


def _given(
    rows: Any, name: str, read: Callable[..., list[dict[str, Any]]], check: Callable[[Any, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows of a file, or rows that were given."""
    if isinstance(rows, (str, Path)):
        return read(rows, name)
    found = [check(row, f"{name}, number {i}") for i, row in enumerate(rows)]
    if not found:
        raise InputError(name, "none", "one or more")
    return found


def _limit(model: Any, options: TuneOptions) -> int:
    return min(options.max_length, context_of(model) or options.max_length)


def _pair_examples(tokenizer: Any, rows: Sequence[Rowlike], limit: int) -> tuple[list[dict[str, Any]], int, int]:
    """Token ids of both sides of every pair, pairs of which nothing fits, and pairs that were cut."""
    found, shortened = [], 0
    for row in rows:
        sides = {
            side: chat_example(tokenizer, row["prompt"], row[side][-1]["content"], limit)
            for side in ("chosen", "rejected")
        }
        if any(one is None for one in sides.values()):
            continue
        whole = {f"{side}_{name}": ids for side, one in sides.items() if one is not None for name, ids in one.items()}
        shortened += any(len(whole[f"{side}_input_ids"]) == limit for side in sides)
        found.append(whole)
    if not found:
        raise InputError("pairs", f"none with a response within {limit} tokens", "shorter prompts")
    return found, len(rows) - len(found), shortened


def _log_probabilities(
    model: torch.nn.Module, rows: Sequence[Rowlike], size: int, progress: Progress
) -> list[tuple[float, float]]:
    """(chosen, rejected) log-probabilities of every pair."""
    from paperworks.nn import evaluation_mode

    device = next(model.parameters()).device
    found: list[tuple[float, float]] = []
    with torch.inference_mode(), evaluation_mode(model):
        for start in progress(range(0, len(rows), size), "log-probabilities"):
            batch = pair_batch(pad_pairs(list(rows[start : start + size])))
            values = response_log_probabilities(model, {k: v.to(device) for k, v in batch.items()}).tolist()
            half = len(values) // 2
            found += list(zip(values[:half], values[half:], strict=True))
    return found


def _tune(
    model: Any, source: Rows, count: int, options: TuneOptions, loss: Loss, folder: Path | None, progress: Progress
) -> tuple[Any, tuple[float, ...]]:
    """Train in place, with adapters where they are asked for. Dropout stays off, so that the reference fits."""
    settings = options.settings
    size = min(settings.batch_size, count)
    settings = replace(settings, batch_size=size)
    settings = replace(settings, warmup_steps=round(options.warmup * settings.total_steps(count)))
    network: Any = model
    if options.lora_rank:
        network = add_lora(
            model,
            linear_names(model),
            r=options.lora_rank,
            alpha=2 * options.lora_rank,
            dropout=0.0,
            seed=settings.seed,
        )
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    result = train(network, source, settings, loss=loss, checkpoint_dir=folder, progress=progress)
    return (merge_lora(network) if options.lora_rank else network), tuple(result.losses)


def linear_names(model: torch.nn.Module) -> list[str]:
    """Last parts of the names of a model's linear maps, without its head."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if module is not head and (isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D")
        }
    )


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save model and tokenizer; of several processes (``accelerate launch``) the main one does."""
    from accelerate import PartialState

    state = PartialState()
    if state.is_main_process:
        with new_folder(folder, "out_dir") as aside:
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
    state.wait_for_everyone()


def write_facts(tuned: Tuned, path: Path) -> None:
    """The facts of a training as JSON, moved into place when whole."""
    from paperworks.runs.files import write_text

    content = {
        "examples": tuned.examples,
        "left_out": tuned.left_out,
        "shortened": tuned.shortened,
        "losses": list(tuned.losses),
        "facts": dict(tuned.facts),
    }
    write_text(path, json.dumps(content, indent=1))


def read_facts(folder: Path, path: Path) -> Tuned:
    """Read back ``write_facts``."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Tuned(
        folder, data["examples"], data["left_out"], data["shortened"], tuple(data["losses"]), dict(data["facts"])
    )
