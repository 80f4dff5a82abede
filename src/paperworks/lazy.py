"""Public names that are imported when they are first used, and that type checkers see as ordinary imports.

A package writes its names once, under ``if TYPE_CHECKING:``, and lists them in ``__all__``::

    if TYPE_CHECKING:
        from paperworks.structure.surgery import prune
    else:
        __getattr__, __dir__ = lazy_imports(__name__)

    __all__ = ["prune"]

mypy and editors read the imports, so that signatures are checked. At run time ``lazy_imports`` reads the same lines and
imports a module when one of its names is first asked for.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def lazy_imports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose names stand under ``if TYPE_CHECKING:``.

    Raises ImportError if a name is also the name of a module of the package: the module, once imported, hides the name.
    """
    module = sys.modules[package]
    homes = _type_checking_imports(module)
    hidden = sorted(homes.keys() & {found.name for found in pkgutil.iter_modules(module.__path__)})
    if hidden:
        raise ImportError(f"{package}: the module {hidden[0]} hides the name {hidden[0]}; rename the module")

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=module)
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *homes})

    return get, names


def _type_checking_imports(module: ModuleType) -> dict[str, str]:
    """Name -> module, for every ``from module import name`` under ``if TYPE_CHECKING:``."""
    get_source = getattr(module.__spec__ and module.__spec__.loader, "get_source", None)
    source = get_source(module.__name__) if get_source else None
    if source is None:
        raise ImportError(f"{module.__name__}: its public names are read from its source, which is not there")
    return {
        alias.name: str(node.module)
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
