"""Which units are kept: made from masks or scores, checked against a model, composed, and stored as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from paperworks.errors import InputError
from paperworks.structure.layers_pruned import BLOCK_ENDS
from paperworks.structure.units import GROUPED, LAYER_KINDS, MODEL_KINDS, Key, Units, units_of

TOGETHER = {"q_head": "kv_group", "kv_group": "q_head", "expert_channel": "expert", "expert": "expert_channel"}
"""Kinds of the same layer whose numbers depend on each other."""
SHARED = ("qk_pair", "v_channel", "expert_channel")
"""Kinds of which one unit at least stays: channels that all heads, or all experts, of a layer have."""
Masks = Mapping[Key, torch.Tensor]
"""A mask [n_units] for some of the unit sets of a model."""


@dataclass(frozen=True)
class KeepPlan:
    """Kept units, ascending, and the number there was, for every unit set that is touched.

    Numbers of layers and units are those of the model that the plan is for. ``kept[(3, "ffn")] == (0, 2)`` and
    ``sizes[(3, "ffn")] == 4`` say: of four channels in layer 3, keep the first and the third.
    """

    kept: Mapping[Key, tuple[int, ...]] = field(default_factory=dict)
    sizes: Mapping[Key, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kept.keys() != self.sizes.keys():
            odd = sorted(map(name_of, self.kept.keys() ^ self.sizes.keys()))
            raise InputError("plan", f"{odd[0]} without its units or its size", "units and a size for every set")
        for key, ids in self.kept.items():
            size = self.sizes[key]
            ascending = list(ids) == sorted(set(ids))
            if not ascending or (ids and not 0 <= ids[0] <= ids[-1] < size):
                raise InputError(f"plan[{name_of(key)}]", _short(ids), f"ascending numbers from 0 to {size - 1}")

    @classmethod
    def of(cls, units: Units, kept: Mapping[Key, Iterable[int] | torch.Tensor]) -> Self:
        """A plan for unit sets of a model: ids in any order, or boolean masks."""
        found, sizes = {}, {}
        for key, ids in kept.items():
            if isinstance(ids, torch.Tensor):
                ids = ids.nonzero().flatten().tolist() if ids.dtype == torch.bool else ids.tolist()
            found[key] = tuple(sorted(set(map(int, ids))))
            sizes[key] = units[key].n_units
        return cls(found, sizes)

    @classmethod
    def from_masks(cls, masks: Masks) -> Self:
        """Keep the units whose mask is not 0."""
        kept = {key: tuple((mask != 0).nonzero().flatten().tolist()) for key, mask in masks.items()}
        return cls(kept, {key: len(mask) for key, mask in masks.items()})

    def masks(self, dtype: torch.dtype = torch.float32) -> dict[Key, torch.Tensor]:
        """1 for a kept unit, 0 for another."""
        found = {}
        for key, ids in self.kept.items():
            found[key] = torch.zeros(self.sizes[key], dtype=dtype)
            found[key][list(ids)] = 1
        return found

    def then(self, later: KeepPlan) -> KeepPlan:
        """The plan that does this and then ``later``, whose numbers are those of the model after this one.

        Raises InputError where ``later`` does not fit, or where one removes query heads and the other key-value groups
        of the same layer, or one experts and the other their channels (the numbers then depend on the model: apply the
        two one after the other).
        """
        kept, sizes = dict(self.kept), dict(self.sizes)
        layers = self.kept.get((None, "layer"))
        for (layer, kind), ids in later.kept.items():
            first = layer
            if layer is not None and layers is not None:
                if layer >= len(layers):
                    raise InputError("plan", f"layer {layer}", f"at most {len(layers) - 1}, after the first plan")
                first = layers[layer]
            key = (first, kind)
            other = TOGETHER.get(kind)
            if other and (first, other) in kept and len(kept[first, other]) != sizes[first, other]:
                raise InputError(f"plan[{name_of(key)}]", f"{kind} after {other}", "two plans, one after the other")
            if key not in kept:
                kept[key], sizes[key] = ids, later.sizes[layer, kind]
                continue
            if later.sizes[layer, kind] != len(kept[key]):
                raise InputError(
                    f"plan[{name_of(key)}]", f"{later.sizes[layer, kind]} units", f"{len(kept[key])}, as are left"
                )
            kept[key] = tuple(kept[key][i] for i in ids)
        return KeepPlan(kept, sizes)

    def validate(self, model: Any, *, multiple_of: int | Mapping[str, int] = 1, min_units: int = 0) -> None:
        """Raise InputError if the plan is not one for ``model`` (or its ``Units``), or breaks a bound.

        Parameters
        ----------
        multiple_of : numbers of kept units must be multiples of this; by kind, or one for all but whole layers.
        min_units : at least so many units of every set are kept.
        """
        for layer, kind in self.kept:
            if kind not in (LAYER_KINDS if layer is not None else MODEL_KINDS):
                where = "the model" if layer is None else f"layer {layer}"
                expected = f"one of {LAYER_KINDS} for a layer, {MODEL_KINDS} for the model"
                raise InputError("plan", f"{kind} of {where}", expected)
        if not isinstance(model, Units):
            layers = {layer for layer, _ in self.kept if layer is not None}
            model = units_of(model, {kind for _, kind in self.kept}, layers)
        for key, ids in self.kept.items():
            layer, kind = key
            name = f"plan[{name_of(key)}]"
            found = model[key]
            if found.n_units != self.sizes[key]:
                raise InputError(name, f"made for {self.sizes[key]} units", f"{found.n_units}, as the model has")
            least = max(min_units, found.least, 1 if kind in (*BLOCK_ENDS, *MODEL_KINDS, *SHARED) else 0)
            if len(ids) < least:
                raise InputError(name, f"{len(ids)} units", f"at least {least}")
            factor = multiple_of if isinstance(multiple_of, int) else multiple_of.get(kind, 1)
            if kind != "layer" and len(ids) % factor:
                raise InputError(name, f"{len(ids)} units", f"a multiple of {factor}")
            if kind in GROUPED:
                groups = self.kept.get((layer, "kv_group")) if kind == "q_head" else None
                self._check_groups(name, ids, found.n_units // found.groups, groups)

    def _check_groups(self, name: str, ids: tuple[int, ...], size: int, groups: tuple[int, ...] | None) -> None:
        counts: dict[int, int] = {} if groups is None else dict.fromkeys(groups, 0)
        for head in ids:
            if groups is None or head // size in counts:
                counts[head // size] = counts.get(head // size, 0) + 1
        total = len(counts) if groups is not None else self._group_count(name, size)
        if ids and (len(set(counts.values())) > 1 or len(counts) != total or 0 in counts.values()):
            what = "heads kept by group" if name.endswith("q_head]") else "channels kept by expert"
            raise InputError(name, f"{counts} {what}", "as many, and at least one, in each")

    def _group_count(self, name: str, size: int) -> int:
        """How many groups of ``size`` query heads the set ``name`` has."""
        key = next(key for key in self.kept if f"plan[{name_of(key)}]" == name)
        return self.sizes[key] // size

    def to_json(self) -> str:
        """One object: ``{"3/ffn": {"size": 4, "kept": [0, 2]}, ...}``."""
        return json.dumps(
            {name_of(key): {"size": self.sizes[key], "kept": list(ids)} for key, ids in self.kept.items()}
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote. Raises InputError for anything else."""
        try:
            data = json.loads(text)
            kept = {_key(name): tuple(entry["kept"]) for name, entry in data.items()}
            return cls(kept, {_key(name): int(entry["size"]) for name, entry in data.items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            example = 'such as {"3/ffn": {"size": 4, "kept": [0]}}'
            raise InputError("plan", f"JSON that is no plan ({error})", example) from error


def name_of(key: Key) -> str:
    """``3/ffn`` or ``model/hidden``."""
    return f"{'model' if key[0] is None else key[0]}/{key[1]}"


def _key(name: str) -> Key:
    layer, _, kind = name.partition("/")
    return (None if layer == "model" else int(layer)), kind


def _short(ids: tuple[int, ...]) -> str:
    return str(list(ids)) if len(ids) < 9 else f"[{ids[0]}, {ids[1]}, ..., {ids[-1]}]"
