"""What training minimises: masks, names, grounding and distillation, on every supervised output of the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.gkc.distillation import Form, TextGuidedDistillation, region_limit
from paperworks.papers.gkc.grounding import MOST_REGIONS, GroundingLoss
from paperworks.papers.gkc.matching import HungarianMaskMatcher
from paperworks.papers.gkc.points import cross_entropy, dice_loss, sample, uncertain_points
from paperworks.papers.gkc.segmenter import DecoderOutputs, GKCForOpenVocabularySegmentation

IGNORED = -100
NO_OBJECT_WEIGHT = 0.1
REGION_DROPOUT = 0.5
MOST_REGIONS_KD = 200

Source = Literal["prior", "posterior", "direct"]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the parts. The paper's are 5 (masks), 2, 2 and 2; 0 leaves a part out."""

    masks: float = 5.0
    names: float = 2.0
    grounding: float = 2.0
    distillation: float = 2.0


class GKCForTraining(nn.Module):
    """A segmenter with what only training needs: the projection to the teacher's space, and the losses.

    Parameters
    ----------
    segmenter : the model that stays.
    teacher_width : columns of the teacher's vectors; None trains without distillation.
    weights : of the losses.
    form, reduction : of the distillation.
    source : which student vectors are distilled: "prior" (a projection of the class embedding, before the text
        projection), "posterior" (a projection of the region embedding), "direct" (the region embedding itself, if its
        width is the teacher's).
    points : random points at which masks are compared.
    region_dropout : share of the matched queries that the name loss leaves out.
    """

    def __init__(
        self,
        segmenter: GKCForOpenVocabularySegmentation,
        teacher_width: int | None = None,
        weights: LossWeights | None = None,
        *,
        form: Form = "distance",
        reduction: Literal["sum", "mean"] = "sum",
        source: Source = "prior",
        points: int = 12544,
        region_dropout: float = REGION_DROPOUT,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.weights = LossWeights() if weights is None else weights
        self.matcher = HungarianMaskMatcher(points=points)
        self.grounding = GroundingLoss()
        self.points, self.region_dropout, self.source = points, region_dropout, source
        self.distillation: TextGuidedDistillation | None = None
        self.kd_projection: nn.Module | None = None
        if teacher_width is not None and self.weights.distillation > 0:
            self.distillation = TextGuidedDistillation(form, reduction)
            self.kd_projection = self._projection(teacher_width)

    def _projection(self, width: int) -> nn.Module:
        text_width = self.segmenter.config.text_width
        if self.source == "direct":
            if width != text_width:
                raise InputError("source", f"direct, with widths {text_width} and {width}", "prior or posterior")
            return nn.Identity()
        hidden = self.segmenter.class_embedding.out_features
        return nn.Linear(hidden if self.source == "prior" else text_width, width)

    def forward(self, batch: Mapping[str, torch.Tensor], texts: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weighted losses by name, summed over the decoder's outputs.

        Parameters
        ----------
        batch : ``pixel_values`` float ``[B, 3, H, W]``; ``masks`` bool ``[B, M, H, W]``; ``slots`` int64 ``[B, S]``
            (name of each slot of the image's vocabulary, -1 for padding); ``labels`` int64 ``[B, M]`` (slot of each
            target, -1 for padding); ``words`` int64 ``[B, W]`` (names of the caption, -1 for padding); ``teacher``
            ``[B, M, D]``.
        texts : unit vectors of all names ``[names, E]``.
        """
        outputs = self.segmenter.decode(batch["pixel_values"])
        slots, labels = batch["slots"], batch["labels"]
        vectors = texts[slots.clamp(min=0)]
        padded = torch.cat([slots < 0, torch.zeros_like(slots[:, :1], dtype=torch.bool)], 1)[:, None]
        masks = batch["masks"].float()
        logits = [self.segmenter.text_logits(v, vectors).masked_fill(padded, -torch.inf) for v in outputs.embeddings]
        matched = [self.matcher(logits[n], outputs.masks[n].detach(), labels, masks) for n in range(len(outputs.masks))]
        kept = self._distilled_targets(labels)
        total: dict[str, torch.Tensor] = {}
        for number in range(len(outputs.masks)):
            for name, value in self._of_output(outputs, number, logits[number], matched[number], batch, masks).items():
                total[name] = total.get(name, torch.zeros_like(value)) + value
            if self.distillation is not None:
                value = self._distil(outputs, number, matched[number], kept, vectors, batch)
                total["distillation"] = total.get("distillation", torch.zeros_like(value)) + value
            if self.weights.grounding > 0 and "words" in batch:
                value = self.weights.grounding * self._ground(outputs.embeddings[number], matched[number], batch, texts)
                total["grounding"] = total.get("grounding", torch.zeros_like(value)) + value
        return total

    def _of_output(
        self,
        outputs: DecoderOutputs,
        number: int,
        logits: torch.Tensor,
        matched: torch.Tensor,
        batch: Mapping[str, torch.Tensor],
        masks: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        image, target = (matched >= 0).nonzero(as_tuple=True)
        query = matched[image, target]
        wanted = logits.new_full(logits.shape[:2], logits.shape[-1] - 1, dtype=torch.int64)
        named = batch["labels"][image, target]
        dropped = torch.rand(len(named), device=named.device) < self.region_dropout
        wanted[image, query] = named.masked_fill(dropped, IGNORED)
        class_weights = logits.new_ones(logits.shape[-1])
        class_weights[-1] = NO_OBJECT_WEIGHT
        if bool((wanted == IGNORED).all()):  # every query matched and left out: a mean of none would be NaN
            names = logits[..., -1].sum() * 0
        else:
            names = functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), class_weights, ignore_index=IGNORED
            )
        return {
            "names": self.weights.names * names,
            "masks": self.weights.masks * self._mask_loss(outputs.masks[number][image, query], masks[image, target]),
        }

    def _mask_loss(self, predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Cross-entropy and Dice of matched masks at uncertain points, over the number of masks."""
        if len(predicted) == 0:
            return predicted.sum()
        predicted = predicted.float()
        places = uncertain_points(predicted.detach(), self.points)
        with torch.no_grad():
            wanted = sample(truth, places)
        found = sample(predicted, places)
        return (cross_entropy(found, wanted) + dice_loss(found, wanted)).mean()

    def _distilled_targets(self, labels: torch.Tensor) -> torch.Tensor:
        """Which targets are distilled, the same for all outputs: bool ``[B, M]``."""
        places = (labels >= 0).nonzero()
        chosen = places[region_limit(len(places), MOST_REGIONS_KD, labels.device)]
        kept = torch.zeros_like(labels, dtype=torch.bool)
        kept[chosen[:, 0], chosen[:, 1]] = True
        return kept

    def _distil(
        self,
        outputs: DecoderOutputs,
        number: int,
        matched: torch.Tensor,
        kept: torch.Tensor,
        vectors: torch.Tensor,
        batch: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        assert self.distillation is not None
        assert self.kd_projection is not None
        image, target = (kept & (matched >= 0)).nonzero(as_tuple=True)
        given = outputs.classes[number] if self.source == "prior" else outputs.embeddings[number]
        student = self.kd_projection(given[image, matched[image, target]])
        text = vectors[image, batch["labels"][image, target]]
        loss = self.distillation(student, batch["teacher"][image, target], text, image)
        return self.weights.distillation * loss

    def _ground(
        self, embeddings: torch.Tensor, matched: torch.Tensor, batch: Mapping[str, torch.Tensor], texts: torch.Tensor
    ) -> torch.Tensor:
        found = matched[:, :MOST_REGIONS]
        regions = embeddings.gather(1, found.clamp(min=0)[..., None].expand(-1, -1, embeddings.shape[-1]))
        words = batch["words"]
        scale = self.segmenter.logit_scale
        value: torch.Tensor = self.grounding(regions, found >= 0, texts[words.clamp(min=0)], words >= 0, scale)
        return value
