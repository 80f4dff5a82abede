"""A model fine-tuned so that records can be deleted: train it, delete from it, verify it, answer with it, plan it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks import runs
from paperworks.papers.s3t.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Fine-tune so that records can be deleted at once, or act on a folder that was trained so."""
    from paperworks.papers.s3t import actions, reporting

    functions: dict[str, Callable[[Config, runs.Run], runs.Report]] = {
        "fit": reporting.fit,
        "delete": actions.delete,
        "verify": actions.verify,
        "serve": actions.serve,
        "status": actions.status,
        "retrain": actions.retrain,
        "plan": actions.plan_budget,
    }
    return functions[config.action](config, run)
