"""The two towers of a joint space, texts and pictures to vectors: of CLIP and SigLIP folders, or a small one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paperworks.embedding import load_text_encoder
from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.nn.loading import first_line, read_transformers_config
from paperworks.papers.gkc.vocabulary import EncodeText

EncodeImages = Callable[[np.ndarray], torch.Tensor]
"""From crops uint8 ``[n, size, size, 3]`` to vectors float32 ``[n, E]``."""

CLIP_SCALE = 100.0
"""Factor of the cosines of a trained CLIP, exp(logit_scale)."""

BATCH = 64
"""Crops or texts that a tower gets at a time."""


@dataclass(frozen=True)
class Towers:
    """A text encoder and perhaps an image encoder.

    Attributes
    ----------
    name : which they are, in words.
    encode_text : n texts to ``[n, E]``.
    encode_images : crops uint8 ``[n, crop_size, crop_size, 3]`` to ``[n, D]``; None without a teacher.
    crop_size : pixels of a crop's side.
    joint : whether both are of one space, so that they can be compared (D = E).
    modules : the networks behind them, frozen and in evaluation mode.
    scale : factor of the cosines with which the two were trained: a trained CLIP's is 100.
    """

    name: str
    encode_text: EncodeText
    encode_images: EncodeImages | None = None
    crop_size: int = 224
    joint: bool = False
    modules: tuple[nn.Module, ...] = ()
    scale: float = CLIP_SCALE

    def require_images(self) -> EncodeImages:
        """The image encoder. Raises InputError where there is none."""
        if self.encode_images is None:
            raise InputError("towers", f"{self.name}, without an image encoder", "a CLIP or SigLIP folder")
        return self.encode_images


def frozen(module: nn.Module) -> nn.Module:
    """A module in evaluation mode that no training changes: batch norms neither use nor update batch statistics."""
    return module.eval().requires_grad_(False)


def load_towers(source: str | Path | None = None, device: str = "auto") -> Towers:
    """Both towers of a folder of CLIP or SigLIP, or the bundled MiniLM as a text tower alone.

    Raises
    ------
    InputError : a folder that is not there, not whole, or not of a model with two towers.
    """
    if source is None:
        encoder = load_text_encoder()
        return Towers(str(getattr(encoder, "name", "text encoder")), encoder.encode)
    folder = Path(source).expanduser()
    if not (folder / "config.json").is_file():
        raise InputError("towers", f"{folder}, without config.json", "a folder of a CLIP or SigLIP model")
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    read_transformers_config(folder, "towers")
    try:
        model, said = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a damaged folder makes transformers raise
        raise InputError(
            "towers", f"{folder}, which does not load ({first_line(error)})", "a CLIP or SigLIP folder"
        ) from None
    if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
        raise InputError("towers", f"{folder}, a {model.config.model_type}", "a model with two towers: CLIP, SigLIP")
    if said["missing_keys"]:
        raise InputError("towers", f"{folder}, without {sorted(said['missing_keys'])[0]}", "all weights")
    return _two_towers(folder.name, frozen(model).to(resolve_device(device)), tokenizer, processor)


def _two_towers(name: str, model: Any, tokenizer: Any, processor: Any) -> Towers:
    positions = int(model.config.text_config.max_position_embeddings)
    size = int(model.config.vision_config.image_size)
    siglip = "siglip" in model.config.model_type

    @torch.no_grad()
    def encode_text(texts: list[str]) -> torch.Tensor:
        parts = []
        for start in range(0, len(texts), BATCH):
            # SigLIP was trained on texts padded to their full length, without a mask
            tokens = tokenizer(
                list(texts[start : start + BATCH]),
                padding="max_length" if siglip else True,
                truncation=True,
                max_length=positions,
                return_attention_mask=not siglip,
                return_tensors="pt",
            ).to(model.device)
            parts.append(_vectors(model.get_text_features(**tokens)))
        return torch.cat(parts)

    @torch.no_grad()
    def encode_images(crops: np.ndarray) -> torch.Tensor:
        parts = []
        for start in range(0, len(crops), BATCH):
            pixels = processor(images=list(crops[start : start + BATCH]), return_tensors="pt")["pixel_values"]
            parts.append(_vectors(model.get_image_features(pixel_values=pixels.to(model.device))))
        return torch.cat(parts)

    scale = getattr(model, "logit_scale", None)  # SigLIP and CLIP have it
    factor = CLIP_SCALE if scale is None else float(scale.detach().float().exp())
    return Towers(name, encode_text, encode_images, size, True, (model,), factor)


def _vectors(found: Any) -> torch.Tensor:
    vectors: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
    return vectors.float().cpu()


class CropEncoder(nn.Module):
    """A small image tower: four convolutions on crops of 32 x 32, averaged, to a text space of ``width`` columns.

    Parameters
    ----------
    width : columns of its vectors.
    channels : of the four convolutions.
    """

    SIZE = 32
    TEMPERATURE = 0.05

    def __init__(self, width: int = 384, channels: Sequence[int] = (24, 48, 96, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for count in channels:
            layers += [nn.Conv2d(before, count, 3, stride=2, padding=1), nn.BatchNorm2d(count), nn.ReLU()]
            before = count
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before, width)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit vectors ``[n, width]`` of normalised crops float ``[n, 3, 32, 32]``."""
        return functional.normalize(self.head(self.body(pixels).mean((2, 3))), dim=-1)

    def towers(self, name: str, encode_text: EncodeText) -> Towers:
        """This encoder, frozen, as the image tower beside a text encoder."""
        frozen(self)

        @torch.no_grad()
        def encode_images(crops: np.ndarray) -> torch.Tensor:
            place = next(self.parameters()).device
            parts = [self(_pixels(crops[s : s + 256]).to(place)).cpu() for s in range(0, len(crops), 256)]
            return torch.cat(parts) if parts else torch.empty(0, self.head.out_features)

        return Towers(name, encode_text, encode_images, self.SIZE, True, (self,), 1 / self.TEMPERATURE)


def _pixels(crops: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_crop_encoder(
    crops: np.ndarray, texts: torch.Tensor, labels: np.ndarray, *, steps: int, seed: int = 0
) -> CropEncoder:
    """A ``CropEncoder`` whose vectors are near their own texts' and far from the others'.

    Cross-entropy over all texts of cosines / ``CropEncoder.TEMPERATURE``, AdamW at 2e-3 falling in a line, batches of
    128, mirrored at random.

    Parameters
    ----------
    crops : uint8 ``[n, 32, 32, 3]``.
    texts : unit vectors ``[T, E]``.
    labels : texts of each crop, int ``[n, k]``, one of which is drawn each time: it says how a picture is spoken of.
    """
    from paperworks.training import Generated, TrainSettings, train

    torch.manual_seed(seed)
    encoder = CropEncoder(texts.shape[1])

    def batch(_step: int, n: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rows = rng.integers(len(crops), size=n)
        pixels = _pixels(crops[rows])
        mirrored = torch.from_numpy(rng.random(n) < 0.5)
        pixels[mirrored] = pixels[mirrored].flip(-1)
        said = labels[rows, rng.integers(labels.shape[1], size=n)]
        return {"pixels": pixels, "labels": torch.from_numpy(said)}

    def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(batch["pixels"]) @ texts.T / CropEncoder.TEMPERATURE
        total = functional.cross_entropy(logits, batch["labels"], reduction="sum")
        return total, torch.tensor(len(logits))

    settings = TrainSettings(steps=steps, batch_size=128, learning_rate=2e-3, seed=seed, device="cpu")
    train(encoder, Generated(batch), settings, loss=loss)
    frozen(encoder)
    return encoder
