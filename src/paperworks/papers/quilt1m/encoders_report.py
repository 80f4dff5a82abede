"""``--action train`` and ``--action evaluate``: two encoders, what they are worth, and their folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.quilt1m.config import BUNDLED_PAIRS, SMALL, Config
from paperworks.papers.quilt1m.encoders import EncoderSettings, TrainedEncoders, train_dual_encoder
from paperworks.papers.quilt1m.figures import scores_figure
from paperworks.papers.quilt1m.pairdata import (
    DIGIT_TEMPLATES,
    PAPER_TEMPLATES,
    Labelled,
    Pairs,
    read_labelled,
    read_training_pairs,
    split_groups,
)
from paperworks.papers.quilt1m.scoring import (
    Recall,
    ZeroShot,
    alignment,
    class_vectors,
    probe_fractions,
    retrieval,
    zero_shot,
)
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings


def train(config: Config, run: runs.Run) -> runs.Report:
    """Train two encoders on pairs, evaluate them on pictures of videos that they never saw, save them."""
    run.step(f"reading pairs: {config.pairs}")
    pairs = read_training_pairs(config.pairs, config.seed % 2**31)
    seen, held = split_groups(pairs, config.test_share, run.rng("split"))
    labelled = _labelled(config)
    run.step(f"training on {len(seen):,} pictures")
    encoders, model, processor = train_dual_encoder(
        pairs.take(seen),
        EncoderSettings(
            image_encoder=config.image_encoder,
            text_encoder=config.text_encoder,
            image_tuning=config.image_tuning,
            text_tuning=config.text_tuning,
            dimensions=config.dimensions,
            max_length=config.max_length,
        ),
        training_settings(config, len(seen)),
        checkpoint=run.state / "training",
        progress=run.progress,
    )
    target = run.output("model")
    model.save_vision_text(target, processor)
    files = [runs.ReportFile("model", "VisionTextDualEncoderModel and its processor, for transformers")]
    return _report(config, run, encoders, pairs.take(held), labelled, seen, files, f"trained on {len(seen):,} pictures")


def training_settings(config: Config, pictures: int) -> TrainSettings:
    """AdamW with a cosine and 10 % of warm-up, as CLIP's fine-tuning."""
    batch = max(2, min(config.batch_size, pictures))
    rate = config.learning_rate or (2e-3 if config.image_encoder == SMALL else 1e-5)
    steps = max(1, round(config.epochs * pictures / batch))
    return TrainSettings(
        steps=steps,
        batch_size=batch,
        learning_rate=rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
        schedule="cosine",
        warmup_steps=max(1, steps // 10) if steps > 1 else 0,
        checkpoint_every=max(1, steps // 10),
        device=config.device,
        seed=config.seed % 2**31,
    )


def evaluate(config: Config, run: runs.Run) -> runs.Report:
    """Evaluate a model of pictures and text on pairs and on labelled pictures."""
    assert config.model is not None
    run.step(f"loading {config.model}")
    encoders = TrainedEncoders.load(config.model.expanduser(), config.device)
    pairs = read_training_pairs(config.pairs, config.seed % 2**31)
    seen, held = split_groups(pairs, config.test_share, run.rng("split"))
    what = f"of {config.model.name}"
    return _report(config, run, encoders, pairs.take(held), _labelled(config), seen, [], what)


def _labelled(config: Config) -> Labelled | None:
    if config.labelled is not None:
        return read_labelled(config.labelled)
    return read_labelled(BUNDLED_PAIRS) if config.pairs == BUNDLED_PAIRS else None


def _report(
    config: Config,
    run: runs.Run,
    encoders: TrainedEncoders,
    held: Pairs,
    labelled: Labelled | None,
    seen: np.ndarray,
    files: list[runs.ReportFile],
    what: str,
) -> runs.Report:
    run.step(f"evaluating on {len(held):,} pictures that were held out")
    known = list(dict.fromkeys(text for some in held.texts for text in some))
    places = {text: place for place, text in enumerate(known)}
    images = encoders.image_vectors(held.pictures, progress=run.progress)
    texts, belongs = encoders.text_vectors(known), [[places[t] for t in some] for some in held.texts]
    recalls = retrieval(images, texts, belongs, config.recall_at)
    own, others = alignment(images, texts, belongs)
    metrics: dict[str, float] = {
        "pictures held out": len(held),
        "cosine, picture and own text": own,
        "cosine, picture and any other text": others,
    }
    left = [k for k in config.recall_at if k not in {one.k for one in recalls}]
    tables = [_recall_table(recalls, len(held), len(known), left)]
    content: dict[str, Any] = {"retrieval": [_plain_recall(one) for one in recalls]}
    headline = ""
    if recalls:
        metrics[f"recall at {recalls[0].k}, picture to text"] = recalls[0].to_text.estimate
        headline = f"A picture's own sentence is first among {len(known):,} for {recalls[0].to_text.estimate:.1%}"
        if recalls[0].k != 1:
            headline = f"A picture's own sentence is among the first {recalls[0].k} of {len(known):,} for "
            headline += f"{recalls[0].to_text.estimate:.1%}"
        headline += f" of {len(held):,} pictures (chance {recalls[0].chance_to_text:.1%}), {what}."
    figures = []
    if labelled is not None:
        shot, probes, raw = _classification(config, run, encoders, labelled, seen)
        metrics |= {"zero-shot accuracy": shot.accuracy.estimate, "chance": 1 / len(shot.classes)}
        tables += [_shot_table(shot), _probe_table(probes, raw)]
        content |= {
            "zero_shot": {
                "accuracy": shot.accuracy.estimate,
                "interval": [shot.accuracy.low, shot.accuracy.high],
                "templates": shot.templates,
                "classes": shot.classes,
                "by_template": shot.by_template,
            },
            "linear_probe": {str(f): [i.estimate, i.low, i.high] for f, i in probes.items()},
            "raw_pixel_probe": {str(f): [i.estimate, i.low, i.high] for f, i in raw.items()},
        }
        figures.append(
            runs.Figure(
                "Zero-shot and linear probes",
                scores_figure(shot, probes, raw),
                "Accuracy on pictures that were held out; lines are intervals of 95 %.",
            )
        )
        headline = (
            f"Without any label {shot.accuracy.estimate:.1%} of {shot.accuracy.n:,} pictures get the right one of "
            f"{len(shot.classes)} classes, {what}. {headline}"
        )
    write_text(run.files / "evaluation.json", json.dumps(content, indent=1))
    files.append(runs.ReportFile("evaluation.json", "all figures, with classes and templates"))
    return runs.Report(
        headline=headline or f"{len(held)} pictures were held out, too few for retrieval at {config.recall_at}.",
        metrics=metrics,
        labels={name: name for name in metrics if name != "chance" and "cosine" not in name},
        tables=tables,
        figures=figures,
        files=files,
        lead=_lead(config, labelled),
        notes=[
            "Classes' names and templates change zero-shot results by many points: they are in evaluation.json.",
            "Pictures of one video, and near duplicates, are on one side of the split.",
        ],
    )


def _lead(config: Config, labelled: Labelled | None) -> list[str]:
    lead = []
    if config.pairs == BUNDLED_PAIRS:
        lead.append("Pairs: handwritten digits with two of ten captions each; --pairs takes the curation's folder.")
    if labelled is None:
        lead.append("--labelled takes pictures in a folder per class, for zero-shot classification and linear probes.")
    return lead


def _classification(
    config: Config, run: runs.Run, encoders: TrainedEncoders, labelled: Labelled, seen: np.ndarray
) -> tuple[ZeroShot, dict[float, Any], dict[float, Any]]:
    """Zero-shot and probes on one split: of digits, the one of the training; else a split of its own by class."""
    templates = config.templates or (DIGIT_TEMPLATES if labelled.names[0] == "zero" else PAPER_TEMPLATES)
    own = config.pairs == BUNDLED_PAIRS and config.labelled in (None, BUNDLED_PAIRS)
    train_rows = seen if own else _split_rows(labelled.labels, config.test_share, run.rng("labelled"))
    test_rows = np.setdiff1d(np.arange(len(labelled.labels)), train_rows)
    vectors = encoders.image_vectors(labelled.pictures, progress=run.progress)
    labels = labelled.labels
    by_template = class_vectors(encoders, labelled.names, templates)
    shot = zero_shot(vectors[test_rows], labels[test_rows], by_template, templates, labelled.names)
    options = {"fractions": config.fractions, "seeds": config.probe_seeds, "seed": config.seed % 2**31}
    probes = probe_fractions(
        (vectors[train_rows], labels[train_rows]),
        (vectors[test_rows], labels[test_rows]),
        **options,  # type: ignore[arg-type]
        progress=run.progress,
    )
    pixels = raw_pixels(labelled.pictures)
    raw = probe_fractions(
        (pixels[train_rows], labels[train_rows]),
        (pixels[test_rows], labels[test_rows]),
        **options,  # type: ignore[arg-type]
        progress=run.progress,
    )
    return shot, probes, raw


def raw_pixels(pictures: Sequence[Any], side: int = 16) -> np.ndarray:
    """The baseline of probes: brightness at 16 x 16 pixels, float32 ``[n, 256]``."""
    from PIL import Image

    from paperworks.papers.quilt1m.filters import as_picture

    rows = [
        np.asarray(as_picture(p).convert("L").resize((side, side), Image.Resampling.BOX)).reshape(-1) for p in pictures
    ]
    return np.stack(rows).astype(np.float32) / 255


def _split_rows(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    from paperworks.papers.quilt1m.scoring import stratified_rows

    if np.bincount(labels).min() < 2:
        raise InputError("labelled", "a class with one picture", "two pictures or more of every class")
    return stratified_rows(labels, 1 - share, rng)


def _recall_table(recalls: Sequence[Recall], pictures: int, texts: int, left: Sequence[int]) -> runs.Table:
    more = f" Left out: k of {', '.join(map(str, left))}, above the number of pictures or texts." if left else ""
    rows: list[list[runs.report.Cell]] = [
        [one.k, one.to_text.estimate, one.chance_to_text, one.to_image.estimate, one.chance_to_image] for one in recalls
    ]
    return runs.Table(
        "Retrieval",
        ["k", "picture to text", "chance, to text", "text to picture", "chance, to picture"],
        rows,
        f"Share of queries with one of theirs among the k nearest; {pictures:,} pictures, {texts:,} texts.{more}",
    )


def _shot_table(shot: ZeroShot) -> runs.Table:
    rows: list[list[runs.report.Cell]] = [["all, as one vector", shot.accuracy.estimate]]
    rows += [[template, value] for template, value in zip(shot.templates, shot.by_template, strict=True)]
    return runs.Table(
        "Zero-shot classification", ["template", "accuracy"], rows, f"Classes: {', '.join(shot.classes)}."
    )


def _probe_table(probes: dict[float, Any], raw: dict[float, Any]) -> runs.Table:
    rows: list[list[runs.report.Cell]] = [
        [f"{100 * f:g} %", probes[f].estimate, f"{probes[f].low:.3f} to {probes[f].high:.3f}", raw[f].estimate]
        for f in probes
    ]
    return runs.Table("Linear probes", ["of the training data", "accuracy", "interval, 95 %", "on raw pixels"], rows)


def _plain_recall(one: Recall) -> dict[str, Any]:
    return {
        "k": one.k,
        "picture_to_text": one.to_text.estimate,
        "text_to_picture": one.to_image.estimate,
        "chance_picture_to_text": one.chance_to_text,
        "chance_text_to_picture": one.chance_to_image,
    }
