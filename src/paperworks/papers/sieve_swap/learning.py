"""Reports of features, training and prediction."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.sieve_swap import sources
from paperworks.papers.sieve_swap.config import Config
from paperworks.papers.sieve_swap.evaluation import evaluate
from paperworks.papers.sieve_swap.exports import clock, write_exports
from paperworks.papers.sieve_swap.features import FeatureFolder, extract_features
from paperworks.papers.sieve_swap.figures import loss_figure, segments_figure
from paperworks.papers.sieve_swap.procx import ProcX
from paperworks.papers.sieve_swap.reporting import WORDS
from paperworks.papers.sieve_swap.settings import ProcXConfig
from paperworks.papers.sieve_swap.simulation import simulate_features, simulate_videos, truth_of, uniform_steps
from paperworks.papers.sieve_swap.steps_dataset import StepDataset
from paperworks.runs.files import write_text
from paperworks.runs.report import Cell

TEST_SHARE = 0.2
SIMULATED_VIDEOS = 100
MOST_ROWS = 12
FEW_VIDEOS = 50


def features(config: Config, run: runs.Run) -> runs.Report:
    """Features of a folder of videos."""
    assert config.videos is not None
    run.step(f"decoding {config.videos}")
    folder = run.state / "features"
    ids = extract_features(
        config.videos, folder, _extractor(config), fps=config.fps, device=config.device, progress=run.progress
    )
    found = FeatureFolder(folder)
    target = run.output("features")
    target.mkdir()
    for path in sorted(folder.iterdir()):
        (target / path.name).write_bytes(path.read_bytes())
    shapes = {video: found[video].shape for video in ids}
    seconds = sum(found.durations.values())
    rows: list[list[Cell]] = [[v, found.durations[v], *shapes[v]] for v in ids]
    return runs.Report(
        headline=f"Features of {len(ids):,} videos: {seconds / 60:.1f} minutes, {shapes[ids[0]][1]} columns.",
        metrics={"videos": float(len(ids)), "length": seconds},
        labels={"videos": "videos", "length": "length of the videos, s"},
        tables=[runs.Table("Videos", ["video", "length, s", "rows", "columns"], rows[:MOST_ROWS])],
        files=[runs.ReportFile("features", "<id>.npy, float32 [rows, columns], and <id>.json")],
    )


def _extractor(config: Config) -> Any:
    return config.extractor if config.extractor == "layout" else Path(config.extractor)


def model_config(config: Config) -> ProcXConfig:
    """ProcX at the size that the options ask for: three temporal scales and one caption layer below 512."""
    large = config.dim >= 512
    return ProcXConfig(
        dim=config.dim,
        heads=8 if large else 4,
        levels=4 if large else 3,
        encoder_layers=config.layers,
        decoder_layers=config.layers,
        feed_forward=512 if large else 2 * config.dim,
        queries=config.queries,
        positions=config.positions,
        score=config.score,
        captions="transformer",
        caption_layers=2 if large else 1,
        most_tokens=40 if large else 20,
        contrastive_dim=256 if large else 64,
        no_repeat=2,
    )


def _sets(config: Config, run: runs.Run) -> tuple[StepDataset, Any, str]:
    """The timed steps and their features, and in words what they are."""
    if config.dataset is None and config.features is None and config.videos is None:
        procedures = sources.load_procedures(config)
        chatter = [
            line for line in (sources.BUNDLE / "irrelevant.txt").read_text("utf-8").splitlines() if line[:1] != "#"
        ]
        dataset = truth_of(simulate_videos(procedures, SIMULATED_VIDEOS, chatter, config.seed % 2**32))
        return (
            dataset,
            _simulated(dataset, config),
            "simulated videos of procedures: vectors of the steps' texts with noise",
        )
    if config.dataset is not None:
        dataset = StepDataset.read(config.dataset)
        words = config.dataset.name
    else:
        result, _ = sources.sift(config, run)
        dataset, words = result.swapped, "what Sieve and Swap made of the transcripts"
    if config.features is not None:
        found: Any = FeatureFolder(config.features)
    elif config.videos is not None:
        folder = run.state / "features"
        extract_features(
            config.videos, folder, _extractor(config), fps=config.fps, device=config.device, progress=run.progress
        )
        found = FeatureFolder(folder)
    else:
        return dataset, _simulated(dataset, config), f"{words}, with features simulated from the steps' texts"
    found.check(dataset)
    return dataset, found, words


def _simulated(dataset: StepDataset, config: Config) -> dict[str, np.ndarray]:
    from paperworks.embedding import load_text_encoder

    if not len(dataset):
        raise InputError("dataset", "no video with a step", "at least one")
    encoder = load_text_encoder(None if config.encoder in sources_encoders() else config.encoder)
    return simulate_features(dataset, encoder, config.seed % 2**32, rows=config.positions)


def sources_encoders() -> tuple[str, ...]:
    """Names that are no folder: features are simulated with the bundled encoder then."""
    from paperworks.papers.sieve_swap.config import ENCODERS

    return ENCODERS


def _split(dataset: StepDataset, config: Config, run: runs.Run) -> tuple[StepDataset, StepDataset]:
    """Videos to train on, and a fifth to test on (none of fewer than five)."""
    ids = [video for video in dataset if len(dataset[video])]
    order = run.rng("split").permutation(len(ids))
    count = round(TEST_SHARE * len(ids)) if len(ids) >= 5 else 0
    test = {ids[i] for i in order[:count]}
    return dataset.subset([v for v in ids if v not in test]), dataset.subset([v for v in ids if v in test])


def train(config: Config, run: runs.Run) -> runs.Report:
    """ProcX trained on timed steps, and tested on a fifth of the videos."""
    from paperworks.training import TrainSettings

    run.step("reading the set")
    dataset, found, words = _sets(config, run)
    training, test = _split(dataset, config, run)
    pretrain = None
    if config.pretrain is not None and config.pretrain_features is not None:
        first = StepDataset.read(config.pretrain, "pretrain")
        leaking = set(first) & set(test)
        if leaking:
            first = first.subset([video for video in first if video not in leaking])
        folder = FeatureFolder(config.pretrain_features)
        folder.check(first)
        pretrain = (first, folder)
    settings = TrainSettings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.lr,
        betas=(0.9, 0.999),
        weight_decay=1e-4,
        clip_norm=1.0,
        schedule="cosine",
        device=config.device,
        seed=config.seed % 2**32,
    )
    encoder = config.encoder if config.encoder not in sources_encoders() else "auto"
    model = ProcX(
        model_config(config), settings=settings, encoder=encoder, device=config.device, seed=config.seed % 2**32
    )
    run.step(f"training on {len(training):,} videos")
    model.fit(training, found, pretrain=pretrain, checkpoint_dir=run.state / "training", progress=run.progress)
    model.save_pretrained(run.output("model"))
    return _training_report(config, run, model, training, test, found, words)


def _training_report(
    config: Config, run: runs.Run, model: ProcX, training: StepDataset, test: StepDataset, found: Any, words: str
) -> runs.Report:
    tested = test if len(test) else training
    predictions = model.predict_all(
        {video: found[video] for video in tested},
        {video: tested[video].duration for video in tested},
        progress=run.progress,
    )
    baseline = _baseline(training, tested)
    ours, theirs = evaluate(predictions, tested), evaluate(baseline, tested)
    results = {
        "version": "VERSION 1.0",
        "results": {v: [_activitynet(p) for p in steps] for v, steps in predictions.items()},
    }
    write_text(run.files / "predictions.json", json.dumps(results, ensure_ascii=False, indent=1))
    tested.write(run.files / "references.json")
    names = [name for name in ours if "@" not in name]
    rows: list[list[Cell]] = [[WORDS.get(name, name), ours[name], theirs[name]] for name in names]
    video = next(iter(tested))
    lines = {
        "predicted": [(p["start"], p["end"]) for p in predictions[video]],
        "true": list(tested[video].timestamps),
    }
    where = "videos that it was not trained on" if len(test) else "videos that it was trained on"
    return runs.Report(
        headline=f"ProcX finds the steps of {len(tested):,} {where} with F1 {ours['f1']:.2f}; "
        f"equal parts get {theirs['f1']:.2f}.",
        metrics={name: ours[name] for name in names} | {"f1 of equal parts": theirs["f1"]},
        labels={
            "f1": "F1 of the segments",
            "f1 of equal parts": "F1 of equal parts, without looking",
            "soda_c": "SODA_c, with captions",
        },
        tables=[
            runs.Table(f"Scores on {where}", ["metric", "ProcX", "equal parts, commonest sentence"], rows),
            _steps_table(video, predictions[video]),
        ],
        figures=[
            runs.Figure("Predicted and true steps", segments_figure(lines, video)),
            runs.Figure("Training", loss_figure({name: h.losses for name, h in model.history_.items()})),
        ],
        files=[
            runs.ReportFile("model", "ProcX: safetensors, sizes and tokenizer; ProcX.from_pretrained reads it"),
            runs.ReportFile("predictions.json", "of the test videos, in ActivityNet's form"),
            runs.ReportFile("references.json", "their true steps"),
        ],
        lead=_training_lead(model, training, test, words, ours["f1"] > theirs["f1"]),
    )


def _training_lead(model: ProcX, training: StepDataset, test: StepDataset, words: str, better: bool) -> list[str]:
    lead = [f"Trained on {len(training):,} videos: {words}."]
    if not len(test):
        lead.append("Fewer than 5 videos: none is left to test on, and the scores are of the training.")
    if not better:
        lead.append("This model is no better than equal parts: train it longer (--epochs) or on more videos.")
    if len(training) < FEW_VIDEOS and "pretraining" not in model.history_:
        lead.append(
            f"Fewer than {FEW_VIDEOS} videos without pre-training: segments are rough, and captions repeat themselves. "
            "Train on a larger set first (--pretrain)."
        )
    return lead


def _activitynet(step: dict[str, Any]) -> dict[str, Any]:
    return {"sentence": step["text"], "timestamp": [step["start"], step["end"]], "score": step["score"]}


def _baseline(training: StepDataset, tested: StepDataset) -> dict[str, list[dict[str, Any]]]:
    common = Counter(texts[0] for steps in training.values() for texts in steps.sentences).most_common(1)[0][0]
    count = max(1, round(float(np.mean([len(steps) for steps in training.values()]))))
    return {video: uniform_steps(steps.duration, count, common) for video, steps in tested.items()}


def _steps_table(video: str, steps: list[dict[str, Any]]) -> runs.Table:
    rows: list[list[Cell]] = [
        [f"{clock(step['start'])}\u2013{clock(step['end'])}", step["text"], step["score"]] for step in steps
    ]
    return runs.Table(f"Predicted steps of {video}", ["time", "step", "score"], rows[:MOST_ROWS])


def predict(config: Config, run: runs.Run) -> runs.Report:
    """Steps of videos, or of features, by a trained ProcX."""
    assert config.model is not None
    run.step(f"loading {config.model}")
    model = ProcX.from_pretrained(config.model, device=config.device)
    folder = config.features
    files: dict[str, Path] = {}
    if config.videos is not None:
        from paperworks.inputs.video import find_videos

        files = {path.stem: path for path in find_videos(config.videos)}
    if folder is None:
        folder = run.state / "features"
        assert config.videos is not None
        extract_features(
            config.videos, folder, _extractor(config), fps=config.fps, device=config.device, progress=run.progress
        )
    found = FeatureFolder(folder)
    for video in found:
        if video not in found.durations:
            raise InputError(f"features of {video}", "no duration", f"{video}.json with a duration in seconds")
    predictions = model.predict_all(found, found.durations, threshold=config.threshold, progress=run.progress)
    target = run.output("steps")
    target.mkdir()
    for video, steps in predictions.items():
        if steps:
            write_exports(target, video, steps, source=files.get(video))
    results = {"version": "VERSION 1.0", "results": {v: [_activitynet(p) for p in s] for v, s in predictions.items()}}
    write_text(run.files / "predictions.json", json.dumps(results, ensure_ascii=False, indent=1))
    total = sum(map(len, predictions.values()))
    first = next(iter(predictions))
    return runs.Report(
        headline=f"{total:,} steps in {len(predictions):,} videos.",
        metrics={"steps": float(total), "videos": float(len(predictions))},
        labels={"steps": "steps", "videos": "videos"},
        tables=[_steps_table(first, predictions[first])],
        figures=[
            runs.Figure(
                "Steps of the first video",
                segments_figure({"predicted": [(p["start"], p["end"]) for p in predictions[first]]}, first),
            )
        ],
        files=[
            runs.ReportFile("predictions.json", "in ActivityNet's form, with scores"),
            runs.ReportFile("steps", "of each video: chapters (SRT, WebVTT), JSON and a how-to sheet (Markdown)"),
        ],
    )
