"""Reference networks that save and load; devices, number formats and modes of modules; strict loading of checkpoints.

Light to import: torch comes with the first name that is used.
"""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.nn.devices import resolve_device, resolve_dtype
    from paperworks.nn.loading import load_strict, stored_dtype
    from paperworks.nn.mlp import MLP
    from paperworks.nn.modes import evaluation_mode, preserved_modes
    from paperworks.nn.networks import NETWORKS, NetworkName, build_network, load_network
    from paperworks.nn.padding import check_ids, model_inputs, tokens_first, unpadded, without_padding
    from paperworks.nn.small_cnn import SmallCNN
    from paperworks.nn.tiny_vit import TinyViT
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "MLP",
    "NETWORKS",
    "NetworkName",
    "SmallCNN",
    "TinyViT",
    "build_network",
    "check_ids",
    "evaluation_mode",
    "load_network",
    "load_strict",
    "model_inputs",
    "preserved_modes",
    "resolve_device",
    "resolve_dtype",
    "stored_dtype",
    "tokens_first",
    "unpadded",
    "without_padding",
]
