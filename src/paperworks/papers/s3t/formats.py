"""Formats of ``manifest.json``: what each seals, and how those of earlier versions are read.

    1    records and receipts are in the manifest itself; the time of its making is not in the digest
    2    records and receipts are in files beside it; the time of its making is not in the digest
    3    the digest is of everything

An older folder is read as it is. Its next deletion or retraining writes format 3, in the one step that is also the
decision, so that a process that is killed leaves the old format or the new one.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from paperworks.errors import InputError
from paperworks.papers.s3t.receipts import DeletionReceipt, Journal, canonical
from paperworks.papers.s3t.records import Place

FORMAT: Literal[3] = 3
INLINE, UNSEALED_TIME = 1, 2
"""The last format with records inside, and the last whose digest leaves ``created_time`` out."""

_RECORDS: TypeAdapter[dict[str, Place]] = TypeAdapter(dict[str, Place])
_LOG: TypeAdapter[list[DeletionReceipt]] = TypeAdapter(list[DeletionReceipt])


def known_format(content: dict[str, Any], where: str) -> int:
    """The format of a manifest's content. Raises InputError for one that this version does not know."""
    found = content.get("format")
    if type(found) is not int or not 1 <= found <= FORMAT:
        raise InputError(f"{where}: format", repr(found), f"1 to {FORMAT}; a newer Paperworks may have written it")
    return found


def seal(content: dict[str, Any], key: bytes | None) -> str:
    """Digest of a manifest's content: SHA-256, or HMAC-SHA-256 with a key. See the formats for what it is of."""
    left_out = ("created_time",) if content.get("format") in range(1, UNSEALED_TIME + 1) else ()
    text = canonical({name: value for name, value in content.items() if name not in left_out}).encode()
    return hashlib.sha256(text).hexdigest() if key is None else hmac.new(key, text, "sha256").hexdigest()


def inline_parts(content: dict[str, Any], where: str) -> tuple[dict[str, Place], Journal]:
    """Take the records and the receipts out of the content of a manifest of format 1.

    Raises InputError where they are not as they were written, or the deleted records are not those of the receipts.
    """
    try:
        records = _RECORDS.validate_python(content.pop("records", None))
        receipts = _LOG.validate_python(content.pop("log", None))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(where, first["msg"], "manifest.json as fit wrote it") from None
    journal = Journal()
    for receipt in receipts:
        journal = journal.with_receipt(receipt)
    if content.pop("deleted", None) != journal.deleted:
        raise InputError(where, "deleted records that are not those of its receipts", "manifest.json as delete wrote")
    return records, journal
