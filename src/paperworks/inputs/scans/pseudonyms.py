"""Identifiers that name nobody: what is written about a scan has no name, record number or date in it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from paperworks.errors import InputError

_DIGITS = 10
_SHORTEST = 4
"""Identifiers shorter than this are not looked for in file names: "1" is in many."""


def pseudonym(identifier: str, salt: str = "", prefix: str = "p") -> str:
    """A short name that is always the same for an identifier and a salt, and from which it cannot be computed.

    HMAC-SHA256, ten hexadecimal digits. Whoever can list the possible identifiers (record numbers of six digits, say)
    and knows the salt can try them all: keep a salt of your own secret.
    """
    digest = hmac.new(salt.encode(), f"{prefix}\0{identifier}".encode(), hashlib.sha256).hexdigest()
    return f"{prefix}-{digest[:_DIGITS]}"


def refuse_identifiers(path: str | Path, identifiers: Iterable[str], field: str = "path") -> None:
    """Raise InputError if a name under which something is to be written has an identifier in it."""
    name = Path(path).name.lower()
    for identifier in identifiers:
        text = str(identifier).lower()
        if len(text) >= _SHORTEST and text in name:
            raise InputError(field, "a file name with the identifier of a patient or a scan in it", "another name")
