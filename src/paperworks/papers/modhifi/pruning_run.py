"""An image classifier made smaller: the method, its parts, and other scores at the same cost."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from paperworks import runs
from paperworks.classification import predict_logits
from paperworks.metrics import wilson_interval
from paperworks.papers.modhifi.analyzer import FidelityAnalyzer
from paperworks.papers.modhifi.config import Config
from paperworks.papers.modhifi.figures import kept_figure, parts_figure
from paperworks.papers.modhifi.image_models import ImageWork, image_work
from paperworks.papers.modhifi.pruner import ModHiFiPruner, PruneReport
from paperworks.pruning.smaller import save_smaller
from paperworks.runs.files import write_text
from paperworks.structure.trace import measure_latency

OURS = "ModHiFi-P"
PARTS: dict[str, dict[str, Any]] = {
    "without both": {"compensation": "none", "statistics": False, "restore_mean": False},
    "rescaling only": {"statistics": False},
    "statistics only": {"compensation": "none"},
    "magnitude, without both": {
        "score": "magnitude",
        "compensation": "none",
        "statistics": False,
        "restore_mean": False,
    },
    "magnitude, rescaled and renewed": {"score": "magnitude"},
    "random, rescaled and renewed": {"score": "random"},
}
"""What is compared at the same cost: the method without its parts, and with the scores of others."""


def pruner_of(config: Config, **changes: Any) -> ModHiFiPruner:
    """The pruner that the options ask for."""
    options: dict[str, Any] = {
        "p": config.p,
        "rounds": config.rounds,
        "score": config.score,
        "rank": config.rank,
        "scope": "global" if config.scope == "auto" else config.scope,
        "compensation": config.compensation,
        "ridge": config.ridge,
        "ridge_mode": config.ridge_mode,
        "statistics": config.statistics,
        "sequential": config.sequential,
        "min_share": config.min_share,
        "multiple_of": config.multiple_of,
        "seed": config.seed % 2**32,
        **changes,
    }
    return ModHiFiPruner(config.target, config.of, **options)


def prune_images(config: Config, run: runs.Run) -> runs.Report:
    """Prune the network that ``config.model`` names, and measure what it can still do."""
    work = image_work(config, run)
    run.step("scoring, cutting, rescaling")
    pruner = pruner_of(config).fit(work.dense, work.calibration, progress=run.progress)
    smaller, report = pruner.model_, pruner.report_
    models: dict[str, nn.Module] = {"dense": work.dense, OURS: smaller}
    cost = {"dense": (report.macs[0], report.parameters[0]), OURS: (report.macs[1], report.parameters[1])}
    if config.compare:
        chosen = PARTS if config.p is None else {name: o for name, o in PARTS.items() if "score" not in o}
        for name, changes in run.progress(chosen.items(), "the parts, and other scores", len(chosen)):
            other = pruner_of(config, **changes).fit(work.dense, work.calibration)
            models[name] = other.model_
            cost[name] = (other.report_.macs[1], other.report_.parameters[1])
    inputs, labels = work.task.test.tensors
    right: dict[str, float] = {}
    agree: dict[str, float] = {}
    of_dense = torch.from_numpy(predict_logits(work.dense, inputs)).argmax(1)
    for name, model in models.items():
        found = torch.from_numpy(predict_logits(model, inputs)).argmax(1)
        right[name] = float((found == labels).double().mean())
        agree[name] = float((found == of_dense).double().mean())
    batch = inputs[:64].to(next(smaller.parameters()).device)
    times = measure_latency({"dense": work.dense, OURS: smaller}, batch, rounds=7)
    speed = times["dense"].median / times[OURS].median
    run.step("fidelity of the dense network's inputs")
    analyzer = FidelityAnalyzer(config.score).fit(work.dense, work.calibration, progress=run.progress)
    files = _saved(run, work, smaller, report, config, analyzer)
    shares = _shares(analyzer)
    return _report(config, work, report, right, agree, cost, speed, shares, files)


def _shares(analyzer: FidelityAnalyzer) -> list[list[Any]]:
    rows = []
    for path, layer in analyzer.report_.layers.items():
        outputs, inputs = layer.scores.shape
        if outputs * inputs**2 <= 2e7:
            rows.append([path, inputs, outputs, analyzer.report_.share_needed(path)])
    return rows


def _saved(
    run: runs.Run, work: ImageWork, smaller: nn.Module, report: PruneReport, config: Config, analyzer: FidelityAnalyzer
) -> list[runs.ReportFile]:
    how = save_smaller(smaller, run.output("pruned"), config.model)
    write_text(run.files / "kept.json", json.dumps({name: list(ids) for name, ids in report.kept.items()}) + "\n")
    analyzer.report_.to_parquet(run.output("scores.parquet"))
    files = [
        runs.ReportFile("pruned", f"the smaller network, as safetensors and a plan; load it with {how}"),
        runs.ReportFile("kept.json", "the channels that stay, by group, numbered as in the dense network"),
        runs.ReportFile("scores.parquet", "the score of every input for every output of the dense network's layers"),
    ]
    if not work.trained:
        dense: Any = work.dense
        if hasattr(dense, "save_pretrained"):
            dense.save_pretrained(run.output("dense"))
            files.append(runs.ReportFile("dense", "the dense network that was trained here, as a model to start from"))
    return files


def _report(
    config: Config,
    work: ImageWork,
    report: PruneReport,
    right: dict[str, float],
    agree: dict[str, float],
    cost: dict[str, tuple[int, int]],
    speed: float,
    shares: list[list[Any]],
    files: list[runs.ReportFile],
) -> runs.Report:
    count = len(work.task.test)
    macs, parameters = (before / after for before, after in (report.macs, report.parameters))
    interval = wilson_interval(round(right[OURS] * count), count)
    rows: list[list[Any]] = [
        [name, right[name], agree[name], cost[name][0], cost["dense"][0] / cost[name][0], cost[name][1]]
        for name in right
    ]
    groups: list[list[Any]] = [[name, report.sizes[name], len(ids)] for name, ids in report.kept.items()]
    layers: list[list[Any]] = [
        [c.round, c.path, c.inputs, c.kept, c.fidelity_zeroed, c.fidelity, c.held_out, "yes" if c.compensated else "no"]
        for c in report.layers
    ]
    weak = [path for path, *_, share in shares if share < 0.2]
    notes = [*work.task.notes[1:]]
    short = [note for note in report.notes if "more samples would be safer" in note]
    if short:
        notes.append(f"{len(short)} layers have few calibration rows for what is solved, such as {short[0]}.")
    notes += [note for note in report.notes if note not in short]
    if config.p is not None:
        notes.append(f"A channel stays if it is among the best {config.p:.1%} of some output: the size is an outcome.")
    lead = list(work.notes)
    if right["dense"] < 1.5 / len(work.task.class_names):
        lead.append("The dense network is hardly better than chance: train longer (--epochs), or give a trained one.")
    return runs.Report(
        headline=f"Without training, {right[OURS]:.1%} of {count:,} test images are still right (dense "
        f"{right['dense']:.1%}) with {macs:.2f} times fewer multiply-accumulates and {parameters:.2f} times fewer "
        f"parameters; measured here it is {speed:.2f} times as fast.",
        metrics={
            "accuracy": right[OURS],
            "dense_accuracy": right["dense"],
            "agreement": agree[OURS],
            "macs_ratio": macs,
            "parameters_ratio": parameters,
            "speed": speed,
        },
        labels={
            "accuracy": "accuracy after pruning",
            "dense_accuracy": "accuracy before",
            "macs_ratio": "fewer multiply-accumulates, times",
            "parameters_ratio": "fewer parameters, times",
            "speed": "speed, times the dense network's",
        },
        lead=lead,
        tables=[
            runs.Table(
                "At the same cost" if config.p is None else "The method and its parts",
                ["", "accuracy", "same class as dense", "multiply-accumulates", "fewer, times", "parameters"],
                rows,
                f"On {count:,} test images; the accuracy of {OURS} lies in {interval.low:.3f} to {interval.high:.3f} "
                "(95 %, Wilson). Paper, ResNet-50 on CIFAR-10 without training: 94.99 % before, 91.02 % at 4.07 times "
                "fewer operations; by L2 15.91 %.",
            ),
            runs.Table("Channels that stay", ["group", "before", "after"], groups),
            runs.Table(
                "Layers that read them",
                ["round", "layer", "inputs", "kept", "fidelity, zeroed", "rescaled", "held out", "rescaled?"],
                layers,
                "Fidelity is 1 less the error of the layer's output over its energy. 'no': rescaling made the error on "
                "held-out samples larger, so that the weights stay.",
            ),
            runs.Table(
                "How few inputs carry an output",
                ["layer", "inputs", "outputs", "share for fidelity 0.8"],
                shares,
                f"Greedy, mean over outputs. {len(weak)} of {len(shares)} layers need less than 20 % of their inputs; "
                "the paper: at least half of the layers.",
            ),
        ],
        figures=[
            runs.Figure("Accuracy at the same cost", parts_figure(right), "Test accuracy without any training."),
            runs.Figure("Channels that stay", kept_figure(groups), "Of every group of channels, before and after."),
        ],
        files=files,
        notes=notes,
    )
