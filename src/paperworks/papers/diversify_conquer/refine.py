"""The rounds of a run: training, answers, scores, weights; each step is kept, so that a stopped run goes on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.language.generation import GenerationSettings, InstructionRecord
from paperworks.papers.diversify_conquer.config import Config
from paperworks.papers.diversify_conquer.iterative import IterativeSelector
from paperworks.papers.diversify_conquer.pool import prompt_text
from paperworks.papers.diversify_conquer.prepare import Prepared
from paperworks.papers.diversify_conquer.scorers import (
    CommandScorer,
    PerplexityScorer,
    RewardModelScorer,
    feedback_scores,
)
from paperworks.papers.diversify_conquer.selector import KMeansSelector
from paperworks.papers.diversify_conquer.state import IterationState
from paperworks.papers.diversify_conquer.trainers import CommandTrainer, LanguageModelTrainer
from paperworks.training import TrainSettings


def refine(
    config: Config, run: runs.Run, data: Prepared, selector: KMeansSelector
) -> tuple[IterationState, list[dict[str, Any]]]:
    """Run all rounds; (the state, one row per round for the report).

    The score of the last round moves the weights too: they say where a further round would go.
    """
    kept = run.state / "iteration.npz"
    if kept.is_file():
        state = IterationState.load(kept)
    else:
        iterative = IterativeSelector(
            selector,
            config.rounds,
            transform=config.transform,
            temperature=config.feedback_temperature,
            accumulate=config.accumulate,
            max_ratio=config.max_ratio,
            init=config.init,
            feedback=config.feedback,
        )
        state = iterative.start()
    trainer = make_trainer(config, run)
    judge: Any = None
    while not state.done:
        if not len(state.to_score):
            state.next_batch()
            state.save(kept)
        run.step(f"round {state.round} of {config.rounds}: {len(state.selected):,} samples")
        tuned = data.pool.records.take(data.rows[state.selected])
        probe = data.pool.records.take(data.rows[state.to_score])
        model = trainer.train(state.round, tuned, probe)
        answers = trainer.generate(model, probe)
        if judge is None or config.judge == "tuned":
            judge = make_scorer(config, run, model)
        known = [i for i, r in enumerate(probe) if r.response and r.response.strip()]
        scores = np.full(len(probe), np.nan)
        scores[known] = _feedback(judge, [probe[i] for i in known], [answers[i] for i in known])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report says it
            state.update(scores)
        state.save(kept)
    return state, [_row(state, number) for number in range(len(state.batches))]


def make_trainer(config: Config, run: runs.Run) -> Any:
    """The user's program, or the training of a language model."""
    if config.trainer_command is not None:
        return CommandTrainer(config.trainer_command, run.state / "trainer")
    rate = config.learning_rate or (3e-4 if config.model is None else 2e-5)
    settings = TrainSettings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=rate,
        device=config.device,
        seed=config.seed % 2**32,
    )
    return LanguageModelTrainer(
        config.model,
        settings,
        restart=config.restart,
        max_length=config.max_length,
        generation=GenerationSettings(max_new_tokens=config.max_new_tokens),
        checkpoint_dir=run.state / "training",
        device=config.device,
        progress=run.progress,
    )


def make_scorer(config: Config, run: runs.Run, model: Any) -> Any:
    """What judges answers, by the options; ``model`` is the tuned one."""
    if config.scorer == "command":
        assert config.scorer_command is not None
        return CommandScorer(config.scorer_command, run.state / "scorer")
    if config.scorer == "reward":
        assert config.reward_model is not None
        return RewardModelScorer(config.reward_model, device=config.device)
    options: dict[str, Any] = {"sign": 1 if config.scorer == "perplexity" else -1, "device": config.device}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says it
        if config.judge == "tuned":
            return PerplexityScorer(model=model.model, tokenizer=model.tokenizer, **options)
        return PerplexityScorer(config.judge or config.model, **options)


def _feedback(judge: Any, records: list[InstructionRecord], answers: list[str]) -> np.ndarray:
    return feedback_scores(judge, [prompt_text(r) for r in records], [str(r.response) for r in records], answers)


def _row(state: IterationState, number: int) -> dict[str, Any]:
    _, scores = state.score_history[number]
    known = scores[np.isfinite(scores)]
    moved = state.weight_history[number + 1] / np.maximum(state.weight_history[0], 1e-12)
    used = state.weight_history[0] > 0
    return {
        "added": len(state.batches[number]),
        "scored": len(scores),
        "mean": float(known.mean()) if len(known) else float("nan"),
        "zero": float((np.abs(known) < 1e-8).mean()) if len(known) else float("nan"),
        "missing": int(np.isnan(scores).sum()),
        "ratio": float(moved[used].max() / max(moved[used].min(), 1e-12)),
    }
