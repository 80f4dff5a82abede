"""Two towers in one space, trained on pairs: images and texts, or texts and texts.

model = DualEncoder.from_folders("vit", "bert", dimensions=256)
train(model, {"pixel_values": ..., "input_ids": ..., "attention_mask": ...}, settings, loss=dual_encoder_loss)
model.save_vision_text("folder")          # transformers' VisionTextDualEncoderModel loads it
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from paperworks.embedding.contrastive import LearnableTemperature, clip_loss, gather_features
from paperworks.embedding.text_encoders import load_strictly
from paperworks.errors import InputError

Pooling = Literal["pooler", "mean", "cls"]
TEXT_KEYS = ("input_ids", "attention_mask", "token_type_ids")
PARTS_FILE = "dual_encoder.json"


class DualFeatures(NamedTuple):
    """Unit rows ``[B, D]`` of both sides, and the temperature, a scalar."""

    first: torch.Tensor
    second: torch.Tensor
    temperature: torch.Tensor


class DualEncoder(nn.Module):
    """Two towers, a linear projection each, and a learned temperature.

    A batch is a flat dictionary. The second tower gets the keys that begin with ``second_`` (without that), else the
    text keys ``input_ids``, ``attention_mask`` and ``token_type_ids``; the first tower gets the others.

    Parameters
    ----------
    first, second : modules from keyword arguments to features ``[B, w]``, or models of transformers. The same module
        twice is one shared tower with one shared projection.
    dimensions : columns D of the common space.
    first_width, second_width : w of each tower; by default ``config.hidden_size`` (or the last of ``hidden_sizes``).
    first_pooling, second_pooling : features of a model of transformers: "pooler" (``pooler_output``), "mean" over
        tokens or "cls".
    temperature : its first value; it is learned, and does not fall below 0.01.
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        *,
        dimensions: int = 256,
        first_width: int | None = None,
        second_width: int | None = None,
        first_pooling: Pooling = "pooler",
        second_pooling: Pooling = "pooler",
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        if dimensions < 1:
            raise InputError("dimensions", dimensions, "1 or more")
        for name, pooling in (("first_pooling", first_pooling), ("second_pooling", second_pooling)):
            if pooling not in ("pooler", "mean", "cls"):
                raise InputError(name, repr(pooling), "pooler, mean or cls")
        self.first, self.second = first, second
        self.first_pooling, self.second_pooling = first_pooling, second_pooling
        self.dimensions = dimensions
        self.first_projection = nn.Linear(_width(first, first_width, "first_width"), dimensions, bias=False)
        self.second_projection = (
            self.first_projection
            if second is first
            else nn.Linear(_width(second, second_width, "second_width"), dimensions, bias=False)
        )
        self.temperature = LearnableTemperature(temperature)

    @classmethod
    def from_folders(cls, first: str | Path, second: str | Path, **options: Any) -> DualEncoder:
        """Towers from Hugging Face folders: the first of an image or text model, the second of a text model.

        The same folder twice is one shared tower. A pooler that a folder lacks starts at random and is trained.
        """
        towers = [load_strictly(Path(folder), _kind_of(Path(folder)))[0] for folder in dict.fromkeys((first, second))]
        return cls(towers[0], towers[-1], **options)

    def encode_first(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Unit rows ``[B, D]`` of the first tower's inputs."""
        return functional.normalize(self.first_projection(_features(self.first, self.first_pooling, inputs)), dim=1)

    def encode_second(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Unit rows ``[B, D]`` of the second tower's inputs."""
        pooling = self.first_pooling if self.second is self.first else self.second_pooling
        return functional.normalize(self.second_projection(_features(self.second, pooling, inputs)), dim=1)

    def forward(self, **batch: torch.Tensor) -> DualFeatures:
        """Both sides of a batch of pairs."""
        first, second = split_batch(batch)
        return DualFeatures(self.encode_first(**first), self.encode_second(**second), self.temperature())

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the parts, for ``DualEncoder.from_pretrained``: towers by their own ``save_pretrained``, and the rest.

        Raises InputError if the folder exists with files in it, or a tower cannot save itself.
        """
        from safetensors.torch import save_file

        from paperworks.runs.files import new_folder

        towers = {"first": self.first} if self.second is self.first else {"first": self.first, "second": self.second}
        for name, tower in towers.items():
            if not (hasattr(tower, "save_pretrained") and hasattr(type(tower), "from_pretrained")):
                raise InputError(
                    f"{name} tower", type(tower).__name__, "a module with save_pretrained and from_pretrained"
                )
        record = {
            "dimensions": self.dimensions,
            "first_width": self.first_projection.in_features,
            "second_width": self.second_projection.in_features,
            "first_pooling": self.first_pooling,
            "second_pooling": self.second_pooling,
            "towers": {n: f"{type(t).__module__}:{type(t).__qualname__}" for n, t in towers.items()},
        }
        rest = {
            name: value.contiguous()
            for name, value in self.state_dict().items()
            if not name.startswith(("first.", "second.")) and not (len(towers) == 1 and name.startswith("second_"))
        }
        with new_folder(Path(folder)) as aside:
            for name, tower in towers.items():
                tower.save_pretrained(aside / name)  # type: ignore[operator]
            save_file(rest, aside / "projections.safetensors")
            (aside / PARTS_FILE).write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DualEncoder:
        """Read what ``save_pretrained`` wrote. Towers are classes of transformers or of ``paperworks.nn``."""
        from safetensors.torch import load_file

        folder = Path(folder).expanduser()
        try:
            record = json.loads((folder / PARTS_FILE).read_text(encoding="utf-8"))
            names: dict[str, str] = record.pop("towers")
        except (OSError, ValueError, KeyError) as error:
            raise InputError("folder", f"{folder} ({error})", f"a folder with {PARTS_FILE}") from error
        towers = [_tower_class(kind, folder).from_pretrained(folder / name) for name, kind in names.items()]
        model = cls(towers[0], towers[-1], **record)
        rest = load_file(folder / "projections.safetensors")
        missing, unexpected = model.load_state_dict(rest, strict=False)
        wrong = [m for m in missing if not m.startswith(("first.", "second.")) and m not in _shared(model)]
        if wrong or unexpected:
            raise InputError(
                "folder", f"{folder}, other weights: {(wrong + unexpected)[0]}", "those of save_pretrained"
            )
        return model

    def save_vision_text(self, folder: str | Path, processor: Any = None) -> None:
        """Save as a folder of transformers' ``VisionTextDualEncoderModel``, which gives the same vectors.

        Parameters
        ----------
        folder : new or empty.
        processor : a ``VisionTextDualEncoderProcessor``, or a tokenizer or image processor, saved beside the weights.

        Raises
        ------
        InputError : towers that are not an image and a text model of transformers, or pooled in another way.
        """
        from transformers import PreTrainedModel, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

        from paperworks.runs.files import new_folder

        first, second = self.first, self.second
        fits = isinstance(first, PreTrainedModel) and isinstance(second, PreTrainedModel)
        if not fits or getattr(first, "main_input_name", "") != "pixel_values":
            raise InputError(
                "towers",
                f"{type(first).__name__} and {type(second).__name__}",
                "an image and a text model of transformers",
            )
        if (self.first_pooling, self.second_pooling) != ("pooler", "pooler"):
            raise InputError("pooling", f"{self.first_pooling} and {self.second_pooling}", "pooler for both towers")
        assert isinstance(first, PreTrainedModel)
        assert isinstance(second, PreTrainedModel)
        config = VisionTextDualEncoderConfig.from_vision_text_configs(
            first.config, second.config, projection_dim=self.dimensions
        )
        whole = VisionTextDualEncoderModel(config, vision_model=first, text_model=second)
        with torch.no_grad():
            whole.visual_projection.weight.copy_(self.first_projection.weight)
            whole.text_projection.weight.copy_(self.second_projection.weight)
            whole.logit_scale.fill_(-math.log(float(self.temperature().detach())))
        with new_folder(Path(folder)) as aside:
            whole.save_pretrained(aside)
            if processor is not None:
                processor.save_pretrained(aside)

    def save_sentence_transformers(self, folder: str | Path, tokenizer: Any, max_length: int | None = None) -> None:
        """Save a shared text tower as a sentence-transformers folder: Transformer, Pooling, Dense, Normalize.

        Raises InputError if the towers are two, not a model of transformers, or pooled by its pooler.
        """
        from safetensors.torch import save_file
        from transformers import PreTrainedModel

        from paperworks.runs.files import new_folder

        if self.first is not self.second or not isinstance(self.first, PreTrainedModel):
            raise InputError("towers", "two, or not of transformers", "one text model of transformers, given twice")
        if self.first_pooling == "pooler":
            raise InputError("first_pooling", "pooler", "mean or cls")
        module = "sentence_transformers.models."
        kinds = ("Transformer", "Pooling", "Dense", "Normalize")
        modules = [
            {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": module + kind}
            for i, kind in enumerate(kinds)
        ]
        width = self.first_projection.in_features
        dense = {
            "in_features": width,
            "out_features": self.dimensions,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        pooling = {"word_embedding_dimension": width} | {
            f"pooling_mode_{name}": name.startswith(self.first_pooling)
            for name in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
        }
        pooling["pooling_mode_mean_sqrt_len_tokens"] = False
        limit = max_length or min(tokenizer.model_max_length, 10**6)
        with new_folder(Path(folder)) as aside:
            self.first.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
            for entry, content in zip(modules[1:], (pooling, dense, {}), strict=True):
                (aside / str(entry["path"])).mkdir()
                (aside / str(entry["path"]) / "config.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
            weight = self.first_projection.weight.detach().contiguous()
            save_file({"linear.weight": weight}, aside / "2_Dense" / "model.safetensors")
            (aside / "modules.json").write_text(json.dumps(modules, indent=1), encoding="utf-8")
            settings = {"max_seq_length": limit, "do_lower_case": False}
            (aside / "sentence_bert_config.json").write_text(json.dumps(settings), encoding="utf-8")


def dual_encoder_loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The symmetric loss of CLIP for ``paperworks.training.train``: its sum over pairs, and their number.

    In several processes the negatives are those of all of them, with gradients.
    """
    first, second, temperature = model(**batch)
    every = gather_features(first), gather_features(second)
    loss = clip_loss(*every, temperature=temperature, reduction="mean") * len(first)
    return loss, torch.tensor(len(first), device=first.device)


def split_batch(batch: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The inputs of the first and of the second tower."""
    second = {k.removeprefix("second_"): v for k, v in batch.items() if k.startswith("second_")}
    first = {k: v for k, v in batch.items() if not k.startswith("second_")}
    if not second:
        second = {k: first.pop(k) for k in TEXT_KEYS if k in first}
    if not first or not second:
        raise InputError("batch", f"keys {', '.join(batch)}", "inputs of both towers (see DualEncoder)")
    return first, second


def _features(tower: nn.Module, pooling: Pooling, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    output = tower(**inputs)
    if isinstance(output, torch.Tensor):
        return output
    if pooling == "pooler":
        if getattr(output, "pooler_output", None) is None:
            raise InputError("pooling", f"{type(tower).__name__} without pooler_output", "mean or cls")
        return output.pooler_output.flatten(1)
    hidden = output.last_hidden_state
    if pooling == "cls":
        return hidden[:, 0]
    if "attention_mask" not in inputs:
        return hidden.flatten(2).mean(2) if hidden.ndim == 4 else hidden.mean(1)
    mask = inputs["attention_mask"][..., None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)


def _width(tower: nn.Module, given: int | None, name: str) -> int:
    if given is not None:
        return given
    config = getattr(tower, "config", None)
    found = getattr(config, "hidden_size", None) or (getattr(config, "hidden_sizes", None) or [None])[-1]
    if found is None:
        raise InputError(name, "nothing", f"the columns of what {type(tower).__name__} returns")
    return int(found)


def _kind_of(folder: Path) -> str:
    return "image" if (folder / "preprocessor_config.json").is_file() else "text"


def _tower_class(name: str, folder: Path) -> Any:
    import importlib

    module, _, kind = name.partition(":")
    if not module.startswith(("transformers.", "paperworks.nn")):
        raise InputError("folder", f"{folder}, a tower of {module}", "towers of transformers or paperworks.nn")
    return getattr(importlib.import_module(module), kind)


def _shared(model: DualEncoder) -> list[str]:
    return ["second_projection.weight"] if model.second_projection is model.first_projection else []
