"""The methods that can be compared: the baselines, and every paper whose folder has a ``method.py``.

Its ``prune(PruningJob)`` is for language models, its ``prune_module(ModuleJob)`` for any traced module; its
``TAXONOMY`` says where the method stands among others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from paperworks import catalog
from paperworks.errors import InputError, nearest
from paperworks.pruning.taxonomy import Declaration, declaration_in

if TYPE_CHECKING:
    from paperworks.pruning import ModuleJob, Pruned, PrunedModule, PruningJob

BASELINES = ("magnitude", "random", "taylor", "activation", "flap")


def declared() -> dict[str, Declaration]:
    """What every paper's ``method.py`` declares, by slug, in the order of the catalogue. Imports no method."""
    files = {p.slug: p.folder / "method.py" for p in catalog.papers()}
    return {slug: declaration_in(path) for slug, path in files.items() if path.is_file()}


def method_names() -> list[str]:
    """For language models: papers first, in the order of the catalogue, then the baselines. Imports nothing heavy."""
    return [slug for slug, found in declared().items() if "prune" in found.functions] + list(BASELINES)


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


def module_method_names() -> list[str]:
    """The papers whose methods make any traced module smaller, in the order of the catalogue."""
    return [slug for slug, found in declared().items() if "prune_module" in found.functions]


def load_module_method(name: str) -> Callable[[ModuleJob], PrunedModule]:
    """The function of a paper that prunes any traced module."""
    return importlib.import_module(f"{catalog.find(name).module}.method").prune_module
