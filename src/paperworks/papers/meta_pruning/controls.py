"""Controls: edits without meaning, and the metanetwork's own regulariser without the metanetwork."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from paperworks.nn import resolve_device
from paperworks.papers.meta_pruning.criterion import sparsity_gradient
from paperworks.papers.meta_pruning.graph import Layout, tensors_of_model
from paperworks.papers.meta_pruning.targets import Examples, copy_of, logits_with
from paperworks.parameters import check_seed
from paperworks.structure.trace import TracedGroups
from paperworks.structure.trace.positions import tensor_at


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


def sparse_fine_tune(
    model: nn.Module,
    groups: TracedGroups,
    data: Examples,
    *,
    epochs: float,
    reg: float,
    alpha: float = 16.0,
    learning_rate: float = 0.01,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    seed: int = 0,
    device: str = "auto",
) -> nn.Module:
    """Fine-tune in place with the sparsity gradient added at every step: DepGraph's sparse training (``group_sl``).

    As many steps, and the same optimiser, as ``fine_tune``; ``reg`` 0 is plain fine-tuning in the same loop.
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
    for _ in range(steps):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(len(labels), generator=generator)])
        rows, order = order[:size], order[size:]
        loss = functional.cross_entropy(logits_with(model, {}, images[rows].to(place)), labels[rows].to(place))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if reg:
            add_gradient(model, sparsity_gradient(tensors_of_model(model), groups, reg, alpha))
        optimizer.step()
    return model.to("cpu").eval()


def add_gradient(model: nn.Module, added: Mapping[str, torch.Tensor]) -> None:
    """Add to the gradients of the named parameters."""
    for name, value in added.items():
        tensor = tensor_at(model, name)
        if tensor.grad is not None:
            tensor.grad.add_(value)
