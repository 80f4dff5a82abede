"""Batches of a training: images, masks, the vocabulary of each image, its caption's words, the teacher's vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.gkc.grounding import drop_words
from paperworks.papers.gkc.segments import Scene, crops_of, pixel_values
from paperworks.papers.gkc.synonyms import SynonymSampler, SynonymTable, score_synonyms, slots_of
from paperworks.papers.gkc.towers import Towers
from paperworks.papers.gkc.vocabulary import encode_names
from paperworks.runs import Progress, no_progress
from paperworks.training import Batch, BatchSource


@dataclass(frozen=True)
class RegionVectors:
    """The teacher's vectors of all segments, scene by scene: ``[2, n, D]``, of the crops and of the mirrored crops."""

    vectors: torch.Tensor

    @property
    def width(self) -> int:
        """Columns of the vectors."""
        return self.vectors.shape[2]


def region_vectors(scenes: Sequence[Scene], towers: Towers, progress: Progress = no_progress) -> RegionVectors:
    """Ask the teacher once for every segment, as it is and mirrored."""
    encode = towers.require_images()
    parts: list[list[torch.Tensor]] = [[], []]
    for start in progress(range(0, len(scenes), 64), "asking the teacher", -(-len(scenes) // 64)):
        for mirrored in (False, True):
            crops = crops_of(scenes[start : start + 64], towers.crop_size, mirrored=mirrored)
            if len(crops):
                parts[mirrored].append(encode(np.ascontiguousarray(crops)).float())
    if not parts[0]:
        raise InputError("masks", "no segment", "at least one")
    return RegionVectors(torch.stack([torch.cat(one) for one in parts]))


class SceneBatches(BatchSource):
    """Scenes in random order, mirrored at random, with names drawn for their instances.

    Parameters
    ----------
    scenes : of one size.
    sampler : draws the names. With one name a class, training is plain.
    mean, std : of the images' channels.
    regions : the teacher's vectors, or None.
    words : numbers of names or further words of each scene's caption, for the grounding loss; None takes the names that
        were drawn for the scene's instances; an empty list is a scene without a caption.
    mirror : turn half of the images left to right.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        sampler: SynonymSampler,
        mean: Sequence[float],
        std: Sequence[float],
        regions: RegionVectors | None = None,
        words: Sequence[Sequence[int]] | None = None,
        mirror: bool = True,
    ) -> None:
        if not scenes:
            raise InputError("scenes", "none", "at least one")
        sizes = {scene.image.shape[:2] for scene in scenes}
        if len(sizes) > 1:
            raise InputError("scenes", f"sizes {sorted(sizes)[:3]}", "one size")
        self.scenes, self.sampler, self.regions, self.words = scenes, sampler, regions, words
        self.mean, self.std, self.mirror = mean, std, mirror
        counts = [len(scene.segments) for scene in scenes]
        self.first_segment = np.cumsum([0, *counts])
        self.first_name = np.cumsum([0, *sampler.counts])[:-1]
        if regions is not None and regions.vectors.shape[1] != sum(counts):
            raise InputError("regions", f"{regions.vectors.shape[1]} vectors", f"{sum(counts)}, one for each segment")

    def batch(self, step: int, part: range, *, per_step: int, seed: int) -> Batch:
        """See ``BatchSource.batch``; the columns are those of ``GKCForTraining.forward``."""
        rng = np.random.default_rng([seed, step])
        rows = rng.integers(len(self.scenes), size=per_step)
        mirrored = rng.random(per_step) < 0.5 if self.mirror else np.zeros(per_step, bool)
        names = np.random.default_rng([seed, step, 1])  # its own draws: synonyms must not change what else is drawn
        chosen = [self._one(int(rows[n]), bool(mirrored[n]), names) for n in range(per_step)]
        return self._collated([chosen[n] for n in part])

    def steps(self, epochs: float, per_step: int) -> int:
        return max(1, round(epochs * len(self.scenes) / per_step))

    def _one(self, row: int, mirrored: bool, rng: np.random.Generator) -> dict[str, np.ndarray | torch.Tensor]:
        scene, first = self.scenes[row], int(self.first_segment[row])
        classes = [segment.label for segment in scene.segments]
        drawn = [self.sampler.sample(first + n, cls, rng) for n, cls in enumerate(classes)]
        slots, targets = slots_of(classes, drawn, self.first_name)
        words = [slots[t] for t in dict.fromkeys(targets)] if self.words is None else list(self.words[row])
        masks = np.stack([s.mask for s in scene.segments]) if classes else np.zeros((0, *scene.image.shape[:2]), bool)
        found: dict[str, np.ndarray | torch.Tensor] = {
            "image": scene.image[:, ::-1] if mirrored else scene.image,
            "masks": masks[:, :, ::-1] if mirrored else masks,
            "slots": np.asarray(slots, np.int64),
            "labels": np.asarray(targets, np.int64),
            "words": np.asarray(drop_words(words, rng), np.int64),
        }
        if self.regions is not None:
            found["teacher"] = self.regions.vectors[int(mirrored), first : first + len(classes)]
        return found

    def _collated(self, examples: Sequence[Mapping[str, np.ndarray | torch.Tensor]]) -> Batch:
        images = [np.ascontiguousarray(np.asarray(e["image"])) for e in examples]
        batch = {"pixel_values": pixel_values(images, self.mean, self.std)}
        for name in ("masks", "slots", "labels", "words"):
            batch[name] = _padded([torch.from_numpy(np.ascontiguousarray(e[name])) for e in examples], name)
        if self.regions is not None:
            batch["teacher"] = _padded([torch.as_tensor(e["teacher"]) for e in examples], "teacher")
        return batch


def _padded(tensors: Sequence[torch.Tensor], name: str) -> torch.Tensor:
    """Stacked along a new first axis; the second is padded, with False, -1 or 0."""
    most = max(1, *(len(t) for t in tensors))
    filler = -1 if name in ("slots", "labels", "words") else 0
    return torch.stack([torch.cat([t, t.new_full((most - len(t), *t.shape[1:]), filler)]) for t in tensors])


def text_vectors(table: SynonymTable, towers: Towers, extra: Sequence[str] = ()) -> torch.Tensor:
    """Unit vectors of all names of a table, class by class, then of further words: float32 ``[names, E]``."""
    names = [name for names in table.names.values() for name in names]
    return torch.from_numpy(encode_names([*names, *extra], towers.encode_text))


def instance_scores(
    scenes: Sequence[Scene], table: SynonymTable, towers: Towers, regions: RegionVectors
) -> list[np.ndarray] | None:
    """S of every segment (see ``score_synonyms``), or None where texts and pictures are not of one space."""
    if not towers.joint:
        return None
    labels = np.array([segment.label for scene in scenes for segment in scene.segments])
    return score_synonyms(regions.vectors[0].numpy(), labels, table, towers.encode_text, scale=towers.scale)
