"""Masks over single weights: exact numbers, scopes, patterns; and how they survive optimisers.

Ties go to the weight that comes first, so that a mask keeps exactly as many as were asked for, also where many scores
are zero (a threshold would keep all of them, or none).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, get_args

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.training import TrainingCallback

Scope = Literal["global", "local", "row", "erk", "uniform-plus"]
SCOPES: tuple[str, ...] = get_args(Scope)
WeightScores = dict[str, torch.Tensor]
"""A score for every weight, by the parameter's name: low scores leave first."""
Masks = dict[str, torch.Tensor]
"""bool tensors of the weights' shapes, by name: True stays."""


def prunable_weights(model: nn.Module, exclude: tuple[str, ...] = ()) -> dict[str, nn.Parameter]:
    """The weights of convolutions and linear layers, each storage once; no biases, norms or embeddings.

    ``exclude``: names of modules that stay whole. Raises InputError for a model without such layers.
    """
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    embedded = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, module in model.named_modules():
        layer = isinstance(module, nn.Linear | nn.modules.conv._ConvNd) or hasattr(module, "nf")
        weight: Any = getattr(module, "weight", None)
        if not layer or name in exclude or not isinstance(weight, nn.Parameter):
            continue
        if id(weight) not in seen and id(weight) not in embedded:
            seen.add(id(weight))
            found[f"{name}.weight" if name else "weight"] = weight
    if not found:
        raise InputError("model", "no convolution or linear layer to prune", "a model with at least one")
    return found


def turned_weights(model: nn.Module) -> frozenset[str]:
    """Names of weights that are stored as [in, out, ...]: of transformers' Conv1D, and of transposed convolutions."""
    kind = nn.modules.conv._ConvTransposeNd
    modules = [(n, m) for n, m in model.named_modules() if hasattr(m, "nf") or (isinstance(m, kind) and m.groups == 1)]
    return frozenset(f"{name}.weight" if name else "weight" for name, _ in modules)


def turned(tensors: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The tensors with those of ``names`` as [out, in, ...], or back again."""
    return {name: value.transpose(0, 1) if name in names else value for name, value in tensors.items()}


def check_density(density: float, field: str = "density") -> float:
    """Raise InputError unless a share in (0, 1]."""
    if isinstance(density, bool) or not isinstance(density, int | float) or not 0 < density <= 1:
        raise InputError(field, density, "a share of the weights to keep, above 0 and at most 1")
    return float(density)


def top(scores: torch.Tensor, count: int) -> torch.Tensor:
    """bool, the ``count`` largest of a tensor of scores; of equal ones the first."""
    flat = scores.flatten()
    if not 0 < count < len(flat):
        return torch.full(scores.shape, count > 0, dtype=torch.bool, device=scores.device)
    least = flat.kthvalue(len(flat) - count + 1).values  # a selection: sorting all takes far longer
    mask = flat > least
    mask[(flat == least).nonzero()[: count - int(mask.sum()), 0]] = True
    return mask.view(scores.shape)


def layer_densities(shapes: Mapping[str, torch.Size], density: float, scope: Scope) -> dict[str, float]:
    """The density of each tensor at a density of all: ``local`` (equal), ``erk`` or ``uniform-plus``.

    ``erk`` (Mocanu 2018, Evci 2020): the density is proportional to ``(n_in + n_out + k_h + k_w) / (n_in n_out k_h
    k_w)``, at most 1, and scaled so that the density of all is met.
    ``uniform-plus`` (Gale 2019): the first layer stays whole, the last keeps at least a fifth, the rest is equal.

    Raises InputError where the fixed layers alone keep more than asked for.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = density * sum(sizes.values())
    if scope == "erk":
        raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
        full: set[str] = set()
        while True:
            rest = [name for name in shapes if name not in full]
            budget = total - sum(sizes[name] for name in full)
            scale = budget / sum(raw[name] * sizes[name] for name in rest)
            over = [name for name in rest if scale * raw[name] > 1]
            if not over:
                return {name: 1.0 if name in full else scale * raw[name] for name in shapes}
            full.update(over)
            if len(full) == len(shapes):
                return dict.fromkeys(shapes, 1.0)
    if scope == "uniform-plus" and len(shapes) > 2:
        names = list(shapes)
        fixed = {names[0]: 1.0, names[-1]: max(0.2, density)}
        budget = total - sum(fixed[name] * sizes[name] for name in fixed)
        share = budget / sum(sizes[name] for name in names[1:-1])
        if share <= 0:
            least = sum(fixed[n] * sizes[n] for n in fixed) / sum(sizes.values())
            raise InputError("density", density, f"more than {least:.4f}, which the first and last layers keep")
        return {name: fixed.get(name, min(1.0, share)) for name in names}
    return dict.fromkeys(shapes, density)


def keep_best(
    scores: Mapping[str, torch.Tensor], density: float, scope: Scope = "global", *, floor: float = 0.0
) -> Masks:
    """The weights with the largest scores.

    Parameters
    ----------
    density : the share of all weights that stays, in (0, 1]. Exactly ``round(density * number)`` of them do, over the
        network (``global``), in each tensor (``local``, ``erk``, ``uniform-plus``) or in each output row (``row``).
    floor : each tensor keeps at least this share of its weights (``global`` only).

    Raises InputError for scores that are not finite, or a floor above the density.
    """
    density = check_density(density)
    if scope not in SCOPES:
        raise InputError("scope", scope, f"one of {', '.join(SCOPES)}")
    for name, values in scores.items():
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"scores of {name}", "NaN or infinite values", "finite scores")
    if floor > density:
        raise InputError("floor", floor, f"at most the density, {density:g}: less cannot be reached")
    if scope == "row":
        return {name: _by_row(values, density) for name, values in scores.items()}
    if scope != "global":
        shares = layer_densities({name: values.shape for name, values in scores.items()}, density, scope)
        return {name: top(values, round(shares[name] * values.numel())) for name, values in scores.items()}
    flat = torch.cat([values.flatten().double().cpu() for values in scores.values()])
    sizes = [values.numel() for values in scores.values()]
    if floor:
        # what a floor keeps is ranked above all else
        least = torch.cat([top(v, math.ceil(floor * v.numel())).flatten().cpu() for v in scores.values()])
        flat = torch.where(least, torch.inf, flat)
    kept = top(flat, round(density * len(flat)))
    return {
        name: part.view(values.shape).to(values.device)
        for (name, values), part in zip(scores.items(), kept.split(sizes), strict=True)
    }


def _by_row(values: torch.Tensor, density: float) -> torch.Tensor:
    rows = values.flatten(1)
    order = rows.argsort(dim=1, descending=True, stable=True)[:, : round(density * rows.shape[1])]
    return torch.zeros_like(rows, dtype=torch.bool).scatter_(1, order, True).view(values.shape)


def n_of_m(scores: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """The ``n`` best of every ``m`` along the input axis, at each kernel position, as sparse kernels want it.

    ``scores`` [out, in, ...]. Raises InputError where the inputs are no multiple of ``m``.
    """
    if not 0 < n <= m:
        raise InputError("pattern", f"{n}:{m}", "N:M with 0 < N <= M")
    if scores.shape[1] % m:
        raise InputError("pattern", f"{n}:{m} on {scores.shape[1]} inputs", f"inputs that are a multiple of {m}")
    last = scores.movedim(1, -1)
    parts = last.reshape(*last.shape[:-1], -1, m)
    order = parts.argsort(dim=-1, descending=True, stable=True)[..., :n]
    mask = torch.zeros_like(parts, dtype=torch.bool).scatter_(-1, order, True)
    return mask.view(last.shape).movedim(-1, 1)


def best_blocks(scores: torch.Tensor, rows: int, columns: int, density: float) -> torch.Tensor:
    """Whole blocks of ``rows`` x ``columns`` of the matrix [out, in * kernel], by the sum of their scores.

    Blocks at the edges may be smaller. The kept weights are those of ``round(density * blocks)`` blocks.
    """
    matrix = scores.flatten(1)
    height, width = matrix.shape
    padded = nn.functional.pad(matrix, (0, -width % columns, 0, -height % rows))
    blocks = padded.unflatten(0, (-1, rows)).unflatten(2, (-1, columns)).sum((1, 3))
    mask = top(blocks, round(check_density(density) * blocks.numel()))
    whole = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return whole[:height, :width].reshape(scores.shape)


def kernel_patterns(scores: torch.Tensor, entries: int = 4, library: int = 8) -> torch.Tensor:
    """Every kernel keeps ``entries`` positions, in one of the ``library`` patterns that most kernels would choose.

    ``scores`` [out, in, k, k]. Pattern pruning (PCONV): the library is that of the layer.
    """
    if scores.ndim != 4 or not 0 < entries <= scores[0, 0].numel():
        raise InputError(
            "pattern", f"{entries} of kernels of shape {tuple(scores.shape[2:])}", "entries of 2-d kernels"
        )
    kernels = scores.flatten(2).flatten(0, 1)
    own = torch.zeros_like(kernels, dtype=torch.bool)
    own.scatter_(1, kernels.argsort(dim=1, descending=True, stable=True)[:, :entries], True)
    patterns, counts = own.unique(dim=0, return_counts=True)
    chosen = patterns[counts.argsort(descending=True, stable=True)[:library]]
    best = (kernels @ chosen.to(kernels.dtype).T).argmax(1)
    return chosen[best].view(scores.shape)


def by_pattern(scores: Mapping[str, torch.Tensor], pattern: str, density: float) -> Masks:
    """Masks of a pattern in words: ``2:4``, ``block:4x1`` (at a density) or ``kernel:4``.

    Layers that the pattern cannot be had on (inputs that are no multiple of M, kernels of one position) stay whole.
    Raises InputError where it can be had on none, or for other words.
    """
    kind, _, rest = pattern.partition(":")
    masks: Masks = {}
    done = 0
    for name, values in scores.items():
        possible = True
        mask = torch.ones_like(values, dtype=torch.bool)
        if kind == "block":
            rows, columns = _whole(pattern, rest.split("x"), 2)
            mask = best_blocks(values, rows, columns, density)
        elif kind == "kernel":
            possible = values.ndim == 4 and values.shape[2:].numel() > 1
            if possible:
                mask = kernel_patterns(values, *_whole(pattern, [rest], 1))
        else:
            n, m = _whole(pattern, [kind, rest], 2)
            possible = values.shape[1] % m == 0
            if possible:
                mask = n_of_m(values, n, m)
        masks[name] = mask
        done += possible
    if not done:
        raise InputError("pattern", f"{pattern}, which no layer can have", "a pattern that fits the layers' inputs")
    return masks


def _whole(pattern: str, parts: list[str], count: int) -> tuple[int, ...]:
    if len(parts) != count or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError("pattern", pattern, "N:M such as 2:4, block:4x1, or kernel:4")
    return tuple(int(part) for part in parts)


def density_of(masks: Mapping[str, torch.Tensor]) -> float:
    """The share of all masked weights that stays."""
    return sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())


def least_kept(masks: Mapping[str, torch.Tensor]) -> int:
    """The number of weights in the emptiest tensor: 0 is a collapsed layer."""
    return min(int(m.sum()) for m in masks.values())


def check_collapse(masks: Mapping[str, torch.Tensor]) -> None:
    """Raise InputError naming the tensors that keep nothing."""
    empty = [name for name, mask in masks.items() if not bool(mask.any())]
    if empty:
        listed = ", ".join(empty[:3])
        raise InputError(
            "density", f"{density_of(masks):.4g}, which empties {listed}", "more, a floor, or allow_collapse"
        )


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Set the weights that leave to zero, in place."""
    for name, weight in masked_weights(model, masks):
        weight.mul_(masks[name].to(weight.device, weight.dtype))


def masked_weights(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that have a mask. Raises InputError for a name or a shape that the model has not."""
    named = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        if name not in named or named[name].shape != mask.shape:
            raise InputError("masks", f"{name} of shape {tuple(mask.shape)}", "masks of this model's weights")
        yield name, named[name]


class MaskCallback(TrainingCallback):
    """Holds masks through a training: pruned weights are zero after every step, whatever the optimiser does.

    Gradients of pruned weights are zeroed where they are made, so that momentum and second moments stay zero; weights,
    and the moments of ``optimizer`` if it is given, are masked again after each step. Weight decay and momentum that an
    optimiser brings along from before revive nothing.

    Use it as a context, so that the hooks on the weights go with it.
    """

    def __init__(
        self, model: nn.Module, masks: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.masks: Masks = dict(masks)
        self._handles: list[Any] = []

    def __enter__(self) -> MaskCallback:
        apply_masks(self.model, self.masks)
        for name, weight in masked_weights(self.model, self.masks):
            self._handles.append(weight.register_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, name: str) -> Any:
        return lambda gradient: gradient * self.masks[name].to(gradient.device, gradient.dtype)

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        """Mask weights and moments."""
        apply_masks(self.model, self.masks)
        if self.optimizer is not None:
            mask_moments(self.optimizer, dict(masked_weights(self.model, self.masks)), self.masks)

    def state_dict(self) -> Mapping[str, Any]:
        """The masks."""
        return {"masks": dict(self.masks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the masks of a checkpoint."""
        self.masks = {name: torch.as_tensor(mask).bool() for name, mask in state["masks"].items()}


@torch.no_grad()
def mask_moments(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter], masks: Mapping[str, torch.Tensor]
) -> None:
    """Zero the moments (momentum, squares) of pruned weights."""
    for name, weight in weights.items():
        for value in optimizer.state.get(weight, {}).values():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                value.mul_(masks[name].to(value.device, value.dtype))


def as_pairs(masks: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, int, int]]:
    """(name, kept, number) of every tensor."""
    return ((name, int(mask.sum()), mask.numel()) for name, mask in masks.items())


def same_masks(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Whether two sets of masks are equal."""
    pairs = itertools.zip_longest(left.items(), right.items(), fillvalue=("", torch.empty(0)))
    return all(a == b and torch.equal(x.cpu(), y.cpu()) for (a, x), (b, y) in pairs)
