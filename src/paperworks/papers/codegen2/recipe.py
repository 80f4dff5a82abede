"""A model trained to complete the user's code and to fill holes in it; holes filled; released checkpoints converted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks import runs
from paperworks.papers.codegen2.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Train a model on code with CodeGen2's mixture, fill holes with one, or convert a released checkpoint."""
    from paperworks.papers.codegen2 import actions, adaptation

    functions: dict[str, Callable[[Config, runs.Run], runs.Report]] = {
        "train": adaptation.adapt,
        "infill": actions.fill_file,
        "convert": actions.convert,
    }
    return functions[config.action](config, run)
