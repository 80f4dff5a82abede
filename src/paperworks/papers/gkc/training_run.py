"""The run that trains: fit, test, compare with the two-stage way, save, and ask for other names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch

from paperworks import runs
from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.nn import resolve_device
from paperworks.papers.gkc import shape_world
from paperworks.papers.gkc.asking import Answer, answer, check_questions, write_maps
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
from paperworks.papers.gkc.two_stage import Cost, measure_cost, two_stage_maps
from paperworks.papers.gkc.vocabulary import parse_vocabulary
from paperworks.papers.gkc.world_scores import Maps, score
from paperworks.training import TrainSettings


@dataclass
class Scores:
    """Accuracy in one way of reading: all classes compete; and on two test sets with names of their own.

    Attributes
    ----------
    name : of the way.
    together : all classes compete on all scenes; None where it was not measured.
    base, novel : mean IoU of the shape world's sets (see ``world_scores``); None for a user's images.
    """

    name: str
    together: Accuracy | None
    base: float | None = None
    novel: float | None = None


def train_and_ask(config: Config, run: runs.Run) -> runs.Report:
    """Train on the images, test on others, save the segmenter, and look for the names that were asked for."""
    if config.onnx:
        require_extra("onnx", "an ONNX file")
    check_questions(config)
    data = read_input(config, run)
    parse_vocabulary(data.class_names, "names")
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
    scores = [_scores(model, towers, data, "this segmenter", semantic_maps)]
    model.set_vocabulary(data.class_names, towers.encode_text)
    quality = segment_quality(model, data.test, config.threshold, data.stuff)
    if data.sets is not None:
        base, novel = score(model, towers, data.sets, shape_world.held_out_name)
        scores.append(Scores("this segmenter, with names that no training saw", None, base, novel))
    cost = None
    if config.compare and towers.joint and towers.encode_images is not None:
        maps = partial(two_stage_maps, towers=towers)
        scores.append(_scores(model, towers, data, "two stages: the image encoder on every mask", maps))
        cost = _cost(model, towers)
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
        reply = answer(model, asked, data.asked, towers, config)
    write_maps(reply or answer(model, None, data.test, towers, config), data.asked, run.output("maps"))
    files.append(runs.ReportFile("maps", "maps of the test images, PNG with ids, and what the ids are"))
    table = _table(data, scores[0])
    table.to_csv(run.files / "accuracy.csv", index=False)
    files.append(runs.ReportFile("accuracy.csv", "intersection over union of every class"))
    return training_report(
        config, data, synonyms, scores, quality, cost, reply, losses, table, files, [*said, check], distillation
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


def _scores(model: GKCForOpenVocabularySegmentation, towers: Towers, data: RunInput, name: str, maps: Maps) -> Scores:
    model.set_vocabulary(data.class_names, towers.encode_text)
    guess = maps(model, [scene.image for scene in data.test])
    together = accuracy_of(guess, data.test, len(data.class_names), data.counted, data.unseen)
    return Scores(name, together, *(score(model, towers, data.sets, maps=maps) if data.sets is not None else ()))


def _cost(model: GKCForOpenVocabularySegmentation, towers: Towers) -> Cost:
    height, width = model.config.image_size
    pixels = torch.zeros(1, 3, int(height), int(width), device=model.no_object.device)
    crops = torch.zeros(model.trunk.config.num_queries, 3, towers.crop_size, towers.crop_size)
    return measure_cost(model, _image_tower(towers), pixels, crops.to(pixels), rounds=5)


def _image_tower(towers: Towers) -> torch.nn.Module:
    module = towers.modules[0]
    return getattr(module, "vision_model", module)


def _table(data: RunInput, scores: Scores) -> pd.DataFrame:
    assert scores.together is not None
    numbers = range(len(data.class_names))
    groups = ["novel" if n in data.unseen else "trained" if n in data.counted else "background" for n in numbers]
    values = scores.together.per_class
    return pd.DataFrame({"class": data.class_names, "group": groups, "intersection over union": values})
