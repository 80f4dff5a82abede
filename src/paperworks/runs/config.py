"""What a recipe can be asked: a frozen, typed model whose fields become flags, forms and schemas."""

from __future__ import annotations

import os
import re
import stat
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from paperworks.errors import InputError, nearest, plain


@dataclass(frozen=True)
class File:
    """Marks a text option whose value may name a file: ``data: Annotated[str, File(("breast-cancer",))]``.

    ``bundled`` are the names that need no file, ``also`` a regular expression for values written out in place of one.
    ``made`` is for a folder that the recipe makes where it is not there yet. An option of type ``Path`` is a file's
    without being marked. The page offers these and uploads, and never passes on a path that a reader wrote.
    """

    bundled: tuple[str, ...] = ()
    also: str = ""
    made: bool = False

    def is_name(self, text: str) -> bool:
        """Whether a value stands for itself, rather than for a file."""
        return text in self.bundled or bool(self.also and re.fullmatch(self.also, text))


@dataclass(frozen=True)
class CommandLineOnly:
    """Marks an option that only the owner of the machine may set, such as a network address: no form offers it."""


_BEHIND = {"label_key": "label", "label_column": "label", "labels": "label", "texts": "text", "calibration": "text"}
"""Options behind the parameters of shared readers, for every recipe that has them."""
_HELD_OUT = ("evaluation", "text", "calibration")


class Config(BaseModel):
    """Base of every recipe's options. Subclasses are named ``Config`` and stand in the paper's ``config.py``.

    Every field has a default that runs offline on bundled real input, bounds, and a one-line description with its unit.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )

    other_names: ClassVar[Mapping[str, str]] = {}
    """Further names of options, such as ``{"target": "label"}``; they are flags, too."""

    error_names: ClassVar[Mapping[str, str]] = {}
    """The options behind the parameters that errors of shared functions name, such as ``{"n_points": "points"}``."""

    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of every random choice")
    device: str = Field("auto", description="torch device: auto, cpu, cuda, cuda:1, mps")

    @model_validator(mode="before")
    @classmethod
    def _own_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not any(name in cls.other_names for name in values):
            return values
        own: dict[str, Any] = {}
        for name, value in values.items():
            field = cls.other_names.get(name, name)
            if field in own:
                raise InputError(name, repr(value), f"one of {field} and its other name")
            own[field] = value
        return own

    @model_validator(mode="after")
    def _possible_paths(self) -> Config:
        """A text that no file can be called is refused here: asking the system whether it is there is an error, too."""
        for name, text, mark in self.named_files():
            if mark.is_name(text):
                continue
            longest = max((len(part.encode(errors="replace")) for part in re.split(r"[/\\]", text)), default=0)
            if "\0" in text or longest > 255 or len(text) > 4095:
                raise InputError(name, repr(text), "the name of a file or folder")
            if _is_stream(text):
                raise InputError(
                    name,
                    f"{text}, which is a pipe or a device",
                    "a file or folder: readers look at its beginning first, and a pipe gives that only once",
                )
        return self

    @model_validator(mode="after")
    def _unicode_texts(self) -> Config:
        """Bytes of another encoding come from the command line as surrogates, which no file of options can hold."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            for part in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(part, (str, Path)) and not _is_unicode(str(part)):
                    expected = "text in UTF-8; a file or folder with such a name has to be renamed"
                    raise InputError(name, ascii(str(part)), expected)
        return self

    @model_validator(mode="before")
    @classmethod
    def _named_paths(cls, values: Any) -> Any:
        """An empty text, as of a variable of the shell that is not set, would be the current folder as a path."""
        if isinstance(values, Mapping):
            for name, value in values.items():
                field = cls.model_fields.get(cls.other_names.get(name, name))
                if isinstance(value, str) and not value.strip() and field is not None and names_file(field) is not None:
                    raise InputError(name, repr(value), "the name of a file or folder")
        return values

    def require_files(self) -> None:
        """Raise InputError for an option that names a file or folder which is not there.

        For the beginning of a run: what a recipe reads last would otherwise be missed after all of its work. Options
        alone may name files of another machine.
        """
        for name, text, mark in self.named_files():
            if mark.made or mark.is_name(text) or os.path.exists(os.path.expanduser(text)):
                continue
            field = type(self).model_fields[name]
            names = f", or one of {', '.join(mark.bundled)}" if mark.bundled else ""
            several = "files or folders" if is_sequence(field.annotation) else "a file or folder"
            what = f" ({field.description})" if field.description and not names else ""
            expected = f"{several}{what}{names}{nearest(text, mark.bundled)}"
            raise InputError(name, f"{text}, which does not exist", expected)

    def named_files(self) -> Iterator[tuple[str, str, File]]:
        """Each value that names a file or may do so: its option, itself, its mark. Lists of paths have several."""
        for name, field in type(self).model_fields.items():
            value, mark = getattr(self, name), names_file(field)
            if mark is not None and value is not None:
                several = value if is_sequence(field.annotation) else (value,)
                yield from ((name, str(one), mark) for one in several)

    def option_of(self, error: InputError) -> str:
        """The option that an error of a shared function is about; the field that it names where none is known.

        A reader names its own parameter ("images", "folder") and begins what it found with the file's path: the option
        with that path is meant.
        """
        options = type(self).model_fields
        if not error.field.isidentifier():
            return error.field

        def begins(name: str) -> bool:
            values = (text for option, text, _ in self.named_files() if option == name)
            return any(text not in ("", ".") and error.found.startswith(plain(text)) for text in values)

        if error.field in options and (names_file(options[error.field]) is None or begins(error.field)):
            return error.field
        for name, field in options.items():
            if names_file(field) is not None and begins(name):
                return name
        if error.field == "held_out":  # a part of the training text where no other is given
            return next((n for n in _HELD_OUT if getattr(self, n, None) is not None), _HELD_OUT[0])
        behind = {**_BEHIND, **self.error_names}.get(error.field, "")
        return behind if behind in options and error.field not in options else error.field

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        """Whether it is here is known only where torch is imported: see ``paperworks.nn.resolve_device``."""
        if not re.fullmatch(r"auto|cpu|(cuda|mps)(:\d{1,3})?", device):
            raise ValueError("one of auto, cpu, cuda, cuda:1, mps")
        return device


def build_config(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Validate ``values`` (strings are converted) into a ``kind``.

    Raises InputError naming the first bad field, what was found and what would be right.
    """
    unknown = [name for name in values if name not in kind.model_fields and name not in kind.other_names]
    if unknown:
        raise InputError(
            unknown[0],
            "an option that this recipe does not have",
            f"one of {', '.join(kind.model_fields)}{nearest(unknown[0], kind.model_fields)}",
        )
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise _as_input_error(kind, error) from None


def _as_input_error(kind: type[Config], error: ValidationError) -> InputError:
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause
    name = str(first["loc"][0]) if first["loc"] else ""
    if not name:
        return InputError(
            "options", "a combination that does not go together", first["msg"].removeprefix("Value error, ")
        )
    found = first["input"]
    expected = describe_type(kind.model_fields[name])
    if first["type"] == "value_error":
        expected = first["msg"].removeprefix("Value error, ")
    bounds = describe_bounds(kind.model_fields[name])
    return InputError(name, repr(found), expected + (f", {bounds}" if bounds and bounds not in expected else ""))


def strip_optional(annotation: Any) -> tuple[Any, bool]:
    """``X | None`` as ``(X, True)``; anything else as ``(annotation, False)``."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        args = [a for a in typing.get_args(annotation) if a is not type(None)]
        optional = len(args) < len(typing.get_args(annotation))
        return (args[0] if len(args) == 1 else Union[tuple(args)]), optional  # noqa: UP007 - built at run time
    return annotation, False


def names_file(field: FieldInfo) -> File | None:
    """The ``File`` mark of an option whose value names a file, or several (every ``Path`` is one), or None."""
    kind, marks = strip_optional(field.annotation)[0], tuple(field.metadata)
    if is_sequence(kind):
        kind, inner = sequence_item(kind)
        marks += inner
    mark = next((item for item in marks if isinstance(item, File)), None)
    return File() if mark is None and kind is Path else mark


def command_line_only(field: FieldInfo) -> bool:
    """Whether only the command line offers the option."""
    return any(isinstance(item, CommandLineOnly) for item in field.metadata)


# A text option is no file, but a recipe's author may have forgotten to say so.
_PLACE = re.compile(r"^\s*(~|[/\\]|[A-Za-z]:[/\\])|(^|[/\\])\.\.([/\\]|$)|://")


def names_place(text: str) -> bool:
    """Whether text looks like a path outside the working folder or an address; values from strangers must not."""
    return _PLACE.search(text) is not None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_stream(text: str) -> bool:
    """Whether a path is there and neither a file nor a folder: what a process substitution ``<(...)`` gives is none."""
    try:
        mode = os.stat(os.path.expanduser(text)).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_sequence(annotation: Any) -> bool:
    """Whether the option takes several values (a list or tuple)."""
    return typing.get_origin(strip_optional(annotation)[0]) in (list, tuple, set, frozenset)


def sequence_item(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type of a sequence's values, and their marks and bounds: ``tuple[Annotated[float, Field(gt=0)], ...]``."""
    inner = next((part for part in typing.get_args(strip_optional(annotation)[0]) if part is not Ellipsis), str)
    if typing.get_origin(inner) is not Annotated:
        return inner, ()
    kind, *marks = typing.get_args(inner)
    return kind, tuple(one for mark in marks for one in (mark.metadata if isinstance(mark, FieldInfo) else (mark,)))


def describe_type(field: FieldInfo) -> str:
    """The option's type in words: ``a number``, ``one of a, b``, ``whole numbers separated by commas``."""
    return _describe(strip_optional(field.annotation)[0])


def _describe(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in typing.get_args(annotation))
    if origin in (list, tuple, set, frozenset):
        inner, marks = sequence_item(annotation)
        if any(isinstance(mark, File) for mark in marks):
            inner = Path
        plural = {int: "whole numbers", float: "numbers", str: "names", Path: "paths"}
        return plural.get(inner, "values") + " separated by commas"
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(a) for a in typing.get_args(annotation))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def describe_bounds(field: FieldInfo) -> str:
    """The option's bounds as in ``at least 0, less than 1``; empty when there are none."""
    words = _bounds(field.metadata)
    if is_sequence(field.annotation) and (each := _bounds(sequence_item(field.annotation)[1])):
        words.append("each " + ", ".join(each))
    # The default upper bound of the seed is the generator's limit, not something to read about.
    return ", ".join(w for w in words if str(2**63 - 1) not in w)


def _bounds(marks: Iterable[Any]) -> list[str]:
    words = []
    for item in marks:
        for kind, attribute, word in (
            (annotated_types.Ge, "ge", "at least"),
            (annotated_types.Gt, "gt", "more than"),
            (annotated_types.Le, "le", "at most"),
            (annotated_types.Lt, "lt", "less than"),
            (annotated_types.MultipleOf, "multiple_of", "a multiple of"),
            (annotated_types.MinLen, "min_length", "length at least"),
            (annotated_types.MaxLen, "max_length", "length at most"),
        ):
            if isinstance(item, kind):
                words.append(f"{word} {getattr(item, attribute)}")
    return words
