"""Tune the user's checkpoint on a domain and prune it in the same steps; show what it became."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from paperworks import runs
from paperworks.language import token_windows
from paperworks.papers.atp.config import Config
from paperworks.papers.atp.data import Examples, as_examples, dictionary_text
from paperworks.papers.atp.estimator import ATP
from paperworks.papers.atp.figures import course_figure
from paperworks.papers.atp.report import ATPReport
from paperworks.papers.atp.settings import Search, TrainerArgs, search_rate
from paperworks.pruning import (
    export_uniform,
    kept_widths_figure,
    measured,
    quality_said,
    taylor_ranking,
    text_parts,
    with_uniform,
)
from paperworks.pruning.quality import Figures
from paperworks.pruning.source import measured_once, open_dense, saved_dtype, source_folder, with_speeds
from paperworks.structure import count
from paperworks.structure.checkpoints import REPORT_FILE

RANKED = 96
"""Examples by which units are ranked for the uniform model."""


def run(config: Config, run: runs.Run) -> runs.Report:
    """Tune a language model on a domain and prune its structure in one go; save a smaller, merged checkpoint."""
    return _OneStage(config, run).report()


class _OneStage:
    """One run: what its steps share, and what a resumed run finds done."""

    def __init__(self, config: Config, run: runs.Run) -> None:
        self.config, self.run = config, run
        self.folder = source_folder(config.model, config.length)
        bundled = "bundled dictionary entries"
        self.parts = text_parts(config.text, config.evaluation, select=dictionary_text, bundled=bundled)
        self.model, self.tokenizer, self.target = open_dense(
            self.folder,
            config.target,
            run,
            config.device,
            lambda model, most: self._method(most).budget(model),
            dtype=config.dtype,
        )
        self.training, self.held_out = self._data()
        self.method = self._method(self.target, min(config.batch_size, len(self.training)))

    def _data(self) -> tuple[Examples, list[str]]:
        c, parts = self.config, self.parts
        parts.check(self.tokenizer, c.length)
        self.measured_on = parts.measured_on
        return as_examples(token_windows(self.tokenizer, parts.texts, c.length), "text"), parts.held_out

    def _method(self, target: int, batch_size: int | None = None) -> ATP:
        from peft import LoraConfig

        c = self.config
        control = c.control_steps or max(1, c.steps // 2)
        rate = c.generator_rate or search_rate(control)
        return ATP(
            target=target,
            space=c.space,
            svd_init=c.svd_init,
            alpha=c.alpha,
            beta=c.beta,
            lora=LoraConfig(r=c.lora_rank, lora_dropout=0.1),
            sparsity=None if c.sparsity == "auto" else c.sparsity,
            generator=Search(learning_rate=rate, masks=c.masks, final=c.final, round_to=c.round_to),
            trainer_args=TrainerArgs(
                steps=c.steps,
                control_steps=control,
                batch_size=batch_size or c.batch_size,
                learning_rate=c.learning_rate,
            ),
            seed=c.seed,
            device=c.device,
        )

    def report(self) -> runs.Report:
        c = self.config
        whole: dict[str, list[int]] = {}
        for key, unit_set in self.method.size_of(self.model).units.items():
            whole.setdefault(key[1], []).append(unit_set.n_units)
        if c.dry_run:
            return self._dry_run(whole)
        dense = measured_once(self.run, "dense", lambda: self._figures(self.folder))
        final = self.run.files / "model"
        if not final.exists():
            self._prune(final)
        pruned = measured_once(self.run, "pruned", lambda: self._figures(final))
        figures, folders = {"dense": dense, "pruned": pruned}, {"dense": self.folder, "pruned": final}
        uniform = self._uniform(final) if c.uniform_export else None
        if uniform is not None:
            folders["uniform"] = uniform
            figures["uniform"] = measured_once(self.run, "uniform", lambda: self._figures(uniform))
        both = with_speeds(self.run, figures, folders, length=c.length, device=c.device)
        found = ATPReport.from_dict(json.loads((final / REPORT_FILE).read_text(encoding="utf-8")))
        made = self._write_up(found, both["dense"], both["pruned"], whole)
        return with_uniform(self.run, made, both)

    def _uniform(self, final: Path) -> Path | None:
        """The tuned model at equal widths, ranked by the loss on the domain."""
        c, cpu = self.config, torch.device("cpu")
        starts = range(0, min(len(self.training), RANKED), c.batch_size)
        batches = [self.training.batch(slice(start, start + c.batch_size), cpu) for start in starts]
        return export_uniform(
            self.run,
            final,
            taylor_ranking(batches),
            multiple_of=c.uniform_multiple,
            dtype=saved_dtype(self.folder, c.dtype),
            device=c.device,
        )

    def _figures(self, folder: Path) -> Figures:
        c = self.config
        return measured(
            folder,
            self.held_out,
            length=c.length,
            sequences=c.evaluation_sequences,
            batch_size=16,
            device=c.device,
            progress=self.run.progress,
        )

    def _prune(self, final: Path) -> None:
        c = self.config
        self.run.step(f"tuning {self.folder.name} and pruning it to {self.target:,} parameters")
        self.method.fit(
            self.model,
            self.training,
            checkpoint_dir=self.run.state / "training",
            keep_adapter=c.keep_adapter,
            progress=self.run.progress,
        )
        self.method.model_.to(saved_dtype(self.folder, c.dtype))
        self.method.save(final, self.tokenizer, adapter=self.run.files / "unmerged" if c.keep_adapter else None)

    def _write_up(self, found: ATPReport, dense: Figures, pruned: Figures, whole: dict[str, list[int]]) -> runs.Report:
        rows: list[list[Any]] = [
            [name, dense[name], pruned[name], pruned[name] / dense[name] if dense[name] else None] for name in dense
        ]
        removed = 1 - found.remaining_share
        course = found.trajectory
        direct: list[list[Any]] = [
            ["loss, LoRA-aware forward behind the masks", found.loss_before_zeroing],
            ["loss, adapters of pruned units emptied", found.loss_after_zeroing],
            ["loss, merged and cut", found.loss_after_cut],
            ["largest change of a logit by the cut", found.masked_against_cut],
            ["last R of the search", course.ratio[-1] if course.ratio else None],
            ["units that were pruned once and returned, sampled masks", found.returned_sampled],
            ["units that were pruned once and returned, without noise", found.returned_decided],
            ["of units", found.units],
        ]
        cost: list[list[Any]] = [
            ["steps of the tuning", found.steps],
            ["of them with a search", found.search_steps],
            ["time, seconds", found.seconds],
            ["parameters of the generator", found.generator_parameters],
            ["parameters of the adapters", found.adapter_parameters],
        ]
        widths: list[list[Any]] = [
            [layer, *(f"{found.widths[kind][layer]} of {whole[kind][layer]}" for kind in found.widths)]
            for layer in range(len(next(iter(found.widths.values()))))
        ]
        files = [
            runs.ReportFile(
                "model", "the checkpoint, for from_pretrained with trust_remote_code=True or after import paperworks"
            )
        ]
        if self.config.keep_adapter:
            files.append(runs.ReportFile("unmerged", "the smaller base, and the adapter for peft on it"))
        return runs.Report(
            f"{removed:.1%} of the prunable parameters are gone: "
            f"{quality_said(dense['perplexity'], pruned['perplexity'], self.measured_on)}, which was not tuned",
            {
                "parameters, dense": float(found.parameters_before),
                "parameters, pruned": float(found.parameters_after),
                "perplexity, dense": dense["perplexity"],
                "perplexity, pruned": pruned["perplexity"],
                "masked against cut": found.masked_against_cut,
            },
            [
                runs.Table(
                    "Before and after",
                    ["", "dense", "pruned", "ratio"],
                    rows,
                    "Perplexity of all held-out tokens of the domain (token_ppl); the dense model is not tuned. "
                    "Speed for a batch of 8 on this machine, in turn.",
                ),
                runs.Table("Direct removal", ["", "figure"], direct, "Losses on calibration examples, in nats."),
                runs.Table("Kept units by layer", ["layer", *found.widths], widths),
                runs.Table("What it took", ["", "figure"], cost),
            ],
            [course_figure(found), kept_widths_figure(found.widths, whole)],
            files,
            found.notes,
        )

    def _dry_run(self, whole: dict[str, list[int]]) -> runs.Report:
        dense = count(self.model)
        least = self.method.size_of(self.model).least()
        rows: list[list[Any]] = [
            ["parameters, dense", dense.parameters],
            ["prunable parameters", dense.prunable],
            ["parameters, at most", self.target],
            ["least that can be reached", least],
            *([f"masks of kind {kind}", sum(sizes)] for kind, sizes in whole.items()),
            ["examples", len(self.training)],
            ["targets in them", self.training.targets],
        ]
        return runs.Report(
            f"Nothing was changed: {self.target:,} of {dense.parameters:,} parameters can be reached",
            {"parameters, dense": float(dense.parameters), "parameters, at most": float(self.target)},
            [runs.Table("What would be done", ["", "figure"], rows)],
        )
