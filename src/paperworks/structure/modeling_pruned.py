"""Transformers whose layers have heads, channels and widths of their own: the models around ``layers_pruned``.

Cache, generation, gradient checkpointing, attention implementations, ties and adapters are inherited from transformers.
This file depends on torch and transformers only and is saved with every checkpoint.
"""

# mypy: disable-error-code="misc, attr-defined, union-attr, assignment, arg-type, call-arg, call-overload"
# PrunedModel is mixed into stock models, whose modules have no declared types.
from __future__ import annotations

from typing import Any

from torch import nn

from .configuration_pruned import pruned_config_class
from .families import FAMILIES, Family, stock_classes
from .layers_pruned import dress_model, resize_model


class PrunedModel:
    """Builds the stock model, then gives every module the sizes of ``config.layer_widths``."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if config.layer_widths is None:
            raise ValueError(f"{type(config).__name__}.layer_widths: found None; expected one record per layer")
        family = FAMILIES[config.model_type.removeprefix("pruned_")]
        resize_model(self, family)
        dress_model(self, family)
        if not any(p.is_meta for p in self.parameters()):
            for module in self.modules():
                self._init_weights(module)


class _Pooled:
    """BERT takes its pooler as an argument of the constructor."""

    def __init__(self, config: Any, add_pooling_layer: bool | None = None) -> None:
        pooled = config.add_pooling_layer if add_pooling_layer is None else add_pooling_layer
        super().__init__(config, add_pooling_layer=pooled)


_MADE: dict[str, type[nn.Module]] = {}


def pruned_class(family: Family) -> type[Any]:
    """The architecture's model with ``PrunedModel`` mixed in: ``PrunedLlamaForCausalLM`` and so on."""
    if family.model_type not in _MADE:
        _, stock = stock_classes(family)
        bases = (*((_Pooled,) if family.poolers else ()), PrunedModel, stock)
        fields = {
            "config_class": pruned_config_class(family),
            "_auto_class": "AutoModelForCausalLM" if family.head else "AutoModel",
            "__module__": __name__,
        }
        _MADE[family.model_type] = type(f"Pruned{family.model_class}", bases, fields)
    return _MADE[family.model_type]


def __getattr__(name: str) -> Any:
    # Auto classes look for the class by the name that a checkpoint's configuration has in auto_map
    for family in FAMILIES.values():
        if name == f"Pruned{family.model_class}":
            return pruned_class(family)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
