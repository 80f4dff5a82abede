"""The network of ProcX with its caption head and projections, and the loss that trains them together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from paperworks.papers.sieve_swap.captioner import caption_loss, ends_of, make_captioner, segment_features
from paperworks.papers.sieve_swap.losses import Pairs, contrastive_loss, set_losses
from paperworks.papers.sieve_swap.network import Layer, Memory, SegmentDetector
from paperworks.papers.sieve_swap.settings import ProcXConfig


class ProcXModel(nn.Module):
    """Detector, caption head and the projections of the contrastive objective, with the training loss."""

    def __init__(
        self,
        config: ProcXConfig,
        width: int,
        tokenizer: Any,
        text_width: int,
        caption_model: str | Path | None = None,
        caption_weights: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.pad, self.end = int(tokenizer.pad_token_id), ends_of(tokenizer)[1]
        self.detector = SegmentDetector(config, width)
        written = config.captions != "none"
        self.captioner = make_captioner(config, len(tokenizer), caption_model, caption_weights) if written else None
        self.project_state = nn.Linear(config.dim, config.contrastive_dim)
        self.project_text = nn.Linear(max(1, text_width), config.contrastive_dim)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The parts of the loss of a batch, weighted; ``total`` is their sum."""
        config = self.config
        layers, memory = self.detector(batch["features"], batch["duration"], batch.get("text"))
        parts, matchings = set_losses(layers, batch["segments"], batch["counts"], config)
        out = {
            "class": config.class_weight * parts["class"],
            "giou": config.giou_weight * parts["giou"],
            "l1": config.l1_weight * parts["l1"],
            "count": config.count_weight * parts["count"],
        }
        last = len(layers) - 1
        captioned = range(len(layers)) if config.caption_every_layer else [last]
        if self.captioner is not None and config.caption_weight:
            losses = [self._captions(layers[n], memory, matchings[n], batch) for n in captioned]
            out["caption"] = config.caption_weight * torch.stack(losses).sum()
        if config.contrastive and "vectors" in batch:
            out["contrastive"] = config.contrastive * self._contrast(layers[last], matchings[last], batch)
        out["total"] = torch.stack(list(out.values())).sum()
        return out

    def _matched(self, pairs: Pairs, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Video, query and segment of every match: int64 ``[S]`` each."""
        video = torch.cat([torch.full_like(q, number) for number, (q, _) in enumerate(pairs)])
        return video, torch.cat([q for q, _ in pairs]), torch.cat([c for _, c in pairs])

    def _captions(self, layer: Layer, memory: Memory, pairs: Pairs, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        video, query, column = self._matched(pairs, batch)
        seen = segment_features(memory, layer.boxes.detach(), self.config.segment_points)
        ids = batch["tokens"][video, column]
        assert self.captioner is not None
        return caption_loss(self.captioner, layer.states[video, query], seen[video, query], ids, self.pad, self.end)

    def _contrast(self, layer: Layer, pairs: Pairs, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        video, query, column = self._matched(pairs, batch)
        vectors = batch["vectors"][video, column]
        states = functional.normalize(self.project_state(layer.states[video, query]), dim=1)
        texts = functional.normalize(self.project_text(vectors), dim=1)
        return contrastive_loss(states, texts, vectors, self.config.temperature, self.config.same_text)


def procx_loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss for ``paperworks.training.train``: its mean times the videos of the batch, and their number."""
    count = torch.tensor(float(len(batch["counts"])), device=batch["counts"].device)
    return model(batch)["total"] * count, count
