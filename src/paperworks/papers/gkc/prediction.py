"""Maps of images with a segmenter, and their accuracy on the classes that were trained, on others, and together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.metrics import boundary_iou, mean_iou, panoptic_quality
from paperworks.nn import evaluation_mode
from paperworks.papers.gkc.segmenter import GKCForOpenVocabularySegmentation, GKCOutput
from paperworks.papers.gkc.segments import Scene, pixel_values
from paperworks.runs import Progress, no_progress

IGNORE = 255
BATCH = 32


@dataclass(frozen=True)
class Accuracy:
    """Mean intersection over union of semantic maps.

    Attributes
    ----------
    seen, unseen : mean over the classes of each group; NaN for an empty group.
    harmonic : 2 seen unseen / (seen + unseen).
    per_class : of every class, NaN where it occurs neither in truth nor in prediction.
    pixel_accuracy : share of the labelled pixels that are right.
    """

    seen: float
    unseen: float
    per_class: np.ndarray
    pixel_accuracy: float

    @property
    def harmonic(self) -> float:
        """The harmonic mean of seen and unseen."""
        return harmonic_mean(self.seen, self.unseen)


def harmonic_mean(seen: float, unseen: float) -> float:
    """2 s u / (s + u); 0 where both are 0, NaN where one is."""
    return 0.0 if seen + unseen == 0 else 2 * seen * unseen / (seen + unseen)


@torch.no_grad()
def predict(
    model: GKCForOpenVocabularySegmentation, images: Sequence[np.ndarray], progress: Progress = no_progress
) -> list[GKCOutput]:
    """The model's outputs for each image uint8 ``[H, W, 3]``; images are resized to the model's size."""
    device = model.no_object.device
    size = (int(model.config.image_size[0]), int(model.config.image_size[1]))
    found: list[GKCOutput] = []
    with evaluation_mode(model):
        for start in progress(range(0, len(images), BATCH), "segmenting", -(-len(images) // BATCH)):
            part = [Scene("", image, ()).resized(size).image for image in images[start : start + BATCH]]
            pixels = pixel_values(part, model.config.image_mean, model.config.image_std).to(device)
            output = model(pixels)
            assert output.class_logits is not None
            assert output.mask_logits is not None
            pairs = zip(output.class_logits.cpu(), output.mask_logits.cpu(), strict=True)
            found += [GKCOutput(class_logits=c[None], mask_logits=m[None]) for c, m in pairs]
    return found


def semantic_maps(
    model: GKCForOpenVocabularySegmentation, images: Sequence[np.ndarray], progress: Progress = no_progress
) -> list[np.ndarray]:
    """The class of each pixel of each image, int64, at the image's own size."""
    outputs = predict(model, images, progress)
    return [
        model.post_process_semantic(output, [image.shape[:2]])[0].numpy()
        for output, image in zip(outputs, images, strict=True)
    ]


@dataclass(frozen=True)
class SegmentQuality:
    """Quality of segments and of borders.

    Attributes
    ----------
    panoptic : panoptic quality of segments with a score above the threshold, mean over classes.
    boundary : mean over the classes of all images of the IoU of the borders of truth and semantic map; borders are as
        wide as 2 percent of the image's diagonal.
    """

    panoptic: float
    boundary: float


def segment_quality(
    model: GKCForOpenVocabularySegmentation, scenes: Sequence[Scene], threshold: float = 0.5, stuff: Sequence[int] = ()
) -> SegmentQuality:
    """Panoptic quality and boundary IoU with the model's vocabulary, whose order is that of the scenes' classes."""
    truth: list[list[tuple[int, np.ndarray]]] = []
    guess: list[list[tuple[int, np.ndarray]]] = []
    borders = []
    for scene, output in zip(scenes, predict(model, [s.image for s in scenes]), strict=True):
        size = [scene.image.shape[:2]]
        found = model.post_process_panoptic(output, sizes=size, threshold=threshold, fuse=tuple(stuff))[0]
        ids = found["segmentation"].numpy()
        truth.append([(s.label, s.mask) for s in scene.segments])
        guess.append([(info["label_id"], ids == info["id"]) for info in found["segments_info"]])
        semantic = model.post_process_semantic(output, size)[0].numpy()
        label = scene.label_map(ignore=-1)
        width = max(1, round(0.02 * float(np.hypot(*label.shape))))
        borders += [boundary_iou(label == c, semantic == c, width) for c in np.unique(label[label >= 0])]
    quality = panoptic_quality(truth, guess, int(model.class_of_name.max()) + 1)
    return SegmentQuality(quality.mean, float(np.mean(borders)) if borders else float("nan"))


def accuracy_of(
    maps: Sequence[np.ndarray], scenes: Sequence[Scene], classes: int, seen: Sequence[int], unseen: Sequence[int] = ()
) -> Accuracy:
    """Accuracy of maps on scenes; pixels without a segment are not counted.

    Parameters
    ----------
    classes : number of classes.
    seen, unseen : which of them were trained, and which were not. Classes in neither group count in no mean.
    """
    both = set(seen) & set(unseen)
    if both:
        raise InputError("unseen", f"class {min(both)}, which is seen", "other classes")
    truth = [scene.label_map(ignore=-1) for scene in scenes]
    result = mean_iou(truth, maps, classes, ignore_index=-1)
    means = []
    for group in (seen, unseen):
        values = result.per_class[list(group)]
        values = values[~np.isnan(values)]
        means.append(float(values.mean()) if len(values) else float("nan"))
    return Accuracy(means[0], means[1], result.per_class, result.pixel_accuracy)
