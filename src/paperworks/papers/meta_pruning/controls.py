"""Controls: edits without meaning, the metanetwork's own regulariser without it, and growing regularisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paperworks.nn import resolve_device
from paperworks.papers.meta_pruning.criterion import decay_gradient, group_importance, sparsity_gradient
from paperworks.papers.meta_pruning.graph import Layout, tensors_of_model
from paperworks.papers.meta_pruning.planning import Scores
from paperworks.papers.meta_pruning.targets import Examples, copy_of, logits_with
from paperworks.parameters import check_seed
from paperworks.pruning.evidence import Evidence
from paperworks.pruning.unit_criteria import taylor_scores
from paperworks.structure.trace import TracedGroups
from paperworks.structure.trace.positions import tensor_at
from paperworks.structure.units import Key


@torch.no_grad()
def random_edit(model: nn.Module, edited: nn.Module, layout: Layout, seed: int) -> nn.Module:
    """A copy of ``model`` with random edits, each tensor's as long as the edit that ``edited`` got.

    Parameters
    ----------
    layout : says which tensors edits are written to.
    """
    check_seed("seed", seed)
    generator = torch.Generator().manual_seed(seed % 2**63)
    made = copy_of(model)
    before, after = tensors_of_model(model), tensors_of_model(edited)
    for name in layout.write(*layout.read(before)):
        noise = torch.randn(before[name].shape, generator=generator).to(before[name])
        length = (after[name] - before[name]).norm()
        tensor_at(made, name).add_(noise * (length / noise.norm().clamp_min(1e-30)))
    return made


Added = Callable[[Mapping[str, torch.Tensor], int], Mapping[str, torch.Tensor]]
"""What is added to the gradients: from the weights by name and the number of the step."""


def regularised_fine_tune(
    model: nn.Module,
    data: Examples,
    added: Added | None,
    *,
    epochs: float,
    learning_rate: float = 0.01,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    seed: int = 0,
    device: str = "auto",
) -> nn.Module:
    """Fine-tune in place with something added to the gradients at every step.

    As many steps, and the same optimiser, as ``fine_tune``; ``added`` None is plain fine-tuning in the same loop.
    """
    check_seed("seed", seed)
    place = resolve_device(device)
    images, labels = data
    size = min(batch_size, len(labels))
    steps = round(epochs * len(labels) / size)
    generator = torch.Generator().manual_seed(seed % 2**63)
    model.to(place).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=learning_rate,
        momentum=0.9,
    )
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(len(labels), generator=generator)])
        rows, order = order[:size], order[size:]
        loss = functional.cross_entropy(logits_with(model, {}, images[rows].to(place)), labels[rows].to(place))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if added is not None:
            add_gradient(model, added(tensors_of_model(model), step))
        optimizer.step()
    return model.to("cpu").eval()


def sparse_fine_tune(
    model: nn.Module, groups: TracedGroups, data: Examples, *, reg: float, alpha: float = 16.0, **options: Any
) -> nn.Module:
    """Fine-tune in place with the sparsity gradient: DepGraph's sparse training (``group_sl``).

    ``options`` are those of ``regularised_fine_tune``; ``reg`` 0 is plain fine-tuning.
    """

    def added(tensors: Mapping[str, torch.Tensor], _step: int) -> Mapping[str, torch.Tensor]:
        return sparsity_gradient(tensors, groups, reg, alpha)

    return regularised_fine_tune(model, data, added if reg else None, **options)


def growing_fine_tune(
    model: nn.Module,
    groups: TracedGroups,
    data: Examples,
    *,
    growth: float,
    every: int = 5,
    uniform: bool = False,
    **options: Any,
) -> nn.Module:
    """Fine-tune in place with a weight decay that grows: growing regularisation (Wang et al. 2021, arXiv 2012.09243).

    The decay of a channel starts at 0 and rises by ``growth`` every ``every`` steps. Weights come apart as it grows,
    and magnitudes then say what to prune.

    Parameters
    ----------
    uniform : True: all channels alike, as in the paper's second form. False: by ``growth`` times
        (largest - own) / (largest - smallest) norm of the group, so that weak channels are pulled first.
    options : those of ``regularised_fine_tune``.
    """
    decay = {key: torch.zeros(units.n_units) for key, units in groups.units.items()}

    def added(tensors: Mapping[str, torch.Tensor], step: int) -> Mapping[str, torch.Tensor]:
        if step % every == 0:
            for key, units in groups.units.items():
                root = group_importance(tensors, units).detach().sqrt()
                spread = (root.max() - root.min()).clamp_min(1e-12)
                rise = torch.ones_like(root) if uniform else (root.max() - root) / spread
                decay[key] = decay[key].to(rise) + growth * rise
        return decay_gradient(tensors, groups, decay)

    return regularised_fine_tune(model, data, added, **options)


def add_gradient(model: nn.Module, added: Mapping[str, torch.Tensor]) -> None:
    """Add to the gradients of the named parameters."""
    for name, value in added.items():
        tensor = tensor_at(model, name)
        if tensor.grad is not None:
            tensor.grad.add_(value)


def l1_scores(groups: TracedGroups) -> Scores:
    """Group L1: the mean over the member tensors of the sum of magnitudes in a channel's slice."""

    def scores(tensors: Mapping[str, torch.Tensor]) -> dict[Key, torch.Tensor]:
        roots = {name: value.detach().abs().sqrt() for name, value in tensors.items() if value.is_floating_point()}
        return {key: group_importance(roots, units) for key, units in groups.units.items()}

    return scores


def taylor_scores_on(model: nn.Module, groups: TracedGroups, data: Examples, seed: int = 0) -> Scores:
    """First-order Taylor (Molchanov et al. 2019) of the loss on 512 examples: ``(sum g w)^2`` over its slices."""
    copied = copy_of(model)
    evidence = Evidence(TensorDataset(*data), examples=512, batch_size=128, seed=seed)

    def scores(tensors: Mapping[str, torch.Tensor]) -> dict[Key, torch.Tensor]:
        with torch.no_grad():
            for name, value in tensors.items():
                tensor_at(copied, name).copy_(value)
        return taylor_scores(copied, groups, evidence)

    return scores
