"""Errors that a user can act on: what was found, and what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


class PaperworksError(Exception):
    """Base of the errors that the command line prints as one line (exit code 2) instead of a traceback."""


class InputError(PaperworksError, ValueError):
    """Input that cannot be used.

    Parameters
    ----------
    field : the option, column, file or argument at fault.
    found : what was given or seen.
    expected : what would be right.
    """

    def __init__(self, field: str, found: object, expected: str) -> None:
        self.field = field
        self.found = _plain(str(found))
        self.expected = _plain(expected)
        super().__init__(f"{field}: found {self.found}; expected {self.expected}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.field, self.found, self.expected)


_SCALAR = re.compile(r"\bnp\.(?:str_|bool_?|u?int\d+|float\d+)\(([^()]*)\)")


def _plain(text: str) -> str:
    """Text without the names of numpy's scalars (``np.str_('p')`` is ``'p'``), and without characters of control."""
    text = _SCALAR.sub(r"\1", text)
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: `` (did you mean 'slicegpt'?)``, or an empty string when nothing is near."""
    names = list(known)
    by_folded = {n.lower().replace("_", "-"): n for n in names}
    match = get_close_matches(name.lower().replace("_", "-"), list(by_folded), n=1, cutoff=0.5)
    return f" (did you mean {by_folded[match[0]]!r}?)" if match else ""
