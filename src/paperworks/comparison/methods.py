"""The methods that can be compared: the baselines, and every paper whose folder has a ``method.py``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from paperworks import catalog
from paperworks.errors import InputError, nearest

if TYPE_CHECKING:
    from paperworks.pruning import Pruned, PruningJob

BASELINES = ("magnitude", "random", "taylor", "activation", "flap")


def method_names() -> list[str]:
    """Papers first, in the order of the catalogue, then the baselines. Imports nothing heavy."""
    return [p.slug for p in catalog.papers() if (p.folder / "method.py").is_file()] + list(BASELINES)


def check_methods(given: Sequence[str]) -> list[str]:
    """The names without repetitions. Raises InputError for an unknown one (with the nearest), or for none."""
    known = method_names()
    for name in given:
        if name not in known:
            raise InputError("methods", name, f"some of {', '.join(known)}{nearest(name, known)}")
    if not given:
        raise InputError("methods", "none", f"some of {', '.join(known)}")
    return list(dict.fromkeys(given))


def load_method(name: str) -> Callable[[PruningJob], Pruned]:
    """The function that prunes."""
    if name in BASELINES:
        return getattr(importlib.import_module("paperworks.pruning.baselines"), name)
    return importlib.import_module(f"{catalog.find(name).module}.method").prune
