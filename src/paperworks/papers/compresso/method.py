"""Compresso inside a common budget: what ``paperworks compare-methods`` calls."""

from __future__ import annotations

import warnings

from paperworks.errors import InputError
from paperworks.papers.compresso.config import PENALTY
from paperworks.papers.compresso.estimator import Compresso
from paperworks.papers.compresso.settings import TrainerArgs
from paperworks.pruning import Pruned, PruningJob
from paperworks.pruning.taxonomy import Taxonomy

TAXONOMY = Taxonomy(
    speedup="structured",
    when="during",
    how="learned",
    by="sparsity regularisation",
    unit=("head", "channel", "embedding"),
    data="labelled",
    recovery="finetune",
    fusion=("low-rank adapters",),
)

LEAST_STEPS = 20
TUNING, FINAL = 0.05, 0.25
"""Shares of the steps before the masks come, and behind fixed masks."""
WARMUP = 0.5
PATH = 40.0
"""How far log_alpha and the multipliers can travel in a pruning at least: rate times steps."""


def mask_rate(pruning_steps: int) -> float:
    """The rate of the masks: the paper's 0.1, and more where there are so few steps that the masks could not settle."""
    return max(0.1, PATH / pruning_steps)


def phases(steps: int) -> tuple[int, int, int]:
    """Steps of tuning, pruning and the final phase, out of so many in all."""
    tuning, final = round(TUNING * steps), round(FINAL * steps)
    return tuning, steps - tuning - final, final


def prune(job: PruningJob) -> Pruned:
    """Learn masks over heads, channels and dimensions on plain windows of the job's text, without a prompt.

    Of the steps, a twentieth tunes the adapters alone and the last quarter tunes them behind the fixed masks. The exact
    fill makes the model meet the target within one unit.
    """
    if job.train_steps < LEAST_STEPS:
        raise InputError("train_steps", job.train_steps, f"at least {LEAST_STEPS}: the masks are learned in them")
    model, tokenizer = job.load()
    tuning, pruning, final = phases(job.train_steps)
    method = Compresso(
        target=job.target,
        prompt="none",
        warmup=WARMUP,
        trainer_args=TrainerArgs(
            tuning_steps=tuning,
            pruning_steps=pruning,
            final_steps=final,
            batch_size=job.batch_size,
            max_length=job.length,
            learning_rate=job.learning_rate,
            final_learning_rate=job.learning_rate,
            mask_learning_rate=mask_rate(pruning),
            penalty_factor=PENALTY,
        ),
        seed=job.seed,
        device=job.device,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they are among the notes
        method.fit(model, None, job.windows(tokenizer), checkpoint_dir=job.state, progress=job.progress)
    return Pruned(method.model_, job.train_steps, method.report_.notes)
