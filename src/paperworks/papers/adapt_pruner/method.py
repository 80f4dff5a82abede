"""Adapt-Pruner as one of several methods at the same budget, for ``compare-methods``."""

from __future__ import annotations

from paperworks.language import token_windows
from paperworks.papers.adapt_pruner.accel import AdaptAccel
from paperworks.papers.adapt_pruner.pruner import AdaptPruner
from paperworks.pruning import Pruned, PruningJob
from paperworks.pruning.taxonomy import Taxonomy
from paperworks.structure import count
from paperworks.training import TrainSettings

TAXONOMY = Taxonomy(
    speedup="structured",
    when="after",
    how="criterion",
    by="loss change",
    unit=("head", "channel"),
    data="labelled",
    recovery="finetune",
)

PER_STAGE = 0.05
"""Share of the parameters that the paper removes in a stage."""
ALL_WEIGHTS = 0.2
"""The job's rate is one for adapters; all weights are trained here, which wants a lower one."""
CALIBRATION_LENGTH = 64
"""Tokens of a calibration sequence, as in the paper."""


def stages_for(parameters: int, target: int) -> int:
    """Stages of about 5 % of the parameters each."""
    return max(1, round((parameters - target) / (PER_STAGE * parameters)))


def training(steps: int, batch_size: int, learning_rate: float, seed: int, device: str = "auto") -> TrainSettings:
    """The paper's schedule: WSD with a decay over the last 10 % to a tenth of the peak rate, gradients cut at 1."""
    return TrainSettings(
        batch_size=batch_size,
        learning_rate=learning_rate,
        final_factor=0.1,
        schedule="wsd",
        decay_fraction=0.1,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        seed=seed,
        device=device,
        checkpoint_every=max(1, steps // 10),
    )


def prune(job: PruningJob) -> Pruned:
    """Adapt-Pruner with the paper's amplitude and steps; with ``train_steps``, Adapt-Accel that takes exactly those.

    Every pruning step draws as many sequences as the job has, of 64 tokens (or the job's length, if shorter), anew.
    """
    model, tokenizer = job.load()
    length = min(job.length, CALIBRATION_LENGTH)
    available = len(token_windows(tokenizer, list(job.texts), length))
    pruner = AdaptPruner(
        job.target, examples=min(job.sequences, available), length=length, batch_size=job.batch_size, seed=job.seed
    )
    if not job.train_steps:
        report = pruner.fit(
            model, list(job.texts), tokenizer=tokenizer, checkpoint_dir=job.state, progress=job.progress
        ).report_
        return Pruned(model, 0, report.notes)
    stages = min(stages_for(count(model).parameters, job.target), job.train_steps)
    settings = training(job.train_steps, job.batch_size, ALL_WEIGHTS * job.learning_rate, job.seed, job.device)
    accel = AdaptAccel(pruner, stages, train_steps=job.train_steps, settings=settings)
    result = accel.fit(
        model,
        job.windows(tokenizer),
        calibration=list(job.texts),
        tokenizer=tokenizer,
        checkpoint_dir=job.state,
        progress=job.progress,
    ).report_
    notes = [f"{stages} stages of pruning and training", *result.notes]
    return Pruned(model, result.steps, notes)
