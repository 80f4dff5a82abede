"""Runs on many machines: the engine for Ray, an optional extra. Importing this package does not import Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.runs.cluster.engine import RayEngine, check_share, gpus_for
    from paperworks.runs.cluster.work import Cluster, Ended, Work
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = ["Cluster", "Ended", "RayEngine", "Work", "check_share", "gpus_for"]
