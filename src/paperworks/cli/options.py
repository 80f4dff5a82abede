"""From a recipe's Config to a command with flags: names, help with units and bounds, defaults."""

from __future__ import annotations

import inspect
import json
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic_core import PydanticUndefined

from paperworks.errors import InputError
from paperworks.runs.config import Config, describe_bounds, is_sequence, sequence_item, strip_optional

RESERVED = (
    *("out", "config", "engine", "address", "cpus", "gpus", "time-limit", "memory-limit"),
    *("json", "quiet", "debug", "help"),
)
"""Flags of ``paperworks run`` itself; a recipe's options must have other names."""


def config_command(
    kind: type[Config], call: Callable[[dict[str, Any]], Any], extra: list[inspect.Parameter]
) -> Callable[..., Any]:
    """A function whose keyword parameters are the fields of ``kind`` and ``extra``; it calls ``call`` with those given.

    Values stay the text that was typed: the Config converts and checks them, so that every error comes from one place.
    """
    other = {field: name for name, field in kind.other_names.items()}
    parameters = [_parameter(name, field, other.get(name)) for name, field in kind.model_fields.items()]

    def command(**given: Any) -> Any:
        return call(given)

    command.__signature__ = inspect.Signature([*parameters, *extra])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*parameters, *extra]}
    return command


def _parameter(name: str, field: Any, synonym: str | None = None) -> inspect.Parameter:
    annotation, _optional = strip_optional(field.annotation)
    words = [field.description or ""]
    bounds = describe_bounds(field)
    if bounds:
        words.append(f"({bounds})")
    if is_sequence(annotation):
        words.append("(separated by commas)")
    default = None if field.default is PydanticUndefined else field.default
    shown = _show(default) if default is not None else ""
    options: dict[str, Any] = {
        "help": " ".join(w for w in words if w),
        "show_default": (lambda _value, shown=shown: shown) if shown else False,
    }
    if synonym:
        options["alias"] = f"--{synonym.replace('_', '-')}"
    if default is not True:
        options["negative"] = ""  # --no-learn switches off what is on; nothing else needs it
    kind: Any = bool
    if annotation is not bool:
        kind = str
        options["metavar"] = _metavar(annotation)
        options["allow_leading_hyphen"] = True  # so that --seed -1 is told what is wrong with -1
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, Parameter(**options)]
    )


def _metavar(annotation: Any) -> str:
    """What stands for the value in the help: the choices, or the type."""
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(str(choice) for choice in typing.get_args(annotation))
    names = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
    if is_sequence(annotation):
        return f"{names.get(sequence_item(annotation)[0], 'TEXT')},..."
    return names.get(annotation, "TEXT")


def _show(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(str(v) for v in value)
    return str(value)


def merge_options(kind: type[Config], config_file: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the file overridden by the flags that were given; comma-separated text becomes lists."""
    values = read_config_file(config_file) if config_file is not None else {}
    for name, value in given.items():
        if value is None:
            continue
        field = kind.model_fields[name]
        if isinstance(value, str) and is_sequence(field.annotation):
            value = [part.strip() for part in value.split(",") if part.strip()]
        elif isinstance(value, str) and value.lower() == "none" and strip_optional(field.annotation)[1]:
            value = None
        values[name] = value
    return values


def read_config_file(path: Path) -> dict[str, Any]:
    """Options from a TOML or JSON file (a run's ``config.json`` is one)."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("config", f"{path}, which does not exist", "a .toml or .json file of options") from None
    except (IsADirectoryError, UnicodeDecodeError, PermissionError) as error:
        raise InputError("config", f"{path}: {error}", "a readable .toml or .json file of options") from None
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "config", f"{path}: {error}", "valid JSON" if path.suffix == ".json" else "valid TOML"
        ) from None
    if not isinstance(values, dict):
        raise InputError("config", f"{path}: {type(values).__name__}", "names with values")
    return {name.replace("-", "_"): value for name, value in values.items()}


@contextmanager
def option_names(kind: type[Config]) -> Iterator[None]:
    """Errors that name a field of ``kind`` name its flag: ``--batch-size`` for ``batch_size``."""
    try:
        yield
    except InputError as error:
        flag = error.field.replace("_", "-")
        if error.field not in kind.model_fields and flag not in RESERVED:
            raise
        raise InputError(f"--{flag}", error.found, error.expected) from None


COMPLETION = "--install-completion"

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}
BYTES = {
    "b": 1,
    "k": 2**10,
    "kb": 2**10,
    "kib": 2**10,
    "m": 2**20,
    "mb": 2**20,
    "mib": 2**20,
    "g": 2**30,
    "gb": 2**30,
    "gib": 2**30,
}


def parse_seconds(text: str) -> float:
    """``90``, ``90s``, ``10m`` or ``2h`` as seconds."""
    return _parse(text, UNITS, "s", "time-limit", "a duration such as 90s, 10m or 2h")


def parse_bytes(text: str) -> int:
    """``8GiB``, ``500MiB`` or a number of bytes."""
    return int(_parse(text, BYTES, "b", "memory-limit", "an amount such as 500MiB or 8GiB"))


def _parse(text: str, units: Mapping[str, int], default: str, field: str, expected: str) -> float:
    stripped = text.strip().lower()
    number = stripped.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = stripped[len(number) :].strip() or default
    try:
        value = float(number) * units[unit]
    except (ValueError, KeyError):
        raise InputError(field, repr(text), expected) from None
    if not 0 < value < float("inf"):
        raise InputError(field, repr(text), expected)
    return value
