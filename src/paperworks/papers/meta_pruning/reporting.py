"""What the runs of the recipe measure and show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from paperworks import runs
from paperworks.papers.meta_pruning.config import Config
from paperworks.papers.meta_pruning.controls import random_edit
from paperworks.papers.meta_pruning.criterion import STRUCTURED
from paperworks.papers.meta_pruning.figures import curves_figure, history_figure
from paperworks.papers.meta_pruning.graph import NetGraph
from paperworks.papers.meta_pruning.pruner import MetaPruner, PrunedNetwork
from paperworks.papers.meta_pruning.targets import fine_tune
from paperworks.papers.meta_pruning.workbench import Bench, ready_pruner, trained_networks
from paperworks.pruning.smaller import save_smaller
from paperworks.runs.report import Cell
from paperworks.structure.trace import export_onnx

ORIGINAL, TUNED, OURS = "as it was trained", "fine-tuned", "metanetwork, fine-tuned"
CONTROL = "random edits of that size, fine-tuned"


@dataclass(frozen=True)
class Measured:
    """Curves by stage, and the two pruned networks: with the metanetwork and without."""

    curves: dict[str, np.ndarray]
    ours: PrunedNetwork
    plain: PrunedNetwork


def prune_report(config: Config, bench: Bench, run: runs.Run) -> runs.Report:
    """Prune one network both ways and set them side by side."""
    pruner, origin = ready_pruner(config, bench, run)
    if bench.trained:
        model = bench.make(0).eval()
    else:
        run.step("training the network to be pruned")
        (model,) = trained_networks(config, bench, run, [config.seed % 2**31 * 1000], "the network")
    run.step("editing, fine-tuning and pruning")
    found = measure(config, bench, pruner, model, run)
    files = _save(config, bench, found, run)
    return _report(config, bench, pruner, model, found, origin, files)


def measure(config: Config, bench: Bench, pruner: MetaPruner, model: nn.Module, run: runs.Run) -> Measured:
    """Curves and pruned networks of the pipeline with the metanetwork and without."""
    ours, plain = (
        pruner.prune(
            model,
            bench.train,
            speedup=config.speedup,
            final_epochs=config.final_epochs,
            edit=edit,
            test_data=bench.test,
            progress=run.progress,
        )
        for edit in (True, False)
    )
    target = pruner.target(model, bench.example)
    run.step("the control: random edits of the same size")
    control = fine_tune(
        random_edit(model, pruner.edited(target), target.layout, pruner.random_state),
        bench.train,
        epochs=config.finetune_epochs,
        learning_rate=config.finetune_rate,
        seed=pruner.random_state,
        device=config.device,
        progress=run.progress,
    )
    networks = {ORIGINAL: model, TUNED: plain.ready, OURS: ours.ready, CONTROL: control}
    curves = {name: pruner.curve_of(network, target, bench.test) for name, network in networks.items()}
    return Measured(curves, ours, plain)


def _save(config: Config, bench: Bench, found: Measured, run: runs.Run) -> list[runs.ReportFile]:
    model: Any = found.ours.model
    files = []
    if config.criterion in STRUCTURED:
        how = save_smaller(model, run.output("pruned"), config.model)
        words = f"the pruned network, safetensors and the plan; load it with {how}"
        files.append(runs.ReportFile("pruned", words))
    elif hasattr(model, "save_pretrained"):
        model.save_pretrained(run.output("pruned"))
        files.append(runs.ReportFile("pruned", "the network with single weights at zero, at its dense sizes"))
    if config.onnx:
        gap = export_onnx(model, bench.example, run.output("pruned.onnx"), any_batch=True)
        words = f"the same for onnxruntime, any number of images; outputs differ from PyTorch's by {gap:.1g} at most"
        files.append(runs.ReportFile("pruned.onnx", words))
    table = pd.DataFrame(found.curves)
    table.to_csv(run.files / "curves.csv", index=False)
    files.append(runs.ReportFile("curves.csv", "accuracy by speed-up, without training after the pruning"))
    return files


def _report(
    config: Config,
    bench: Bench,
    pruner: MetaPruner,
    model: nn.Module,
    found: Measured,
    origin: str,
    files: list[runs.ReportFile],
) -> runs.Report:
    graph = NetGraph.from_module(model, bench.example, pruner.target(model, bench.example).layout)
    last = "accuracy after the last fine-tuning"
    ours, plain = found.ours.report, found.plain.report
    means = {name: float(curve.mean()) for name, curve in found.curves.items()}
    gain = means[OURS] - means[TUNED]
    count = len(bench.test[1])
    structured = config.criterion in STRUCTURED
    what = f"{found.ours.speedup:.2f} times fewer multiply-accumulates" if structured else "single weights at zero"
    verdict = "more" if gain > 0 else "not more"
    stages = [name.removeprefix("accuracy ") for name in ours if name.startswith("accuracy ")]
    rows: list[list[Cell]] = [[stage, ours[f"accuracy {stage}"], plain.get(f"accuracy {stage}")] for stage in stages]
    speeds: list[list[Cell]] = [
        [speed, *(float(curve[i]) for curve in found.curves.values())] for i, speed in enumerate(pruner.speeds)
    ]
    lead = [
        bench.notes[0],
        f"Edited by {origin}. One network, one seed: differences of a percent or two can be chance; the studies "
        "have intervals.",
    ]
    if ours["accuracy of the dense network"] < 1.5 / len(bench.task.class_names):
        lead.append(
            "This tests nothing: the dense network is hardly better than chance. Train longer (--epochs), or give a "
            "trained one."
        )
    layout = graph.layout
    facts: list[list[Cell]] = [["nodes", layout.nodes], ["edges", int(layout.index().shape[1])]]
    facts += [[f"nodes: {name}", len(table.ids)] for name, table in layout.node_tables.items()]
    facts += [[f"edges: {name}", table.index.shape[1]] for name, table in layout.edge_tables.items()]
    facts.append(["parameters that are not in it", ", ".join(layout.kept) or "none"])
    return runs.Report(
        headline=f"Pruned to {what}, the network that the metanetwork edited gets {ours[last]:.1%} of {count:,} test "
        f"images right, without the metanetwork {plain[last]:.1%}, dense {ours['accuracy of the dense network']:.1%}. "
        f"Before any training after the pruning it keeps {verdict} accuracy: {means[OURS]:.3f} and {means[TUNED]:.3f} "
        f"over {len(pruner.speeds)} speed-ups; {means[CONTROL]:.3f} after random edits of the same size.",
        metrics={
            "accuracy_with": ours[last],
            "accuracy_without": plain[last],
            "curve_with": means[OURS],
            "curve_without": means[TUNED],
            "curve_original": means[ORIGINAL],
            "curve_random": means[CONTROL],
            "speedup": found.ours.speedup,
            "parameters_kept": found.ours.share,
        },
        labels={
            "accuracy_with": "accuracy with the metanetwork",
            "accuracy_without": "accuracy without it",
            "curve_with": "mean of the accuracy curve with it",
            "curve_without": "mean of the curve without it",
            "curve_random": "mean of the curve with random edits",
            "speedup": "dense over kept multiply-accumulates",
            "parameters_kept": "share of parameters kept",
        },
        lead=lead,
        tables=[
            runs.Table(
                "Accuracy at each stage",
                ["stage", "with the metanetwork", "without it"],
                rows,
                f"{config.finetune_epochs} epochs of fine-tuning, pruning, {config.final_epochs} epochs more.",
            ),
            runs.Table(
                "Accuracy by speed-up, without training after the pruning",
                ["speed-up", *found.curves],
                speeds,
            ),
            runs.Table(
                "The network as a graph",
                ["", "value"],
                facts,
            ),
        ],
        figures=[
            runs.Figure(
                "Accuracy against speed-up",
                curves_figure(pruner.speeds, found.curves),
                "Pruned by the same criterion, without training afterwards.",
            )
        ],
        files=files,
        notes=bench.notes[1:],
    )


def train_report(config: Config, bench: Bench, pruner: MetaPruner, run: runs.Run) -> runs.Report:
    """What meta-training did, epoch by epoch."""
    history = pruner.history_
    table = pd.DataFrame(history.rows)
    table.to_csv(run.files / "history.csv", index=False)
    weights = sum(p.numel() for p in pruner.metanetwork_.parameters())
    shown = [row for row in history.rows if "score" in row]
    first, best = shown[0]["score"], history.best_score
    rows: list[list[Cell]] = [[int(r["epoch"]), r["score"], r["cross_entropy"], r["norm_spread"]] for r in shown]
    return runs.Report(
        headline=f"A metanetwork of {weights:,} weights; epoch {history.best_epoch} of {len(history.rows)} was chosen: "
        f"the selection network keeps {best:.3f} accuracy on average over {len(pruner.speeds)} speed-ups "
        f"(after the first look {first:.3f}).",
        metrics={"score": best, "epoch": float(history.best_epoch), "weights": float(weights)},
        labels={"score": "mean of the selection network's accuracy curve", "epoch": "chosen epoch"},
        lead=[
            bench.notes[0],
            f"The score was measured on {len(bench.selection[1]):,} images that nothing was trained on, and the epoch "
            "was chosen by it: it is no estimate for other networks.",
        ],
        tables=[
            runs.Table(
                "Meta-training",
                ["epoch", "score", "cross-entropy of edited networks", "unevenness of channels (Gini)"],
                rows,
                "Cross-entropy right after the edit. The unevenness does not change when a layer is scaled.",
            )
        ],
        figures=[runs.Figure("Meta-training", history_figure(history.rows, history.best_epoch), "The score by epoch.")],
        files=[
            runs.ReportFile("metanetwork", "the metanetwork, for --metanetwork"),
            runs.ReportFile("history.csv", "every epoch of meta-training"),
        ],
        notes=bench.notes[1:],
    )
