"""Receipts of deletions, and the journal that keeps them: a line each, only ever appended to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from paperworks.errors import InputError

JOURNAL = "receipts.jsonl"
_SEARCHED = 50
"""Keys that are searched for in the text; for more of them the receipts are parsed."""


class Stored(BaseModel):
    """Base of what is kept in a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cut(Stored):
    """What a deletion did to one sequence: how many stages were alive before and after."""

    shard: int
    order: tuple[int, ...]
    before: int
    after: int


class DeletionReceipt(Stored):
    """What one call of ``delete`` did.

    Attributes
    ----------
    number : of the receipt, from 1.
    time : UTC, ISO 8601.
    records : keys of the deleted records (hashes of their ids).
    repeated : keys that were deleted before: nothing was done for them.
    slices : the slices that were hit, as (shard, slice).
    cuts : sequences that lost stages.
    erased : files that were erased or rewritten without the stages that are gone, relative to the folder.
    status : "live", or "retrain-required" where no shard has a live sequence.
    previous : digest of the receipt before.
    digest : of this receipt with ``previous``.
    """

    number: int
    time: str
    records: tuple[str, ...]
    repeated: tuple[str, ...]
    slices: tuple[tuple[int, int], ...]
    cuts: tuple[Cut, ...]
    erased: tuple[str, ...]
    status: Literal["live", "retrain-required"]
    previous: str
    digest: str = ""

    def sealed(self) -> DeletionReceipt:
        """With its digest."""
        content = self.model_dump(mode="json", exclude={"digest"})
        return self.model_copy(update={"digest": sha256(canonical(content))})


class JournalHead(Stored):
    """What the manifest says of the journal: the bytes of it that count, and their digest.

    A process that is killed between a receipt and the manifest leaves bytes behind these; they count for nothing, and
    the next writer cuts them off.
    """

    receipts: int = 0
    bytes: int = 0
    digest: str = hashlib.sha256().hexdigest()
    last: str = ""


@dataclass(frozen=True)
class Journal:
    """The receipts of a folder as they are in ``receipts.jsonl``.

    Whether a record was deleted is found by a search in the text, so that a deletion parses no earlier receipt.

    Attributes
    ----------
    text : the lines that count.
    head : what the manifest says of them.
    written : bytes of them that are on the disk.
    """

    text: bytes = b""
    head: JournalHead = field(default_factory=JournalHead)
    written: int = 0

    @classmethod
    def read(cls, folder: Path, head: JournalHead) -> Journal:
        """Raises InputError where the lines are not those that the manifest counts."""
        path = folder / JOURNAL
        try:
            text = b""
            if head.bytes:
                with path.open("rb") as file:
                    text = file.read(head.bytes)
        except OSError as error:
            raise InputError("folder", f"{path}, which cannot be read ({error.strerror})", "the receipts") from None
        if len(text) != head.bytes or hashlib.sha256(text).hexdigest() != head.digest:
            raise InputError(
                str(path), "receipts that are not those that the manifest counts: they were edited", "as delete wrote"
            )
        return cls(text, head, len(text))

    def with_receipt(self, receipt: DeletionReceipt) -> Journal:
        """The journal with one more line."""
        text = self.text + (canonical(receipt.model_dump(mode="json")) + "\n").encode()
        head = JournalHead(
            receipts=self.head.receipts + 1,
            bytes=len(text),
            digest=hashlib.sha256(text).hexdigest(),
            last=receipt.digest,
        )
        return Journal(text, head, self.written)

    def append_to(self, folder: Path) -> None:
        """Bring the lines to the disk that are not there; what a killed process left behind them is cut off."""
        path = folder / JOURNAL
        if not self.text and not path.exists():
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(self.written)
            file.seek(self.written)
            file.write(self.text[self.written :])
            file.flush()
            os.fsync(file.fileno())

    def deleted_among(self, keys: Sequence[str]) -> set[str]:
        """Those of some keys whose records were deleted."""
        if len(keys) > _SEARCHED:
            return self.deleted.keys() & set(keys)
        return {key for key in keys if f'"{key}"'.encode() in self.text}

    @cached_property
    def receipts(self) -> tuple[DeletionReceipt, ...]:
        """All receipts. Raises InputError for lines that are none."""
        try:
            return tuple(DeletionReceipt.model_validate_json(line) for line in self.text.splitlines())
        except ValidationError as error:
            raise InputError("folder", f"{JOURNAL}: {error.errors()[0]['msg']}", "receipts as delete wrote") from None

    @cached_property
    def deleted(self) -> dict[str, int]:
        """Key of each deleted record -> number of its receipt."""
        return {key: receipt.number for receipt in self.receipts for key in receipt.records}


def leftover(folder: Path, head: JournalHead) -> bool:
    """Whether a killed process left bytes behind the receipts that count."""
    try:
        return (folder / JOURNAL).stat().st_size > head.bytes
    except OSError:
        return False


def canonical(content: Any) -> str:
    """JSON that is the same for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def sha256(text: str) -> str:
    """The digest of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
