"""Generation by a causal language model of transformers, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError
from paperworks.language.generation.protocol import (
    GenerationSettings,
    Keep,
    Prompt,
    SampleRequest,
    cut_at_stop,
    gather,
    has_images,
    requests_of,
)

if TYPE_CHECKING:
    import torch


class TransformersGenerator:
    """A causal language model and its tokenizer.

    Prompts of like length are padded on the left and generated together. Each answer has a random generator of its own:
    which prompts share a batch changes nothing but the last digits of the logits.

    Parameters
    ----------
    model, tokenizer : of transformers.
    batch_size : answers at a time.
    chat : make a chat of one user message of each prompt that is a text. Chats need the tokenizer's chat template.
    name : what tells it from other models in a cache; by default the folder that it was loaded from.
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_size: int = 16, chat: bool = False, name: str = "") -> None:
        if batch_size < 1:
            raise InputError("batch_size", batch_size, "1 or more")
        self.model, self.tokenizer, self.batch_size, self.chat = model, tokenizer, batch_size, chat
        self.name = name or str(getattr(model.config, "_name_or_path", "") or type(model).__name__)

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        *,
        dtype: str | None = None,
        device: str = "auto",
        batch_size: int = 16,
        chat: bool = False,
    ) -> TransformersGenerator:
        """From a Hugging Face folder on this machine; None is the bundled language model."""
        from paperworks.language.models import bundled_model_path, load_model

        model, tokenizer = load_model(folder, dtype, device)
        name = (
            str(Path(folder).expanduser().resolve()) if folder is not None else f"bundled {bundled_model_path().name}"
        )
        return cls(model, tokenizer, batch_size=batch_size, chat=chat, name=name)

    @property
    def identity(self) -> str:
        """What decides the answers: the model, its number format, and whether texts are made chats."""
        return f"{self.name}|{self.model.dtype}|{'chat' if self.chat else 'text'}"

    def generate(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> list[list[str]]:
        """For each prompt, ``settings.n`` answers.

        Raises
        ------
        InputError : a prompt that with ``max_new_tokens`` does not fit the model's context, or a chat without a
            template.
        """
        return gather(dict(self.samples(requests_of(prompts, settings))), prompts, settings)

    def samples(self, requests: Sequence[SampleRequest], keep: Keep | None = None) -> Iterator[tuple[int, str]]:
        """(position of a request, its answer), batch by batch, the longest prompts first."""
        tokens = [prompt_ids(self.tokenizer, r.prompt, chat=self.chat) for r in requests]
        limit = context_of(self.model)
        for position, (request, ids) in enumerate(zip(requests, tokens, strict=True)):
            if limit is not None and len(ids) + request.settings.max_new_tokens > limit:
                raise InputError(
                    f"prompts, number {position}",
                    f"{len(ids)} tokens and {request.settings.max_new_tokens} to come",
                    f"at most {limit} together, the context of {Path(self.name).name}",
                )
        # Answers of one batch share their settings.
        order = sorted(range(len(requests)), key=lambda i: (repr(requests[i].settings), -len(tokens[i]), i))
        start = 0
        while start < len(order):
            settings = requests[order[start]].settings
            batch = [i for i in order[start : start + self.batch_size] if requests[i].settings == settings]
            start += len(batch)
            texts = self._batch([tokens[i] for i in batch], [requests[i] for i in batch], settings)
            for position, text in zip(batch, texts, strict=True):
                if keep is not None:
                    keep(position, text)
            yield from zip(batch, texts, strict=True)

    def _batch(self, rows: list[list[int]], requests: list[SampleRequest], settings: GenerationSettings) -> list[str]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        from paperworks.nn import evaluation_mode

        longest = max(len(row) for row in rows)
        pad = next((t for t in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if t is not None), 0)
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.model.device)
        config = GenerationConfig(
            max_new_tokens=settings.max_new_tokens,
            do_sample=False,
            pad_token_id=pad,
            eos_token_id=self._ends(),
            stop_strings=list(settings.stop) or None,
        )
        draws = (
            [] if settings.greedy else [_Draw(settings, [r.settings.sample_seed(r.prompt, r.number) for r in requests])]
        )
        with torch.inference_mode(), evaluation_mode(self.model):
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList(draws),
                tokenizer=self.tokenizer,
            )
        texts = self.tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
        return [cut_at_stop(text, settings.stop) for text in texts]

    def _ends(self) -> list[int] | None:
        """Tokens that end an answer: those of the model's generation config, and the tokenizer's."""
        known = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ends = set(known if isinstance(known, list) else [known]) | {self.tokenizer.eos_token_id}
        return sorted(int(t) for t in ends if t is not None) or None


class _Draw:
    """Sampling as the largest of noisy logits (Gumbel), with a generator for each row: a logits processor."""

    def __init__(self, settings: GenerationSettings, seeds: Sequence[int]) -> None:
        import torch

        self._settings = settings
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        logits = scores.float() / self._settings.temperature
        if self._settings.top_p < 1:
            ranked, order = logits.sort(dim=1, descending=True, stable=True)
            before = ranked.softmax(1).cumsum(1).roll(1, 1)
            before[:, 0] = 0  # the first token is always among them
            ranked = ranked.masked_fill(before >= self._settings.top_p, -torch.inf)
            logits = torch.empty_like(logits).scatter_(1, order, ranked)
        width = logits.shape[1]
        noise = torch.stack([torch.rand(width, generator=g, dtype=torch.float64) for g in self._generators])
        gumbel = -torch.log(-torch.log(noise.clamp(1e-300, 1 - 1e-16)))
        return logits + gumbel.to(logits.device, torch.float32)


def prompt_ids(tokenizer: Any, prompt: Prompt, *, chat: bool = False) -> list[int]:
    """Token ids of a prompt: a text as it is, a chat by the tokenizer's template with the assistant's turn begun."""
    if isinstance(prompt, str) and chat:
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(prompt, str):
        ids = list(tokenizer(prompt)["input_ids"])
        end = tokenizer.eos_token_id
        if len(ids) > 1 and end is not None and ids[-1] == end:  # some tokenizers close every text
            ids.pop()
        if not ids:
            start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end
            if start is None:
                raise InputError("prompts", "an empty text", "a text, for a tokenizer without a first token")
            ids = [start]
        return ids
    return list(tokenizer(prompt_text(tokenizer, prompt), add_special_tokens=False)["input_ids"])


def prompt_text(tokenizer: Any, prompt: Prompt) -> str:
    """A chat as the text that the model reads."""
    if isinstance(prompt, str):
        return prompt
    if has_images(prompt):
        raise InputError("prompts", "a chat with images", "texts: this language model sees no images")
    if not getattr(tokenizer, "chat_template", None):
        raise InputError("prompts", "a chat", "texts: this tokenizer has no chat template")
    return tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, tokenize=False)


def context_of(model: Any) -> int | None:
    """Positions that the model has, if its config says."""
    config = model.config
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
