"""Sizes and weights of ProcX. Light to import."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from paperworks.errors import InputError

CaptionKind = Literal["transformer", "lstm", "none"]


@dataclass(frozen=True)
class ProcXConfig:
    """Options of ProcX; the defaults are those of PDVC on YouCook2 where the paper takes them over.

    Attributes
    ----------
    dim, heads, points, levels : d, heads, points of each level, temporal scales.
    encoder_layers, decoder_layers, feed_forward, dropout : of the transformer.
    queries : learned queries N, the most segments of a video.
    positions : T, places that the features are resampled to; at least ``2 ** levels``.
    resampling : "linear" or "nearest".
    key_aware : key-aware attention in the decoder; False is plain deformable attention.
    key_aware_encoder : in the encoder, too: memory grows with every position.
    text_width : columns of a text stream beside the features (vectors of what is said at each position); 0 for none.
    max_count : the largest number of segments that the count head knows.
    score : "iou" trains the score towards the overlap (varifocal); "focal" towards 1.
    contrastive : weight of the contrastive objective; 0 leaves it out. ``contrastive_dim``, ``temperature``: its form.
    same_text : segments whose texts have at least this cosine are no negatives.
    class_weight, giou_weight, l1_weight, count_weight, caption_weight : of the loss.
    cost_class, cost_giou, cost_l1 : of the matching.
    captions : "transformer", "lstm" or "none"; ``caption_layers``, ``most_tokens``,
        ``vocabulary`` (words, without a tokenizer of the user's), ``segment_points``: its form.
        ``segment_points`` are the places of a segment that the caption head sees.
    caption_every_layer : train captions at every decoder layer, as PDVC does; otherwise at the last.
    rerank : weight of the captions' mean log-probability in the score; 0 ranks by the score alone.
    nms : overlap of suppression; 1 turns it off.
    no_repeat : captions have no run of so many words twice; 0 allows all.
    """

    dim: int = 512
    heads: int = 8
    points: int = 4
    levels: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 2
    feed_forward: int = 512
    dropout: float = 0.1
    queries: int = 100
    positions: int = 200
    resampling: Literal["linear", "nearest"] = "linear"
    key_aware: bool = True
    key_aware_encoder: bool = False
    text_width: int = 0
    max_count: int = 20
    score: Literal["iou", "focal"] = "iou"
    contrastive: float = 1.0
    contrastive_dim: int = 256
    temperature: float = 0.07
    same_text: float = 0.95
    class_weight: float = 2.0
    giou_weight: float = 4.0
    l1_weight: float = 0.0
    count_weight: float = 0.5
    caption_weight: float = 2.0
    cost_class: float = 2.0
    cost_giou: float = 4.0
    cost_l1: float = 0.0
    captions: CaptionKind = "transformer"
    caption_layers: int = 2
    most_tokens: int = 40
    segment_points: int = 8
    vocabulary: int = 8000
    caption_every_layer: bool = False
    rerank: float = 0.0
    nms: float = 1.0
    no_repeat: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "heads", "points", "levels", "encoder_layers", "decoder_layers", "feed_forward", "queries"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        _require(
            "dim", self.dim, self.dim % self.heads == 0 and self.dim % 4 == 0, f"a multiple of 4 and of {self.heads}"
        )
        _require("positions", self.positions, self.positions >= 2**self.levels, f"at least {2**self.levels}: 2^levels")
        _require("max_count", self.max_count, self.max_count >= 1, "1 or more")
        _require("vocabulary", self.vocabulary, self.vocabulary >= 10, "10 or more")
        _require("most_tokens", self.most_tokens, self.most_tokens >= 3, "3 or more")
        _require("score", self.score, self.score in ("iou", "focal"), "iou or focal")
        _require(
            "captions", self.captions, self.captions in ("transformer", "lstm", "none"), "transformer, lstm or none"
        )
        _require("resampling", self.resampling, self.resampling in ("linear", "nearest"), "linear or nearest")
        _require("no_repeat", self.no_repeat, self.no_repeat >= 0, "0 or more")
        _require("temperature", self.temperature, self.temperature > 0, "more than 0")
        _require("dropout", self.dropout, 0 <= self.dropout < 1, "from 0, below 1")
        for name in ("nms", "same_text"):
            _require(name, getattr(self, name), 0 < getattr(self, name) <= 1, "above 0, at most 1")
        names = ("contrastive", "class_weight", "giou_weight", "l1_weight", "count_weight", "caption_weight", "rerank")
        for name in (*names, "cost_class", "cost_giou", "cost_l1"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _require(field: str, found: object, right: bool, expected: str) -> None:
    if not right:
        raise InputError(field, found, expected)
