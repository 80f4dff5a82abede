"""Sizes of modules after a cut: those of torch's own, and those that a model's modules keep as attributes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import nn

from paperworks.structure.plan import KeepPlan
from paperworks.structure.trace.algebra import Value
from paperworks.structure.trace.analysis import TracedGroups
from paperworks.structure.trace.cutter import Cutter
from paperworks.structure.trace.positions import kept_units

_SIZES = re.compile(
    r"head|dim|size|channel|feature|hidden|width|inner|embed|plane|group|unit|chunk|split|^d_|^n_|^[cdeh]$"
)


def set_sizes(groups: TracedGroups, plan: KeepPlan, cutter: Cutter) -> None:
    """Sizes of torch's own modules (and transformers' Conv1D), from their tensors and from what their inputs keep."""
    fresh = {id(new) for _, new, _ in cutter.replaced.values()}
    for path, module in cutter.model.named_modules():
        if any(id(t) in fresh for t in (*module._parameters.values(), *module._buffers.values())):
            _set_own(cutter, path, module)
    masks = kept_units(groups, plan)
    sites = zip(*(s.walk.sites for s in groups.solved), strict=True) if _same_sites(groups) else ()
    for pair in sites:
        stays = groups.solved[0].kept_at(pair[0].channels, masks) & groups.solved[1].kept_at(pair[1].channels, masks)
        if stays.all():
            continue
        module = cutter.model.get_submodule(pair[0].module)
        left = int(stays.reshape(pair[0].groups, -1).any(1).sum())
        if pair[0].kind == "conv" and hasattr(module, "groups"):
            cutter.set(pair[0].module, "groups", left)
            cutter.set(pair[0].module, "in_channels", int(stays.sum()))
            if getattr(module, "transposed", False):
                cutter.set(pair[0].module, "out_channels", module.weight.shape[1] * left)  # type: ignore[union-attr, operator, index]
        elif pair[0].kind == "group_norm" and hasattr(module, "num_groups"):
            cutter.set(pair[0].module, "num_groups", left)
            cutter.set(pair[0].module, "num_channels", int(stays.sum()))
        elif pair[0].kind == "norm" and hasattr(module, "normalized_shape"):
            cutter.set(pair[0].module, "normalized_shape", (int(stays.sum()),))


def _same_sites(groups: TracedGroups) -> bool:
    return len({len(s.walk.sites) for s in groups.solved}) == 1


def _set_own(cutter: Cutter, path: str, module: Any) -> None:
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        cutter.set(path, "out_features", weight.shape[0])  # type: ignore[union-attr]
        cutter.set(path, "in_features", weight.shape[1])  # type: ignore[union-attr]
    elif isinstance(module, nn.modules.conv._ConvNd):
        rows, columns = weight.shape[:2]  # type: ignore[union-attr]
        into, out = (rows, columns * module.groups) if module.transposed else (columns * module.groups, rows)
        cutter.set(path, "in_channels", into)
        cutter.set(path, "out_channels", out)
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        vectors = [t for t in (module.weight, module.running_mean) if t is not None]
        if vectors:
            cutter.set(path, "num_features", len(vectors[0]))
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        cutter.set(path, "normalized_shape", tuple(weight.shape))  # type: ignore[union-attr]
    elif isinstance(module, nn.Embedding):
        cutter.set(path, "embedding_dim", weight.shape[1])  # type: ignore[union-attr]
    elif isinstance(module, nn.PReLU):
        cutter.set(path, "num_parameters", len(weight))  # type: ignore[arg-type]
    elif hasattr(module, "nf") and hasattr(module, "nx"):
        cutter.set(path, "nx", weight.shape[0])  # type: ignore[union-attr]
        cutter.set(path, "nf", weight.shape[1])  # type: ignore[union-attr]


def changed_lengths(groups: TracedGroups, plan: KeepPlan, *, shared: bool = False) -> dict[str, dict[int, int]]:
    """Module path -> length of an axis of its tensors before -> after, where every axis of that length changes so.

    ``shared``: also where other axes have the same length by chance and keep it, such as as many patches as heads.
    """
    masks = kept_units(groups, plan)
    found: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for (_, path, values), (_, _, after) in zip(_each(groups), lengths_after(groups, masks), strict=True):
        for old, new in zip(values.shape, after, strict=True):
            found[path][old].add(new)
    made: dict[str, dict[int, int]] = {}
    for path, sizes in found.items():
        changed = {size: after - {size} if shared else after for size, after in sizes.items()}
        made[path] = {size: min(after) for size, after in changed.items() if len(after) == 1 and after != {size}}
    return made


def _each(groups: TracedGroups) -> Iterator[tuple[str, str, Value]]:
    for operator, path, values in groups.solved[0].walk.made:
        for value in values:
            yield operator, path, value


def lengths_after(groups: TracedGroups, masks: Any) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Operator, module path and shape after a cut of every tensor that the graph makes, in order."""
    for entries in zip(*(solved.walk.made for solved in groups.solved), strict=True):
        for values in zip(*(entry[2] for entry in entries), strict=True):
            after = []
            for axis, size in enumerate(values[0].shape):
                stays: Any = None
                for solved, value in zip(groups.solved, values, strict=True):
                    ids = value.axes[axis]
                    if ids is not None:
                        here = solved.kept_at(ids, masks)
                        stays = here if stays is None else stays & here
                after.append(size if stays is None else int(stays.sum()))
            yield entries[0][0], entries[0][1], tuple(after)


def own_sizes_of(groups: TracedGroups, plan: KeepPlan, cutter: Cutter, *, shared: bool = False) -> None:
    """Sizes that the model's own modules keep as attributes, such as num_heads; ``shared``: see ``changed_lengths``."""
    for path, sizes in changed_lengths(groups, plan, shared=shared).items():
        module = cutter.model.get_submodule(path) if path else cutter.model
        if type(module).__module__.startswith("torch.nn"):
            continue
        for name, value in list(vars(module).items()):
            plain = isinstance(value, int) and not isinstance(value, bool) and not name.startswith("_")
            if plain and value in sizes and _SIZES.search(name.lower()):
                cutter.set(path, name, sizes[value])
