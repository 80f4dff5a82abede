"""What a layer's compensation is fitted on, and its check on samples that were held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from paperworks.nn import evaluation_mode
from paperworks.papers.modhifi.compensation import Target
from paperworks.papers.modhifi.layers import ReadLayer, layer_at
from paperworks.papers.modhifi.moments import Batches, Moments, call, unpadded_rows


class PairedMoments:
    """Second moments of what a layer reads in two models on the same samples, and those between the two.

    With one model twice, all three are equal.
    """

    def __init__(self, groups: int, d: int) -> None:
        self.gram, self.cross, self.dense = (torch.zeros(groups, d, d, dtype=torch.float64) for _ in range(3))
        self.mean, self.dense_mean = (torch.zeros(groups, d, dtype=torch.float64) for _ in range(2))
        self.rows = self.samples = 0

    def add(self, dense: torch.Tensor, now: torch.Tensor) -> None:
        """Rows [n, groups, L, d] of both."""
        n, groups, places, d = now.shape
        p, q = (x.transpose(0, 1).reshape(groups, n * places, d) for x in (dense, now))
        self.gram += (q.mT @ q).double().cpu()
        self.cross += (p.mT @ q).double().cpu()
        self.dense += (p.mT @ p).double().cpu()
        self.mean += q.sum(1, dtype=torch.float64).cpu()
        self.dense_mean += p.sum(1, dtype=torch.float64).cpu()
        self.rows, self.samples = self.rows + n * places, self.samples + n

    def target(self, centered: bool) -> Target:
        """Moments per sample, less the product of the means over samples and places if ``centered``."""
        gram, cross, dense = self.gram, self.cross, self.dense
        if centered:
            m, p = self.mean[:, :, None], self.dense_mean[:, :, None]
            gram, cross, dense = gram - m @ m.mT / self.rows, cross - p @ m.mT / self.rows, dense - p @ p.mT / self.rows
        return Target(gram / self.samples, cross / self.samples, dense / self.samples)


def target_of(moments: Moments, centered: bool) -> Target:
    """For a layer that reads what it read in the dense model."""
    return Target.of(moments.matrix("channel" if centered else "none"))


def paired_moments(dense: nn.Module, now: nn.Module, path: str, batches: Batches) -> PairedMoments:
    """What the layer at ``path`` reads in the dense model and in the one that is being edited."""
    layer = layer_at(now, path)
    d = layer.inputs * layer.kernel
    found = PairedMoments(layer.groups, d)
    seen: dict[str, list[torch.Tensor]] = {"dense": [], "now": []}

    def keep(name: str, mask: torch.Tensor | None) -> Any:
        def note(_module: nn.Module, args: tuple[Any, ...]) -> None:
            seen[name].append(layer.rows(unpadded_rows(args[0].detach(), mask)))

        return note

    with evaluation_mode(dense, now), torch.no_grad():
        for batch in batches:
            mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
            for name, model in (("dense", dense), ("now", now)):
                seen[name].clear()
                handle = layer_at(model, path).module.register_forward_pre_hook(keep(name, mask))
                try:
                    call(model, batch)
                finally:
                    handle.remove()
            for before, after in zip(seen["dense"], seen["now"], strict=True):
                found.add(before, after)
    return found


def restored_bias(
    layer: ReadLayer, before: torch.Tensor, after: torch.Tensor, dense_mean: torch.Tensor, mean: torch.Tensor
) -> torch.Tensor | None:
    """The bias that keeps the mean of every output: b + W m_dense - W' m; None where the layer has no bias."""
    if layer.bias is None:
        return None
    groups, d = mean.shape

    def outputs(matrix: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        return (matrix.view(groups, -1, d) @ of[:, :, None]).flatten()

    return layer.bias.detach().double().cpu() + outputs(before, dense_mean) - outputs(after, mean)


def call_order(model: nn.Module, batch: Any, layers: Mapping[str, ReadLayer]) -> list[str]:
    """Paths in the order in which a forward calls them first."""
    order: list[str] = []
    handles = [
        layer.module.register_forward_pre_hook(lambda _m, _a, path=path: order.append(path))
        for path, layer in layers.items()
    ]
    try:
        with evaluation_mode(model), torch.no_grad():
            call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))
