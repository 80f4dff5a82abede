"""Narrated videos become pairs of pictures and sentences; pairs train two encoders; encoders are evaluated."""

from __future__ import annotations

from paperworks import runs
from paperworks.papers.quilt1m.config import Config

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Curate videos, train on pairs, or evaluate what was trained."""
    if config.action == "curate":
        from paperworks.papers.quilt1m.curation import curate

        return curate(config, run)
    from paperworks.papers.quilt1m import encoders_report

    return encoders_report.train(config, run) if config.action == "train" else encoders_report.evaluate(config, run)
