"""Log-probabilities of given responses under a causal language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.language.generation.local import context_of, prompt_ids, prompt_text
from paperworks.language.generation.protocol import Prompt, check_prompt


@dataclass(frozen=True)
class ResponseScore:
    """The log-probability of one response given its prompt.

    Attributes
    ----------
    log_probability : sum over the response's tokens, nats.
    token_log_probabilities : float64 ``[tokens]``.
    token_ids : the response's tokens.
    """

    log_probability: float
    token_log_probabilities: np.ndarray
    token_ids: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Per token."""
        return self.log_probability / len(self.token_ids)


def score_responses(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    responses: Sequence[str],
    *,
    end: bool = False,
    batch_size: int = 8,
    padding_side: Literal["right", "left"] = "right",
) -> list[ResponseScore]:
    """The log-probability of ``responses[i]`` after ``prompts[i]``, in float32 at least.

    Prompt and response are tokenised together. Where a token spans the border between them, it counts as the
    response's.

    Parameters
    ----------
    model, tokenizer : a causal language model of transformers.
    prompts : texts, or chats (by the tokenizer's template, the assistant's turn begun).
    responses : texts, as many as prompts.
    end : count the end-of-text token after the response too.
    batch_size : pairs at a time.
    padding_side : where shorter rows are padded; figures do not depend on it.

    Raises
    ------
    InputError : unequal lengths, a response without a token, or a pair that does not fit the model's context.
    """
    import torch

    from paperworks.nn import evaluation_mode

    if len(prompts) != len(responses):
        raise InputError("responses", len(responses), f"{len(prompts)}, one for each prompt")
    if padding_side not in ("right", "left"):
        raise InputError("padding_side", repr(padding_side), "right or left")
    if batch_size < 1:
        raise InputError("batch_size", batch_size, "1 or more")
    pairs = [
        _pair(tokenizer, check_prompt(p, i), r, i, end) for i, (p, r) in enumerate(zip(prompts, responses, strict=True))
    ]
    limit = context_of(model)
    for number, (ids, _) in enumerate(pairs):
        if limit is not None and len(ids) > limit:
            raise InputError(f"prompts, number {number}", f"{len(ids)} tokens with its response", f"at most {limit}")
    found: dict[int, ResponseScore] = {}
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]))
    with torch.inference_mode(), evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            longest = max(len(pairs[i][0]) for i in batch)
            rows, masks = [], []
            for i in batch:
                ids, gap = pairs[i][0], longest - len(pairs[i][0])
                left, right = (gap, 0) if padding_side == "left" else (0, gap)
                rows.append([0] * left + ids + [0] * right)
                masks.append([0] * left + [1] * len(ids) + [0] * right)
            tokens, mask = (torch.tensor(x, device=model.device) for x in (rows, masks))
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits = model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits
            for row, i in enumerate(batch):
                ids, begin = pairs[i]
                offset = longest - len(ids) if padding_side == "left" else 0
                span = logits[row, offset + begin - 1 : offset + len(ids) - 1].float().log_softmax(-1)
                target = tokens[row, offset + begin : offset + len(ids), None]
                values = span.gather(1, target)[:, 0].double().cpu().numpy()
                found[i] = ResponseScore(float(values.sum()), values, tuple(ids[begin:]))
    return [found[i] for i in range(len(pairs))]


def _pair(tokenizer: Any, prompt: Prompt, response: str, number: int, end: bool) -> tuple[list[int], int]:
    """Tokens of prompt and response, and where the response begins."""
    before = prompt_ids(tokenizer, prompt)
    text = prompt_text(tokenizer, prompt) + response
    whole = (
        prompt_ids(tokenizer, text)
        if isinstance(prompt, str)
        else list(tokenizer(text, add_special_tokens=False)["input_ids"])
    )
    begin = 0
    while begin < min(len(before), len(whole)) and before[begin] == whole[begin]:
        begin += 1
    if end:
        if tokenizer.eos_token_id is None:
            raise InputError("end", True, "a tokenizer with an end-of-text token")
        whole.append(tokenizer.eos_token_id)
    if begin == len(whole):
        raise InputError(f"responses, number {number}", repr(response)[:80], "a response with a token of its own")
    if begin == 0:
        raise InputError(f"prompts, number {number}", repr(prompt)[:80], "a prompt with a token of its own")
    return whole, begin
