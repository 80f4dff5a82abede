"""A recipe's options as a form, and the form's text as options; generated from its Config for every paper alike."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import PydanticUndefined

from paperworks.errors import InputError
from paperworks.runs.config import Config, command_line_only, is_sequence, names_file, names_place, strip_optional

Kind = Literal["integer", "number", "choice", "flag", "text", "list", "file"]

_FLAG = re.compile(r"--([a-z][a-z0-9-]*)")
_BOUNDS = {"ge": "minimum", "gt": "above", "le": "maximum", "lt": "below"}


@dataclass(frozen=True)
class FormField:
    """One option. ``default`` is text as a form shows it; for ``file``, ``choices`` are the bundled names."""

    name: str
    label: str
    help: str
    kind: Kind
    default: str
    optional: bool
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    accepts_upload: bool = False
    also: str = ""
    """For ``file``: a regular expression for values that may be written out in place of one."""


def form_fields(config: type[Config], uploads: bool) -> list[FormField]:
    """The options that the page offers: all but the machine's own (device) and those for the command line only.

    Without ``uploads`` an option that reads a file is offered only where bundled names can be chosen.
    """
    fields = []
    for name, info in config.model_fields.items():
        if name == "device" or command_line_only(info):
            continue
        annotation, optional = strip_optional(info.annotation)
        default = None if info.default is PydanticUndefined else info.default
        file = names_file(info)
        choices: tuple[str, ...] = ()
        if file is not None and is_sequence(annotation):
            continue  # an upload is one file
        if file is not None:
            choices = file.bundled
            if not uploads and len(choices) < 2 and not file.also:
                continue
            kind: Kind = "file"
        elif typing.get_origin(annotation) is Literal:
            kind, choices = "choice", tuple(str(c) for c in typing.get_args(annotation))
        elif is_sequence(annotation):
            kind = "list"
        else:
            kind = {bool: "flag", int: "integer", float: "number"}.get(annotation, "text")  # type: ignore[assignment]
        bounds = {
            bound: getattr(item, attribute)
            for item in info.metadata
            for attribute, bound in _BOUNDS.items()
            if isinstance(getattr(item, attribute, None), (int, float))
        }
        fields.append(
            FormField(
                name=name,
                label=_label(config, name),
                help=_without_flags(config, info.description or ""),
                kind=kind,
                default=form_text(default),
                optional=optional,
                choices=choices,
                minimum=bounds.get("minimum", bounds.get("above")),
                maximum=bounds.get("maximum", bounds.get("below")),
                accepts_upload=kind == "file" and uploads,
                also=file.also if file is not None else "",
            )
        )
    return fields


def read_form(
    config: type[Config], values: Mapping[str, str], files: Mapping[str, str], uploads: bool
) -> dict[str, Any]:
    """Options for ``build_config`` from a form's text and the paths of its saved uploads.

    Empty text means the default. Raises InputError for an option that the form does not have, for a file that is
    neither uploaded nor bundled, and for text that names a place on the machine or the network.
    """
    fields = {f.name: f for f in form_fields(config, uploads)}
    options: dict[str, Any] = {}
    for name, path in files.items():
        if name not in fields or not fields[name].accepts_upload:
            raise InputError(name, "an upload", "no file: this page does not take one for it")
        options[name] = path
    for name, text in values.items():
        if name not in fields:
            raise InputError(name, "an option that the form does not have", f"one of {', '.join(fields)}")
        field = fields[name]
        if name in options or (text.strip() == "" and field.kind != "flag"):
            continue
        if "\x00" in text:
            raise InputError(name, "a null character", "text")
        if field.kind == "file":
            if text not in field.choices and not (field.also and re.fullmatch(field.also, text)):
                raise InputError(
                    name, repr(text), f"one of {', '.join(field.choices) or 'no bundled names'}, or an upload"
                )
            options[name] = text
        elif field.kind == "list":
            options[name] = [_checked(name, part.strip()) for part in text.split(",") if part.strip()]
        elif field.kind == "flag":
            options[name] = text.strip().lower() in ("1", "true", "on", "yes")
        else:
            options[name] = _checked(name, text.strip())
    return options


def _label(config: type[Config], name: str) -> str:
    return config.model_fields[name].title or name.replace("_", " ")


def _without_flags(config: type[Config], text: str) -> str:
    """A description with the names of options as the form shows them, in place of a command line's flags."""

    def named(flag: re.Match[str]) -> str:
        name = flag[1].replace("-", "_")
        if name.startswith("no_") and name not in config.model_fields:
            name = name.removeprefix("no_")
        return f"\u201c{_label(config, name)}\u201d" if name in config.model_fields else flag[0]

    return _FLAG.sub(named, text)


def _checked(name: str, text: str) -> str:
    if names_place(text):
        raise InputError(name, repr(text), "a value, not a path or an address")
    return text


def form_text(value: Any) -> str:
    """A value of an option as a form shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(v) for v in value)
    return str(value)
