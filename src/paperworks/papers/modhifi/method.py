"""ModHiFi-P as one of several methods at the same cost, for ``compare-methods``."""

from __future__ import annotations

from paperworks.nn import resolve_device
from paperworks.papers.modhifi.pruner import ModHiFiPruner
from paperworks.pruning.module_job import ModuleJob, PrunedModule
from paperworks.pruning.taxonomy import Taxonomy

TAXONOMY = Taxonomy(
    speedup="structured",
    when="after",
    how="criterion",
    by="reconstruction",
    unit=("channel", "neuron"),
    data="unlabelled",
    recovery="update",
)


def prune_module(job: ModuleJob) -> PrunedModule:
    """One round on the job's inputs, without labels: channels by fidelity, rescaled; no optimiser step."""
    inputs = job.inputs("the fidelity of ModHiFi").to(resolve_device(job.device))
    method = ModHiFiPruner(job.macs, of="macs", batch_size=max(2, job.batch_size), ignore=job.ignore, seed=job.seed)
    method.fit(job.copy(), inputs, progress=job.progress)
    return PrunedModule(method.model_, 0, list(method.report_.notes))
