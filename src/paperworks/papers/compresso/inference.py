"""Requests behind the prompt, whose keys and values are computed once and kept."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.compresso.prompt import Mode, PromptTemplate, prefix_ids, request_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptedModel:
    """A pruned model with the prompt it was trained with, at no cost per request.

    Parameters
    ----------
    model : a causal language model in evaluation mode.
    template : its prompt; ``PromptTemplate.load(folder)`` reads the one that was saved with it.
    mode : ``train`` (the paper's results), ``past`` or ``none``.

    ``prefix`` holds the prompt's tokens, int64 [P]. They count in the model's context.
    """

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, mode: Mode = "train"
    ) -> None:
        self.model, self.tokenizer, self.template, self.mode = model, tokenizer, template, mode
        self.device = next(model.parameters()).device
        self.prefix = torch.tensor(prefix_ids(template, tokenizer, mode), dtype=torch.int64)
        self._cache: Any = None
        longest = getattr(model.config, "max_position_embeddings", None)
        self.longest = None if longest is None else int(longest)
        if self.longest is not None and len(self.prefix) >= self.longest:
            raise InputError("template", f"a prompt of {len(self.prefix)} tokens", f"fewer than {self.longest}")
        if len(self.prefix):
            with evaluation_mode(model), torch.inference_mode():
                ids = self.prefix[None].to(self.device)
                self._cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values

    def encode(self, instruction: str, input: str = "", room: int = 0) -> torch.Tensor:
        """Tokens of a request behind the prefix, int64 [T].

        Where prompt, request and ``room`` tokens of answer are longer than the model's context, the user's text is cut
        at its end, never the prompt.
        """
        most = 1 << 30 if self.longest is None else self.longest - len(self.prefix) - room
        row = {"instruction": instruction, "input": input}
        return torch.tensor(request_ids(self.template, self.tokenizer, row, most, "instruction"), dtype=torch.int64)

    @torch.no_grad()
    def logits(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Logits [n, T, V] of tokens [n, T] behind the prompt, from its kept keys and values."""
        ids = input_ids.to(self.device)
        if self._cache is None:
            return self.model(input_ids=ids, use_cache=False).logits
        mask = torch.ones(len(ids), len(self.prefix) + ids.shape[1], dtype=torch.int64, device=self.device)
        return self.model(input_ids=ids, attention_mask=mask, past_key_values=self._copy(len(ids))).logits

    @torch.no_grad()
    def generate(self, instruction: str, input: str = "", *, max_new_tokens: int = 64, **options: Any) -> str:
        """The response to one request; ``options`` go to ``generate`` of transformers."""
        asked = self.encode(instruction, input, room=max_new_tokens)
        ids = torch.cat([self.prefix, asked])[None].to(self.device)
        more = {} if self._cache is None else {"past_key_values": self._copy(1)}
        with evaluation_mode(self.model), torch.inference_mode():
            found = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                **{"do_sample": False, **more, **options},
            )
        return str(self.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)).strip()

    def _copy(self, n: int) -> Any:
        # a forward appends to the cache that it is given
        cache = copy.deepcopy(self._cache)
        if n > 1:
            cache.batch_repeat_interleave(n)
        return cache
