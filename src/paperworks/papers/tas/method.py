"""TAS as a pruning method for any traced module: widths of the groups are searched, from the module's own weights."""

from __future__ import annotations

import warnings

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.tas.bilevel import SearchSettings, search
from paperworks.papers.tas.traced import TracedSpace
from paperworks.pruning.module_job import ModuleJob, PrunedModule
from paperworks.pruning.taxonomy import Taxonomy

TAXONOMY = Taxonomy(
    speedup="structured",
    when="before",
    how="learned",
    by="architecture search",
    unit=("channel", "head", "block"),
    data="labelled",
    recovery="distil",
    fusion=("architecture search", "distillation"),
)

SEARCHED = 0.5
"""Share of the job's steps that the search takes; the rest is for the recovery."""
TOLERANCE = 0.03


def prune_module(job: ModuleJob) -> PrunedModule:
    """Search for widths within half of the job's steps, and cut the module to them.

    Two departures from the paper, since the job gives a trained module and few steps: the search begins with the
    module's weights, and the cut module keeps those of its strongest units. The recovery, with the dense module as its
    teacher, is the caller's.

    Raises InputError where there are no labels, no steps for a search, or no group to search in.
    """
    inputs, labels = job.labelled("a search")
    epochs = int(job.train_steps * SEARCHED / 2 / max(1, -(-len(inputs) // (2 * job.batch_size))))
    if epochs < 1:
        steps = 2 * -(-len(inputs) // (2 * job.batch_size))
        raise InputError("train_steps", job.train_steps, f"{round(steps / SEARCHED)} or more, for one epoch of search")
    model = job.copy().cpu()
    # streams: what a norm is taken over is not inherited well
    space = TracedSpace(model, job.example_inputs, streams=False, start="given", ignore=job.ignore, seed=job.seed)
    settings = SearchSettings(
        target=job.macs / (1 + TOLERANCE),
        tolerance=TOLERANCE,
        epochs=epochs,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        outside="repair",
        device=job.device,
        seed=job.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = search(space, inputs, labels, settings=settings, checkpoint_dir=job.state, progress=job.progress)
    steps = 2 * epochs * -(-len(inputs) // (2 * job.batch_size))
    smaller = space.inherit(model, found.genotype)
    notes = [f"{steps} steps are those of the search; it begins with the trained weights, and units are inherited"]
    if not found.epoch:
        notes.append("no epoch of the search ended at the wanted cost: the least certain widths were moved to it")
    return PrunedModule(smaller.to(resolve_device(job.device)).eval(), steps, notes)
