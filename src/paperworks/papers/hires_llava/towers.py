"""Vision towers: any transformer of square patches that transformers or Paperworks loads, seen as a list of layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import TinyViT
from paperworks.nn.loading import check_model_folder, first_line, load_strict

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PARTS = ("vision_model", "vision_tower")
"""Where models of images and text keep their vision tower."""


class VisionTower(nn.Module):
    """A vision transformer with square patches, and what the adapter must know of it.

    Parameters
    ----------
    module : ``CLIPVisionModel``, ``SiglipVisionModel``, ``Dinov2Model``, ``ViTModel`` or a model like them, a two-tower
        model (its vision tower is taken), or ``paperworks.nn.TinyViT``.
    mean, std : of each channel, for pixels in [0, 1]; by default those of the architecture.
    source : the folder it came from, if any.

    Attributes
    ----------
    width, heads, depth : of the tokens; attention heads; number of layers.
    image_size, patch_size : sides in pixels.
    side : tokens along a side, image_size / patch_size.
    prefix : class and register tokens in front of the patches.
    channels : of the images.

    Raises
    ------
    InputError : naming ``vision``, for a tower without a square grid of patches, or whose position table is of another
        size.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        source: Path | None = None,
    ) -> None:
        super().__init__()
        for part in _PARTS:
            module = getattr(module, part, module)
        self.module, self.source = module, source
        self.kind = type(module).__name__
        sizes = _sizes_of_tiny(module) if isinstance(module, TinyViT) else _sizes_of_config(module, self.kind)
        self.width, self.heads, self.depth = sizes["width"], sizes["heads"], sizes["layers"]
        self.image_size, self.patch_size, self.channels = sizes["image_size"], sizes["patch_size"], sizes["channels"]
        if self.image_size % self.patch_size:
            found = f"patches of {self.patch_size} in images of {self.image_size} pixels"
            raise InputError("vision", found, "a tower whose patch size divides its image size")
        self.side = self.image_size // self.patch_size
        default = _default_normalisation(module)
        self.mean = _per_channel("mean", default[0] if mean is None else mean, self.channels)
        self.std = _per_channel("std", default[1] if std is None else std, self.channels)
        self._layers = _find_layers(module, self.depth, self.kind)
        self.prefix = self._measure_prefix()

    @property
    def layers(self) -> list[nn.Module]:
        """The layers in their order; each gives tokens ``[N, prefix + side^2, width]``."""
        modules = dict(self.module.named_modules())
        return [modules[name] for name in self._layers]

    @property
    def fill(self) -> torch.Tensor:
        """The colour of padding: the mean of each channel, in [0, 255], which becomes 0 after normalisation."""
        return torch.tensor(self.mean) * 255

    def normalised(self, slices: Any) -> torch.Tensor:
        """Pixels float ``[N, channels, S, S]`` from uint8 ``[N, S, S, 3]``. Towers of one channel get grey."""
        pixels = torch.as_tensor(slices).movedim(-1, 1).float() / 255
        if self.channels == 1:
            weights = torch.tensor([0.299, 0.587, 0.114])
            pixels = (pixels * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)
        mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (self.mean, self.std))
        return (pixels - mean) / std

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Tokens of the last layer, after the tower's last norm where it has one: ``[N, prefix + side^2, width]``."""
        if not isinstance(self.module, TinyViT):
            output: Any = self.module(pixel_values=pixels)
            return output.last_hidden_state
        # TinyViT gives its class token only: all tokens are taken behind the norm
        kept: list[torch.Tensor] = []
        handle = self.module.norm.register_forward_hook(lambda _m, _i, out: kept.append(out))
        try:
            self.module.features(pixels)
        finally:
            handle.remove()
        return kept[-1]

    def _measure_prefix(self) -> int:
        place = next(self.module.parameters())
        blank = torch.zeros(1, self.channels, self.image_size, self.image_size, device=place.device, dtype=place.dtype)
        before = self.module.training
        self.module.eval()
        try:
            with torch.no_grad():
                tokens = self(blank)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            found = f"{self.kind}, which does not read {self.image_size} x {self.image_size} pixels"
            expected = "a tower whose position table is of its image size"
            raise InputError("vision", f"{found} ({first_line(error)})", expected) from None
        finally:
            self.module.train(before)
        prefix = tokens.shape[1] - self.side**2 if tokens.ndim == 3 else -1
        if prefix < 0 or prefix > 16 or tokens.shape[-1] != self.width:
            found = f"{self.kind}, whose tokens are {tuple(tokens.shape[1:])}"
            expected = f"{self.side} x {self.side} patches of width {self.width}, and class tokens in front"
            raise InputError("vision", found, expected)
        return prefix


def load_tower(
    vision: Any,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    trust_remote_code: bool = False,
) -> VisionTower:
    """A vision tower from a folder of transformers or of ``TinyViT``, a module, or a ``VisionTower`` (as it is).

    ``mean`` and ``std`` of the pixels, where they are not given, come from the folder's ``preprocessor_config.json``,
    or are those of the architecture.

    Raises InputError for a folder that is none, whose weights are not those of its configuration, or whose model has no
    square grid of patches.
    """
    if isinstance(vision, VisionTower):
        return vision
    if isinstance(vision, nn.Module):
        return VisionTower(vision, mean=mean, std=std)
    if not isinstance(vision, (str, Path)):
        raise InputError("vision", type(vision).__name__, "a folder, a module of transformers or a VisionTower")
    folder = Path(vision).expanduser()
    stored = _stored_normalisation(folder)
    mean, std = stored[0] if mean is None else mean, stored[1] if std is None else std
    if _is_tiny(folder):
        return VisionTower(TinyViT.from_pretrained(folder), mean=mean, std=std, source=folder)
    try:
        config = check_model_folder(folder)
    except InputError as error:
        raise InputError("vision", error.found, error.expected) from None
    auto = _AutoVision("vit" in str(config.get("model_type", "")))
    module = load_strict(auto, folder, dtype=torch.float32, trust_remote_code=trust_remote_code)
    return VisionTower(module, mean=mean, std=std, source=folder)


class _AutoVision:
    """``AutoModel``, without the pooler of ViT that many checkpoints lack and nothing here uses."""

    def __init__(self, without_pooler: bool) -> None:
        self.without_pooler = without_pooler

    def from_pretrained(self, folder: Path, **options: Any) -> Any:
        from transformers import AutoModel

        if self.without_pooler:
            try:
                return AutoModel.from_pretrained(folder, add_pooling_layer=False, **options)
            except TypeError:  # an architecture that has no such option
                pass
        return AutoModel.from_pretrained(folder, **options)


def _is_tiny(folder: Path) -> bool:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("network") == TinyViT.__name__


def _stored_normalisation(folder: Path) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    try:
        found = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        mean, std = (tuple(float(v) for v in found[name]) for name in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
    return mean, std


def _default_normalisation(module: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if isinstance(module, TinyViT):
        return (0.0,), (1.0,)
    kind = str(getattr(getattr(module, "config", None), "model_type", ""))
    if "clip" in kind:
        return CLIP_MEAN, CLIP_STD
    return (IMAGENET_MEAN, IMAGENET_STD) if "dino" in kind else ((0.5,), (0.5,))


def _per_channel(name: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    values = values * channels if len(values) == 1 else values
    if len(values) != channels or (name == "std" and min(values) <= 0):
        raise InputError(name, values, f"{channels} numbers, one per channel{', above 0' * (name == 'std')}")
    return tuple(float(v) for v in values)


def _sizes_of_tiny(module: TinyViT) -> dict[str, int]:
    return {name: int(value) for name, value in module.config.items() if name != "dropout"}


def _sizes_of_config(module: nn.Module, kind: str) -> dict[str, int]:
    config: Any = getattr(module, "config", None)
    config = getattr(config, "vision_config", config)
    names = {
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "layers": "num_hidden_layers",
        "image_size": "image_size",
        "patch_size": "patch_size",
        "channels": "num_channels",
    }
    sizes: dict[str, int] = {}
    for name, option in names.items():
        value = getattr(config, option, 3 if name == "channels" else None)
        if isinstance(value, (list, tuple)) and len(set(value)) == 1:
            value = value[0]
        if not isinstance(value, int) or value < 1:
            expected = "one square grid of patches of one size: CLIP, SigLIP, DINOv2, ViT or a tower like them"
            raise InputError("vision", f"{kind} with {option} {value}", expected)
        sizes[name] = value
    return sizes


def _find_layers(module: nn.Module, depth: int, kind: str) -> list[str]:
    for name, part in module.named_modules():
        if isinstance(part, nn.ModuleList) and len(part) == depth and len({type(p) for p in part}) == 1:
            return [f"{name}.{i}" for i in range(depth)]
    raise InputError("vision", f"{kind}, without a list of {depth} layers", "a transformer with a list of its layers")
