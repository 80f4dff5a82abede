"""Prune the user's checkpoint to a size, in small steps with or without training between, and show what it became."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from paperworks import runs
from paperworks.language import check_length, load_tokenizer, token_windows
from paperworks.papers.adapt_pruner import figures
from paperworks.papers.adapt_pruner.accel import AccelReport, AdaptAccel, Distillation, Lora, StageRecord
from paperworks.papers.adapt_pruner.calibration import FreshBatches
from paperworks.papers.adapt_pruner.config import Config
from paperworks.papers.adapt_pruner.importance import measure
from paperworks.papers.adapt_pruner.method import stages_for, training
from paperworks.papers.adapt_pruner.pruner import AdaptPruner
from paperworks.papers.adapt_pruner.report import PruneReport
from paperworks.pruning.quality import Figures, measured
from paperworks.pruning.source import measured_once, open_dense, saved_dtype, source_folder, with_speeds
from paperworks.pruning.tables import before_and_after, kept_widths_figure, quality_said, size_said
from paperworks.pruning.texts import text_parts
from paperworks.pruning.uniform import export_uniform, with_uniform
from paperworks.runs.usage import UsageMeter
from paperworks.structure import Units, count, save_model
from paperworks.structure.checkpoints import REPORT_FILE
from paperworks.structure.scores import Scores


def run(config: Config, run: runs.Run) -> runs.Report:
    """Prune a causal language model in many small steps, each layer by how little it changes its input."""
    return _Pruning(config, run).report()


class _Pruning:
    """One run: what its parts share, and what a resumed run finds done."""

    def __init__(self, config: Config, run: runs.Run) -> None:
        self.config, self.run = config, run
        self.folder = source_folder(config.model, config.length)
        check_length(self.folder, config.train_length, "train_length")
        parts = text_parts(config.text, config.evaluation)
        parts.check(load_tokenizer(self.folder), max(config.length, config.train_length))
        self.texts, self.held_out, self.measured_on = parts.texts, parts.held_out, parts.measured_on
        self.final = run.files / "model"

    def report(self) -> runs.Report:
        if not self.final.exists():
            self._prune()
        saved = json.loads((self.final / REPORT_FILE).read_text(encoding="utf-8"))
        folders = {"dense": self.folder, "pruned": self.final}
        uniform = self._uniform() if self.config.uniform_export else None
        if uniform is not None:
            folders["uniform"] = uniform
        found = {name: self._once(name, folder) for name, folder in folders.items()}
        found = with_speeds(self.run, found, folders, length=self.config.train_length, device=self.config.device)
        return with_uniform(self.run, self._write_up(saved, found["dense"], found["pruned"]), found)

    def _once(self, stage: str, folder: Path) -> Figures:
        """Figures of a model, measured unless an earlier attempt has."""
        c = self.config

        def measure() -> Figures:
            return measured(
                folder,
                self.held_out,
                length=c.train_length,
                sequences=c.evaluation_sequences,
                batch_size=c.batch_size,
                device=c.device,
                progress=self.run.progress,
            )

        return measured_once(self.run, stage, measure)

    def _pruner(self, target: int) -> AdaptPruner:
        c = self.config
        parts: Any = ("attention", "mlp") if c.prune == "both" else (c.prune,)
        return AdaptPruner(
            target,
            steps=c.steps,
            amplitude=c.amplitude,
            layer_importance=c.layer_importance,
            normalise=c.normalise,
            unit_importance=c.unit_importance,
            taylor=c.taylor,
            reduction=c.reduction,
            prune=parts,
            layers=c.layers,
            mode=c.mode,
            examples=c.examples,
            length=c.length,
            batch_size=c.batch_size,
            round_to=c.round_to,
            seed=c.seed,
        )

    def _prune(self) -> None:
        c = self.config
        self.run.step(f"pruning {self.folder.name} to {c.target}")
        model: Any
        model, tokenizer, target = open_dense(self.folder, c.target, self.run, c.device, dtype=c.dtype)
        dense = count(model)
        pruner = self._pruner(target)
        report: PruneReport | AccelReport
        with UsageMeter() as meter:
            if c.train_steps:
                report, kind = self._interleave(pruner, model, tokenizer, dense.parameters), "adapt-accel"
            else:
                kind = "adapt-pruner"
                report = pruner.fit(
                    model,
                    self.texts,
                    tokenizer=tokenizer,
                    checkpoint_dir=self.run.state / "steps",
                    progress=self.run.progress,
                ).report_
        content = {
            "method": kind,
            "settings": pruner.settings(),
            "peak_bytes": meter.peak_bytes,
            "start_bytes": meter.start_bytes,
            "seconds_this_attempt": meter.seconds,
            **report.to_dict(),
        }
        model = model.to(saved_dtype(self.folder, c.dtype))
        save_model(model, self.final, tokenizer, content)

    def _uniform(self) -> Path | None:
        """A model of equal widths inside the same budget, ranked anew: the dense one at that width, where no training
        came between the cuts."""
        c = self.config

        def scores(model: Any, units: Units) -> Scores:
            batches = FreshBatches(
                self.texts,
                examples=c.examples,
                length=c.length,
                batch_size=c.batch_size,
                seed=c.seed,
                tokenizer=load_tokenizer(self.folder),
            )
            return measure(
                model,
                units,
                batches(0),
                unit_importance=c.unit_importance,
                taylor=c.taylor,
                reduction=c.reduction,
                generator=torch.Generator().manual_seed(c.seed),
            ).units

        return export_uniform(
            self.run,
            self.final if c.train_steps else self.folder,
            scores,
            multiple_of=c.uniform_multiple,
            dtype=saved_dtype(self.folder, c.dtype),
            device=c.device,
        )

    def _interleave(self, pruner: AdaptPruner, model: Any, tokenizer: Any, dense: int) -> AccelReport:
        c = self.config
        assert isinstance(pruner.target, int)
        stages = c.stages or min(stages_for(dense, pruner.target), c.train_steps)
        settings = training(c.train_steps, c.batch_size, c.learning_rate, c.seed, c.device)
        if c.schedule != "wsd":
            settings = replace(settings, schedule=c.schedule)
        accel = AdaptAccel(
            pruner,
            stages,
            data_split=c.data_split,
            train_steps=c.train_steps,
            settings=settings,
            distill=Distillation() if c.distill else None,
            lora=Lora(r=c.lora_rank) if c.lora_rank else None,
            reset_optimizer=c.reset_optimizer,
            carry_sparsity=c.carry_sparsity,
        )
        windows = token_windows(tokenizer, self.texts, c.train_length)
        return accel.fit(
            model,
            windows,
            calibration=self.texts,
            tokenizer=tokenizer,
            checkpoint_dir=self.run.state / "stages",
            progress=self.run.progress,
        ).report_

    def _write_up(self, saved: dict[str, Any], dense: Figures, pruned: Figures) -> runs.Report:
        stages = saved.get("stages")
        reports = [PruneReport.from_dict(r) for r in ([s["pruning"] for s in stages] if stages else [_own(saved)]) if r]
        gone = 1 - pruned["parameters"] / dense["parameters"]
        said = quality_said(dense["perplexity"], pruned["perplexity"], self.measured_on)
        trained = f", after {saved['steps']} training steps that the dense model did not take" if stages else ""
        rows = [[name, value, pruned.get(name)] for name, value in dense.items()]
        share = 1 - pruned["of them in the layers' matrices"] / dense["of them in the layers' matrices"]
        notes = [
            f"{share:.1%} of the prunable parameters (matrices inside the layers) and {gone:.1%} of all are gone.",
            *(saved["notes"]),
        ]
        drawn = [figures.trajectory(reports)] if any(s.sparsity for r in reports for s in r.steps) else []
        last = reports[-1].steps[-1]
        words = f"Token perplexity on {self.measured_on}; speed for a batch of 8 on this machine, in turn."
        tables = [before_and_after(["dense", "pruned"], rows, words)]
        if len(last.ffn) == len(reports[0].ffn):
            kept = {"key-value groups": last.kv_groups, "feed-forward channels": last.ffn}
            whole = {"key-value groups": reports[0].kv_groups, "feed-forward channels": reports[0].ffn}
            drawn.insert(0, kept_widths_figure(kept, whole))
            tables.append(_width_table(reports))
        else:
            notes.append(f"{len(reports[0].ffn) - len(last.ffn)} of {len(reports[0].ffn)} layers were dropped.")
        if stages:
            records = [StageRecord(**s) for s in stages]
            drawn.append(figures.training_course(records))
            tables.append(_stage_table(records))
        tables.append(_cost_table(saved, reports))
        metrics = {
            "parameters, dense": dense["parameters"],
            "parameters, pruned": pruned["parameters"],
            "perplexity, dense": dense["perplexity"],
            "perplexity, pruned": pruned["perplexity"],
            "decode speed-up": pruned["decode tokens/s"] / dense["decode tokens/s"],
        }
        found = [
            runs.ReportFile(
                "model",
                "the checkpoint, for from_pretrained with trust_remote_code=True or after "
                "import paperworks; pruning_report.json has every step",
            )
        ]
        headline = f"{size_said(dense['parameters'], pruned['parameters'])}: {said}{trained}"
        return runs.Report(headline, metrics, tables, drawn, found, notes)


def _own(saved: dict[str, Any]) -> dict[str, Any]:
    names = PruneReport.__dataclass_fields__
    return {name: value for name, value in saved.items() if name in names}


def _width_table(reports: list[PruneReport]) -> runs.Table:
    first, last = reports[0], reports[-1].steps[-1]
    rows: list[list[Any]] = []
    for layer in range(len(first.ffn)):
        signal = [s.normalised[layer] for r in reports for s in r.steps if s.normalised]
        rows.append(
            [
                layer,
                first.kv_groups[layer],
                last.kv_groups[layer],
                first.ffn[layer],
                last.ffn[layer],
                sum(signal) / len(signal) if signal else None,
                last.sparsity[layer],
            ]
        )
    return runs.Table(
        "Widths by layer",
        ["layer", "KV groups", "kept", "FFN channels", "kept ", "importance, mean", "S at the end"],
        rows,
        "Importance is centred and scaled to [-1, 1]; S is relative to the widths at the start of the last stage.",
    )


def _stage_table(stages: list[StageRecord]) -> runs.Table:
    rows: list[list[Any]] = [
        [
            s.stage,
            s.target,
            s.parameters,
            s.steps,
            s.losses[0] if s.losses else None,
            s.losses[-1] if s.losses else None,
        ]
        for s in stages
    ]
    return runs.Table(
        "Stages",
        ["stage", "target", "parameters", "training steps", "first loss", "last loss"],
        rows,
        "Loss in nats per target: the first is that of the freshly cut model.",
    )


def _cost_table(saved: dict[str, Any], reports: list[PruneReport]) -> runs.Table:
    stages = saved.get("stages")
    seconds = sum(s["seconds"] for s in stages) if stages else saved["seconds"]
    return runs.Table(
        "What it took",
        ["", "figure"],
        [
            ["time, seconds", seconds],
            ["of it pruning, seconds", sum(report.seconds for report in reports)],
            ["pruning steps", sum(len(report.steps) for report in reports)],
            ["training steps", saved["steps"] if stages else 0],
            ["peak memory, bytes", saved["peak_bytes"]],
            ["of it before pruning, bytes", saved["start_bytes"]],
        ],
    )
