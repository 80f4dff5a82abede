"""The open-vocabulary segmenter: the Mask2Former trunk of transformers with a classifier of texts.

    query output q (after LayerNorm) -> mask embedding . pixel features = mask logits
                                     -> v = W_l ReLU(C q),  class logit = scale <v/|v|, t/|t|>   t: texts, and no object

One projection W_l for each supervised output of the decoder; at inference the last one is used. The model holds the
vectors of its vocabulary and no text encoder: what is saved runs alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, Mask2FormerConfig, Mask2FormerModel, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from paperworks.errors import InputError
from paperworks.papers.gkc import clip_resnet as _registers_a_backbone  # noqa: F401
from paperworks.papers.gkc import post_processing
from paperworks.papers.gkc.vocabulary import PLAIN, EncodeText, Vocabulary, encode_names, parse_vocabulary

SMALLEST_IMAGE = 32
"""Pixels of a side: the coarsest features have stride 32."""


class TrunkConfig(Mask2FormerConfig):
    """Mask2Former's config, without the warning that only Swin was tried: any backbone with four stages will do."""

    def validate_architecture(self) -> None:
        PreTrainedConfig.validate_architecture(self)


class GKCConfig(PreTrainedConfig):
    """Options of ``GKCForOpenVocabularySegmentation``.

    Parameters
    ----------
    trunk : a ``Mask2FormerConfig``, or its dictionary. Any backbone of transformers with four stages.
    text_width : columns of text vectors.
    scale : start of the learned factor of the cosines, or the factor itself where ``learned_scale`` is False.
    vocabulary : [class, names] of each class in order (files of transformers sort dictionaries), whose vectors the
        checkpoint holds; None for a model without a vocabulary.
    image_size, image_mean, image_std : how images were prepared: height and width, statistics of channels in [0, 1].
    text_tower : which text encoder the vectors are of, in words; a vocabulary must come from the same.
    """

    model_type = "paperworks_gkc"

    def __init__(
        self,
        trunk: Mask2FormerConfig | Mapping[str, Any] | None = None,
        text_width: int = 384,
        scale: float = 1 / 0.07,
        learned_scale: bool = True,
        vocabulary: Sequence[tuple[str, Sequence[str]]] | None = None,
        image_size: Sequence[int] = (64, 64),
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.25, 0.25, 0.25),
        text_tower: str = "",
        **kwargs: Any,
    ) -> None:
        if isinstance(trunk, Mask2FormerConfig):
            trunk = trunk.to_dict()
        self.trunk = dict(small_trunk().to_dict() if trunk is None else trunk)
        self.text_width = text_width
        self.scale = scale
        self.learned_scale = learned_scale
        self.vocabulary = None if vocabulary is None else [[cls, list(names)] for cls, names in vocabulary]
        self.image_size = list(image_size)
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.text_tower = text_tower
        super().__init__(**kwargs)

    def classes(self) -> Vocabulary | None:
        """The vocabulary, or None."""
        return Vocabulary({str(cls): tuple(names) for cls, names in self.vocabulary}) if self.vocabulary else None

    def mask2former(self) -> Mask2FormerConfig:
        """The trunk's config."""
        return trunk_of(self.trunk)


def trunk_of(content: Mapping[str, Any]) -> TrunkConfig:
    """A trunk's config from the dictionary of a Mask2Former's, whatever its backbone; weights are of 32 bits."""
    left_out = ("model_type", "backbone_config", "dtype", "torch_dtype")  # dtype is how a file stored its weights
    values = {name: value for name, value in content.items() if name not in left_out}
    backbone = {name: value for name, value in content["backbone_config"].items() if name not in left_out[2:]}
    return TrunkConfig(backbone_config=AutoConfig.for_model(**backbone), **values)


def small_trunk(
    hidden: int = 64,
    widths: Sequence[int] = (32, 48, 64, 96),
    queries: int = 12,
    decoder_layers: int = 3,
    encoder_layers: int = 1,
) -> Mask2FormerConfig:
    """A trunk of half a million weights: a residual network of four basic blocks, three layers of masked attention."""
    from transformers import ResNetConfig

    sizes: dict[str, Any] = {
        "embedding_size": widths[0],
        "hidden_sizes": list(widths),
        "depths": [1] * 4,
        "layer_type": "basic",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    backbone = ResNetConfig(**sizes)
    return TrunkConfig(
        backbone_config=backbone,
        feature_size=hidden,
        mask_feature_size=hidden,
        hidden_dim=hidden,
        encoder_feedforward_dim=2 * hidden,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers + 1,  # transformers counts the output of the raw queries
        num_attention_heads=4,
        dim_feedforward=2 * hidden,
        num_queries=queries,
    )


@dataclass
class GKCOutput(ModelOutput):
    """What the segmenter returns.

    Attributes
    ----------
    class_logits : float32 ``[B, Q, C + 1]``, the last column is no object.
    mask_logits : ``[B, Q, H/4, W/4]``.
    """

    class_logits: torch.Tensor | None = None
    mask_logits: torch.Tensor | None = None

    @property
    def class_queries_logits(self) -> torch.Tensor | None:
        """The class logits, by the name that transformers' image processors read."""
        return self.class_logits

    @property
    def masks_queries_logits(self) -> torch.Tensor | None:
        """The mask logits, by the name that transformers' image processors read."""
        return self.mask_logits


@dataclass
class DecoderOutputs:
    """Every supervised output of the decoder, the raw queries first and the last layer last.

    Attributes
    ----------
    queries : of each, ``[B, Q, hidden]`` after LayerNorm.
    classes : of each, the class embedding ``[B, Q, hidden]`` before ReLU.
    embeddings : of each, the region embedding v ``[B, Q, E]``.
    masks : of each, mask logits ``[B, Q, h, w]``.
    """

    queries: list[torch.Tensor]
    classes: list[torch.Tensor]
    embeddings: list[torch.Tensor]
    masks: list[torch.Tensor]


class GKCForOpenVocabularySegmentation(PreTrainedModel):
    """Segmentation with any class names, on transformers' Mask2Former.

    ``set_vocabulary`` gives it names; ``forward`` takes images float ``[B, 3, H, W]`` with sides of 32 or more.

    Examples
    --------
    >>> import numpy as np
    >>> model = GKCForOpenVocabularySegmentation(GKCConfig(text_width=4)).eval()
    >>> vocabulary = model.set_vocabulary(["cat", "sofa"], lambda names: np.eye(4)[: len(names)])
    >>> model(torch.zeros(1, 3, 64, 64)).class_logits.shape
    torch.Size([1, 12, 3])
    """

    config_class = GKCConfig
    config: GKCConfig
    base_model_prefix = "trunk"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = False

    def __init__(self, config: GKCConfig) -> None:
        super().__init__(config)
        trunk = config.mask2former()
        self.trunk = Mask2FormerModel(trunk)
        hidden, outputs = trunk.hidden_dim, trunk.decoder_layers
        self.class_embedding = nn.Linear(hidden, hidden)
        self.projections = nn.ModuleList(nn.Linear(hidden, config.text_width) for _ in range(outputs))
        self.no_object = nn.Parameter(torch.randn(config.text_width) * config.text_width**-0.5)
        log_scale = torch.tensor(math.log(config.scale))
        if config.learned_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)
        words = config.classes()
        names = words.names if words else []
        self.register_buffer("text_vectors", torch.zeros(len(names), config.text_width))
        self.register_buffer("class_of_name", torch.as_tensor(words.class_of if words else [], dtype=torch.int64))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Linear layers start as PyTorch starts them; what belongs to the trunk is the trunk's own business."""

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The classes that the model names, or None."""
        return self.config.classes()

    @property
    def logit_scale(self) -> torch.Tensor:
        """The factor of the cosines."""
        return self.log_scale.exp()

    def set_vocabulary(
        self,
        vocabulary: Vocabulary | str | Sequence[str] | Mapping[str, str | Sequence[str]],
        encode_text: EncodeText | None = None,
        *,
        templates: Sequence[str] = PLAIN,
    ) -> Vocabulary:
        """Name the classes. Their texts are encoded once; calls of the model need no text encoder.

        Parameters
        ----------
        vocabulary : see ``parse_vocabulary``: a list, class -> names, or text.
        encode_text : from texts to vectors ``[n, E]``, of the space that the model was trained in; by default the
            bundled MiniLM, if the model was trained with it.
        templates : prompts; vectors are averaged over them.

        Raises
        ------
        InputError : see ``parse_vocabulary``; vectors of another width than the model's; no text encoder.
        """
        words = parse_vocabulary(vocabulary)
        if encode_text is None:
            encode_text = bundled_tower(self.config.text_tower)
        vectors = encode_names(words.names, encode_text, templates)
        if vectors.shape[1] != self.config.text_width:
            raise InputError("encode_text", f"vectors of {vectors.shape[1]} columns", f"{self.config.text_width}")
        self.text_vectors = torch.as_tensor(vectors).to(self.no_object)
        self.class_of_name = torch.as_tensor(words.class_of).to(self.no_object.device)
        self.config.vocabulary = [[cls, list(names)] for cls, names in words.classes.items()]
        return words

    def decode(self, pixel_values: torch.Tensor, *, every: bool = True) -> DecoderOutputs:
        """The decoder's outputs: all that are supervised, or the last one alone."""
        _check_images(pixel_values)
        found = self.trunk(pixel_values, output_hidden_states=True)
        queries = [q.transpose(0, 1) for q in found.transformer_decoder_intermediate_states]
        masks = list(found.masks_queries_logits)
        chosen = range(len(queries)) if every else [len(queries) - 1]
        classes = {n: self.class_embedding(queries[n]) for n in chosen}
        return DecoderOutputs(
            [queries[n] for n in chosen],
            [classes[n] for n in chosen],
            [self.projections[n](classes[n].relu()) for n in chosen],
            [masks[n] for n in chosen],
        )

    def text_logits(self, embeddings: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Scaled cosines, float32 ``[B, Q, S + 1]``, of embeddings ``[B, Q, E]``; no object is last.

        ``texts`` are unit vectors ``[S, E]``, or ``[B, S, E]`` of each image.
        """
        place = embeddings.device.type
        with torch.autocast("cpu" if place == "meta" else place, enabled=False):
            unit = functional.normalize(embeddings.float(), dim=-1)
            nothing = functional.normalize(self.no_object.float(), dim=-1)
            named = unit @ texts.float().transpose(-1, -2)
            return self.logit_scale.float() * torch.cat([named, (unit @ nothing)[..., None]], -1)

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> GKCOutput:
        """Class and mask logits of images float ``[B, 3, H, W]``.

        Raises
        ------
        InputError : a model without a vocabulary, or images of another shape or below 32 pixels a side.
        """
        if len(self.text_vectors) == 0:
            raise InputError("vocabulary", "none", "set_vocabulary([...]) before the model is called")
        found = self.decode(pixel_values, every=False)
        logits = self.text_logits(found.embeddings[-1], self.text_vectors)
        return GKCOutput(
            class_logits=class_maximum(logits, self.class_of_name, len(self.config.vocabulary or ())),
            mask_logits=found.masks[-1],
        )

    def post_process_semantic(
        self, outputs: GKCOutput, sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[torch.Tensor]:
        """See ``post_processing.semantic``."""
        return post_processing.semantic(*_logits(outputs), sizes)

    def post_process_panoptic(self, outputs: GKCOutput, **options: Any) -> list[dict[str, Any]]:
        """See ``post_processing.panoptic``."""
        return post_processing.panoptic(*_logits(outputs), **options)

    def post_process_instance(self, outputs: GKCOutput, **options: Any) -> list[dict[str, Any]]:
        """See ``post_processing.instance``."""
        return post_processing.instance(*_logits(outputs), **options)


def load_segmenter(folder: str | Path) -> GKCForOpenVocabularySegmentation:
    """A segmenter that was saved, in evaluation mode.

    Raises InputError for a folder that is not there, of another model, or without all weights.
    """
    path = Path(folder).expanduser()
    try:
        kind = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError("model", f"{path} ({error})", "a folder that a run of this paper saved") from None
    if kind != GKCConfig.model_type:
        raise InputError("model", f"{path}, a {kind}", "a folder that a run of this paper saved")
    try:
        kind_of: Any = GKCForOpenVocabularySegmentation
        model, said = kind_of.from_pretrained(path, output_loading_info=True)
    except Exception as error:  # whatever a damaged folder makes transformers raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError("model", f"{path}, which does not load ({reason})", "a whole folder") from None
    if said["missing_keys"]:
        raise InputError("model", f"{path}, without {sorted(said['missing_keys'])[0]}", "all weights")
    loaded: GKCForOpenVocabularySegmentation = model.eval()
    return loaded


def class_maximum(logits: torch.Tensor, class_of_name: torch.Tensor, count: int | None = None) -> torch.Tensor:
    """Logits of classes ``[..., C + 1]`` from those of names ``[..., names + 1]``: the largest of a class's names."""
    count = int(class_of_name.max()) + 1 if count is None else count
    if count == len(class_of_name):  # one name a class
        return logits
    index = class_of_name.expand(logits[..., :-1].shape)
    classes = logits.new_full((*logits.shape[:-1], count), -torch.inf)
    classes = classes.scatter_reduce(-1, index, logits[..., :-1], "amax")
    return torch.cat([classes, logits[..., -1:]], -1)


def bundled_tower(name: str) -> EncodeText:
    """The bundled text encoder, for a model that was trained with it. Raises InputError for another model."""
    from paperworks.embedding import load_text_encoder

    if name not in ("", BUNDLED_TOWER):
        raise InputError("encode_text", "none", f"the text encoder that the model was trained with ({name})")
    return cast(EncodeText, load_text_encoder().encode)


BUNDLED_TOWER = "all-MiniLM-L6-v2"


def _logits(outputs: GKCOutput) -> tuple[torch.Tensor, torch.Tensor]:
    assert outputs.class_logits is not None
    assert outputs.mask_logits is not None
    return outputs.class_logits, outputs.mask_logits


def _check_images(pixel_values: torch.Tensor) -> None:
    if pixel_values.ndim != 4 or pixel_values.shape[1] != 3 or not pixel_values.is_floating_point():
        found = f"{pixel_values.dtype} {tuple(pixel_values.shape)}"
        raise InputError("pixel_values", found, "float images [B, 3, H, W]")
    if not torch.jit.is_tracing() and min(pixel_values.shape[2:]) < SMALLEST_IMAGE:
        height, width = pixel_values.shape[2:]
        raise InputError("pixel_values", f"images of {height} x {width}", f"sides of {SMALLEST_IMAGE} pixels or more")


AutoConfig.register(GKCConfig.model_type, GKCConfig, exist_ok=True)
AutoModel.register(GKCConfig, GKCForOpenVocabularySegmentation, exist_ok=True)
