"""Pruning by a graph metanetwork as a method for any traced module, for ``paperworks compare-methods``."""

from __future__ import annotations

import torch
from torch.utils.data import TensorDataset

from paperworks.papers.meta_pruning.graph import make_layout
from paperworks.papers.meta_pruning.meta_training import MetaSettings
from paperworks.papers.meta_pruning.metanetwork import GraphMetaNetwork
from paperworks.papers.meta_pruning.pruner import MetaPruner
from paperworks.papers.meta_pruning.workbench import bundled_for
from paperworks.pruning import train_classifier
from paperworks.pruning.module_job import ModuleJob, PrunedModule
from paperworks.pruning.taxonomy import Taxonomy
from paperworks.structure.trace import cut

TAXONOMY = Taxonomy(
    speedup="structured",
    when="after",
    how="learned",
    by="graph network",
    unit=("channel", "filter", "neuron", "head"),
    data="labelled",
    recovery="finetune",
)
META_SHARE, TUNE_SHARE = 0.25, 0.25
"""Shares of a job's steps for meta-training, where no bundled metanetwork fits, and for fine-tuning after the edit."""


def prune_module(job: ModuleJob) -> PrunedModule:
    """Edit, fine-tune, and cut to the job's cost.

    A bundled metanetwork is used where it is for networks of this kind. Else one is trained on the network itself for a
    quarter of the steps, as the official code does with a single vision transformer. Another quarter goes into the
    fine-tuning that the edit needs; what is left is the caller's.

    Raises
    ------
    InputError : no labels, or a cost that cannot be reached.
    """
    images, labels = job.labelled("meta-pruning")
    model = job.copy()
    notes: list[str] = []
    steps = 0
    groups = job.analyze(model)
    layout = make_layout(model, groups.inputs, groups=groups)
    found = bundled_for(layout)
    if found is not None:
        notes.append(f"edited by the bundled metanetwork for {found[0]}")
        pruner = MetaPruner(found[1], device=job.device, random_state=job.seed)
    else:
        steps = int(META_SHARE * job.train_steps)
        metanetwork = GraphMetaNetwork.for_layouts(layout, seed=job.seed, hidden=8, layers=3)
        settings = MetaSettings(epochs=1, batches=max(1, steps), batch_size=job.batch_size)
        pruner = MetaPruner(metanetwork, settings=settings, device=job.device, random_state=job.seed)
        if steps:
            pruner.fit([model], (images, labels), progress=job.progress)
        notes.append(f"the metanetwork was trained on this network alone, for {steps} steps")
    model = job.copy()
    target = pruner.target(model.cpu(), _on_cpu(job.example_inputs))
    edited = pruner.edited(target) if found is not None or steps else model
    tuned = int(TUNE_SHARE * job.train_steps)
    # as every method is trained there: at a constant rate with gradients of any length a network without norms died
    train_classifier(
        edited,
        TensorDataset(images, labels),
        steps=tuned,
        learning_rate=job.learning_rate,
        batch_size=job.batch_size,
        seed=job.seed,
        device=job.device,
        settle_norms=True,
        progress=job.progress,
    )
    if not tuned:
        notes.append("without fine-tuning after the edit, which the method needs")
    edited = edited.to(next(job.copy().parameters()).device)
    groups = groups.of(edited)
    small = cut(groups, pruner.plan_for(edited, groups, 1 / job.macs)).eval()
    return PrunedModule(small, steps + tuned, notes)


def _on_cpu(inputs: object) -> torch.Tensor:
    return torch.utils._pytree.tree_map_only(torch.Tensor, lambda x: x.cpu(), inputs)  # type: ignore[no-any-return]
