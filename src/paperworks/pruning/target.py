"""A budget as its user says it: ``0.75x``, ``0.5p``, ``4.2M``, ``900MiB``, ``20ms``, ``0.7t``."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from paperworks.errors import InputError
from paperworks.runs.files import write_text

if TYPE_CHECKING:
    import torch

    from paperworks.structure.budgets import Cost

Unit = Literal["share of all", "share of prunable", "parameters", "bytes", "seconds", "share of time"]
_COUNT = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SHARES: dict[str, Unit] = {"x": "share of all", "p": "share of prunable", "t": "share of time"}
_FRACTION = re.compile(r"\s*(0?\.\d+)\s*")
_FORM = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(x|p|t|ms|k|m|b|kib|mib|gib|)\s*", re.IGNORECASE)
FORMS = (
    "such as 0.75x (share of all parameters), 0.5p (share of the prunable ones), 4.2M (a count), 900MiB (weights), "
    "20ms (measured time to write a token), 0.7t (share of the dense time)"
)


@dataclass(frozen=True)
class Target:
    """How large a model may be at most.

    Attributes
    ----------
    value : a share in (0, 1], a number of parameters, bytes of the weights' file, or seconds for one decoding step.
    unit : what ``value`` is of. The prunable parameters are those of the matrices inside the layers.
    """

    value: float
    unit: Unit

    @classmethod
    def parse(cls, text: str, field: str = "target") -> Self:
        """Read ``0.75x``, ``0.5p``, ``4200000``, ``4.2M``, ``1.1B``, ``900MiB``, ``20ms`` or ``0.7t``.

        A fraction without a unit, ``0.75``, is an older notation of ``0.75x``.

        Raises InputError naming ``field`` for anything else, and for a share outside (0, 1].
        """
        text = f"{text.strip()}x" if _FRACTION.fullmatch(text) else text
        match = _FORM.fullmatch(text)
        if match is None:
            raise InputError(field, text, FORMS)
        value, unit = float(match[1]), match[2].lower()
        if unit in _SHARES:
            if not 0 < value <= 1:
                raise InputError(field, text, f"a share above 0 and up to 1, {FORMS}")
            return cls(value, _SHARES[unit])
        if unit == "ms":
            if value <= 0:
                raise InputError(field, text, FORMS)
            return cls(value / 1000, "seconds")
        value *= _COUNT[unit]
        if value < 1:
            raise InputError(field, text, FORMS)
        return cls(value, "bytes" if unit.endswith("ib") else "parameters")

    @property
    def timed(self) -> bool:
        """Whether the budget is one of time, so that the dense model must be in memory to resolve it."""
        return self.unit in ("seconds", "share of time")

    def parameters(self, dense: Cost, field: str = "target", model: Any = None) -> int:
        """The most parameters a model may have, given the counts of the dense one.

        ``model``: the dense model, for a budget of time; see ``latency.parameters_for_latency``.

        Raises InputError if that is not below the dense model's count, or time is asked for without a model.
        """
        if self.timed:
            if model is None:
                raise InputError(field, "a budget of time", "parameters or bytes: the model cannot be timed here")
            from paperworks.pruning.latency import parameters_for_latency

            return parameters_for_latency(model, self.value, relative=self.unit == "share of time", field=field)
        if self.unit == "share of all":
            most = math.floor(self.value * dense.parameters)
        elif self.unit == "share of prunable":
            most = dense.parameters - dense.prunable + math.floor(self.value * dense.prunable)
        elif self.unit == "bytes":
            most = math.floor(self.value * dense.parameters / dense.bytes)
        else:
            most = math.floor(self.value)
        if most >= dense.parameters:
            found = f"{most:,} parameters"
            if self.unit == "bytes":
                found += f" ({self.value:,.0f} bytes, {dense.bytes / dense.parameters:g} for each)"
            raise InputError(field, found, f"fewer than the model has, {dense.parameters:,}")
        return most


def most_parameters(
    target: int | str | Target, model: Any, field: str = "target", *, dtype: torch.dtype | None = None
) -> int:
    """The most parameters for a target as every method takes it: a count, or a budget in words (see ``Target.parse``).

    ``dtype``: that the weights are saved in, for budgets in bytes (None: the model's). Raises InputError naming
    ``field`` for what is no budget, or words that ask for as much as the model has.
    """
    from paperworks.structure import count

    if isinstance(target, bool) or not isinstance(target, int | str | Target):
        raise InputError(field, target, f"a number of parameters, or a budget {FORMS}")
    if isinstance(target, int):
        if target < 1:
            raise InputError(field, target, "1 parameter or more")
        return target
    wanted = Target.parse(target, field) if isinstance(target, str) else target
    return wanted.parameters(count(model, dtype=dtype), field, model)


def notation_notes(target: str, former: str | None = None) -> list[str]:
    """What to tell a user who wrote a budget in an older way: without its unit, or in the option ``former``."""
    notes = []
    if former is not None:
        notes.append(f"--{former} is the former name of --target")
    if _FRACTION.fullmatch(target):
        notes.append(f"{target.strip()} is read as {target.strip()}x, a share of all parameters: write the unit")
    return notes


def resolved(text: str, model: Any, kept: Path, field: str = "target", *, dtype: torch.dtype | None = None) -> int:
    """The most parameters for a budget in words, read from the file ``kept`` if an earlier attempt wrote it there.

    A time that is measured again comes out otherwise: a run that goes on must aim at what it began with. ``dtype``: the
    type that the weights are saved in (None: the model's).
    """
    if not kept.exists():
        write_text(kept, json.dumps(most_parameters(text, model, field, dtype=dtype)))
    return int(json.loads(kept.read_text(encoding="utf-8")))
