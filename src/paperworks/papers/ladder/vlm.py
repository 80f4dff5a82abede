"""Two-tower vision-language models (CLIP, SigLIP) from folders of transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError

TWO_TOWER = ("clip", "siglip", "siglip2", "chinese_clip", "altclip", "metaclip_2")


def is_two_tower(folder: Path) -> bool:
    """Whether a folder holds such a model, by ``config.json``."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in TWO_TOWER


def load_two_tower(folder: str | Path, *, batch_size: int = 32, device: str = "auto") -> TwoTower:
    """The model in a folder. Raises InputError for another model, or a file or weight that is missing."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(
            "vlm", f"{path}, {'a file' if path.exists() else 'nothing there'}", "a folder of CLIP or SigLIP"
        )
    if not is_two_tower(path):
        raise InputError("vlm", f"{path}, another model", f"a folder of one of {', '.join(TWO_TOWER)}")
    return TwoTower(path, batch_size, device)


class TwoTower:
    """An image encoder and a text encoder of one space.

    Parameters
    ----------
    folder : with ``config.json``, weights, the image processor's and the tokenizer's files.
    batch_size : items at a time.
    device : where the model runs.
    """

    def __init__(self, folder: Path, batch_size: int = 32, device: str = "auto") -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        from paperworks.nn import resolve_device
        from paperworks.nn.loading import check_model_folder, load_beside, load_strict

        check_model_folder(folder)
        self.model = load_strict(AutoModel, folder).to(resolve_device(device))
        expected = "a processor and a tokenizer too"
        self.processor: Any = load_beside(AutoImageProcessor, folder, "vlm", expected)
        self.tokenizer: Any = load_beside(AutoTokenizer, folder, "vlm", expected)
        self.batch_size = batch_size

    def images(self, items: Sequence[Any]) -> np.ndarray:
        """Unit vectors of images (PIL images, uint8 ``[h, w, 3]`` or paths): float32 ``[n, q]``."""
        from paperworks.embedding.image_encoders import as_image

        def batch(part: Sequence[Any], start: int) -> Any:
            pixels = [as_image(item, start + i) for i, item in enumerate(part)]
            given = self.processor(images=pixels, return_tensors="pt").to(self.model.device)
            return self.model.get_image_features(pixel_values=given["pixel_values"].to(self.model.dtype))

        return self._encode(items, batch)

    def texts(self, items: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, cut to the model's length: float32 ``[n, q]``."""
        # SigLIP was trained on texts padded to its whole length
        padding = "max_length" if self.model.config.model_type.startswith("siglip") else True
        longest = getattr(self.model.config.text_config, "max_position_embeddings", 77)

        def batch(part: Sequence[str], start: int) -> Any:
            given = self.tokenizer(
                list(part), padding=padding, truncation=True, max_length=longest, return_tensors="pt"
            ).to(self.model.device)
            return self.model.get_text_features(
                **{k: v for k, v in given.items() if k in ("input_ids", "attention_mask")}
            )

        return self._encode(items, batch)

    def _encode(self, items: Sequence[Any], batch: Any) -> np.ndarray:
        import torch

        parts = []
        with torch.inference_mode():
            for start in range(0, len(items), self.batch_size):
                found = batch(items[start : start + self.batch_size], start)
                found = found if isinstance(found, torch.Tensor) else found.pooler_output
                parts.append(torch.nn.functional.normalize(found.float(), dim=1).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def boosted_class_vectors(
    class_names: Sequence[str], attributes: dict[str, Sequence[str]], encode: Any, template: str = "a photo of a {}"
) -> np.ndarray:
    """Vectors of classes for zero-shot prediction, with confirmed attributes in the prompts ``[c, q]``, unit rows.

    Each class has the plain prompt and one more for each of its attributes (``a photo of a bird with bamboo``); their
    unit vectors are averaged. Predict with ``(images @ vectors.T).argmax(1)``.
    """
    from paperworks.papers.ladder.texts import unit

    vectors = []
    for name in class_names:
        prompts = [template.format(name), *(f"{template.format(name)} with {a}" for a in attributes.get(name, ()))]
        vectors.append(unit(np.asarray(encode(prompts), np.float64), "encode").mean(axis=0))
    return unit(np.array(vectors), "class vectors")
