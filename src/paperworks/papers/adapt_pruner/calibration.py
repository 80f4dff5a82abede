"""Calibration that is drawn anew at every pruning step, from texts, tokens, a data set or a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.language import Calibration, token_windows
from paperworks.parameters import check_seed

Batch = dict[str, torch.Tensor]
Source = str | Sequence[str] | torch.Tensor | Calibration | Mapping[str, torch.Tensor] | Callable[[int], Any] | Any


class FreshBatches:
    """``batches(step)``: the calibration batches of a pruning step. The seed and the step decide them.

    Parameters
    ----------
    source : texts (with ``tokenizer``); token ids int64 ``[n, T]``; a ``Calibration``; a dictionary with ``input_ids``
        and optionally ``attention_mask``; a data set of Hugging Face with a column ``input_ids`` or ``text``; or a
        function from the step's number to any of those that hold tokens.
    examples : sequences of a step, drawn without replacement. Token sources with fewer give all they have.
    length : tokens of a sequence, where texts are cut into windows.
    batch_size : sequences that are computed together.
    resample : False draws once, and every step sees the same sequences.

    Raises
    ------
    InputError : ``calibration``: no sequence, texts with fewer than ``examples`` windows, or no tokenizer for them.
    """

    def __init__(
        self,
        source: Source,
        *,
        examples: int = 512,
        length: int = 64,
        batch_size: int = 16,
        seed: int = 42,
        resample: bool = True,
        tokenizer: Any = None,
    ) -> None:
        check_seed("seed", seed)
        for name, value, least in (("examples", examples, 1), ("length", length, 2), ("batch_size", batch_size, 1)):
            if value < least:
                raise InputError(name, value, f"{least} or more")
        self.examples, self.length, self.batch_size = examples, length, batch_size
        self.seed, self.resample, self.tokenizer = seed, resample, tokenizer
        self._function: Callable[[int], Any] | None = None
        self._pool: Calibration | None = None
        if callable(source) and not isinstance(source, torch.Tensor | Mapping):
            self._function = source
        else:
            self._pool = self._tokens(source)

    def __call__(self, step: int) -> list[Batch]:
        """Batches of ``input_ids`` and ``attention_mask``, int64 ``[b, T]``."""
        if self._function is not None:
            return list(self._tokens(self._function(step)).batches(self.batch_size))
        assert self._pool is not None
        number = step if self.resample else 0
        rows = np.random.default_rng([self.seed, number]).permutation(len(self._pool))[: self.examples]
        index = torch.from_numpy(rows)
        drawn = Calibration(self._pool.input_ids[index], self._pool.attention_mask[index])
        return list(drawn.batches(self.batch_size))

    def fingerprint(self) -> str:
        """Tells one pool of sequences from another; a function has none of its own."""
        return "function" if self._pool is None else self._pool.fingerprint()

    def _tokens(self, source: Any) -> Calibration:
        if isinstance(source, Calibration):
            return source
        if isinstance(source, torch.Tensor):
            _check_not_empty(len(source))
            return Calibration.from_tokens(source)
        if isinstance(source, Mapping):
            if "input_ids" not in source:
                raise InputError("calibration", f"a dictionary of {', '.join(source)}", "one with input_ids")
            _check_not_empty(len(source["input_ids"]))
            return Calibration.from_tokens(source["input_ids"], source.get("attention_mask"))
        columns = getattr(source, "column_names", None)
        if columns is not None:
            _check_not_empty(len(source))
            if "input_ids" in columns:
                mask = source["attention_mask"] if "attention_mask" in columns else None
                mask = None if mask is None else torch.as_tensor(list(mask))
                return Calibration.from_tokens(torch.as_tensor(list(source["input_ids"])), mask)
            if "text" not in columns:
                raise InputError("calibration", f"a data set of {', '.join(columns)}", "a column input_ids or text")
            source = list(source["text"])
        return self._windows([source] if isinstance(source, str) else list(source))

    def _windows(self, texts: list[Any]) -> Calibration:
        if any(not isinstance(text, str) for text in texts):
            raise InputError("calibration", "values that are not texts", "texts, token ids or a function")
        if not any(text.strip() for text in texts):
            raise InputError("calibration", "no text", "texts with tokens in them")
        if self.tokenizer is None:
            raise InputError("tokenizer", None, "a tokenizer, where the calibration is texts")
        try:
            windows = token_windows(self.tokenizer, texts, self.length)
        except InputError as error:
            raise InputError("calibration", error.found, error.expected) from error
        if len(windows) < self.examples:
            expected = f"at least {self.examples}, more text, or fewer examples"
            raise InputError("calibration", f"{len(windows)} windows of {self.length} tokens", expected)
        return Calibration.from_tokens(windows)


def _check_not_empty(n: int) -> None:
    if n == 0:
        raise InputError("calibration", "no sequences", "at least one")
