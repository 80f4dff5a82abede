"""The run that trains: fit, test, compare with the two-stage way, save, and ask for other names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from paperworks import runs
from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.gkc import shape_world
from paperworks.papers.gkc.asking import Answer, answer, write_maps
from paperworks.papers.gkc.config import Config
from paperworks.papers.gkc.criterion import LossWeights
from paperworks.papers.gkc.exporting import export_onnx, save_segmenter
from paperworks.papers.gkc.fitting import Distillation, fit_segmenter
from paperworks.papers.gkc.prediction import Accuracy, accuracy_of, segment_quality, semantic_maps
from paperworks.papers.gkc.reporting import training_report
from paperworks.papers.gkc.run_input import RunInput, read_input, read_synonyms, read_towers, read_words
from paperworks.papers.gkc.segmenter import GKCForOpenVocabularySegmentation
from paperworks.papers.gkc.starting import new_segmenter
from paperworks.papers.gkc.towers import Towers
from paperworks.papers.gkc.two_stage import Cost, measure_cost, two_stage
from paperworks.training import TrainSettings


@dataclass
class Comparison:
    """The two-stage way on the same masks: its accuracy and what both cost."""

    accuracy: Accuracy
    cost: Cost


def train_and_ask(config: Config, run: runs.Run) -> runs.Report:
    """Train on the images, test on others, save the segmenter, and look for the names that were asked for."""
    data = read_input(config, run)
    towers = read_towers(config)
    synonyms, said = read_synonyms(config, data)
    distillation = _form(config, towers)
    words = read_words(config, data.train)
    device = resolve_device(config.device)
    text_width = int(np.asarray(towers.encode_text([data.class_names[0]])).shape[1])
    model = new_segmenter(
        config.start, text_width=text_width, size=config.side, queries=config.queries, seed=config.seed
    )
    torch.nn.Module.to(model, device)
    run.step(f"training on {len(data.train)} images, {config.steps} steps")
    grounding = 0.0 if config.grounding == "off" else config.grounding_weight
    losses: list[float] = []
    result = fit_segmenter(
        model,
        data.train,
        synonyms,
        towers,
        _settings(config),
        diversification=config.diversification,
        distillation=distillation,
        weights=LossWeights(config.mask_weight, config.name_weight, grounding, config.distillation_weight),
        source=config.student,
        points=config.points,
        backbone_rate=config.backbone_rate,
        words=words,
        checkpoint_dir=run.state / "training",
        progress=run.progress,
    )
    losses = list(result.losses)
    run.step("testing on images that were not trained on")
    model.set_vocabulary(data.class_names, towers.encode_text)
    own = _accuracy(semantic_maps(model, [s.image for s in data.test], run.progress), data)
    quality = segment_quality(model, data.test, config.threshold, data.stuff)
    other_names = _other_names(model, towers, data) if config.bundled else None
    comparison = None
    if config.compare and towers.joint and towers.encode_images is not None:
        comparison = _compare(model, towers, data)
    model.set_vocabulary(data.class_names[: data.trained], towers.encode_text)
    folder = run.output("segmenter")
    check = save_segmenter(model, folder)
    files = [runs.ReportFile("segmenter", "the segmenter with its vocabulary, without text tower and teacher")]
    synonyms.save(run.output("synonyms.json"))
    files.append(runs.ReportFile("synonyms.json", "names of the classes: review, and pass with --synonyms"))
    if config.onnx:
        export_onnx(model, run.output("segmenter.onnx"))
        files.append(runs.ReportFile("segmenter.onnx", "the same for onnxruntime, with its vocabulary"))
    asked = config.ask or (", ".join(shape_world.NOVEL) if config.bundled else None)
    reply: Answer | None = None
    if asked is not None:
        run.step(f"looking for {asked}")
        reply = answer(model, asked, data.test, towers, config)
    write_maps(reply or answer(model, None, data.test, towers, config), data.test, run.output("maps"))
    files.append(runs.ReportFile("maps", "maps of the test images, PNG with ids, and what the ids are"))
    table = _table(data, own, synonyms.names)
    table.to_csv(run.files / "accuracy.csv", index=False)
    files.append(runs.ReportFile("accuracy.csv", "intersection over union of every class"))
    return training_report(
        config,
        data,
        synonyms,
        own,
        quality,
        other_names,
        comparison,
        reply,
        losses,
        table,
        files,
        [*said, check],
        distillation,
    )


def _settings(config: Config) -> TrainSettings:
    return TrainSettings(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        warmup_steps=min(10, config.steps // 4),
        checkpoint_every=max(20, config.steps // 10),
        device=config.device,
        seed=config.seed,
    )


def _form(config: Config, towers: Towers) -> Distillation:
    if config.distillation == "auto":
        return "off" if towers.encode_images is None else "distance"
    if config.distillation != "off" and towers.encode_images is None:
        raise InputError("distillation", config.distillation, "off, or towers: a CLIP folder with an image tower")
    return config.distillation


def _accuracy(maps: Sequence[np.ndarray], data: RunInput) -> Accuracy:
    return accuracy_of(maps, data.test, len(data.class_names), data.counted, data.unseen)


def _other_names(model: GKCForOpenVocabularySegmentation, towers: Towers, data: RunInput) -> Accuracy:
    """Accuracy where every class has a name that no training saw."""
    model.set_vocabulary([shape_world.held_out_name(name) for name in data.class_names], towers.encode_text)
    return _accuracy(semantic_maps(model, [s.image for s in data.test]), data)


def _compare(model: GKCForOpenVocabularySegmentation, towers: Towers, data: RunInput) -> Comparison:
    model.set_vocabulary(data.class_names, towers.encode_text)
    images = [scene.image for scene in data.test]
    outputs = two_stage(model, towers, images)
    maps = [model.post_process_semantic(o, [i.shape[:2]])[0].numpy() for o, i in zip(outputs, images, strict=True)]
    queries = model.trunk.config.num_queries
    height, width = model.config.image_size
    encoder = _image_tower(towers)
    pixels = torch.zeros(1, 3, int(height), int(width), device=model.no_object.device)
    crops = torch.zeros(queries, 3, towers.crop_size, towers.crop_size)
    return Comparison(_accuracy(maps, data), measure_cost(model, encoder, pixels, crops, rounds=5))


def _image_tower(towers: Towers) -> torch.nn.Module:
    module = towers.modules[0]
    return getattr(module, "vision_model", module)


def _table(data: RunInput, own: Accuracy, names: object) -> pd.DataFrame:
    groups = ["novel" if n in data.unseen else "base" if n in data.counted else "background" for n in _range(data)]
    return pd.DataFrame({"class": data.class_names, "group": groups, "intersection over union": own.per_class})


def _range(data: RunInput) -> range:
    return range(len(data.class_names))
