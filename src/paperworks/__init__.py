"""Paperworks: run the methods of machine-learning papers on your own data, with every claim measured again.

``import paperworks as pw`` is cheap: a paper (``pw.slicegpt``, ``pw.fold_se``) is imported when it is first named.
``pw.run("slicegpt", model="my-checkpoint")`` is the command ``paperworks run`` in Python.
Transformers' Auto classes then load the checkpoints that papers save (see ``structure.auto``).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from paperworks.numba_settings import ensure_cache, share_threads
from paperworks.running import run
from paperworks.structure import auto as _auto
from paperworks.version import __version__

__all__ = ["__version__", "run"]


def _register_architectures() -> None:
    from paperworks.catalog import register_architectures

    register_architectures()


_auto.install(_register_architectures)
ensure_cache()
share_threads()


def __getattr__(name: str) -> Any:
    # "from paperworks import runs" asks here before the import system looks for the subpackage.
    if not name.startswith("_") and importlib.util.find_spec(f"paperworks.{name}") is None:
        from paperworks.catalog import find_module

        module = find_module(name)
        if module is not None:
            return importlib.import_module(module)
    raise AttributeError(f"module 'paperworks' has no attribute or paper {name!r}")


def __dir__() -> list[str]:
    from paperworks.catalog import paper_modules

    return sorted([*globals(), *paper_modules()])
