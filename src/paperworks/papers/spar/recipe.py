"""Self-play on the user's prompts and model: verified preference pairs, a tuned model, and what it obeys."""

from __future__ import annotations

from pathlib import Path

from paperworks import runs
from paperworks.papers.spar.config import Config

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Play the rounds, tune after each, score on test prompts, and compare search at inference."""
    from paperworks.errors import InputError
    from paperworks.nn.loading import check_model_folder
    from paperworks.papers.spar.inputs import read_inputs
    from paperworks.papers.spar.models import Models, judge_name, refiner_name, template_text
    from paperworks.papers.spar.play import Game
    from paperworks.papers.spar.reporting import report

    if refiner_name(config) not in ("editor", "same", "endpoint"):  # it is loaded after the actor's answers
        try:
            check_model_folder(Path(refiner_name(config)).expanduser())
        except InputError as error:
            raise InputError("refiner", error.found, error.expected) from None
    run.step("reading prompts")
    template = template_text(config)
    inputs = read_inputs(config, run, template)
    judge = judge_name(config, [*inputs.train, *inputs.test])
    game = Game(config, run, inputs, Models(config, run, template), judge)
    game.play()
    return report(config, run, game)
