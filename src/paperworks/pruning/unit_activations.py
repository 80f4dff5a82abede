"""What readers take in: the activations of a traced group's units, where the next layers read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.pruning.evidence import Evidence
from paperworks.structure.trace import TracedGroup, TracedGroups
from paperworks.structure.units import Key
from paperworks.training import model_logits

UnitScores = dict[Key, torch.Tensor]
"""float64 [n_units] for every group: higher matters more."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Reader:
    """A layer that reads a group's units.

    Attributes
    ----------
    module : its path.
    table : int64 [n_units, k], the channels of its input that belong to each unit.
    """

    module: str
    table: torch.Tensor


def readers_of(model: nn.Module, group: TracedGroup) -> list[Reader]:
    """The linear layers and ungrouped convolutions whose inputs the units are; of transposed ones none."""
    found = []
    for piece in group.units.slices:
        path, _, leaf = piece.param.rpartition(".")
        module = model.get_submodule(path)
        if leaf != "weight":
            continue
        axis = 0 if hasattr(module, "nf") else 1
        plain = isinstance(module, nn.Linear) or hasattr(module, "nf")
        if piece.axis == axis and (plain or (isinstance(module, _CONVOLUTIONS) and module.groups == 1)):
            found.append(Reader(path, piece.index.table))
    return found


def channels_first(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a layer read as [n, C, ...]: positions of linear layers come last."""
    if isinstance(module, _CONVOLUTIONS):
        return x
    return x.movedim(-1, 1) if x.ndim > 1 else x[None]


@contextmanager
def watched(
    model: nn.Module, groups: TracedGroups, note: Callable[[Key, int, torch.Tensor], torch.Tensor | None]
) -> Iterator[dict[Key, list[Reader]]]:
    """Call ``note(key, number of the reader, its input as it is)`` while the context lasts. See ``channels_first``.

    A tensor that ``note`` returns takes the place of the reader's input.
    """
    handles: list[Any] = []
    known: dict[Key, list[Reader]] = {}
    for key in groups.units:
        known[key] = readers_of(model, groups[key[1]])
        for number, reader in enumerate(known[key]):

            def hook(module: nn.Module, args: Any, key: Key = key, number: int = number) -> Any:
                given = note(key, number, args[0])
                return None if given is None else (given, *args[1:])

            handles.append(model.get_submodule(reader.module).register_forward_pre_hook(hook))
    try:
        yield known
    finally:
        for handle in handles:
            handle.remove()


def of_units(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Activations [n, C, ...] by unit: [n, n_units, k, ...]."""
    return x[:, table.flatten().to(x.device)].unflatten(1, tuple(table.shape))


def activation_statistic(
    model: nn.Module,
    groups: TracedGroups,
    evidence: Evidence,
    criterion: str,
    statistic: Callable[[torch.Tensor], torch.Tensor],
) -> UnitScores:
    """The mean over examples and readers of ``statistic([n, n_units, k, ...]) -> [n, n_units]``.

    Groups that no layer reads have no score: they keep everything.
    """
    sums: dict[tuple[Key, int], torch.Tensor] = {}
    inputs = evidence.inputs(criterion)
    tables: dict[Key, list[Reader]] = {}

    @torch.no_grad()
    def note(key: Key, number: int, x: torch.Tensor) -> None:
        reader = tables[key][number]
        units = of_units(channels_first(model.get_submodule(reader.module), x), reader.table)
        value = statistic(units).double().sum(0).cpu()
        sums[key, number] = sums.get((key, number), 0) + value

    with watched(model, groups, note) as known, evaluation_mode(model), torch.no_grad():
        tables.update(known)
        for batch in inputs.split(evidence.batch_size):
            model_logits(model, {"inputs": batch.to(next(model.parameters()).device)})
    return finite_scores(
        {
            key: torch.stack([sums[key, n] for n in range(len(readers))]).mean(0) / len(inputs)
            for key, readers in known.items()
            if readers
        },
        criterion,
    )


def finite_scores(scores: Mapping[Key, torch.Tensor], criterion: str) -> UnitScores:
    """The scores, if there are any and all are finite."""
    if not scores:
        raise InputError("criterion", f"{criterion}, for which no group has what it needs", "another criterion")
    for key, values in scores.items():
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"scores of {key[1]}", "NaN or infinite values", "finite weights and activations")
    return dict(scores)


def nonzero_share(units: torch.Tensor) -> torch.Tensor:
    """1 - APoZ: the share of values that are not zero."""
    return (units != 0).flatten(2).double().mean(2)


def mean_size(units: torch.Tensor) -> torch.Tensor:
    """The mean of the absolute values."""
    return units.abs().flatten(2).double().mean(2)


def map_ranks(units: torch.Tensor) -> torch.Tensor:
    """HRank: the rank of each unit's map [h, w]; where units have several channels, of [k, positions]."""
    maps = units[:, :, 0] if units.ndim == 5 and units.shape[2] == 1 else units.flatten(3) if units.ndim > 3 else units
    if maps.ndim == 3:  # [n, n_units, k]: one position
        maps = maps[..., None]
    return torch.linalg.matrix_rank(maps.float()).double()


def nuclear_norm_drop(units: torch.Tensor) -> torch.Tensor:
    """CHIP: how much the nuclear norm of [channels, positions] falls without the unit's rows, for each example."""
    count = units.shape[1]
    whole = units.flatten(3).double() if units.ndim > 3 else units[..., None].double()
    rows = whole.flatten(1, 2)
    full = torch.linalg.matrix_norm(rows, "nuc")
    drops = []
    for unit in range(count):
        without = whole.clone()
        without[:, unit] = 0
        drops.append(full - torch.linalg.matrix_norm(without.flatten(1, 2), "nuc"))
    return torch.stack(drops, 1)


def standard_deviations(model: nn.Module, groups: TracedGroups, evidence: Evidence) -> UnitScores:
    """The deviation of a unit's activations over examples and positions."""
    first = activation_statistic(model, groups, evidence, "activation-std", lambda u: u.flatten(2).double().mean(2))
    second = activation_statistic(
        model, groups, evidence, "activation-std", lambda u: u.flatten(2).double().square().mean(2)
    )
    return {key: (second[key] - first[key].square()).clamp(min=0).sqrt() for key in first}


def gate_scores(model: nn.Module, groups: TracedGroups, evidence: Evidence, criterion: str = "gates") -> UnitScores:
    """E |dL/dxi| with a gate xi = 1 on each unit where it is read: Michel's head importance, Taylor's gate form.

    ``dL/dxi`` of an example is the sum of activation times gradient over the unit's channels and positions.
    """
    sums: UnitScores = {}
    count = 0
    taken: dict[tuple[Key, int], torch.Tensor] = {}

    def note(key: Key, number: int, x: torch.Tensor) -> torch.Tensor:
        # a tensor of its own: the gradient of one that several layers read would be counted once for each of them
        taken[key, number] = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        return taken[key, number]

    with watched(model, groups, note) as known, evaluation_mode(model), torch.enable_grad():
        for losses, _ in evidence.losses(model, criterion):
            places = list(taken)
            gradients = torch.autograd.grad(losses.sum(), [taken[p] for p in places], allow_unused=True)
            gates: dict[Key, torch.Tensor] = {}
            for (key, number), gradient in zip(places, gradients, strict=True):
                if gradient is None:
                    continue
                reader = known[key][number]
                product = channels_first(model.get_submodule(reader.module), (taken[key, number] * gradient).detach())
                product = of_units(product, reader.table)
                gates[key] = gates.get(key, 0) + product.double().flatten(2).sum(2)
            for key, value in gates.items():
                sums[key] = sums.get(key, 0) + value.abs().sum(0).cpu()
            count += len(losses)
            taken.clear()
    return finite_scores({key: value / count for key, value in sums.items()}, criterion)


def reconstruction_order(model: nn.Module, groups: TracedGroups, evidence: Evidence) -> UnitScores:
    """ThiNet: the order in which a greedy search removes units, so that the first reader's output changes least.

    ``argmin_u |sum of the contributions of the removed units and u|^2`` over sampled outputs of the reader (one channel
    and one position of each example). The first to leave scores 0, the last (n_units - 1) / n_units.
    """
    taken: dict[Key, list[torch.Tensor]] = {}
    inputs = evidence.inputs("thinet")
    generator = evidence.generator

    @torch.no_grad()
    def note(key: Key, number: int, x: torch.Tensor) -> None:
        if number:
            return
        reader = known[key][0]
        module = model.get_submodule(reader.module)
        parts = _contributions(module, channels_first(module, x), generator)
        taken.setdefault(key, []).append(of_units(parts, reader.table).flatten(2).sum(2).double().cpu())

    with watched(model, groups, note) as known, evaluation_mode(model), torch.no_grad():
        for batch in inputs.split(evidence.batch_size):
            model_logits(model, {"inputs": batch.to(next(model.parameters()).device)})
    return finite_scores({key: _greedy(torch.cat(parts)) for key, parts in taken.items()}, "thinet")


def patches(module: Any, x: torch.Tensor) -> torch.Tensor:
    """What the kernels of a convolution see of ``x`` [n, C, ...]: [n, C * kernel, places].

    Raises InputError for a convolution in three dimensions.
    """
    if isinstance(module, nn.Conv3d):
        raise InputError("model", "Conv3d", "convolutions in one or two dimensions")
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = nn.functional.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    size, dilation, stride = module.kernel_size, module.dilation, module.stride
    if isinstance(module, nn.Conv1d):
        x, size, dilation, stride = x.unsqueeze(2), (1, *size), (1, *dilation), (1, *stride)
    return nn.functional.unfold(x, size, dilation, 0, stride)


def _contributions(module: Any, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """[n, C]: what each input channel adds to one output channel at one position, both drawn for each example."""
    n, channels = x.shape[:2]
    weight = module.weight.T if hasattr(module, "nf") else module.weight
    chosen = torch.randint(len(weight), (n,), generator=generator).to(x.device)
    if isinstance(module, _CONVOLUTIONS):
        columns = patches(module, x)
        place = torch.randint(columns.shape[2], (n,), generator=generator).to(x.device)
        values = columns[torch.arange(n, device=x.device), :, place].view(n, channels, -1)
        return (values * weight[chosen].flatten(2)).sum(2)
    flat = x.flatten(2) if x.ndim > 2 else x[..., None]
    place = torch.randint(flat.shape[2], (n,), generator=generator).to(x.device)
    return flat[torch.arange(n, device=x.device), :, place] * weight[chosen]


def _greedy(parts: torch.Tensor) -> torch.Tensor:
    """Removal order of the columns of [samples, n_units], as scores in [0, 1)."""
    count = parts.shape[1]
    scores = torch.zeros(count, dtype=torch.float64)
    removed = torch.zeros(len(parts), dtype=torch.float64)
    left = list(range(count))
    for step in range(count):
        errors = (removed[:, None] + parts[:, left]).square().sum(0)
        unit = left.pop(int(errors.argmin()))
        removed += parts[:, unit]
        scores[unit] = step / count
    return scores


@torch.no_grad()
def block_influence(model: nn.Module, blocks: list[str], inputs: torch.Tensor, batch_size: int = 64) -> torch.Tensor:
    """ShortGPT: 1 - E cos(x_in, x_out) of each block, over examples and positions; float64 [blocks].

    Raises InputError for a block whose output has another shape than its input.
    """
    sums = torch.zeros(len(blocks), dtype=torch.float64)
    counts = torch.zeros(len(blocks), dtype=torch.float64)
    handles: list[Any] = []
    for number, name in enumerate(blocks):

        def hook(module: nn.Module, args: Any, kwargs: Any, out: Any, number: int = number, name: str = name) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            y = out[0] if isinstance(out, tuple) else out
            if x.shape != y.shape:
                found = f"{name}, from {tuple(x.shape)} to {tuple(y.shape)}"
                raise InputError("blocks", found, "blocks that keep the shape")
            dim = 1 if x.ndim == 4 else -1
            cosine = nn.functional.cosine_similarity(x.double(), y.double(), dim=dim)
            sums[number] += float(cosine.sum())
            counts[number] += cosine.numel()

        handles.append(model.get_submodule(name).register_forward_hook(hook, with_kwargs=True))
    try:
        with evaluation_mode(model):
            for batch in inputs.split(batch_size):
                model_logits(model, {"inputs": batch.to(next(model.parameters()).device)})
    finally:
        for handle in handles:
            handle.remove()
    return 1 - sums / counts.clamp(min=1)
