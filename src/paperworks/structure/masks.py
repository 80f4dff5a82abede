"""Masks over units inside the forward of a stock model: hooks while the context lasts, and nothing before or after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch

from paperworks.errors import InputError
from paperworks.structure.expert_gates import channel_gate, router_gate
from paperworks.structure.families import EXPERT_UNITS
from paperworks.structure.layers_pruned import linear_at
from paperworks.structure.plan import name_of
from paperworks.structure.units import Gate, Key, UnitSet, base_of, units_of


@contextmanager
def masked(
    model: Any,
    masks: Mapping[Key, torch.Tensor],
    *,
    base_only: bool = False,
    ffn_gate: Literal["intermediate", "gate_up"] = "intermediate",
) -> Iterator[dict[Key, torch.Tensor]]:
    """Multiply units by their masks in every forward inside the context.

    Where a mask acts: ``ffn`` on what down reads (``intermediate``), or on gate and up in front of the activation;
    ``kv_group`` and ``q_head`` on each head's output in front of o; ``qk_pair`` on queries and keys before norms and
    rotation; ``v_channel`` on values; ``hidden`` on the embeddings, on what the blocks write, and on LayerNorms (an RMS
    norm of the masked stream still divides by the trained D); block ends on what the block reads or writes; ``layer``
    on what the layer adds, y = x + z (layer(x) - x); ``expert`` on the router, whose logits get log z (0: the expert is
    never chosen); ``expert_channel`` on what the experts' down reads.

    With masks of 0 and 1 the outputs are those of ``prune(model, KeepPlan.from_masks(masks))``; with soft values, those
    of ``prune(..., fold=masks)``. Masks of 1 leave every bit as it is. Gradients reach the masks, also through
    checkpointed layers.

    Parameters
    ----------
    masks : [n_units] by (layer, kind), any floating-point type and device. The dictionary that the context gives may be
        filled anew between two forwards (same keys).
    base_only : with LoRA adapters, mask the frozen part only: y = (W x + b) * m + (alpha / r) B A x, on the outputs of
        the matrices that write the units and the inputs of those that read them. Block ends on the reading side act on
        both parts. Without adapters it is the same as False where the masks are 0 and 1.

    Raises
    ------
    InputError : a set that the model has not, or a mask of another length.
    """
    kinds = {kind for _, kind in masks}
    layers = {layer for layer, _ in masks if layer is not None}
    units = units_of(model, kinds, layers, ffn_gate=ffn_gate)
    base = base_of(model)
    for key, mask in masks.items():
        if mask.shape != (units[key].n_units,):
            raise InputError(f"masks[{name_of(key)}]", f"shape {tuple(mask.shape)}", f"({units[key].n_units},)")
    live = dict(masks)
    points: dict[tuple[str, str, bool], list[tuple[Key, torch.Tensor]]] = defaultdict(list)
    for key in masks:
        gates = (*units[key].gates, *units[key].couplings)
        inner = base_only and key[1] not in ("hidden", "layer", "attention_in", "feed_forward_in")
        for gate in _all_points(base, units[key]) if inner else gates:
            if key[1] not in ("layer", *EXPERT_UNITS):
                size = _size(base, gate)
                points[gate.module, gate.side, inner].append((key, gate.index.owner(size)))
    handles: list[Any] = []
    try:
        for (path, side, inner), parts in points.items():
            module = base.get_submodule(path)
            module = getattr(module, "base_layer", module) if inner else module
            act = _multiply(live, parts)
            if side == "out":
                handles.append(module.register_forward_hook(lambda m, args, out, act=act: act(out)))
            else:
                handles.append(module.register_forward_pre_hook(lambda m, args, act=act: (act(args[0]), *args[1:])))
        for key in masks:
            if key[1] in EXPERT_UNITS:
                module = base.get_submodule(units[key].gates[0].module)
                gate_of: Any = router_gate if key[1] == "expert" else channel_gate
                handles += gate_of(module, partial(live.__getitem__, key))
        if (None, "layer") in masks:
            for number, gate in enumerate(units[None, "layer"].gates):
                hook = _share_of_layer(live, number)
                handles.append(base.get_submodule(gate.module).register_forward_hook(hook, with_kwargs=True))
        yield live
    finally:
        for handle in handles:
            handle.remove()


def _all_points(base: Any, unit_set: UnitSet) -> list[Gate]:
    """Every matrix that writes or reads the units of a set: what a mask on the frozen part alone has to cover."""
    found: dict[tuple[str, str, int], Gate] = {}
    for piece in unit_set.slices:
        module = linear_at(base, piece.module)
        if not piece.param.endswith(".weight") or module.weight.ndim == 1:
            continue
        side: Literal["out", "in"] = "out" if (piece.axis == 0) != hasattr(module, "nf") else "in"
        found[piece.module, side, len(found)] = Gate(piece.module, side, piece.index)
    return list(found.values())


def _size(base: Any, gate: Gate) -> int:
    module = linear_at(base, gate.module)
    weight = module.weight
    if weight.ndim == 1 or isinstance(module, torch.nn.Embedding):
        return weight.shape[-1]
    return weight.shape[int((gate.side == "in") != hasattr(module, "nf"))]


def _multiply(
    live: dict[Key, torch.Tensor], parts: list[tuple[Key, torch.Tensor]]
) -> Callable[[torch.Tensor], torch.Tensor]:
    def act(x: torch.Tensor) -> torch.Tensor:
        for key, owner in parts:
            mask = live[key].to(x.device, x.dtype)
            x = x * torch.cat([mask, mask.new_ones(1)])[owner.to(x.device)]
        return x

    return act


def _share_of_layer(live: dict[Key, torch.Tensor], number: int) -> Callable[..., Any]:
    def hook(module: Any, args: Any, kwargs: Any, out: Any) -> Any:
        before = args[0] if args else kwargs["hidden_states"]
        after = out[0] if isinstance(out, tuple) else out
        share = live[None, "layer"][number].to(after.device, after.dtype)
        # this form gives the bits of either side where the share is 0 or 1
        mixed = after * share + before * (1 - share)
        return (mixed, *out[1:]) if isinstance(out, tuple) else mixed

    return hook
