"""The objectives that CodeGen2's mixture is compared with: prefix language models, infilling by reordering, UL2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paperworks.errors import InputError

if TYPE_CHECKING:
    import torch

IGNORED = -100


class PrefixLMMask:
    """Attention of a prefix language model: position i sees j if j <= i, or if both are in the prefix.

    A causal cache must not be used with it: when the prefix grows, all of it is encoded anew.

    Parameters
    ----------
    prefix_len : tokens of the prefix P, 0 or more: one number, or one per row. 0 is the causal decoder.
    """

    def __init__(self, prefix_len: int | Sequence[int] | torch.Tensor) -> None:
        import torch

        self.prefix = torch.atleast_1d(torch.as_tensor(prefix_len, dtype=torch.int64))
        if self.prefix.ndim != 1 or bool((self.prefix < 0).any()):
            raise InputError("prefix_len", prefix_len, "one number of tokens, 0 or more, or one per row")

    def __call__(self, length: int) -> torch.Tensor:
        """What may be seen, bool ``[n, 1, T, T]``: row i, column j."""
        import torch

        place = torch.arange(length, device=self.prefix.device)
        causal = place[:, None] >= place[None, :]
        inside = place[None, :] < self.prefix[:, None]
        return (causal | (inside[:, :, None] & inside[:, None, :]))[:, None]

    def additive(self, length: int, dtype: Any = None) -> torch.Tensor:
        """The mask that models of transformers add to scores: 0, or the smallest number, ``[n, 1, T, T]``."""
        import torch

        number = torch.float32 if dtype is None else dtype
        allowed = self(length)
        return torch.zeros(allowed.shape, dtype=number, device=allowed.device).masked_fill(
            ~allowed, torch.finfo(number).min
        )

    def labels(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Targets: tokens from position P on, -100 in the prefix; ``[n, T]``."""
        import torch

        place = torch.arange(input_ids.shape[-1], device=input_ids.device)
        return input_ids.masked_fill(place[None] < self.prefix.to(input_ids.device)[:, None], IGNORED)


def fim_transform(
    ids: Any,
    mode: Literal["psm", "spm"] = "psm",
    *,
    prefix_id: int,
    suffix_id: int,
    middle_id: int,
    eos_id: int | None = None,
    cuts: tuple[int, int] | None = None,
    rng: np.random.Generator | None = None,
) -> list[int]:
    """A document reordered for infilling (Bavarian et al. 2022), cut at two uniform points.

    ``psm``: PRE prefix SUF suffix MID middle. ``spm``: PRE SUF suffix MID prefix middle, the variant that shares its
    start with psm. An end token closes both.

    Parameters
    ----------
    ids : token ids of a document ``[n]``; an end token at its end is taken off first.
    eos_id : the end token; None: none is appended.
    cuts : the two points, 0 <= a <= b <= n, in place of draws of ``rng``.
    """
    if mode not in ("psm", "spm"):
        raise InputError("mode", repr(mode), "psm or spm")
    text = [int(i) for i in ids]
    if eos_id is not None and text and text[-1] == eos_id:
        text.pop()
    if cuts is None:
        if rng is None:
            raise InputError("cuts", "neither cuts nor a generator", "one of them")
        low, high = sorted(int(c) for c in rng.integers(0, len(text) + 1, size=2))
    else:
        low, high = cuts
        if not 0 <= low <= high <= len(text):
            raise InputError("cuts", cuts, f"two points, 0 <= a <= b <= {len(text)}")
    prefix, middle, suffix = text[:low], text[low:high], text[high:]
    end = [] if eos_id is None else [eos_id]
    if mode == "psm":
        return [prefix_id, *prefix, suffix_id, *suffix, middle_id, *middle, *end]
    return [prefix_id, suffix_id, *suffix, middle_id, *prefix, *middle, *end]


@dataclass(frozen=True)
class Denoiser:
    """One denoiser of UL2: ``mode`` R, S or X; mean length of a span (None: one span at the end); share in spans."""

    mode: Literal["R", "S", "X"]
    mean_span: int | None
    share: float


UL2 = (
    Denoiser("R", 3, 0.15),
    Denoiser("R", 8, 0.15),
    Denoiser("S", None, 0.25),
    Denoiser("X", 3, 0.5),
    Denoiser("X", 8, 0.5),
    Denoiser("X", 64, 0.15),
    Denoiser("X", 64, 0.5),
)
"""The mixture of UL2 (Tay et al. 2022), each as likely as the others."""


def ul2_denoisers(
    ids: Any,
    rng: np.random.Generator,
    *,
    mode_ids: Sequence[int],
    mask_ids: Sequence[int],
    eos_id: int,
    denoiser: Denoiser | None = None,
) -> tuple[list[int], int]:
    """One sequence for UL2 on a prefix language model: (token ids, tokens of the prefix).

    The prefix is the mode token and what the denoiser leaves of the sequence, with a mask in the place of each span;
    behind it come the masks with their spans, and the end token. Targets are the tokens behind the prefix.

    Parameters
    ----------
    ids : token ids ``[n]``, at least 2.
    mode_ids : tokens of R, S and X.
    denoiser : one of ``UL2``; default one that ``rng`` draws.
    """
    text = np.asarray(ids, dtype=np.int64)
    if len(text) < 2:
        raise InputError("ids", f"{len(text)} tokens", "at least 2")
    chosen = UL2[int(rng.integers(len(UL2)))] if denoiser is None else denoiser
    mode = mode_ids["RSX".index(chosen.mode)]
    noise = min(max(1, round(chosen.share * len(text))), len(text) - 1)
    if chosen.mean_span is None:
        head, tail = text[: len(text) - noise], text[len(text) - noise :]
        return [mode, *head.tolist(), *tail.tolist(), eos_id], len(head) + 1
    count = min(max(1, round(noise / chosen.mean_span)), len(mask_ids), len(text) - noise)
    hidden = _segments(noise, count, rng)
    kept = _segments(len(text) - noise, count, rng)
    prefix, targets, place = [mode], [], 0
    for number in range(count):
        begin = place + int(kept[number])
        end = begin + int(hidden[number])
        prefix += [*text[place:begin].tolist(), mask_ids[number]]
        targets += [mask_ids[number], *text[begin:end].tolist()]
        place = end
    return [*prefix, *targets, eos_id], len(prefix)


def _segments(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """``total`` cut at random into ``count`` parts of at least 1."""
    cuts = np.sort(rng.choice(total - 1, count - 1, replace=False)) + 1 if count > 1 else np.zeros(0, dtype=np.int64)
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
