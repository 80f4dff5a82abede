"""Other names: which pixels of images a segmenter gives to names that training did not have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.images import read_images
from paperworks.nn import resolve_device
from paperworks.papers.gkc import shape_world
from paperworks.papers.gkc.config import Config
from paperworks.papers.gkc.prediction import predict
from paperworks.papers.gkc.scene_files import image_of, require_size, scene_names
from paperworks.papers.gkc.segmenter import GKCForOpenVocabularySegmentation, load_segmenter
from paperworks.papers.gkc.segments import Scene
from paperworks.papers.gkc.towers import Towers, load_towers
from paperworks.papers.gkc.vocabulary import Vocabulary, parse_vocabulary

MOST_ASKED = 10_000
NOTHING = -1


@dataclass
class Answer:
    """Maps of images.

    Attributes
    ----------
    asked : the names that were asked for; they are the first classes of ``names``. Empty: the model's own.
    names : all classes that competed: the asked ones, and the trained ones that are none of them.
    maps : class or segment of each pixel, int64 ``[H, W]`` of each image.
    classes : class of each pixel, -1 for none.
    segments : for panoptic and instance output, the segments of each image.
    """

    asked: list[str]
    names: list[str]
    maps: list[np.ndarray]
    classes: list[np.ndarray]
    segments: list[list[dict[str, Any]]] | None = None

    def share(self, number: int) -> float:
        """Share of all pixels that class ``number`` got."""
        return sum(int((m == number).sum()) for m in self.classes) / max(1, sum(m.size for m in self.classes))

    def images_with(self, number: int) -> int:
        """Images in which class ``number`` got a pixel."""
        return sum(bool((m == number).any()) for m in self.classes)


def competing(asked: Vocabulary, others: Vocabulary | None) -> Vocabulary:
    """The asked classes, then the others that share no name with them: what is none of the asked goes there."""
    taken = {name.lower() for name in asked.names}
    rest = {}
    if others is not None:
        rest = {
            cls: names
            for cls, names in others.classes.items()
            if cls not in asked.classes and not taken & {name.lower() for name in names}
        }
    return Vocabulary({**asked.classes, **rest})


def check_questions(config: Config) -> None:
    """Refuse names that cannot be asked for, before anything is read or trained."""
    if config.ask is not None:
        parse_vocabulary(config.ask, "ask")
    if config.others is not None and config.others.strip().lower() != "none":
        parse_vocabulary(config.others, "others")


def _others(config: Config, trained: Vocabulary) -> Vocabulary | None:
    """What competes with the asked names; in the shape world's own question, its backgrounds."""
    if config.others is not None:
        return None if config.others.strip().lower() == "none" else parse_vocabulary(config.others, "others")
    if config.bundled and config.ask is None:
        return parse_vocabulary(list(shape_world.BACKGROUNDS))
    return trained


def answer(
    model: GKCForOpenVocabularySegmentation, ask: str | None, scenes: Sequence[Scene], towers: Towers, config: Config
) -> Answer:
    """Look for names in images; the model has its own vocabulary afterwards as before.

    ``ask`` None takes the model's own names.
    """
    trained = model.vocabulary
    assert trained is not None
    asked = parse_vocabulary(ask, "ask") if ask is not None else None
    vocabulary = trained if asked is None else competing(asked, _others(config, trained))
    model.set_vocabulary(vocabulary, towers.encode_text)
    try:
        outputs = predict(model, [scene.image for scene in scenes])
        maps, classes, segments = [], [], []
        for output, scene in zip(outputs, scenes, strict=True):
            size = [scene.image.shape[:2]]
            if config.output == "semantic":
                found = model.post_process_semantic(output, size)[0].numpy()
                maps.append(found)
                classes.append(found)
                continue
            process = model.post_process_panoptic if config.output == "panoptic" else model.post_process_instance
            one = process(output, sizes=size, threshold=config.threshold)[0]
            number = one["segmentation"].numpy().astype(np.int64)
            label = np.full(number.shape, NOTHING)
            for segment in one["segments_info"]:
                label[number == segment["id"]] = segment["label_id"]
            maps.append(number)
            classes.append(label)
            segments.append(one["segments_info"])
    finally:
        model.set_vocabulary(trained, towers.encode_text)
    names = vocabulary.class_names
    return Answer([] if asked is None else asked.class_names, names, maps, classes, segments or None)


def write_maps(found: Answer, scenes: Sequence[Scene], folder: Path) -> None:
    """One PNG of ids for each image (id 0 is nothing, class or segment n has n + 1), and ``classes.json``."""
    folder.mkdir(parents=True)
    lowest = min((int(m.min()) for m in found.maps), default=0)
    shift = 1
    largest = max((int(m.max()) for m in found.maps), default=0) + shift
    dtype = np.uint8 if largest < 256 else np.uint16
    assert lowest >= NOTHING
    for scene, ids in zip(scenes, found.maps, strict=True):
        file = folder / f"{scene.name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((ids + shift).astype(dtype)).save(file)
    content: dict[str, Any] = {"names": {n + shift: name for n, name in enumerate(found.names)}}
    if found.segments is not None:
        content["segments"] = {
            scene.name: [{**info, "id": info["id"] + shift, "name": found.names[info["label_id"]]} for info in row]
            for scene, row in zip(scenes, found.segments, strict=True)
        }
    (folder / "classes.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def ask_model(config: Config, run: runs.Run) -> runs.Report:
    """Answer with a segmenter that was trained."""
    from paperworks.papers.gkc.reporting import asking_report

    assert config.model is not None
    assert config.ask is not None
    check_questions(config)
    run.step(f"reading the segmenter in {config.model}")
    model = load_segmenter(config.model)
    nn.Module.to(model, resolve_device(config.device))
    if model.vocabulary is None:
        raise InputError("model", f"{config.model}, without a vocabulary", "a folder that a run of this paper saved")
    towers = load_towers(config.towers, config.device)
    if towers.name != model.config.text_tower:
        expected = f"{model.config.text_tower}, with which the segmenter was trained"
        raise InputError("towers", towers.name, expected)
    if config.bundled:
        count = min(config.limit or 40, 40)
        scenes = shape_world.make_scenes(count, 2 * (config.seed % 2**62) + 1, shape_world.COMBINATIONS)
        notes = [f"{count} made scenes with all shapes."]
    else:
        images = read_images(config.images, progress=run.progress)
        rows = range(min(len(images), config.limit or MOST_ASKED))
        names = scene_names([images.image_name(n) for n in rows])
        scenes = [
            require_size(Scene(names[n], image_of(images, n), ()))
            for n in run.progress(rows, "reading images", len(rows))
        ]
        notes = [images.describe()]
    run.step(f"looking for {config.ask}")
    found = answer(model, config.ask, scenes, towers, config)
    write_maps(found, scenes, run.output("maps"))
    files = [runs.ReportFile("maps", "maps of the images, PNG with ids, and what the ids are")]
    return asking_report(found, scenes, files, notes)
