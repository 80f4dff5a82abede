"""Image encoders from folders of transformers, and from any module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.embedding.text_encoders import load_strictly
from paperworks.errors import InputError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


class ImageEncoder:
    """An image encoder from a Hugging Face folder on this machine.

    What is a vector depends on the architecture: the projected image features of two-tower models (CLIP, SigLIP), the
    class token after the last norm of transformers with one (ViT, DeiT, DINOv2), the pooled features of convolutional
    and hierarchical networks (ResNet, ConvNeXt, Swin).

    Parameters
    ----------
    folder : with ``config.json``, weights and ``preprocessor_config.json``.
    normalize : divide vectors by their norm.
    batch_size : images at a time.
    device, dtype : where and in which format the model runs.
    trust_remote_code : run code that the folder brings.

    Raises
    ------
    InputError : a folder that is not there, or lacks a file or a weight.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        normalize: bool = False,
        batch_size: int = 32,
        device: str = "auto",
        dtype: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        from paperworks.nn import resolve_device

        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise InputError("encoder", f"{folder}, {'a file' if folder.exists() else 'nothing there'}", "a folder")
        if batch_size < 1:
            raise InputError("batch_size", batch_size, "1 or more")
        self.folder, self.normalize, self.batch_size = folder, normalize, batch_size
        self.device = resolve_device(device)
        self.module, self.processor = load_strictly(folder, "image", dtype, trust_remote_code)
        self.module.to(self.device)
        self.name = folder.name

    @property
    def identity(self) -> str:
        """What decides the vector of an image, in words."""
        return f"{self.folder.resolve()}|{self.normalize}|{self.module.dtype}"

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """Vectors of images (PIL images, arrays [h, w] or [h, w, 3] of uint8, or paths): float32 [n, d]."""
        import torch

        from paperworks.nn import evaluation_mode

        parts = []
        with torch.inference_mode(), evaluation_mode(self.module):
            for start in range(0, len(items), self.batch_size):
                batch = [as_image(item, start + i) for i, item in enumerate(items[start : start + self.batch_size])]
                pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"]
                features = self._features(pixels.to(self.device, self.module.dtype)).float()
                if self.normalize:
                    features = torch.nn.functional.normalize(features, dim=1)
                parts.append(features.cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        if hasattr(self.module, "get_image_features"):
            found = self.module.get_image_features(pixel_values=pixels)
            return found if hasattr(found, "shape") else found.pooler_output
        output = self.module(pixel_values=pixels)
        for name in ("cls_token", "embeddings.cls_token", "embeddings.class_embedding"):
            if name in dict(self.module.named_parameters()):
                return output.last_hidden_state[:, 0]
        pooled = getattr(output, "pooler_output", None)
        return output.last_hidden_state.flatten(2).mean(2) if pooled is None else pooled.flatten(1)


class ModuleEncoder:
    """Any ``torch.nn.Module`` as an ``Encoder``.

    Parameters
    ----------
    module : a network.
    prepare : from a list of items to the module's input: a tensor [b, ...] or a dictionary of keyword arguments. By
        default items are stacked as float32 arrays.
    layer : name of a submodule (as in ``named_modules``) whose output is the vector, instead of the module's; what has
        more than two axes is averaged over those after the second.
    batch_size : items at a time.
    device : where the module runs; by default where it is.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        prepare: Callable[[list[Any]], Any] | None = None,
        *,
        layer: str | None = None,
        batch_size: int = 256,
        device: str | None = None,
    ) -> None:
        from paperworks.nn import resolve_device

        names = dict(module.named_modules())
        if layer is not None and layer not in names:
            from paperworks.errors import nearest

            raise InputError("layer", repr(layer), f"a submodule{nearest(layer, names)}")
        if batch_size < 1:
            raise InputError("batch_size", batch_size, "1 or more")
        self.module = module if device is None else module.to(resolve_device(device))
        self._prepare, self._layer, self.batch_size = prepare or _stack, names.get(layer or "", module), batch_size
        self.name = type(module).__name__

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """Vectors of items: float32 [n, d]."""
        import torch

        from paperworks.nn import evaluation_mode

        place = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        taken: list[torch.Tensor] = []

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            found = next(iter(output.values())) if isinstance(output, dict) else output
            found = found[0] if isinstance(found, tuple) else found
            taken.append((found if found.ndim <= 2 else found.flatten(2).mean(2)).float().cpu())

        handle = self._layer.register_forward_hook(keep)
        try:
            with torch.inference_mode(), evaluation_mode(self.module):
                for start in range(0, len(items), self.batch_size):
                    batch = self._prepare(list(items[start : start + self.batch_size]))
                    if isinstance(batch, dict):
                        self.module(**{k: v.to(place) for k, v in batch.items()})
                    else:
                        self.module(batch.to(place))
        finally:
            handle.remove()
        return torch.cat(taken).numpy() if taken else np.empty((0, 0), np.float32)


def as_image(item: Any, number: int) -> Image:
    """A PIL image in RGB from a PIL image, an array of uint8 or a path. Raises InputError that names the item."""
    from PIL import Image as images

    if isinstance(item, (str, Path)):
        try:
            with images.open(item) as opened:
                return opened.convert("RGB")
        except OSError as error:
            raise InputError(f"images, number {number}", f"{item} ({error})", "a readable image file") from error
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim not in (2, 3):
            raise InputError(f"images, number {number}", f"{item.dtype} {item.shape}", "uint8 [h, w] or [h, w, 3]")
        return images.fromarray(item).convert("RGB")
    if isinstance(item, images.Image):
        return item.convert("RGB")
    raise InputError(f"images, number {number}", type(item).__name__, "a PIL image, an array of uint8 or a path")


def _stack(items: list[Any]) -> torch.Tensor:
    import torch

    return torch.stack([torch.as_tensor(np.asarray(item), dtype=torch.float32) for item in items])
