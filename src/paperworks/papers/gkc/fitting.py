"""Training of a segmenter on scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.gkc.criterion import GKCForTraining, LossWeights, Source
from paperworks.papers.gkc.distillation import Form
from paperworks.papers.gkc.segmenter import GKCForOpenVocabularySegmentation
from paperworks.papers.gkc.segments import Scene
from paperworks.papers.gkc.synonyms import THRESHOLD, SynonymSampler, SynonymTable
from paperworks.papers.gkc.towers import Towers
from paperworks.papers.gkc.training_data import (
    RegionVectors,
    SceneBatches,
    instance_scores,
    region_vectors,
    text_vectors,
)
from paperworks.runs import Progress, no_progress
from paperworks.training import Batch, TrainResult, TrainSettings, train

Diversification = Literal["off", "threshold", "prob", "uniform"]
Distillation = Literal["off", "distance", "inner", "point", "vision"]
BACKBONE_RATE = 0.1
"""Learning rate of the backbone, as a factor, where it was trained before."""


def fit_segmenter(
    model: GKCForOpenVocabularySegmentation,
    scenes: Sequence[Scene],
    synonyms: SynonymTable,
    towers: Towers,
    settings: TrainSettings,
    *,
    diversification: Diversification = "threshold",
    distillation: Distillation = "distance",
    weights: LossWeights | None = None,
    source: Source = "prior",
    points: int = 12544,
    threshold: float = THRESHOLD,
    backbone_rate: float = BACKBONE_RATE,
    words: tuple[Sequence[Sequence[int]], Sequence[str]] | None = None,
    regions: RegionVectors | None = None,
    scores: Sequence[Any] | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
    on_step: Callable[[int, float, float], None] | None = None,
) -> TrainResult:
    """Train a segmenter in place, and leave it with the classes' own names as its vocabulary.

    Parameters
    ----------
    model : a segmenter whose text width is that of ``towers``.
    scenes : of one size; their segments' classes are positions in ``synonyms``.
    synonyms : the classes with their names; those beyond the first are used by diversification only.
    towers : the text encoder, and the teacher.
    settings : of the loop. The learning rate is that of the heads; the backbone's is ``backbone_rate`` times it.
    diversification : how names are drawn for instances: see ``SynonymSampler``; "off" takes the classes' own names.
    distillation : the form of ``TextGuidedDistillation``, or "off".
    weights, source, points : see ``GKCForTraining``.
    threshold : of mode "threshold".
    words : captions: for each scene the numbers of its words, counted behind all names; and the words.
    regions, scores : the teacher's vectors and S, where they are there already.
    checkpoint_dir, progress, on_step : see ``paperworks.training.train``.

    Raises
    ------
    InputError : widths that do not fit, a class without a name, distillation without an image tower.
    """
    classes = len(synonyms.names)
    labels = {segment.label for scene in scenes for segment in scene.segments}
    if labels and not (min(labels) >= 0 and max(labels) < classes):
        raise InputError("scenes", f"class {max(labels)}", f"0 to {classes - 1}, as there are names")
    used = synonyms if diversification != "off" else SynonymTable({cls: (cls,) for cls in synonyms.names})
    extra = words[1] if words else ()
    texts = text_vectors(used, towers, extra)
    if texts.shape[1] != model.config.text_width:
        raise InputError("towers", f"texts of {texts.shape[1]} columns", f"{model.config.text_width}, as the model has")
    needed = distillation != "off" or (diversification in ("threshold", "prob") and towers.encode_images is not None)
    if needed and regions is None:
        regions = region_vectors(scenes, towers, progress)
    if diversification in ("threshold", "prob") and scores is None and regions is not None:
        scores = instance_scores(scenes, used, towers, regions)
    mode = "uniform" if diversification == "off" else diversification
    sampler = SynonymSampler(used, scores if diversification in ("threshold", "prob") else None, mode, threshold)
    offset = sum(sampler.counts)
    data = SceneBatches(
        scenes,
        sampler,
        model.config.image_mean,
        model.config.image_std,
        regions if distillation != "off" else None,
        None if words is None else [[offset + w for w in row] for row in words[0]],
    )
    form: Form = "distance" if distillation == "off" else distillation
    width = regions.width if distillation != "off" and regions is not None else None
    wrapped = GKCForTraining(model, width, weights, form=form, source=source, points=points)
    device_texts: dict[torch.device, torch.Tensor] = {}

    def loss(module: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        place = batch["pixel_values"].device
        vectors = device_texts.setdefault(place, texts.to(place))
        total = torch.stack(list(module(batch, vectors).values())).sum()
        count = len(batch["pixel_values"])
        return total * count, torch.tensor(count, device=place)

    def groups(module: nn.Module) -> list[dict[str, Any]]:
        return parameter_groups(module, settings.weight_decay, backbone_rate)

    from paperworks.training import make_optimizer

    optimizer = make_optimizer(wrapped, settings, groups)
    result = train(
        wrapped,
        data,
        settings,
        loss=loss,
        optimizer=optimizer,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
        on_step=on_step,
    )
    model.config.text_tower = towers.name
    model.set_vocabulary(list(synonyms.names), towers.encode_text)
    model.eval()
    return result


def parameter_groups(module: nn.Module, weight_decay: float, backbone_rate: float) -> list[dict[str, Any]]:
    """AdamW's groups: the backbone has ``backbone_rate`` times the rate; norms, gains, embeddings do not decay."""
    plain = {
        id(p)
        for m in module.modules()
        if isinstance(m, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding))
        for p in m.parameters(recurse=False)
    }
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and id(parameter) not in plain
            groups.setdefault(("pixel_level_module.encoder" in name, decays), []).append(parameter)
    return [
        {"params": found, "lr_factor": backbone_rate if body else 1.0, "weight_decay": weight_decay if decays else 0.0}
        for (body, decays), found in groups.items()
    ]
