"""The two-stage way that GKC is compared with: the student's masks, and an image encoder on the crop of every mask."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.gkc.prediction import predict
from paperworks.papers.gkc.segmenter import GKCForOpenVocabularySegmentation, GKCOutput, class_maximum
from paperworks.papers.gkc.segments import masked_crop
from paperworks.papers.gkc.towers import Towers

SHARE = 0.7
"""Weight l of the teacher in p_student^(1-l) p_teacher^l."""


@torch.no_grad()
def two_stage(
    model: GKCForOpenVocabularySegmentation,
    towers: Towers,
    images: Sequence[np.ndarray],
    *,
    share: float = SHARE,
    scale: float | None = None,
) -> list[GKCOutput]:
    """The student's outputs with the classes that both agree on.

    Every query whose mask has a pixel is cropped, grey outside of its mask, and named by the image encoder. Of the
    classes p = p_student^(1 - share) p_teacher^share, normalised to the student's share of "an object".

    Parameters
    ----------
    share : weight of the teacher, in [0, 1].
    scale : factor of the teacher's cosines; None takes the towers' own.

    Raises
    ------
    InputError : towers without an image encoder or of two spaces, or whose texts are not the model's.
    """
    if not 0 <= share <= 1:
        raise InputError("share", share, "0 to 1")
    if not towers.joint or model.text_vectors.shape[1] != model.config.text_width:
        raise InputError("towers", towers.name, "an image encoder in the space of the text encoder")
    encode = towers.require_images()
    scale = towers.scale if scale is None else scale
    found = []
    texts = model.text_vectors.float().cpu()
    for image, output in zip(images, predict(model, images), strict=True):
        assert output.class_logits is not None
        assert output.mask_logits is not None
        masks = functional.interpolate(output.mask_logits, size=image.shape[:2], mode="bilinear")[0] > 0
        queries = masks.flatten(1).any(1).nonzero()[:, 0]
        student = output.class_logits[0].softmax(-1)
        mixed = student.clone()
        if len(queries):
            crops = np.stack([masked_crop(image, masks[q].numpy(), towers.crop_size) for q in queries])
            cosines = functional.normalize(encode(crops).float(), dim=-1) @ texts.T
            padded = torch.cat([scale * cosines, torch.zeros(len(cosines), 1)], 1)
            teacher = class_maximum(padded, model.class_of_name.cpu())[:, :-1].softmax(-1)
            own = student[queries, :-1]
            objects = own.sum(1, keepdim=True)
            both = (own / objects.clamp(min=1e-12)).clamp(min=1e-12) ** (1 - share) * teacher.clamp(min=1e-12) ** share
            mixed[queries, :-1] = objects * both / both.sum(1, keepdim=True)
        found.append(GKCOutput(class_logits=mixed.clamp(min=1e-12).log()[None], mask_logits=output.mask_logits))
    return found


def two_stage_maps(
    model: GKCForOpenVocabularySegmentation, images: Sequence[np.ndarray], towers: Towers
) -> list[np.ndarray]:
    """Semantic maps of the two-stage way, int64, at the images' own sizes."""
    outputs = two_stage(model, towers, images)
    return [model.post_process_semantic(o, [i.shape[:2]])[0].numpy() for o, i in zip(outputs, images, strict=True)]


@dataclass(frozen=True)
class Cost:
    """What one image costs, alone and with the image encoder on every mask.

    Attributes
    ----------
    student_flops, encoder_flops : floating-point operations of one image and of one crop (a multiply and an add are
        two).
    crops : crops of an image in the two-stage way.
    student_seconds, two_stage_seconds : medians over rounds; NaN if time was not taken.
    ratios : of the rounds, time of the two-stage way over that of the student alone, measured one after the other.
    """

    student_flops: int
    encoder_flops: int
    crops: int
    student_seconds: float = float("nan")
    two_stage_seconds: float = float("nan")
    ratios: tuple[float, ...] = ()

    @property
    def two_stage_flops(self) -> int:
        """Operations of one image in the two-stage way."""
        return self.student_flops + self.crops * self.encoder_flops

    @property
    def flops_ratio(self) -> float:
        """How many times as many operations the two-stage way needs."""
        return self.two_stage_flops / self.student_flops


def flops_of(call: Callable[[], Any]) -> int:
    """Floating-point operations of a call, by PyTorch's counter; works on the meta device, too."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def measure_cost(
    student: nn.Module, encoder: nn.Module, pixels: torch.Tensor, crops: torch.Tensor, rounds: int = 0
) -> Cost:
    """Operations, and with ``rounds`` the time, of a student beside the same student followed by an image encoder.

    Both ways are measured in turn in every round, after one call to warm up. Cutting out the crops is not counted.

    Parameters
    ----------
    student : called with ``pixels``, one image ``[1, 3, H, W]``.
    encoder : called with ``crops`` ``[n, 3, h, w]``, one for each mask.
    """
    with evaluation_mode(student), evaluation_mode(encoder), torch.no_grad():
        alone = flops_of(lambda: student(pixels))
        one = flops_of(lambda: encoder(crops[:1]))
        cost = Cost(alone, one, len(crops))
        if rounds < 1:
            return cost
        student(pixels)
        encoder(crops[:1])
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            student(pixels)
            middle = time.perf_counter()
            student(pixels)
            encoder(crops)
            seconds.append((middle - start, time.perf_counter() - middle))
    both = np.asarray(seconds)
    medians = np.median(both, axis=0)
    ratios = tuple(float(r) for r in both[:, 1] / both[:, 0])
    return Cost(alone, one, len(crops), float(medians[0]), float(medians[1]), ratios)
