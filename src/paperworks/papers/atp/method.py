"""ATP inside a common budget: what ``paperworks compare-methods`` calls."""

from __future__ import annotations

from paperworks.errors import InputError
from paperworks.papers.atp.estimator import ATP
from paperworks.papers.atp.settings import Search, TrainerArgs, search_rate
from paperworks.pruning import Pruned, PruningJob
from paperworks.pruning.taxonomy import Taxonomy

TAXONOMY = Taxonomy(
    speedup="structured",
    when="during",
    how="learned",
    by="meta-learning",
    unit=("head", "channel"),
    data="labelled",
    recovery="finetune",
    fusion=("low-rank adapters",),
)

LEAST_STEPS = 10


def prune(job: PruningJob) -> Pruned:
    """The paper's space and search on plain windows of the job's text: the first half of the steps searches.

    Adapters of rank 8 learn at the job's rate in all steps; the exact decision meets the target within one unit.
    Raises InputError for a target out of reach, or too few steps to search in.
    """
    if job.train_steps < LEAST_STEPS:
        raise InputError("train_steps", job.train_steps, f"at least {LEAST_STEPS}: the masks are searched in them")
    model, tokenizer = job.load()
    method = ATP(
        target=job.target,
        generator=Search(learning_rate=search_rate(job.train_steps // 2)),
        trainer_args=TrainerArgs(steps=job.train_steps, batch_size=job.batch_size, learning_rate=job.learning_rate),
        seed=job.seed,
        device=job.device,
    )
    method.fit(
        model,
        job.windows(tokenizer),
        job.calibration(tokenizer),
        checkpoint_dir=job.state / "atp",
        progress=job.progress,
    )
    found = method.report_
    notes = [
        f"Space layer_uniform: rotary pairs, value channels and feed-forward channels; {found.search_steps} of "
        f"{found.steps} steps also searched (a forward and backward pass each).",
        *found.notes,
    ]
    return Pruned(method.model_, found.steps, notes)
