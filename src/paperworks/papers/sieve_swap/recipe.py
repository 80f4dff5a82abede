"""The user's transcripts, procedures and videos: sieved and swapped, aligned, trained on, predicted, evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks import runs
from paperworks.papers.sieve_swap.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Turn narrated videos into timed written steps, or train and use the model that predicts them."""
    action: Callable[[Config, runs.Run], runs.Report]
    if config.action in ("features", "train", "predict"):
        from paperworks.papers.sieve_swap import learning

        learned = {"features": learning.features, "train": learning.train, "predict": learning.predict}
        action = learned[config.action]
    else:
        from paperworks.papers.sieve_swap import reporting

        told = {"sieve": reporting.sieve, "align": reporting.align_all, "evaluate": reporting.evaluate_files}
        action = told[config.action]
    return action(config, run)
