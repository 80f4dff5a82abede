"""From documents to token sequences of one length, without duplicates.

Every document ends with ``<|endoftext|>`` and is cut into pieces. Full pieces are sequences of their own; the rest of a
document joins the rests of others, and only those sequences hold borders between documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.parameters import check_seed

BUFFER = 65536
"""Records among which the order is shuffled."""
LEAST = 64
"""Shorter rests of documents are left out."""


def deduplicate(texts: Sequence[str]) -> list[int]:
    """Numbers of the texts that are first of their kind, in order; two are the same if their SHA-256 is."""
    seen: dict[bytes, int] = {}
    for number, text in enumerate(texts):
        seen.setdefault(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), number)
    return sorted(seen.values())


@dataclass
class Packed:
    """Sequences of tokens.

    Attributes
    ----------
    sequences : int32 ``[<= length]`` each; only the last can be shorter.
    length : tokens of a sequence.
    documents, tokens : how many went in, end tokens counted.
    dropped : tokens of rests that were too short.
    """

    sequences: list[np.ndarray] = field(default_factory=list)
    length: int = 2048
    documents: int = 0
    tokens: int = 0
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.sequences[index]


def tokenize(tokenizer: Any, texts: Iterable[str]) -> Iterator[np.ndarray]:
    """Token ids of texts, int32; the text of a special token in a file is ordinary text."""
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        yield np.asarray(ids, dtype=np.int32)


def pack(
    documents: Iterable[Any],
    length: int = 2048,
    *,
    eos_id: int,
    least: int = LEAST,
    buffer: int = BUFFER,
    seed: int = 0,
) -> Packed:
    """Cut and join documents to sequences of ``length`` tokens.

    Parameters
    ----------
    documents : token ids of each, without an end token; empty ones are passed over.
    length : tokens of a sequence, at least 2.
    least : rests of fewer tokens are dropped, unless nothing else is left of all documents.
    buffer : documents are shuffled among so many; 0 keeps their order.
    seed : of the order.

    Raises
    ------
    InputError : no document with a token, or options out of bounds.
    """
    check_seed("seed", seed)
    if length < 2:
        raise InputError("length", length, "at least 2 tokens")
    if least < 1 or buffer < 0:
        raise InputError("least" if least < 1 else "buffer", least if least < 1 else buffer, "1 or more, 0 or more")
    packed = Packed(length=length)
    full: list[np.ndarray] = []
    rests: list[np.ndarray] = []
    short: list[np.ndarray] = []
    for document in _shuffled(documents, buffer, np.random.default_rng(seed)):
        ids = np.append(np.asarray(document, dtype=np.int32), np.int32(eos_id))
        if len(ids) < 2:
            continue
        packed.documents += 1
        packed.tokens += len(ids)
        whole = len(ids) // length * length
        full += list(ids[:whole].reshape(-1, length))
        rest = ids[whole:]
        if len(rest):
            (rests if len(rest) >= least else short).append(rest)
    if not full and not rests:
        rests, short = short, []
    joined = np.concatenate(rests) if rests else np.zeros(0, dtype=np.int32)
    sequences = full + [joined[i : i + length] for i in range(0, len(joined), length)]
    if not sequences:
        raise InputError("documents", "no document with a token", "at least one")
    if len(sequences) > 1 and len(sequences[-1]) < min(least, length):
        short.append(sequences.pop())
    packed.sequences = sequences
    packed.dropped = sum(map(len, short))
    return packed


def _shuffled(documents: Iterable[Any], buffer: int, rng: np.random.Generator) -> Iterator[Any]:
    if not buffer:
        yield from documents
        return
    held: list[Any] = []
    for document in documents:
        if len(held) < buffer:
            held.append(document)
            continue
        place = int(rng.integers(buffer))
        yield held[place]
        held[place] = document
    yield from (held[i] for i in rng.permutation(len(held)))
