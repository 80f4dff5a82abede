"""Slice the user's checkpoint, and show what it became: size, speed, quality, and where the cut was made."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paperworks import runs
from paperworks.errors import InputError
from paperworks.language import (
    Calibration,
    bundled_model_path,
    check_length,
    load_model,
    load_tokenizer,
    token_windows,
)
from paperworks.nn import resolve_dtype
from paperworks.papers.slicegpt import quality
from paperworks.papers.slicegpt.config import Config
from paperworks.papers.slicegpt.estimator import SliceGPT
from paperworks.papers.slicegpt.report import Cut, SliceReport
from paperworks.pruning import architecture_of, lora_targets, weights_bytes
from paperworks.pruning.recovery import recover
from paperworks.pruning.source import measured_once, with_speeds
from paperworks.pruning.tables import before_and_after, quality_said, size_said
from paperworks.pruning.target import notation_notes
from paperworks.pruning.texts import text_parts
from paperworks.runs.files import write_text
from paperworks.structure import save_model, stock_folder
from paperworks.structure.checkpoints import REPORT_FILE
from paperworks.structure.registry import check_rotation

Figures = dict[str, float]
LEVELS = (0.1, 0.2, 0.25, 0.3, 0.5)
"""Slicing levels that a dry run shows beside the one that was asked for."""


def run(config: Config, run: runs.Run) -> runs.Report:
    """Slice a transformer checkpoint to a smaller hidden size, with one calibration pass."""
    return _Slicing(config, run).report()


class _Slicing:
    """One run: what its steps share, and what a resumed run finds done."""

    def __init__(self, config: Config, run: runs.Run) -> None:
        self.config, self.run = config, run
        self.folder = stock_folder((config.model or bundled_model_path()).expanduser(), run.state / "stock")
        for name, given in (("target", config.target), ("target-params", config.target_params)):
            for note in notation_notes(given, None if name == "target" else name) if given else ():
                run.log.warning(note)
        check_rotation(architecture_of(self.folder))
        self.encoder = quality.is_encoder(self.folder)
        check_length(self.folder, config.length)
        self.tokenizer = load_tokenizer(self.folder)
        parts = text_parts(config.calibration, config.evaluation, field="calibration")
        if not self.encoder:
            parts.check(self.tokenizer, config.length)
        self.texts, self.held_out, self.measured_on = parts.texts, parts.held_out, parts.measured_on
        if self.encoder and config.recovery_steps:
            raise InputError(
                "recovery_steps", f"{config.recovery_steps} for an encoder", "0: the loss is next-token prediction"
            )

    def report(self) -> runs.Report:
        if self.config.dry_run:
            return self._dry_run()
        dense = measured_once(self.run, "dense", lambda: self._quality(self.folder, "dense"))
        final = self.run.files / "model"
        sliced = self.run.state / "sliced" if self.config.recovery_steps else final
        report = self._slice(sliced)
        folders = {"dense": self.folder, "sliced": sliced}
        stages = {"dense": dense, "sliced": measured_once(self.run, "sliced", lambda: self._quality(sliced, "sliced"))}
        if self.config.recovery_steps:
            if not final.exists():
                self._recover(sliced, final)
            folders["recovered"] = final
            stages["recovered"] = measured_once(self.run, "recovered", lambda: self._quality(final, "recovered"))
        if not self.encoder:
            c = self.config
            stages = with_speeds(self.run, stages, folders, length=c.length, dtype=c.evaluation_dtype, device=c.device)
        return self._write_up(report, stages, final)

    def _calibration(self) -> Calibration:
        c = self.config
        if self.encoder:
            return quality.encoder_sequences(self.tokenizer, self.texts, c.sequences, c.length, c.seed)
        return Calibration.from_texts(self.tokenizer, self.texts, c.sequences, c.length, c.seed)

    def _method(self, **more: Any) -> SliceGPT:
        c = self.config
        target = c.target if c.target_params is None else c.target_params
        return SliceGPT(
            c.slicing,
            target=target,
            dims=c.dims,
            schedule=c.schedule,
            variance_discarded=c.variance_discarded,
            round_to=c.round_to,
            orientation=c.orientation,
            slice_head=c.slice_head,
            seed=c.seed,
            device=c.device,
            dtype=None if c.dtype == "auto" else resolve_dtype(c.dtype),
            activation_budget=int(c.activation_budget * 2**20),
            **more,
        )

    def _slice(self, target: Path) -> SliceReport:
        if target.exists():
            return read_report(target)
        self.run.step(f"slicing {self.folder.name}")
        method = self._method(checkpoint_dir=self.run.state / "layers")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            report = method.fit(
                self.folder,
                self._calibration(),
                batch_size=self.config.batch_size,
                output_dir=target,
                progress=self.run.progress,
            ).report_
        for warning in caught:
            self.run.log.warning(str(warning.message))
        return report

    def _quality(self, folder: Path, stage: str) -> Figures:
        c = self.config
        if not self.encoder:
            return quality.decoder_quality(
                folder,
                self.held_out,
                length=c.length,
                sequences=c.evaluation_sequences,
                batch_size=c.batch_size,
                dtype=c.evaluation_dtype,
                device=c.device,
                progress=self.run.progress,
            )
        model = quality.load_encoder(folder, c.evaluation_dtype, c.device)
        data = quality.encoder_sequences(self.tokenizer, self.held_out, c.evaluation_sequences, c.length, c.seed)
        found = quality.mean_embeddings(model, data, c.batch_size, progress=self.run.progress)
        dense = self.run.state / "embeddings.npy"
        if stage == "dense":
            np.save(dense, found)
        return {**quality.embedding_agreement(np.load(dense), found), "held-out passages": float(len(data))}

    def _recover(self, sliced: Path, final: Path) -> None:
        c = self.config
        self.run.step(f"recovering with {c.recovery_steps} steps of LoRA fine-tuning")
        model, _ = load_model(sliced, "float32", c.device)
        windows = token_windows(self.tokenizer, self.texts, c.length)
        merged, _ = recover(
            model,
            windows,
            lora_targets(sliced),
            steps=c.recovery_steps,
            rank=c.lora_rank,
            alpha=c.lora_alpha,
            dropout=c.lora_dropout,
            learning_rate=c.learning_rate,
            batch_size=c.batch_size,
            seed=c.seed,
            device=c.device,
            checkpoint_dir=self.run.state / "recovery",
            progress=self.run.progress,
        )
        saved: Any = merged.to(resolve_dtype(read_report(sliced).dtype))
        save_model(saved, final, self.tokenizer, json.loads((sliced / REPORT_FILE).read_text(encoding="utf-8")))

    def _write_up(self, report: SliceReport, stages: dict[str, Figures], final: Path) -> runs.Report:
        names = list(stages)
        size = {"dense": report.parameters_before, **dict.fromkeys(names[1:], report.parameters_after)}
        macs = {"dense": report.macs_before, **dict.fromkeys(names[1:], report.macs_after)}
        stored = {"dense": weights_bytes(self.folder), **dict.fromkeys(names[1:], weights_bytes(final))}
        rows: list[list[Any]] = [
            ["parameters", *(size[n] for n in names)],
            ["multiply-accumulates per token", *(macs[n] for n in names)],
            ["weights on disk, bytes", *(stored[n] for n in names)],
            ["key-value cache per token, bytes", *(report.cache_bytes_per_token for _ in names)],
            *([figure, *(stages[n][figure] for n in names)] for figure in stages["dense"]),
        ]
        last = stages[names[-1]]
        quality_name = "cosine" if self.encoder else "perplexity"
        said = (
            f"embeddings of {self.measured_on} keep a cosine of {last['cosine']:.3f} to the dense model's"
            if self.encoder
            else quality_said(stages["dense"]["perplexity"], last["perplexity"], self.measured_on)
        )
        headline = f"{size_said(report.parameters_before, report.parameters_after)}: {said}"
        metrics = {
            "parameters, dense": float(report.parameters_before),
            f"parameters, {names[-1]}": float(report.parameters_after),
            **{f"{quality_name}, {n}": stages[n][quality_name] for n in names},
            "slicing, seconds": report.seconds,
        }
        low = min(report.cuts, key=lambda cut: cut.kept)
        cost = runs.Table(
            "What slicing took",
            ["", "figure"],
            [
                ["time, seconds", report.seconds],
                ["peak memory, bytes", report.peak_bytes],
                ["of it before slicing, bytes", report.start_bytes],
                ["activations on disk, bytes", report.spilled_bytes],
                ["calibration tokens", report.calibration_tokens],
                ["least energy kept by a cut", low.kept],
            ],
            f"The least energy is kept at: {low.name}.",
        )
        note = "Perplexity over all held-out tokens (token_ppl); speed for a batch of 8 on this machine, in turn."
        if self.encoder:
            note = "Mean-pooled embeddings of held-out passages; spearman: rank correlation of their similarities."
        return runs.Report(
            headline,
            metrics,
            [
                before_and_after(names, rows, note),
                runs.Table("Width of the stream, by layer", _width_columns(report), _width_rows(report)),
                cost,
            ],
            [spectra_figure([(cut.name, cut.spectrum) for cut in report.cuts], report.cuts)],
            [
                runs.ReportFile(
                    "model",
                    "the checkpoint, for from_pretrained with trust_remote_code=True or after import paperworks",
                )
            ],
            [*report.notes, *_more_notes(report)],
        )

    def _dry_run(self) -> runs.Report:
        c = self.config
        found = self._method().dry_run(
            self.folder,
            self._calibration(),
            slicings=sorted({*LEVELS, c.slicing}),
            batch_size=c.batch_size,
            progress=self.run.progress,
        )
        rows: list[list[Any]] = [
            [p.slicing, p.width, p.parameters, p.parameters_removed, p.macs, p.mean_kept, p.least_kept]
            for p in found.predictions
        ]
        columns = [
            "slicing",
            "width",
            "parameters",
            "share removed",
            "MACs per token",
            "energy kept, mean",
            "energy kept, least",
        ]
        asked = c.target or c.target_params or c.dims
        best = found.predictions[0] if asked else next(p for p in found.predictions if p.slicing == c.slicing)
        write_text(self.run.files / "dry_run.json", json.dumps(found.to_dict(), indent=1))
        return runs.Report(
            f"Nothing was changed: cutting {best.slicing:.0%} would leave {best.parameters:,} of "
            f"{found.parameters_before:,} parameters",
            {"parameters, dense": float(found.parameters_before)},
            [
                runs.Table(
                    "What slicing levels would give", columns, rows, f"Width of the dense model: {found.hidden_size}."
                )
            ],
            [spectra_figure(list(zip(found.names, found.spectra, strict=True)), ())],
            [runs.ReportFile("dry_run.json", "spectra and predictions")],
            ["Spectra are those of the dense model; a real run also meets the errors of its earlier cuts."],
        )


def read_report(folder: Path) -> SliceReport:
    """The report that was saved beside a sliced checkpoint."""
    data = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    known = SliceReport.__dataclass_fields__
    fields = {name: value for name, value in data.items() if name in known and name != "notes"}
    fields["cuts"] = [Cut(**{**cut, "spectrum": tuple(cut["spectrum"])}) for cut in fields["cuts"]]
    return SliceReport(**fields)


def spectra_figure(spectra: Sequence[tuple[str, Sequence[float]]], cuts: Sequence[Cut]) -> runs.Figure:
    """Cumulative energy by number of kept directions, a curve per cut, with the chosen widths marked."""
    from matplotlib import colormaps

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    colours = colormaps["viridis"](np.linspace(0, 0.9, max(2, len(spectra))))
    for colour, (name, spectrum) in zip(colours, spectra, strict=False):
        energy = np.cumsum(np.asarray(spectrum, dtype=float))
        axes.plot(np.arange(1, len(energy) + 1), 1 - energy / energy[-1], color=colour, linewidth=1, label=name)
    for colour, cut in zip(colours, cuts, strict=False):
        axes.plot([cut.width], [max(1 - cut.kept, 1e-12)], "o", color=colour, markersize=4)
    axes.set_yscale("log")
    axes.set_ylim(bottom=1e-6, top=1.2)
    axes.set_xlabel("directions kept")
    axes.set_ylabel("share of energy lost")
    axes.grid(alpha=0.3)
    if len(spectra) <= 14:
        axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    marks = " Dots mark the widths that were chosen." if cuts else ""
    return runs.Figure(
        "Energy lost by width", figure, f"Each curve is one point of the stream, first (dark) to last (light).{marks}"
    )


def _width_columns(report: SliceReport) -> list[str]:
    each = len(report.stream_widths[0])
    return [
        "layer",
        *(["input", "after attention", "output"] if each == 3 else ["input", "output"]),
        "least energy kept",
    ]


def _width_rows(report: SliceReport) -> list[list[Any]]:
    each = len(report.stream_widths[0]) - 1
    rows = []
    for layer, widths in enumerate(report.stream_widths):
        mine = report.cuts[layer * each : (layer + 1) * each + 1]
        rows.append([layer, *widths, min(cut.kept for cut in mine)])
    return rows


def _more_notes(report: SliceReport) -> list[str]:
    if report.parameters_after < report.parameters_before:
        return []
    return ["The residual matrices cost more parameters than the cut saves: slice more, or choose a wider model."]
