"""Train, test and explain a classifier of slices on the user's scans, or mark scans with one that was trained."""

from __future__ import annotations

from paperworks import runs
from paperworks.papers.petct_slices.config import Config

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Train on patients and test on others; with ``model``, mark the slices of scans."""
    from paperworks.papers.petct_slices.marking import mark
    from paperworks.papers.petct_slices.training_run import train_and_test

    return mark(config, run) if config.model is not None else train_and_test(config, run)
