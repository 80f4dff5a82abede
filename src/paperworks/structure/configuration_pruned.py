"""Configurations of models whose layers have heads, channels and widths of their own.

``hidden_size``, ``num_attention_heads`` and the like stay those of the model as it was trained: scales of attention,
rotary frequencies and divisors of the norms depend on them. What each layer really has is in ``layer_widths``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

from .families import FAMILIES, Family, stock_classes


class PrunedConfig:
    """What every pruned configuration adds to its architecture's own.

    ``layer_widths``: one record per layer, with

    - ``heads`` and ``kv_heads``: query heads and key-value heads (0: the layer has no attention);
    - ``ffn``: channels of the feed-forward (0: it has none);
    - ``qk``: which channels of a query or key head are left, as positions among the trained head's units (rotary pairs
      first, then channels that are not turned), or None for all;
    - ``v``: channels of a value head, or None for all;
    - ``attention_in``, ``attention_out``, ``feed_forward_in``, ``feed_forward_out``: of how many dimensions of the
      stream the block reads or writes, where it is not all (None). Which ones they are is stored with the weights.

    ``hidden_width``: width of the stream, where it is not ``hidden_size``.
    ``added_biases``: paths inside a layer of matrices that have a bias though the architecture's own have none.
    """

    layer_widths: list[dict[str, Any]] | None = None
    hidden_width: int | None = None
    added_biases: list[str] | None = None
    _auto_class: str | None = "AutoConfig"
    before_first: ClassVar[Callable[[], None] | None] = None
    announce: ClassVar[Callable[[type[Any]], None] | None] = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Called once, before the first configuration is made: where paperworks is imported, it makes the Auto
        # classes know the configurations. The model of a configuration is made known with its first instance: its
        # architecture's modelling code is not imported before.
        first, PrunedConfig.before_first = PrunedConfig.before_first, None
        if first is not None:
            first()
        if PrunedConfig.announce is not None:
            PrunedConfig.announce(cls)
        return super().__new__(cls)


_MADE: dict[str, type[Any]] = {}


def pruned_config_class(family: Family) -> type[Any]:
    """The architecture's configuration with ``PrunedConfig`` mixed in: ``PrunedLlamaConfig`` and so on."""
    if family.model_type not in _MADE:
        stock, _ = stock_classes(family)
        fields: dict[str, Any] = {"model_type": family.pruned_type, "__module__": __name__}
        if family.poolers:
            fields["add_pooling_layer"] = True
        _MADE[family.model_type] = type(f"Pruned{family.config_class}", (PrunedConfig, stock), fields)
    return _MADE[family.model_type]


def __getattr__(name: str) -> Any:
    # Auto classes look for the class by the name that a checkpoint's configuration has in auto_map
    for family in FAMILIES.values():
        if name == f"Pruned{family.config_class}":
            return pruned_config_class(family)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
