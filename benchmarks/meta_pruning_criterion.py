"""Meta-pruning's criterion and sparsity gradient beside Torch-Pruning 1.6.1, on the same networks.

    pip install torch-pruning==1.6.1
    python benchmarks/meta_pruning_criterion.py

For each group: the group L2 importance of every channel (mean over the members, over the group's largest), and the
gradient that ``GroupNormPruner.regularize`` adds to every weight. Printed are the largest relative differences, and
the processor time of the gradient.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from paperworks.nn import MLP, SmallCNN
from paperworks.papers.meta_pruning import group_importance, sparsity_gradient
from paperworks.papers.meta_pruning.graph import tensors_of_model
from paperworks.structure.trace import analyze

REG, ALPHA, ROUNDS = 0.3, 16, 20


def main() -> None:
    """Compare on a perceptron and on a residual network."""
    import torch_pruning as tp

    torch.manual_seed(0)
    images = torch.rand(2, 1, 16, 16)
    networks: dict[str, nn.Module] = {
        "perceptron": MLP(inputs=256, hidden=(96, 64), outputs=10, batch_norm=True),
        "residual": SmallCNN(channels=1, widths=(16, 32, 64), outputs=10),
    }
    for name, model in networks.items():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.data = torch.rand_like(tensor) + 0.1
        model.eval()
        compare(tp, name, model, images)


def compare(tp: object, name: str, model: nn.Module, images: torch.Tensor) -> None:
    """Print the differences for one network."""
    groups = analyze(model, images)
    importance = tp.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer="max")  # type: ignore[attr-defined]
    pruner = tp.pruner.GroupNormPruner(  # type: ignore[attr-defined]
        model, images, importance=importance, reg=REG, alpha=ALPHA, ignored_layers=[model.head]
    )
    pruner.update_regularizer()
    tensors = tensors_of_model(model)
    paths = {id(module): path for path, module in model.named_modules()}
    worst, compared = 0.0, 0
    for group in pruner._groups:
        root = paths[id(group[0].dep.target.module)]
        own = next(
            (g for g in groups.ordered if any(s.param == f"{root}.weight" and not s.axis for s in g.slices)), None
        )
        if own is None:
            print(f"{name}: no group for {root}")
            continue
        mine = group_importance(tensors, own.units)
        theirs = importance(group)
        worst = max(worst, float((mine / mine.max() - theirs).abs().max()))
        compared += 1
    print(f"{name}: importance of {compared} groups, largest difference {worst:.2g}")
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    started = time.process_time()
    for _ in range(ROUNDS):
        pruner.regularize(model, alpha=ALPHA)
    theirs_seconds = (time.process_time() - started) / ROUNDS
    started = time.process_time()
    for _ in range(ROUNDS):
        found = sparsity_gradient(tensors, groups, REG, ALPHA)
    own_seconds = (time.process_time() - started) / ROUNDS
    for key, parameter in model.named_parameters():
        expected = parameter.grad / ROUNDS  # type: ignore[operator]
        mine = found.get(key, torch.zeros_like(parameter))
        difference = float((mine - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
        if difference > 1e-4:
            print(f"    {key}: gradients differ by {difference:.2g} of the largest")
    print(f"    gradient: {own_seconds * 1000:.2f} ms here, {theirs_seconds * 1000:.2f} ms there")


if __name__ == "__main__":
    main()
