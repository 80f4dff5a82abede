"""The pool of instruction samples: reading, identities, duplicates, empty texts, and what an encoder gets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from paperworks.errors import InputError
from paperworks.language.generation import InstructionFile, InstructionRecord
from paperworks.language.generation.records import plain_row, record_of
from paperworks.runs import Progress, no_progress

TextPart = Literal["both", "prompt", "first-user"]
BUNDLED = ("definitions",)
CHUNK_CHARACTERS = 400
"""About what the bundled encoder reads of English (128 tokens)."""
MOST_CHUNKS = 16


def bundled_records(
    name: str = "definitions", split: Literal["validation", "test"] = "validation"
) -> list[InstructionRecord]:
    """Real samples that need no file: words to be defined (WordNet, the Jargon File), and verses to be continued.

    They are the validation texts of the bundled language model, which it has not seen in training: 1,744 glosses, some
    jargon entries, and pairs of neighbouring King James verses. ``split`` "test" gives as many others.
    """
    from paperworks.language import bundled_text

    if name not in BUNDLED:
        raise InputError("data", repr(name), f"a file, or one of {', '.join(BUNDLED)}")
    records: list[InstructionRecord] = []

    def add(kind: str, prompt: str, answer: str) -> None:
        messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
        records.append(InstructionRecord(f"{kind}-{len(records):04d}", messages, {"kind": kind}))  # type: ignore[arg-type]

    for document in bundled_text(split).split("\n\n"):
        gloss = re.match(r"([^\n]{1,200} \((?:noun|verb|adjective|adverb)\)): (.+)\Z", document, re.DOTALL)
        lines = [line for line in document.strip().split("\n") if line]
        if gloss:
            add("gloss", f"{gloss[1]}:", gloss[2].strip())
        elif len(lines) > 1 and len(lines[0]) < 60:
            add("jargon", lines[0], "\n".join(lines[1:]))
        else:
            for first, second in zip(lines[0::2], lines[1::2], strict=False):
                add("verse", first, second)
    return records


def prompt_text(record: InstructionRecord) -> str:
    """The turns before the answer, one below the other."""
    return "\n".join(m["content"] for m in record.prompt)


def embedded_text(record: InstructionRecord, part: TextPart = "both") -> str:
    """What is encoded of a record: prompt and answer (the paper), the prompt, or the first turn of the user."""
    if part == "first-user":
        return record.instruction
    before = prompt_text(record)
    return f"{before}\n{record.response or ''}".strip() if part == "both" else before


def row_text(row: dict[str, Any], part: TextPart = "both") -> str:
    """``embedded_text`` of a row of a file: the ``text`` of ``paperworks.embedding.encode_shards``."""
    return embedded_text(record_of(plain_row(row), 0, "a row", "data"), part)


@dataclass(frozen=True)
class Scan:
    """What one pass over a pool finds; all arrays have one entry for each record.

    Attributes
    ----------
    empty : bool, no prompt, or an answer of blanks.
    duplicate : bool, the same turns as an earlier record.
    id_digests : uint64, of the ids.
    """

    empty: np.ndarray
    duplicate: np.ndarray
    id_digests: np.ndarray


class Pool:
    """Instruction samples with unique ids.

    Parameters
    ----------
    records : an ``InstructionFile``, or a sequence of records.
    ids : "record" takes each record's own id, "row" its number.
    """

    def __init__(self, records: Sequence[InstructionRecord], ids: Literal["record", "row"] = "record") -> None:
        self.records = records if isinstance(records, InstructionFile) else InstructionFile.of(records)
        self.ids_are = ids

    def __len__(self) -> int:
        return len(self.records)

    def ids(self, positions: Any) -> list[str]:
        """The ids of some records."""
        if self.ids_are == "row":
            return [str(int(i)) for i in positions]
        return [r.id for r in self.records.take(positions)]

    def scan(self, progress: Progress = no_progress) -> Scan:
        """One pass over all records. Raises InputError for an id that repeats, with both rows."""
        count = len(self.records)
        empty, content = np.zeros(count, bool), np.empty(count, np.uint64)
        ids = np.empty(count, np.uint64)
        for start in progress(range(0, count, 1000), "reading samples"):
            for i, record in enumerate(self.records[start : start + 1000], start):
                turns = "\0".join(f"{m['role']}\1{m['content'].strip()}" for m in record.messages)
                blank = record.response is not None and not record.response.strip()
                empty[i] = blank or not prompt_text(record).strip()
                content[i] = _digest(turns)
                ids[i] = _digest(record.id if self.ids_are == "record" else str(i))
        if (repeated := _later_repeats(ids)).any():
            self._refuse_repeat(ids, int(np.flatnonzero(repeated)[0]), int(repeated.sum()))
        return Scan(empty, _later_repeats(content) & ~empty, ids)

    def _refuse_repeat(self, ids: np.ndarray, second: int, repeats: int) -> None:
        first = int(np.flatnonzero(ids == ids[second])[0])
        raise InputError(
            "data",
            f"the id {self.ids([second])[0]!r} in rows {first} and {second} ({repeats} rows repeat an id)",
            "ids that do not repeat; --ids row numbers the rows instead",
        )

    def positions(self, wanted: Sequence[str], scan: Scan, field: str) -> np.ndarray:
        """Rows of ids. Raises InputError, named ``field``, for an id that does not exist or is given twice."""
        wanted = list(wanted)
        seen: set[str] = set()
        for one in wanted:
            if one in seen:
                raise InputError(field, f"the id {one!r} twice", "each id once")
            seen.add(one)
        order = np.argsort(scan.id_digests, kind="stable")
        digests = np.array([_digest(one) for one in wanted], np.uint64)
        found = np.searchsorted(scan.id_digests[order], digests)
        known = scan.id_digests[order][np.minimum(found, len(order) - 1)] == digests
        if not known.all():
            missing = [one for one, here in zip(wanted, known, strict=True) if not here]
            raise InputError(field, f"{len(missing)} ids that no sample has, such as {missing[0]!r}", "ids of the data")
        return order[found].astype(np.int64)


class Texts(Sequence[str]):
    """The texts of some rows of a pool, read when they are asked for: what ``encode_to_file`` takes."""

    def __init__(self, pool: Pool, rows: np.ndarray, part: TextPart) -> None:
        self.pool, self.rows, self.part = pool, rows, part

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.rows), 1024):
            yield from self[start : start + 1024]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [embedded_text(r, self.part) for r in self.pool.records.take(self.rows[index])]
        return embedded_text(self.pool.records.take([self.rows[index]])[0], self.part)


class ChunkedEncoder:
    """An encoder that reads long texts in chunks, and gives the plain mean of a text's chunk vectors.

    Parameters
    ----------
    encoder : of ``paperworks.embedding``.
    characters : of a chunk at most; chunks end at blanks.
    most : chunks that are read of a text; what is longer is cut, and ``cut`` counts such texts.
    """

    def __init__(self, encoder: Any, characters: int = CHUNK_CHARACTERS, most: int = MOST_CHUNKS) -> None:
        if characters < 1 or most < 1:
            raise InputError("characters", f"{characters}, {most} chunks", "1 or more of each")
        self.encoder, self.characters, self.most, self.cut = encoder, characters, most, 0

    @cached_property
    def identity(self) -> str:
        """What decides the vectors, in words."""
        inner = str(getattr(self.encoder, "identity", getattr(self.encoder, "name", type(self.encoder).__name__)))
        return f"{inner}|chunks of {self.characters}, at most {self.most}"

    def encode(self, items: Sequence[str]) -> np.ndarray:
        """Vectors of texts: float32 [n, d]."""
        pieces: list[str] = []
        owner: list[int] = []
        for number, text in enumerate(items):
            parts = split_text(text, self.characters)
            self.cut += len(parts) > self.most
            pieces += parts[: self.most]
            owner += [number] * min(len(parts), self.most)
        vectors = self.encoder.encode(pieces)
        if len(pieces) == len(items):
            return vectors
        total = np.zeros((len(items), vectors.shape[1]))
        np.add.at(total, owner, vectors)
        return (total / np.bincount(owner, minlength=len(items))[:, None]).astype(np.float32)


def chunked_encoder(source: str | Path | None = None, **options: Any) -> ChunkedEncoder:
    """The encoder of the recipe: ``load_text_encoder(source)`` over chunks of what it reads at a time."""
    from paperworks.embedding import load_text_encoder

    encoder = load_text_encoder(source, **options)
    limit = getattr(encoder, "max_length", None)
    return ChunkedEncoder(encoder, CHUNK_CHARACTERS if limit is None else max(64, int(3.2 * limit)))


def split_text(text: str, characters: int) -> list[str]:
    """A text in parts of at most so many characters, cut at blanks where there are some; one part at least."""
    parts: list[str] = []
    rest = text.strip()
    while len(rest) > characters:
        place = rest.rfind(" ", 1, characters + 1)
        place = place if place > 0 else characters
        parts.append(rest[:place].strip())
        rest = rest[place:].strip()
    return [*parts, rest] if rest or not parts else parts


def read_ids(path: str | Path, field: str) -> list[str]:
    """Ids, one a line. Raises InputError where the file cannot be read or has none."""
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            field, f"{path}, which cannot be read ({error})", "a text file with an id in each line"
        ) from None
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise InputError(field, f"{path}, without an id", "an id in each line")
    return ids


def _digest(text: str) -> np.uint64:
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.uint64(int.from_bytes(found, "big"))


def _later_repeats(values: np.ndarray) -> np.ndarray:
    """Bool [n]: the value stands at an earlier place too."""
    order = np.argsort(values, kind="stable")
    same = np.zeros(len(values), bool)
    same[order[1:]] = values[order[1:]] == values[order[:-1]]
    return same
