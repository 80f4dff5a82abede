"""Values that an option may be given and that few options can use, as the text that is typed, for any Config."""

from __future__ import annotations

import typing
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from paperworks.runs.config import is_sequence, names_file, sequence_item, strip_optional

WHOLE = ("99999999", "0", "x", "1.5", "nan", "inf", "1e400", "", " ", "-1", str(2**63), "1,2", "\u0663")
NUMBER = ("1e39", "1e-300", "x", "nan", "inf", "-inf", "1e400", "", "-1", "0", "-1e39", "1e308", "0x10", "50%")
SWITCH = ("perhaps", "", "7")
TEXT = (
    "no-such-name",
    "x" * 5000,
    "",
    " ",
    "a\nb",
    "\x1b[31m",
    "\u202e\u00e9",
    "{}",
    "[1]",
    "nan",
    "1e400",
    "-",
    ",",
    "{0}",
)
DEVICE = ("banana", "", "cuda:x", "cuda:99", "CPU ", "meta", "mps", "cpu:0")
"""An accelerator that is not here, among others."""


def bad_values(name: str, field: FieldInfo) -> tuple[str, ...]:
    """Texts for an option of the field's type: of other types, not finite, beyond float32, out of bounds, unknown."""
    kind = strip_optional(field.annotation)[0]
    if name == "device":
        return DEVICE
    if names_file(field) is not None:
        return ("no-such-name", "", " ", "x" * 300, "a\nb", "\ud800", "~nobody-here/x", "-")
    if is_sequence(kind):
        inner = sequence_item(kind)[0]
        single = {int: WHOLE, float: NUMBER}.get(inner, ("no-such-name", "x" * 300, "nan"))
        return (*single, ",", ",,", "0,0", "1,,1")
    if typing.get_origin(kind) is typing.Literal:
        choice = str(typing.get_args(kind)[0])
        return ("no-such-choice", "", "7", choice.swapcase(), f" {choice}")
    values: tuple[str, ...] = {int: WHOLE, float: NUMBER, bool: SWITCH}.get(kind, TEXT)
    return values + tuple(beyond_bounds(field))


def beyond_bounds(field: FieldInfo) -> Iterator[str]:
    """Numbers at and beyond the bounds that the field declares."""
    for item in field.metadata:
        for side, step in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
            bound = getattr(item, side, None)
            if isinstance(bound, (int, float)):
                yield str(bound + step)
                yield str(bound)
