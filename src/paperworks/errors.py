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
        self.found = _clipped(plain(str(found)))
        self.expected = plain(expected)
        super().__init__(f"{plain(field)}: found {self.found}; expected {self.expected}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.field, self.found, self.expected)


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


LONGEST = 400
"""Characters of what was found that a message repeats; of more it has the beginning and the end."""

_SCALAR = re.compile(r"\bnp\.(?:str_|bool_?|u?int\d+|float\d+)\(([^()]*)\)")
_BYTES = re.compile(r"(?:\\x[0-9a-f]{2})+")
_UNSAFE = re.compile(r"allow_pickle|pickle\.load|weights_only|trust_remote_code|unsafe", re.IGNORECASE)


def plain(text: str) -> str:
    """Text of another library as a message of ours.

    Without the names of numpy's scalars (``np.str_('p')`` is ``'p'``), characters of control and raw bytes; and without
    sentences or brackets of advice that would switch a ("load it unsafely", "set weights_only to False").
    """
    text = _BYTES.sub("(bytes)", _SCALAR.sub(r"\1", text.strip().replace("\n", " ")))
    if _UNSAFE.search(text):
        text = " ".join(part for part in re.split(r"(?<=[.;]) +| (?=\()", text) if not _UNSAFE.search(part))
        text += ")" * (text.count("(") - text.count(")"))
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: `` (did you mean 'slicegpt'?)``, or an empty string when nothing is near."""
    names = list(known)
    by_folded = {n.lower().replace("_", "-"): n for n in names}
    match = get_close_matches(name.lower().replace("_", "-"), list(by_folded), n=1, cutoff=0.5)
    return f" (did you mean {by_folded[match[0]]!r}?)" if match else ""
