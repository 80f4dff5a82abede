"""A module whose traced groups have several widths at once: what ``TracedSpace`` searches in.

A producer's output is cut to each drawn width, brought to the widest one and added with the weights that were drawn; a
BatchNorm, LayerNorm or RMSNorm becomes one for each candidate. What is missing to the full size is filled with zeros.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from paperworks.papers.tas.choices import Draw
from paperworks.papers.tas.interpolation import channel_interpolation, pad_channels
from paperworks.structure.trace import TracedGroup, TracedGroups
from paperworks.structure.trace.capture import arguments

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LAYER_NORMS = (nn.LayerNorm, nn.RMSNorm)
NORMS = (*BATCH_NORMS, *LAYER_NORMS)
Blended = Callable[[torch.Tensor, int, int], torch.Tensor]


class Owner(Protocol):
    """What draws the widths."""

    groups: TracedGroups

    def drawn(self, number: int) -> Draw:
        """What was drawn for a group in this forward pass."""
        ...


def producers_and_norms(model: nn.Module, group: TracedGroup) -> list[tuple[str, torch.Tensor]]:
    """Modules whose output (or norm) has the units of a group, with the positions ``[units, positions of each]``."""
    points: dict[str, torch.Tensor] = {}
    for piece in group.units.slices:
        path, _, leaf = piece.param.rpartition(".")
        module = model.get_submodule(path)
        makes = isinstance(module, (*CONVOLUTIONS, nn.Linear)) and leaf == "weight" and piece.axis == 0
        if makes or (isinstance(module, NORMS) and leaf == "weight"):
            points[path] = piece.index.table
    return list(points.items())


def instrumented(
    owner: Owner, module: nn.Module, found: Sequence[str], known: Mapping[str, tuple[int, ...]], blended: Blended
) -> nn.Module:
    """The module with drawn widths: norms replaced by one for each candidate, outputs of the other producers mixed."""
    groups = owner.groups
    points = {name: producers_and_norms(groups.model, groups[name]) for name in found}
    direct = _norms_behind(module, groups, {path for several in points.values() for path, _ in several})
    followed = set(direct.values())
    for number, name in enumerate(found):
        for path, table in points[name]:
            point = module.get_submodule(path)
            if isinstance(point, NORMS):
                module.set_submodule(
                    path, NormChoice(owner, number, point, known[name], table, blended, mixes=path in direct)
                )
            elif path not in followed:
                mixer = OutputChoice(owner, number, known[name], table, blended, axis=-1)
                if isinstance(point, CONVOLUTIONS):
                    mixer.axis = 1
                point.register_forward_hook(mixer)
    return module


def _norms_behind(module: nn.Module, groups: TracedGroups, paths: set[str]) -> dict[str, str]:
    """Norms that take the very output of a producer, by name, with that producer."""
    made: dict[int, tuple[str, torch.Tensor]] = {}
    taken: dict[str, str] = {}
    uses: Counter[str] = Counter()
    handles = []

    def note(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            made[id(output)] = (path, output)
            uses[path] += 1

        return hook

    def look(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any) -> None:
            if inputs and id(inputs[0]) in made:
                taken[path] = made[id(inputs[0])][0]

        return hook

    for path in paths:
        point = module.get_submodule(path)
        if isinstance(point, NORMS):
            handles.append(point.register_forward_pre_hook(look(path)))
        else:
            handles.append(point.register_forward_hook(note(path)))
    args, kwargs = arguments(groups.inputs)
    try:
        with torch.no_grad():
            module.eval()(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return {norm: producer for norm, producer in taken.items() if uses[producer] == 1}


def blend_function(name: str) -> Blended:
    return channel_interpolation if name == "interpolate" else pad_channels


class _Mixer:
    """Brings the channels of a group to units, and several widths of them to one feature map of the full size."""

    def __init__(self, owner: Owner, number: int, candidates: tuple[int, ...], table: torch.Tensor, blended: Blended):
        self.owner, self.number, self.candidates, self.blended = owner, number, candidates, blended
        self.units, self.each = table.shape
        flat = table.flatten()
        self.plain = bool((flat == torch.arange(len(flat))).all())
        self.order, self.back = flat, flat.argsort()

    def to_units(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Channels in the order of the units along axis 1."""
        moved = x.movedim(axis, 1)
        return moved if self.plain else moved.index_select(1, self.order.to(x.device))

    def from_units(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """The reverse of ``to_units``, with zeros for the units that are missing."""
        full = pad_channels(x, self.units * self.each, 1)
        return (full if self.plain else full.index_select(1, self.back.to(x.device))).movedim(1, axis)

    def mixed(self, parts: Sequence[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """The weighted sum of feature maps ``[n, units x each, ...]`` of several widths, at the largest of them."""
        widest = max(part.shape[1] for part in parts) // self.each
        total: torch.Tensor | None = None
        for part, weight in zip(parts, weights, strict=True):
            split = part.unflatten(1, (-1, self.each))
            scaled = weight * self.blended(split, widest, 1).flatten(1, 2)
            total = scaled if total is None else total + scaled
        assert total is not None
        return total


class OutputChoice(_Mixer):
    """A forward hook that mixes the drawn widths of a layer's output."""

    def __init__(
        self, owner: Owner, number: int, candidates: tuple[int, ...], table: torch.Tensor, blended: Blended, axis: int
    ) -> None:
        super().__init__(owner, number, candidates, table, blended)
        self.axis = axis

    def __call__(self, _module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        draw = self.owner.drawn(self.number)
        units = self.to_units(output, self.axis)
        parts = [units[:, : self.candidates[pick] * self.each] for pick in draw.picks]
        return self.from_units(self.mixed(parts, draw.weights), self.axis)


class NormChoice(nn.Module):
    """A norm for each candidate width. Behind a layer it mixes the drawn widths; elsewhere the widest one acts."""

    def __init__(
        self,
        owner: Owner,
        number: int,
        norm: Any,
        candidates: tuple[int, ...],
        table: torch.Tensor,
        blended: Blended,
        *,
        mixes: bool,
    ) -> None:
        super().__init__()
        self.mixer, self.mixes = _Mixer(owner, number, candidates, table, blended), mixes
        self.norms = nn.ModuleList(_of_channels(norm, self.mixer.order[: w * self.mixer.each]) for w in candidates)
        self.axis = 1
        if isinstance(norm, LAYER_NORMS):  # transformers has layer norms over the channels of feature maps
            self.axis = 1 if getattr(norm, "data_format", "channels_last") == "channels_first" else -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixer, axis = self.mixer, self.axis
        draw = mixer.owner.drawn(mixer.number)
        units = mixer.to_units(x, axis)
        picks = draw.picks
        if not self.mixes:
            picks = (max(picks, key=lambda pick: mixer.candidates[pick]),)
        parts = []
        for pick in picks:
            kept = units[:, : mixer.candidates[pick] * mixer.each].movedim(1, axis)
            parts.append(self.norms[pick](kept).movedim(axis, 1))
        return mixer.from_units(parts[0] if len(parts) == 1 else mixer.mixed(parts, draw.weights), axis)


def _of_channels(norm: Any, kept: torch.Tensor) -> Any:
    """A copy of a norm for some of its channels."""
    one = copy.deepcopy(norm)
    for field in ("weight", "bias"):
        parameter = getattr(one, field, None)
        if parameter is not None:
            setattr(one, field, nn.Parameter(parameter.detach()[kept].clone()))
    if isinstance(norm, LAYER_NORMS):
        one.normalized_shape = (len(kept),)
    else:
        one.num_features = len(kept)
        for field in ("running_mean", "running_var"):
            setattr(one, field, getattr(one, field)[kept].clone())
    return one
