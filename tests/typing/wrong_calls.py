"""Calls that mypy must refuse. ``make types`` reads this file; an ignore that ignores nothing is an error there.

The names are imported lazily at run time. Without types, mypy would take any call of them.
"""

from __future__ import annotations

from paperworks.pruning import Target
from paperworks.runs import build_config
from paperworks.structure import no_such_name, prune  # type: ignore[attr-defined]

prune(1, 2, nonsense=3)  # type: ignore[call-arg, arg-type]
build_config(1, 2, nonsense=3)  # type: ignore[call-arg, arg-type]
Target.parse(1)  # type: ignore[arg-type]
no_such_name()
