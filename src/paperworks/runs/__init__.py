"""The contract between a paper and everything that runs it.

A paper's ``recipe.py`` has a ``Config`` (its options) and ``run(config, run) -> Report``; its ``study.py`` has
functions marked ``@study`` that return ``Finding`` objects. The rest of the package stores runs and executes them:

    recipe + options ──Engine──> Run ──> Report ──Store──> a folder: config.json, events.jsonl,
                                                           report.json, report.html, figures/, files/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.runs.config import CommandLineOnly, Config, File, build_config
    from paperworks.runs.engine import ChildEngine, Engine, LocalEngine
    from paperworks.runs.findings import Finding, Study, largest, smallest, studies_of, study
    from paperworks.runs.recipe import Recipe, load_recipe
    from paperworks.runs.report import Figure, Report, ReportFile, Table
    from paperworks.runs.run import Cancelled, Progress, Run, RunFailed, no_progress
    from paperworks.runs.store import RunBusy, RunRecord, Store
else:
    # Listing papers must not wait for pydantic and the engines.
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "Cancelled",
    "ChildEngine",
    "CommandLineOnly",
    "Config",
    "Engine",
    "Figure",
    "File",
    "Finding",
    "LocalEngine",
    "Progress",
    "Recipe",
    "Report",
    "ReportFile",
    "Run",
    "RunBusy",
    "RunFailed",
    "RunRecord",
    "Store",
    "Study",
    "Table",
    "build_config",
    "largest",
    "load_recipe",
    "no_progress",
    "smallest",
    "studies_of",
    "study",
]
