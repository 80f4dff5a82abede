"""Many ways to prune one network, from one trace and one pass over the samples: what the pruner does in one round."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from paperworks.nn import evaluation_mode
from paperworks.papers.modhifi.layers import layer_at
from paperworks.papers.modhifi.moments import batches_of, call, collect, split_batches
from paperworks.papers.modhifi.normalised import normalised_layers
from paperworks.papers.modhifi.pruner import ModHiFiPruner
from paperworks.papers.modhifi.selection import KINDS, prunable_groups, reader_scores, unit_scores
from paperworks.papers.modhifi.targets import restored_bias, target_of
from paperworks.pruning import reestimate_norms
from paperworks.structure.scores import magnitude_scores, random_scores
from paperworks.structure.trace import analyze
from paperworks.structure.units import Units


class Arms:
    """A network, traced and measured once; ``masked`` is the network with the dropped inputs as zeros."""

    def __init__(self, model: nn.Module, calibration: Any, groups: Sequence[str] | None = None, size: int = 64) -> None:
        self.model, self.batches = model, batches_of(calibration, size)
        first = self.batches[0]
        example = {k: v[:2] for k, v in first.items()} if isinstance(first, dict) else first[:2]
        found = analyze(model, example)
        self.prunable, _ = prunable_groups(found, model, KINDS, groups)
        paths = [reader.layer.path for one in self.prunable.values() for reader in one.readers]
        fitted, held = split_batches(self.batches)
        self.fitted, self.held = collect(model, fitted, paths), collect(model, held, paths)
        self.whole = {path: self.fitted[path] + self.held[path] for path in paths}
        with normalised_layers(model) as self.normalised, evaluation_mode(model), torch.no_grad():
            call(model, first)

    def masked(
        self,
        gone: float,
        score: str,
        *,
        compensation: Any = "scalar",
        statistics: bool = True,
        restore_mean: bool = True,
        seed: int = 0,
    ) -> nn.Module:
        """A share ``gone`` of every group, by its score; as ``ModHiFiPruner(1 - gone, "channels", scope="group")``."""
        pruner = ModHiFiPruner(score=score, compensation=compensation)
        dropped: dict[str, torch.Tensor] = {}
        units = Units([one.group.units for one in self.prunable.values()])
        random = random_scores(units, torch.Generator().manual_seed(seed))
        magnitude = magnitude_scores(self.model, units)
        for one in self.prunable.values():
            n = one.group.n_units
            if score in ("random", "magnitude"):
                values = (random if score == "random" else magnitude)[one.group.key]
            else:
                values = unit_scores(reader_scores(one, self.whole, score, "auto", self.normalised), "sum")
            out = values.argsort(descending=True, stable=True)[round((1 - gone) * n) :]
            for reader in one.readers:
                inputs = dropped.setdefault(reader.layer.path, torch.zeros(reader.layer.inputs, dtype=torch.bool))
                inputs[reader.positions[out].flatten()] = True
        made = copy.deepcopy(self.model)
        for path, inputs in dropped.items():
            layer = layer_at(made, path)
            free = path in self.normalised and statistics
            centered = free or (restore_mean and layer.bias is not None)
            parts = [target_of(m[path], centered) for m in (self.fitted, self.held, self.whole)]
            _, matrix, _ = pruner.edited(layer, inputs, parts, self.whole[path].rows)
            mean = self.whole[path].mean
            bias = None if free or not restore_mean else restored_bias(layer, layer.matrix(), matrix, mean, mean)
            layer.write(matrix, bias)
        if statistics:
            reestimate_norms(made, self.batches)
        return made.eval()
