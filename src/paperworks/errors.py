"""Errors that a user can act on: what was found, and what would be right."""

from __future__ import annotations

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
        self.found = str(found)
        self.expected = expected
        super().__init__(f"{field}: found {self.found}; expected {expected}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.field, self.found, self.expected)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: `` (did you mean 'slicegpt'?)``, or an empty string when nothing is near."""
    names = list(known)
    by_folded = {n.lower().replace("_", "-"): n for n in names}
    match = get_close_matches(name.lower().replace("_", "-"), list(by_folded), n=1, cutoff=0.5)
    return f" (did you mean {by_folded[match[0]]!r}?)" if match else ""
