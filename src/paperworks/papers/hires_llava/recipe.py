"""What an encoder loses where slices meet and what the adapter wins back; the benchmark; training."""

from __future__ import annotations

from paperworks import runs
from paperworks.papers.hires_llava.config import Config

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Do what ``action`` says."""
    if config.action == "probe":
        from paperworks.papers.hires_llava.actions.probe import probe

        return probe(config, run)
    if config.action == "entitygrid":
        from paperworks.papers.hires_llava.actions.benchmark import benchmark

        return benchmark(config, run)
    if config.action == "classify":
        from paperworks.papers.hires_llava.actions.classify import classify

        return classify(config, run)
    from paperworks.papers.hires_llava.actions.tune import tune

    return tune(config, run)
