"""Transformers whose layers have heads, channels and widths of their own: the models around ``layers_pruned``.

Cache, generation, gradient checkpointing, attention implementations, ties and adapters are inherited from transformers.
This file depends on torch and transformers only and is saved with every checkpoint.
"""

# mypy: disable-error-code="misc, attr-defined, union-attr, assignment, arg-type, call-arg, call-overload"
# PrunedModel is mixed into stock models, whose modules have no declared types.
from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from torch import nn

from .configuration_pruned import pruned_config_class
from .families import FAMILIES, Family, stock_classes
from .layers_pruned import apply_layer_widths, resize_model


class PrunedModel:
    """Builds the stock model, then gives every module the sizes of ``config.layer_widths``."""

    family: Family | None = None

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if config.layer_widths is None:
            raise ValueError(f"{type(config).__name__}.layer_widths: found None; expected one record per layer")
        family = self.family or FAMILIES[config.model_type.removeprefix("pruned_")]
        resize_model(self, family)
        apply_layer_widths(self, family)
        if not any(p.is_meta for p in self.parameters()):
            for module in self.modules():
                self._init_weights(module)


class _Pooled:
    """BERT takes its pooler as an argument of the constructor."""

    def __init__(self, config: Any, add_pooling_layer: bool | None = None) -> None:
        pooled = config.add_pooling_layer if add_pooling_layer is None else add_pooling_layer
        super().__init__(config, add_pooling_layer=pooled)


_MADE: dict[str, type[nn.Module]] = {}
CLASSIFIER = "ForSequenceClassification"


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


def pruned_variants(family: Family) -> dict[str, type[Any]]:
    """The pruned classes of a family by the Auto class that loads them: with its head, without, with a classifier's.

    Serving engines ask for ``AutoModel``: ``PrunedLlamaModel`` is the model inside ``PrunedLlamaForCausalLM``.
    """
    found = {"AutoModelForCausalLM" if family.head else "AutoModel": pruned_class(family)}
    if not family.head:
        return found
    whole = pruned_class(family)
    stock = stock_classes(family)[1]
    prefix = f"{whole.base_model_prefix}."
    base = replace(
        family,
        embeddings=tuple(path.removeprefix(prefix) for path in family.embeddings),
        layers=family.layers.removeprefix(prefix),
        final_norm=family.final_norm.removeprefix(prefix),
        head="",
    )
    for auto, ends, inner in (
        ("AutoModel", ("Model", "TextModel"), base),
        ("AutoModelForSequenceClassification", (CLASSIFIER, f"Text{CLASSIFIER}"), replace(family, head="")),
    ):
        module = importlib.import_module(stock.__module__)
        name = stock.__name__.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
        classes = [getattr(module, f"{name}{end}", None) for end in ends]
        fitting = [c for c in classes if c is not None and c.config_class is stock.config_class]
        if not fitting:
            continue
        key = f"{family.model_type}, {auto}"
        fields = {"config_class": whole.config_class, "family": inner, "_auto_class": auto, "__module__": __name__}
        if key not in _MADE:
            _MADE[key] = type(f"Pruned{fitting[0].__name__}", (PrunedModel, fitting[0]), fields)
        found[auto] = _MADE[key]
    return found


def __getattr__(name: str) -> Any:
    # Auto classes look for the class by the name that a checkpoint's configuration has in auto_map
    for family in FAMILIES.values():
        known = family.model_class.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
        if name.startswith(f"Pruned{known}"):
            found = {variant.__name__: variant for variant in pruned_variants(family).values()}
            if name in found:
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
