"""Train a segmenter on images with masks, then ask it for other names; or ask one that was trained."""

from __future__ import annotations

from paperworks import runs
from paperworks.papers.gkc.config import Config

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Train, test, save and answer; with ``model``, answer alone."""
    from paperworks.papers.gkc.asking import ask_model
    from paperworks.papers.gkc.training_run import train_and_ask

    return ask_model(config, run) if config.model is not None else train_and_ask(config, run)
