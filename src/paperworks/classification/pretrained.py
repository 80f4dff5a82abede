"""Image and text classifiers of transformers, from a folder on this machine, with their processor or tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from paperworks.classification.data import Data
from paperworks.classification.prediction import predict_proba
from paperworks.errors import InputError
from paperworks.inputs.images import ImageDataset
from paperworks.nn.loading import check_model_folder, load_beside, load_strict, read_transformers_config
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PretrainedClassifier:
    """A classifier of transformers with what prepares its input.

    Attributes
    ----------
    model : in evaluation mode, on the CPU; takes ``pixel_values``, or ``input_ids`` and ``attention_mask``.
    kind : "image" or "text".
    processor : the image processor, or the tokenizer.
    class_names : names of the classes, from ``config.id2label``.
    """

    model: PreTrainedModel
    kind: Literal["image", "text"]
    processor: Any
    class_names: tuple[str, ...]

    def examples(self, items: ImageDataset | Sequence[str], *, max_length: int | None = None) -> Data:
        """Images or texts as the model's input, for ``fit``, ``predict`` and ``features``.

        Images are prepared batch by batch, when they are asked for, as uint8 RGB (grey for a model of one channel)
        through the processor. Texts are encoded at once, cut to ``max_length`` tokens (default: what the model takes)
        and padded to the longest.
        """
        if self.kind == "image":
            if not isinstance(items, ImageDataset):
                raise InputError("items", type(items).__name__, "an ImageDataset, for an image classifier")
            grey = getattr(self.model.config, "num_channels", 3) == 1
            return _ProcessedImages(items, self.processor, 1 if grey else 3)
        texts = list(items)
        bad = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if bad is not None or not texts:
            raise InputError(f"items[{bad or 0}]", "no text", "texts, at least one")
        longest = min(self.processor.model_max_length, getattr(self.model.config, "max_position_embeddings", 10**6))
        encoded = self.processor(
            texts, padding=True, truncation=True, max_length=max_length or longest, return_tensors="pt"
        )
        return {name: value for name, value in encoded.items() if name in self.processor.model_input_names}

    def predict_proba(self, items: ImageDataset | Sequence[str], **options: Any) -> np.ndarray:
        """Probabilities of ``class_names``, float64 ``[n, C]``; options as in ``predict_logits``."""
        return predict_proba(self.model, self.examples(items), **options)

    def save(self, folder: Path) -> None:
        """Write model and processor, so that ``from_pretrained`` and ``load_classifier`` read them."""
        with new_folder(folder) as aside:
            self.model.save_pretrained(aside)
            self.processor.save_pretrained(aside)


def load_classifier(path: Path | str, *, progress: Progress = no_progress) -> PretrainedClassifier:
    """A classifier from a folder with ``config.json``, weights, and a processor's or a tokenizer's files.

    Loading is strict: a tensor that is missing (such as the head of a model that was only pretrained), of another shape
    or without a place is refused. Nothing is fetched, and no code of the folder runs.

    Raises
    ------
    InputError : no such folder, a model that classifies neither images nor texts, missing tensors or files.
    """
    from transformers import AutoImageProcessor, AutoTokenizer
    from transformers import AutoModelForImageClassification as ForImages
    from transformers import AutoModelForSequenceClassification as ForTexts

    folder = Path(path).expanduser()
    check_model_folder(folder)
    for _ in progress([None], f"loading {folder.name}", 1):
        config = read_transformers_config(folder)
        able = {"image": type(config) in ForImages._model_mapping, "text": type(config) in ForTexts._model_mapping}
        if not any(able.values()):
            raise InputError("model", f"{config.model_type} in {folder}", "a classifier of images or of texts")
        kind: Literal["image", "text"] = "image" if able["image"] else "text"
        if all(able.values()):
            kind = "image" if (folder / "preprocessor_config.json").is_file() else "text"
        model = load_strict(ForImages if kind == "image" else ForTexts, folder)
        if config.num_labels < 2:
            raise InputError("model", f"{config.num_labels} class in {folder}", "a classifier of two classes or more")
        wanted = "preprocessor_config.json" if kind == "image" else "the files of its tokenizer"
        helper = AutoImageProcessor if kind == "image" else AutoTokenizer
        processor = load_beside(helper, folder, "model", f"a folder with {wanted}")
    names = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return PretrainedClassifier(model, kind, processor, names)


class _ProcessedImages(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Images through a processor of transformers."""

    def __init__(self, images: ImageDataset, processor: Any, channels: Literal[1, 3] = 3) -> None:
        self.images, self.processor, self.channels = images, processor, channels

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """The images at these positions."""
        every = [self.images.array([int(row)], channels=self.channels, dtype="uint8")[0] for row in rows]
        pixels = [one.transpose(1, 2, 0) for one in every]
        made = self.processor(images=pixels, return_tensors="pt", input_data_format="channels_last")
        return {"pixel_values": made["pixel_values"]}

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: value[0] for name, value in self.batch([index]).items()}
