"""Image classifiers by name: our reference networks, and small ones of transformers by configuration.

Light to import: torch and transformers come when a network is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from paperworks.errors import InputError, nearest
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    from torch import nn

NetworkName = Literal["mlp", "small-cnn", "tiny-vit", "resnet", "vit", "convnext", "swin"]
"""The names that ``build_network`` knows, for the options of recipes."""
NETWORKS: tuple[str, ...] = get_args(NetworkName)

_CLASSES = {
    "resnet": "ResNetForImageClassification",
    "vit": "ViTForImageClassification",
    "convnext": "ConvNextForImageClassification",
    "swin": "SwinForImageClassification",
}


def build_network(
    name: str, *, image_size: int = 28, channels: int = 1, outputs: int = 10, seed: int = 0, **options: Any
) -> nn.Module:
    """An image classifier with random weights, which takes ``pixel_values`` float ``[n, channels, S, S]``.

    ::

        name        network                                     small by default
        mlp         MLP                                         hidden (256, 128)
        small-cnn   SmallCNN                                    widths (32, 64, 128), residual, BatchNorm
        tiny-vit    TinyViT                                     width 64, 4 layers, patches of 4
        resnet      ResNetForImageClassification (He et al.)    hidden_sizes [32, 64, 128], depths [1, 1, 1]
        vit         ViTForImageClassification                   hidden_size 64, 4 layers, patches of 4
        convnext    ConvNextForImageClassification              hidden_sizes [32, 64, 128], depths [1, 1, 2]
        swin        SwinForImageClassification                  embed_dim 32, depths [2, 2], windows of 4

    The last four are models of transformers with its own configuration, ``save_pretrained`` and output (``logits``).

    Parameters
    ----------
    name : one of ``NETWORKS``.
    image_size : side S of the images in pixels.
    channels : of the images.
    outputs : classes, or the numbers to predict.
    seed : the weights depend on the seed only; PyTorch's global generator is left as it was.
    options : others of the network, under the names of its config, in place of the small ones.

    Raises
    ------
    InputError : an unknown name, an option that the network has not, or a value out of bounds.

    Examples
    --------
    >>> import torch
    >>> build_network("small-cnn", image_size=8, outputs=3)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """
    check_seed("seed", seed)
    import torch

    if name not in NETWORKS:
        raise InputError("name", repr(name), f"one of {', '.join(NETWORKS)}{nearest(str(name), NETWORKS)}")
    for field, value in (("image_size", image_size), ("channels", channels), ("outputs", outputs)):
        if value < 1:
            raise InputError(field, value, "1 or more")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in _CLASSES:
            return _of_transformers(name, image_size, channels, outputs, options)
        return _of_ours(name, image_size, channels, outputs, options)


def _of_ours(name: str, image_size: int, channels: int, outputs: int, options: dict[str, Any]) -> nn.Module:
    from paperworks.nn.mlp import MLP
    from paperworks.nn.saving import SavedNetwork
    from paperworks.nn.small_cnn import SmallCNN
    from paperworks.nn.tiny_vit import TinyViT

    shape: dict[str, Any] = {"channels": channels, "outputs": outputs}
    if name == "mlp":
        shape = {"inputs": channels * image_size**2, "outputs": outputs}
    if name == "tiny-vit":
        shape["image_size"] = image_size
    kind: type[SavedNetwork] = {"mlp": MLP, "small-cnn": SmallCNN, "tiny-vit": TinyViT}[name]
    for option in options:
        if option not in kind.options():
            raise InputError(option, f"an option of {name}", f"one of {', '.join(kind.options())}")
    return kind(**{**shape, **options})


def _of_transformers(name: str, image_size: int, channels: int, outputs: int, options: dict[str, Any]) -> nn.Module:
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    kind: Any = getattr(transformers, _CLASSES[name])
    values = {**_small(name, image_size), "num_channels": channels, "num_labels": outputs, **options}
    stock = kind.config_class()
    for option in options:
        if not hasattr(stock, option):
            known = ", ".join(sorted(_small(name, image_size)))
            raise InputError(option, f"an option of {name}", f"one of {known}, ...")
    try:
        return cast("nn.Module", kind(kind.config_class(**values)))
    except (ValueError, TypeError, ZeroDivisionError, StrictDataclassError) as error:
        raise InputError("options", f"{options} for {name} ({error})", "a configuration of transformers") from error


def _small(name: str, image_size: int) -> dict[str, Any]:
    """The small configuration of a network of transformers, under the names of its own config."""
    if name == "resnet":
        sizes = [32, 64, 128]
        return {"embedding_size": 32, "hidden_sizes": sizes, "depths": [1, 1, 1], "layer_type": "basic"}
    if name == "vit":
        return {
            "image_size": image_size,
            "patch_size": 4,
            "hidden_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 256,
        }
    if name == "convnext":
        return {"patch_size": 2, "num_stages": 3, "hidden_sizes": [32, 64, 128], "depths": [1, 1, 2]}
    return {
        "image_size": image_size,
        "patch_size": 2,
        "embed_dim": 32,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
        "drop_path_rate": 0.0,
    }


def load_network(folder: str | Path, device: str = "cpu") -> nn.Module:
    """The image classifier in a folder that ``save_pretrained`` wrote, one of ours or of transformers.

    In evaluation mode. Raises InputError naming ``folder`` where there is none, and naming the first tensor that is
    missing, that has no place, or that has another shape.
    """
    from paperworks.nn.devices import resolve_device
    from paperworks.nn.loading import load_strict
    from paperworks.nn.mlp import MLP
    from paperworks.nn.saving import read_network_config
    from paperworks.nn.small_cnn import SmallCNN
    from paperworks.nn.tiny_vit import TinyViT

    source = Path(folder).expanduser()
    content = read_network_config(source)
    for kind in (MLP, SmallCNN, TinyViT):
        if content.get("network") == kind.__name__:
            return kind.from_pretrained(source, device)
    if "model_type" not in content:
        raise InputError("folder", f"{source}, whose config.json names no network", "a folder of save_pretrained")
    from transformers import AutoModelForImageClassification

    return load_strict(AutoModelForImageClassification, source).to(resolve_device(device))
