"""Windows of tokens for evaluation, and sets of sequences for calibration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from paperworks.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

JOIN = "\n\n"
"""What stands between two texts: a blank line, as in the usual WikiText-2 protocol."""


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: str | Sequence[str], *, join: str = JOIN) -> torch.Tensor:
    """The tokens of the joined texts, int64 ``[N]``, without the special tokens that the tokenizer would add."""
    text = texts if isinstance(texts, str) else join.join(texts)
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.int64)


def token_windows(
    tokenizer: PreTrainedTokenizerBase,
    texts: str | Sequence[str],
    length: int,
    *,
    join: str = JOIN,
    field: str = "texts",
) -> torch.Tensor:
    """Cut texts into non-overlapping windows of tokens; the tail that does not fill a window is dropped.

    Parameters
    ----------
    texts : one text, or several that are joined by ``join`` before they are tokenised.
    length : tokens in a window, at least 2.
    field : what an error names: the texts' parameter or option.

    Returns
    -------
    int64 ``[n, length]`` with n of at least 1.

    Raises
    ------
    InputError : the texts have fewer than ``length`` tokens.
    """
    return _windows(token_ids(tokenizer, texts, join=join), length, field)


def _windows(ids: torch.Tensor, length: int, field: str) -> torch.Tensor:
    if length < 2:
        raise InputError("length", length, "at least 2 tokens")
    n = len(ids) // length
    if n == 0:
        expected = f"at least one window of {length} tokens: a longer text, or a smaller length"
        raise InputError(field, f"{len(ids)} tokens", expected)
    return ids[: n * length].reshape(n, length)


@dataclass(frozen=True)
class Calibration:
    """Token sequences that a method measures a model on.

    Attributes
    ----------
    input_ids : int64 ``[n, T]``.
    attention_mask : int64 ``[n, T]``, 1 for a token and 0 for padding; every row has at least one token.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor

    def __post_init__(self) -> None:
        ids, mask = self.input_ids, self.attention_mask
        if ids.ndim != 2 or ids.numel() == 0 or ids.dtype != torch.int64:
            raise InputError(
                "input_ids", f"{ids.dtype} of shape {tuple(ids.shape)}", "int64 token ids [n, T], not empty"
            )
        if mask.shape != ids.shape:
            raise InputError("attention_mask", f"shape {tuple(mask.shape)}", f"shape {tuple(ids.shape)}, as input_ids")
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError("attention_mask", "values other than 0 and 1", "1 for a token, 0 for padding")
        empty = (mask.sum(1) == 0).nonzero().flatten().tolist()
        if empty:
            raise InputError("attention_mask", f"row {empty[0]} of padding only", "at least one token in every row")
        if int(ids.min()) < 0:
            raise InputError("input_ids", f"token id {int(ids.min())}", "ids of 0 or more")
        object.__setattr__(self, "attention_mask", mask.to(torch.int64))

    @classmethod
    def from_tokens(cls, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Calibration:
        """From token ids ``[n, T]``; without a mask, every position is a token, whatever the model's padding id is."""
        ids = torch.as_tensor(input_ids)
        if ids.dtype in (torch.int32, torch.int16, torch.uint8):
            ids = ids.to(torch.int64)
        mask = torch.ones_like(ids) if attention_mask is None else torch.as_tensor(attention_mask)
        return cls(ids, mask)

    @classmethod
    def from_texts(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        n: int,
        length: int,
        seed: int = 0,
        packing: Literal["concat", "pad"] = "concat",
    ) -> Calibration:
        """Draw ``n`` sequences of ``length`` tokens.

        ``concat`` joins all texts and draws from their windows: every position is a token. ``pad`` draws texts, cuts
        them to ``length`` tokens, and pads on the right: no sequence holds parts of two texts.

        Parameters
        ----------
        n : number of sequences, drawn without replacement.
        length : tokens of a sequence, at least 2.
        seed : decides which are drawn, and their order.

        Raises
        ------
        InputError : fewer than ``n`` windows or non-empty texts.
        """
        if n < 1:
            raise InputError("n", n, "1 sequence or more")
        if length < 2:
            raise InputError("length", length, "at least 2 tokens")
        if packing == "concat":
            windows = _windows(token_ids(tokenizer, texts), length, "texts")
            return cls.from_tokens(windows[_draw(n, len(windows), seed, f"windows of {length} tokens")])
        if packing != "pad":
            raise InputError("packing", packing, "concat or pad")
        texts = [text for text in texts if text.strip()]
        drawn = _draw(n, len(texts), seed, "texts that are not empty")
        ids = torch.full((n, length), _padding_id(tokenizer), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, place in enumerate(drawn.tolist()):
            tokens = token_ids(tokenizer, texts[place])[:length]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return cls(ids, mask)

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One sequence, as the training loop takes it."""
        return {"input_ids": self.input_ids[index], "attention_mask": self.attention_mask[index]}

    @property
    def tokens(self) -> int:
        """Number of tokens, without padding."""
        return int(self.attention_mask.sum())

    def batches(self, size: int) -> Iterator[dict[str, torch.Tensor]]:
        """Batches of at most ``size`` sequences, in order, as keyword arguments of a model."""
        if size < 1:
            raise InputError("batch_size", size, "1 sequence or more")
        for start in range(0, len(self), size):
            end = start + size
            yield {"input_ids": self.input_ids[start:end], "attention_mask": self.attention_mask[start:end]}

    def fingerprint(self) -> str:
        """SHA-256 of the shape, the tokens and the mask; what stands under the padding does not count."""
        digest = hashlib.sha256(str(tuple(self.input_ids.shape)).encode())
        for tensor in (self.input_ids * self.attention_mask, self.attention_mask):
            digest.update(tensor.cpu().numpy().astype("<i8").tobytes())
        return digest.hexdigest()


def _draw(n: int, available: int, seed: int, what: str) -> torch.Tensor:
    if n > available:
        raise InputError("n", f"{n} sequences from {available} {what}", f"at most {available}, or more text")
    return torch.from_numpy(np.random.default_rng(seed).permutation(available)[:n])


def _padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    # Which id stands under the mask is of no effect; a tokenizer without one (GPT-2's) pads with its first.
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
