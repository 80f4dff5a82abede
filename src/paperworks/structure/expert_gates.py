"""Masks and statistics inside a mixture of experts, whose matrices are fused and whose router is one module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Mask = Callable[[], torch.Tensor]


class _AddToLogits(TorchFunctionMode):
    """Inside the context, log mask is added to what the router's matrix gives: 0 is never among the largest."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is nn.functional.linear:
            return out + self._mask().to(out.device, out.dtype).log()
        return out


def router_gate(router: nn.Module, mask: Mask) -> list[Any]:
    """Hooks by which a router sees a mask [experts]; handles to remove them."""
    open_modes: list[_AddToLogits] = []

    def before(module: Any, args: Any) -> None:
        mode = _AddToLogits(mask)
        mode.__enter__()
        open_modes.append(mode)

    def after(module: Any, args: Any, out: Any) -> None:
        open_modes.pop().__exit__(None, None, None)

    return [
        router.register_forward_pre_hook(before),
        router.register_forward_hook(after, always_call=True),
    ]


def channel_gate(experts: nn.Module, mask: Mask) -> list[Any]:
    """Hooks by which the channels of experts are multiplied by a mask [experts * channels], in front of down."""
    kept: list[nn.Parameter] = []

    def before(module: Any, args: Any) -> None:
        weight = module._parameters.pop("down_proj")
        kept.append(weight)
        z = mask().to(weight.device, weight.dtype).view(len(weight), -1)
        module.down_proj = weight * (z[:, :, None] if _transposed(module) else z[:, None])

    def after(module: Any, args: Any, out: Any) -> None:
        del module.down_proj
        module.down_proj = kept.pop()

    return [
        experts.register_forward_pre_hook(before),
        experts.register_forward_hook(after, always_call=True),
    ]


def _transposed(experts: Any) -> bool:
    return bool(getattr(experts, "is_transposed", False))


def chosen_weights(out: Any, experts: int) -> torch.Tensor:
    """What a router gives every expert, [tokens, experts]; 0 where it is not chosen."""
    _, weights, index = out
    return weights.new_zeros(len(index), experts).scatter(1, index, weights)


def channels_read(experts: Any, args: tuple[Any, ...]) -> torch.Tensor:
    """What the experts' down reads, times the router's weight, [tokens, experts * channels]; 0 where not chosen."""
    hidden, index, weights = args
    if _transposed(experts):
        made = torch.einsum("td,edf->tef", hidden, experts.gate_up_proj)
    else:
        made = torch.einsum("td,efd->tef", hidden, experts.gate_up_proj)
    if getattr(experts, "gate_up_proj_bias", None) is not None:
        made = made + experts.gate_up_proj_bias
    share = hidden.new_zeros(len(hidden), experts.num_experts).scatter(1, index, weights.to(hidden.dtype))
    return (experts._apply_gate(made) * share[..., None]).flatten(1)
