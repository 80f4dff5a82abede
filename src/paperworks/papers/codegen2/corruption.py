"""File-level span corruption: the mixture objective of CodeGen2, as a data collator, and its inverse.

    sequence, half of the time:   as it is
    else, for each file f in it:  r ~ U(lo, hi); round(r |f|) tokens in spans of uniform lengths, at uniform places
                                  f with <mask_i> for span i, <|endoftext|>, <sep>, <mask_1> span_1 <eom>, ...

Every token of the result is a target. No token says which of the two a sequence is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.codegen2.tokens import InfillTokens, infill_tokens
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    import torch

IGNORED = -100


class SpanCorruption:
    """The mixture of next-token prediction and file-level span corruption, for any tokenizer.

    Called with one sequence of token ids it gives ``{"input_ids", "labels"}`` as lists. Called with a batch, as a data
    collator of transformers is, it gives tensors int64 ``[n, T]`` with ``attention_mask``, padded on the right. Labels
    are the ids, -100 on padding.

    What is drawn for a sequence is a function of the seed, of the epoch (``set_epoch``) and of its ``index``: the
    number under that key in its row or, without one, the count of sequences so far (in a worker of a data loader: since
    the worker started, with the worker's own seed).

    Parameters
    ----------
    tokens : a tokenizer that has the infill tokens, or their ids (``InfillTokens``).
    p_causal : probability that a sequence stays as it is.
    ratio : bounds of the share of a file's tokens in spans; uniform for each file. At least one token is masked and at
        least one stays.
    span : bounds of the length of a span, in tokens; None: as long as the file.
    eos_id, sep_id, eom_id, mask_ids, pad_id : in place of those of the tokenizer.
    max_len : longest result, in tokens. A sequence whose corruption is longer loses tokens at its end first.
    pad_to : pad every batch to so many tokens; default its longest row.
    seed : of all draws.

    Raises
    ------
    InputError : options out of bounds, a token id that the vocabulary has not, or infill tokens in a document.
    """

    def __init__(
        self,
        tokens: Any = None,
        p_causal: float = 0.5,
        ratio: tuple[float, float] = (0.05, 1.0),
        span: tuple[int, int | None] = (1, None),
        *,
        eos_id: int | None = None,
        sep_id: int | None = None,
        eom_id: int | None = None,
        mask_ids: Sequence[int] | None = None,
        pad_id: int | None = None,
        max_len: int | None = None,
        pad_to: int | None = None,
        seed: int = 0,
    ) -> None:
        check_seed("seed", seed)
        self.tokens = _tokens(tokens, eos_id, sep_id, eom_id, mask_ids)
        if not 0 <= p_causal <= 1:
            raise InputError("p_causal", p_causal, "a probability from 0 to 1")
        low, high = ratio
        if not 0 <= low <= high <= 1:
            raise InputError("ratio", ratio, "two shares, 0 <= low <= high <= 1")
        shortest, longest = span
        if shortest < 1 or (longest is not None and longest < shortest):
            raise InputError("span", span, "two lengths, 1 <= shortest <= longest, or None for the file's length")
        if max_len is not None and max_len < 2:
            raise InputError("max_len", max_len, "at least 2 tokens")
        if seed < 0:
            raise InputError("seed", seed, "0 or more")
        self.p_causal, self.ratio, self.span = p_causal, (float(low), float(high)), span
        self.max_len, self.pad_to, self.seed, self.epoch = max_len, pad_to, seed, 0
        self.pad_id = self.tokens.end if pad_id is None else pad_id
        self._masks = np.asarray(self.tokens.masks, dtype=np.int64)
        self._reserved = _table(self.tokens.reserved)
        self._is_mask = _table(self.tokens.masks)
        self._count = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw anew: the same sequence and index get another corruption in another epoch."""
        self.epoch = epoch

    def generator(self, index: int | None = None) -> np.random.Generator:
        """The random generator of a sequence; without an index, that of the next one in the count."""
        seeds = [self.seed, self.epoch]
        if index is None:
            index, self._count = self._count, self._count + 1
            seeds.append(_worker_seed())
        return np.random.Generator(np.random.PCG64([*seeds, index]))

    def __call__(self, sequences: Any, index: int | None = None) -> dict[str, Any]:
        """Corrupt one sequence, or a batch: sequences, an array ``[n, T]``, or rows with ``input_ids``."""
        if isinstance(sequences, Mapping):
            if "input_ids" not in sequences:
                raise InputError("input_ids", f"columns {', '.join(sequences)}", "a column input_ids")
            columns = sequences
            rows = [{name: columns[name][i] for name in columns} for i in range(len(columns["input_ids"]))]
            return self._batch(rows)
        if len(sequences) and not _is_single(sequences):
            return self._batch(list(sequences))
        ids = self.corrupt(sequences, self.generator(index)).tolist()
        return {"input_ids": ids, "labels": list(ids)}

    def _batch(self, rows: list[Any]) -> dict[str, torch.Tensor]:
        made = []
        for row in rows:
            index = row.get("index") if isinstance(row, Mapping) else None
            ids = _unpadded(row) if isinstance(row, Mapping) else row
            made.append(self.corrupt(ids, self.generator(None if index is None else int(index))))
        return pad(made, self.pad_id, self.pad_to)

    def corrupt(self, ids: Any, rng: np.random.Generator) -> np.ndarray:
        """A sequence of the mixture, int64 ``[T]``, with the draws of ``rng``."""
        sequence = self._checked(ids)
        if rng.random() < self.p_causal or len(sequence) < 2:
            return sequence if self.max_len is None else sequence[: self.max_len]
        state = rng.bit_generator.state
        made = self.corrupt_files(sequence, rng)
        if self.max_len is None:
            return made
        # Raw tokens are left out at the end until the result fits: a tail that was cut off could not be learnt from.
        while len(made) > self.max_len and len(sequence) > 2:
            sequence = sequence[: max(2, len(sequence) - (len(made) - self.max_len))]
            rng.bit_generator.state = state
            made = self.corrupt_files(sequence, rng)
        # no corruption has fewer than 7 tokens: what cannot hold one stays as it is
        return made if len(made) <= self.max_len else self._checked(ids)[: self.max_len]

    def corrupt_files(self, ids: Any, rng: np.random.Generator) -> np.ndarray:
        """Every file of a sequence corrupted, one after the other, int64 ``[T]``."""
        sequence = self._checked(ids)
        ends = np.flatnonzero(sequence == self.tokens.end) + 1
        files = np.split(sequence, ends[ends < len(sequence)])
        return np.concatenate([self.corrupt_file(file, rng) for file in files]) if len(sequence) else sequence

    def corrupt_file(self, file: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One file corrupted: body with holes, end token, ``<sep>``, spans; with fewer than 2 tokens as it is."""
        file = np.asarray(file, dtype=np.int64)
        text = file[:-1] if len(file) and file[-1] == self.tokens.end else file
        if len(text) < 2:
            return file
        starts, lengths = self.draw_spans(len(text), rng)
        count = len(starts)
        masks = self._masks[:count]
        changes = np.zeros(len(text) + 1, dtype=np.int64)
        changes[starts] += 1
        changes[starts + lengths] -= 1
        hidden = np.cumsum(changes[:-1]) > 0
        before = np.cumsum(lengths) - lengths  # hidden tokens in front of each span
        body = np.insert(text[~hidden], starts - before, masks)
        numbers = np.repeat(np.arange(count), lengths)
        tail = np.empty(int(lengths.sum()) + 2 * count, dtype=np.int64)
        tail[before + 2 * np.arange(count)] = masks
        tail[before + lengths + 2 * np.arange(count) + 1] = self.tokens.eom
        tail[np.arange(len(numbers)) + 2 * numbers + 1] = text[hidden]
        return np.concatenate([body, [self.tokens.end, self.tokens.sep], tail])

    def draw_spans(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Starts and lengths of the spans of a file of ``length`` tokens, from left to right, int64 ``[k]`` each.

        Spans have at least one token between them. More spans than masks, or than places, are merged.
        """
        ratio = rng.uniform(*self.ratio)
        target = min(max(1, round(ratio * length)), length - 1)
        lengths = self._lengths(target, length, rng)
        kept = length - target
        most = min(len(self._masks), kept + 1)
        if len(lengths) > most:
            cuts = np.sort(rng.choice(len(lengths) - 1, most - 1, replace=False)) + 1
            lengths = np.add.reduceat(lengths, np.concatenate([[0], cuts]))
        gaps = np.sort(rng.choice(kept + 1, len(lengths), replace=False, shuffle=False))
        return gaps + np.cumsum(lengths) - lengths, lengths

    def _lengths(self, target: int, length: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform lengths that add up to ``target``; the last is trimmed."""
        shortest = min(self.span[0], target)
        longest = length if self.span[1] is None else max(shortest, self.span[1])
        drawn = np.zeros(0, dtype=np.int64)
        total = 0
        while total < target:
            more = rng.integers(shortest, longest + 1, size=2 * (target - total) // (shortest + longest) + 2)
            drawn = np.concatenate([drawn, more])
            total += int(more.sum())
        sums = np.cumsum(drawn)
        count = int(np.searchsorted(sums, target)) + 1
        lengths = drawn[:count]
        lengths[-1] -= sums[count - 1] - target
        return lengths

    def truncate(self, ids: Any, length: int | None = None) -> np.ndarray:
        """Cut a corrupted sequence to a length (default ``max_len``) without leaving a span that is not whole.

        A cut inside a span takes away the span and its mask, one right behind ``<sep>`` takes that away, too.
        """
        made = np.asarray(ids, dtype=np.int64)
        longest = self.max_len if length is None else length
        if longest is None or len(made) <= longest:
            return made
        cut = made[:longest]
        tails = np.flatnonzero(cut == self.tokens.sep)
        if not len(tails):
            return cut
        # Behind the last <sep>, spans are closed by <eom>; once all masks of its body are, the next file's body begins.
        begin = int(tails[-1])
        ends = np.flatnonzero(cut[:begin] == self.tokens.end)
        body_from = int(ends[-2]) + 1 if len(ends) > 1 else 0
        # what lies between two end tokens starts with the spans of the file before, as many masks there as <eom>
        stretch = made[body_from:begin]
        wanted = int(self._is_mask_of(stretch).sum()) - int((stretch == self.tokens.eom).sum())
        closed = begin + 1 + np.flatnonzero(cut[begin + 1 :] == self.tokens.eom)
        if len(closed) >= wanted:
            return cut
        return cut[: int(closed[-1]) + 1] if len(closed) else cut[:begin]

    def restore(self, ids: Any, *, ended: bool = False) -> list[int]:
        """The sequence whose corruption ``ids`` is. A sequence that is not corrupted comes back as it is.

        A corrupted file shows an end token whether or not the file had one. Files in front of others had one; of the
        last, ``ended`` says it: False gives the file without, as a sequence that was cut has it.

        Raises
        ------
        InputError : masks that are not 1, 2, ... in order, a span that is missing or not closed.
        """
        made = np.asarray(ids, dtype=np.int64)
        found: list[np.ndarray] = []
        place = 0
        while place < len(made):
            file, place, corrupted = self._restore_file(made, place)
            found.append(file)
            if corrupted and (place < len(made) or ended):
                found.append(np.array([self.tokens.end]))
        return np.concatenate(found).tolist() if found else []

    def _restore_file(self, made: np.ndarray, start: int) -> tuple[np.ndarray, int, bool]:
        """One file from ``start`` on: its tokens, where the next begins, and whether it was corrupted."""
        ends = np.flatnonzero(made[start:] == self.tokens.end)
        stop = start + int(ends[0]) if len(ends) else len(made)
        body = made[start:stop]
        places = np.flatnonzero(self._is_mask_of(body))
        if not len(places):
            return made[start : stop + 1], stop + 1, False
        if body[places].tolist() != self._masks[: len(places)].tolist():
            raise InputError("ids", "masks out of order", "masks 1, 2, ... from left to right in the body of a file")
        if stop + 1 >= len(made) or made[stop + 1] != self.tokens.sep:
            raise InputError("ids", "a file with masks and no <sep> behind it", "body, end token, <sep>, spans")
        pieces, previous, place = [], 0, stop + 2
        for number, at in enumerate(places):
            if place >= len(made) or made[place] != self._masks[number]:
                raise InputError("ids", f"no span of mask {number + 1}", f"{len(places)} spans, as the body has masks")
            closing = np.flatnonzero(made[place:] == self.tokens.eom)
            if not len(closing):
                raise InputError("ids", f"a span of mask {number + 1} that is not closed", "<eom> behind every span")
            close = place + int(closing[0])
            pieces += [body[previous:at], made[place + 1 : close]]
            previous, place = int(at) + 1, close + 1
        return np.concatenate([*pieces, body[previous:]]), place, True

    def _is_mask_of(self, ids: np.ndarray) -> np.ndarray:
        return self._is_mask[np.clip(ids, 0, len(self._is_mask) - 1)]

    def _checked(self, ids: Any) -> np.ndarray:
        sequence = np.asarray(ids)
        if sequence.ndim != 1:
            raise InputError("ids", f"an array of shape {sequence.shape}", "token ids [n]")
        if sequence.size and not np.issubdtype(sequence.dtype, np.integer):
            raise InputError("ids", f"values of type {sequence.dtype}", "whole numbers")
        sequence = sequence.astype(np.int64, copy=False)
        if not len(sequence):
            return sequence
        low, high = int(sequence.min()), int(sequence.max())
        size = self.tokens.vocabulary
        if low < 0 or (size is not None and high >= size):
            below = "" if size is None else f" to {size - 1}"
            raise InputError("ids", f"token id {low if low < 0 else high}", f"ids from 0{below}")
        reserved = self._reserved[np.minimum(sequence, len(self._reserved) - 1)]
        if reserved.any():
            at = int(np.flatnonzero(reserved)[0])
            raise InputError("ids", f"the infill token {int(sequence[at])} at place {at}", "a document without such")
        return sequence


def pad(rows: Sequence[np.ndarray], pad_id: int, length: int | None = None) -> dict[str, torch.Tensor]:
    """Rows of one batch, padded on the right: ``input_ids``, ``labels`` (-100) and ``attention_mask`` (0)."""
    import torch

    longest = max((len(row) for row in rows), default=0)
    if length is not None and longest > length:
        raise InputError("pad_to", f"a row of {longest} tokens", f"at most {length}: set max_len")
    width = longest if length is None else length
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    labels = np.where(mask == 1, ids, IGNORED)
    return {name: torch.from_numpy(a) for name, a in (("input_ids", ids), ("labels", labels), ("attention_mask", mask))}


def _tokens(
    tokens: Any, eos_id: int | None, sep_id: int | None, eom_id: int | None, mask_ids: Sequence[int] | None
) -> InfillTokens:
    given = (eos_id, sep_id, eom_id, mask_ids)
    if tokens is None:
        if any(value is None for value in given):
            names = ("eos_id", "sep_id", "eom_id", "mask_ids")
            missing = [name for name, value in zip(names, given, strict=True) if value is None]
            raise InputError("tokens", f"no tokenizer, and no {', '.join(missing)}", "a tokenizer, or all ids")
        return InfillTokens(int(eos_id or 0), int(sep_id or 0), int(eom_id or 0), tuple(mask_ids or ()))
    if all(value is None for value in given):
        return infill_tokens(tokens)
    known = infill_tokens(tokens)
    return InfillTokens(
        known.end if eos_id is None else eos_id,
        known.sep if sep_id is None else sep_id,
        known.eom if eom_id is None else eom_id,
        known.masks if mask_ids is None else tuple(mask_ids),
        vocabulary=known.vocabulary,
    )


def _table(ids: Sequence[int]) -> np.ndarray:
    """Whether an id is among these, by id; the last entry stands for all larger ones."""
    table = np.zeros(max(ids) + 2, dtype=bool)
    table[list(ids)] = True
    return table


def _is_single(sequences: Any) -> bool:
    first = sequences[0]
    return getattr(sequences, "ndim", 1) == 1 and (np.isscalar(first) or getattr(first, "ndim", None) == 0)


def _unpadded(row: Mapping[str, Any]) -> np.ndarray:
    ids = np.asarray(row["input_ids"])
    return ids if row.get("attention_mask") is None else ids[np.asarray(row["attention_mask"]) == 1]


def _worker_seed() -> int:
    import sys

    if "torch" not in sys.modules:
        return 0
    from torch.utils.data import get_worker_info

    worker = get_worker_info()
    return 0 if worker is None else int(worker.seed) % 2**63
