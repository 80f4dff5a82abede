"""Prune the user's checkpoint while it is tuned, and show what it became and how it got there."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from paperworks import runs
from paperworks.language import bundled_text, load_model
from paperworks.nn import stored_dtype
from paperworks.papers.compresso.config import Config
from paperworks.papers.compresso.data import Examples, build_examples, definition_rows, read_rows
from paperworks.papers.compresso.estimator import Compresso
from paperworks.papers.compresso.figures import course_figure
from paperworks.papers.compresso.forward import response_perplexity
from paperworks.papers.compresso.inference import PromptedModel
from paperworks.papers.compresso.method import mask_rate
from paperworks.papers.compresso.prompt import Mode, PromptTemplate, prefix_ids
from paperworks.papers.compresso.report import CompressoReport
from paperworks.papers.compresso.settings import TrainerArgs
from paperworks.pruning import (
    before_and_after,
    export_uniform,
    kept_widths_figure,
    measured,
    quality_said,
    size_said,
    taylor_ranking,
    text_parts,
    weights_bytes,
    with_uniform,
)
from paperworks.pruning.source import measured_once, open_dense, saved_dtype, source_folder, with_speeds
from paperworks.structure import count
from paperworks.structure.checkpoints import REPORT_FILE

HELD_OUT_SHARE = 0.1
ANSWERS = 3
RANKED = 64
"""Examples by which units are ranked for the uniform model."""
MODES: dict[Mode, str] = {"train": "as in training", "past": "in the past tense", "none": "left out"}


def run(config: Config, run: runs.Run) -> runs.Report:
    """Prune a language model to a size while it is instruction-tuned, and cut what the masks have closed."""
    return _Pruning(config, run).report()


class _Pruning:
    """One run: what its steps share, and what a resumed run finds done."""

    def __init__(self, config: Config, run: runs.Run) -> None:
        self.config, self.run = config, run
        self.folder = source_folder(config.model)
        self.template = PromptTemplate.of(config.prompt)
        self.given: Any = None if config.text is None else read_rows(config.text, "text")
        self.given_apart: Any = None if config.evaluation is None else read_rows(config.evaluation, "evaluation")
        self.model, self.tokenizer, self.target = open_dense(
            self.folder,
            config.target,
            run,
            config.device,
            lambda model, most: self._method(most).budget(model),
            dtype=config.dtype,
        )
        self.training, self.held_out, self.texts = self._data()

    def _data(self) -> tuple[Examples, Examples, list[str]]:
        """Examples to train on, held-out ones of the same kind, and held-out plain text."""
        c = self.config
        rows: Any = definition_rows(bundled_text("train")) if self.given is None else self.given
        plain, self.plain_from = [bundled_text("test")], "bundled English"
        self.measured_on = "bundled definitions" if c.text is None else f"rows held out of {c.text.name}"
        if c.evaluation:
            other: Any = self.given_apart
            self.measured_on = c.evaluation.name
            if isinstance(other[0], str):
                plain, self.plain_from = other, c.evaluation.name
        elif c.text is None:
            other = definition_rows(bundled_text("test"))
        elif isinstance(rows[0], str):
            parts = text_parts(c.text, None)
            rows, other, plain = parts.texts, parts.held_out, parts.held_out
            self.measured_on = self.plain_from = parts.measured_on
        else:
            held = min(c.evaluation_sequences, max(1, int(HELD_OUT_SHARE * len(rows))))
            order = self.run.rng("held-out rows").permutation(len(rows)).tolist()
            rows, other = [rows[i] for i in order[held:]], [rows[i] for i in order[:held]]
        training = build_examples(rows, self.tokenizer, self.template, c.length, "text")
        held_out = build_examples(other, self.tokenizer, self.template, c.length, "evaluation")
        self.rows = other if not isinstance(other[0], str) else []
        return training, held_out.take(c.evaluation_sequences), plain

    def report(self) -> runs.Report:
        if self.config.dry_run:
            return self._dry_run()
        dense = measured_once(self.run, "dense", lambda: self._figures(self.model, self.folder))
        final = self.run.files / "model"
        if not final.exists():
            self._prune(final)
        pruned = measured_once(
            self.run, "pruned", lambda: self._figures(load_model(final, "float32", self.config.device)[0], final)
        )
        figures = {"dense": dense["figures"], "pruned": pruned["figures"]}
        folders = {"dense": self.folder, "pruned": final}
        uniform = self._uniform(final) if self.config.uniform_export else None
        if uniform is not None:
            folders["uniform"] = uniform
            model, _ = load_model(uniform, "float32", self.config.device)
            found = measured_once(self.run, "uniform", lambda: self._figures(model, uniform))
            figures["uniform"] = found["figures"]
        figures = with_speeds(
            self.run, figures, folders, length=min(128, self.config.length), device=self.config.device
        )
        dense["figures"], pruned["figures"] = figures["dense"], figures["pruned"]
        data = json.loads((final / REPORT_FILE).read_text(encoding="utf-8"))
        return with_uniform(self.run, self._write_up(CompressoReport.from_dict(data), dense, pruned), figures)

    def _uniform(self, final: Path) -> Path | None:
        """The tuned model at equal widths, ranked by the loss on the training examples."""
        c = self.config
        columns = self.training.take(RANKED).whole()
        batches = [
            {name: values[start : start + c.batch_size] for name, values in columns.items()}
            for start in range(0, len(columns["input_ids"]), c.batch_size)
        ]
        return export_uniform(
            self.run,
            final,
            taylor_ranking(batches),
            multiple_of=c.uniform_multiple,
            dtype=saved_dtype(self.folder, c.dtype),
            device=c.device,
        )

    def _method(self, target: int) -> Compresso:
        from peft import LoraConfig

        c = self.config
        args = TrainerArgs(
            tuning_steps=c.tuning_steps,
            pruning_steps=c.pruning_steps,
            final_steps=c.final_steps,
            batch_size=c.batch_size,
            max_length=c.length,
            learning_rate=c.learning_rate,
            final_learning_rate=c.final_learning_rate,
            mask_learning_rate=c.mask_learning_rate or mask_rate(c.pruning_steps),
            penalty_factor=c.penalty_factor,
        )
        return Compresso(
            target=target,
            units=c.units,
            layers=(c.layers[0], c.layers[1]) if c.layers else None,
            layer_gates=c.layer_gates,
            lora=LoraConfig(r=c.lora_rank, lora_alpha=c.lora_alpha),
            prompt=self.template,
            warmup=c.warmup,
            schedule=c.schedule,
            exact_fill=c.exact_fill,
            round_to=c.round_to,
            trainer_args=args,
            seed=c.seed,
            device=c.device,
        )

    def _prune(self, final: Path) -> None:
        c = self.config
        self.run.step(f"pruning {self.folder.name} to {self.target:,} parameters")
        method = self._method(self.target)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            method.fit(
                self.model,
                self.tokenizer,
                self.training,
                checkpoint_dir=self.run.state / "training",
                progress=self.run.progress,
            )
        for warning in caught:
            if issubclass(warning.category, UserWarning) and not issubclass(warning.category, FutureWarning):
                self.run.log.warning(str(warning.message))
        method.model_.to(saved_dtype(self.folder, c.dtype))
        method.save(final, self.tokenizer)

    def _figures(self, model: Any, folder: Path) -> dict[str, Any]:
        c = self.config
        found: dict[str, Any] = measured(
            model,
            self.texts,
            tokenizer=self.tokenizer,
            dtype=stored_dtype(folder),
            length=min(128, c.length),
            sequences=c.evaluation_sequences,
            batch_size=c.batch_size,
            progress=self.run.progress,
        )
        found |= {"weights on disk, bytes": weights_bytes(folder)}
        found["perplexity of held-out text, no prompt"] = found.pop("perplexity")
        modes = {}
        for mode in MODES:
            examples = self.held_out.with_prefix(prefix_ids(self.template, self.tokenizer, mode, self.held_out.kind))
            modes[mode] = response_perplexity(model, examples, c.batch_size)
        found["perplexity of held-out responses"] = modes["train"]
        return {"figures": found, "modes": modes, "answers": self._answers(model)}

    def _answers(self, model: Any) -> list[str]:
        if not self.rows:
            return []
        prompted = PromptedModel(model, self.tokenizer, self.template)
        return [
            prompted.generate(row["instruction"], row.get("input", ""), max_new_tokens=24)
            for row in self.rows[:ANSWERS]
        ]

    def _write_up(self, report: CompressoReport, dense: dict[str, Any], pruned: dict[str, Any]) -> runs.Report:
        before, after = dense["figures"], pruned["figures"]
        rows = [[name, before[name], after[name]] for name in before]
        name = "perplexity of held-out responses"
        tables = [
            before_and_after(
                ["dense", "pruned"],
                rows,
                "Speed for a batch of 8 on this machine, in turn; responses behind the prompt of the training, on "
                f"{self.measured_on}; text without a prompt: {self.plain_from}.",
            ),
            _constraint_table(report),
            runs.Table(
                "The prompt at inference: perplexity of held-out responses",
                ["system part", "dense", "pruned"],
                [[words, dense["modes"][mode], pruned["modes"][mode]] for mode, words in MODES.items()],
                f"{len(self.held_out)} held-out examples; a prompt of {report.prompt_tokens} tokens, kept.",
            ),
        ]
        if pruned["answers"]:
            tables.append(
                runs.Table(
                    "Held-out requests, answered greedily",
                    ["request", "data", "dense", "pruned"],
                    [
                        [f"{row['instruction']} {row.get('input', '')}".strip(), row["output"], old, new]
                        for row, old, new in zip(self.rows[:ANSWERS], dense["answers"], pruned["answers"], strict=True)
                    ],
                )
            )
        tables.append(_cost_table(report))
        metrics = {
            "parameters, dense": float(report.parameters_before),
            "parameters, pruned": float(report.parameters_after),
            **{f"{name}, {stage}": float(found[name]) for stage, found in (("dense", before), ("pruned", after))},
            "perplexity, dense": before["perplexity of held-out text, no prompt"],
            "perplexity, pruned": after["perplexity of held-out text, no prompt"],
            "sparsity realised": report.sparsity_realised,
            "masked against cut": report.masked_against_cut,
        }
        # the dense model never saw the prompt: without it is its fair place
        fair = min(dense["modes"].values())
        said = quality_said(fair, after[name], self.measured_on, "perplexity of responses")
        return runs.Report(
            f"{size_said(report.parameters_before, report.parameters_after)}: {said}, which was not tuned and has the "
            "prompt that suits it best",
            metrics,
            tables,
            [course_figure(report), _widths_figure(report)],
            [
                runs.ReportFile(
                    "model",
                    f"the checkpoint, {'with its prompt as chat template, ' if self.rows else ''}its masks and its "
                    "report; for from_pretrained with trust_remote_code=True or after import paperworks",
                )
            ],
            report.notes,
        )

    def _dry_run(self) -> runs.Report:
        method, cost = self._method(self.target), count(self.model)
        size, target = method.budget(self.model)
        rows: list[list[Any]] = [
            ["parameters, dense", cost.parameters],
            ["parameters, at most", target],
            ["prunable parameters", cost.prunable],
            ["share of all to remove", 1 - target / size.whole],
            ["masks", sum(unit_set.n_units for unit_set in method.units(self.model).values())],
            ["prompt, tokens", len(self.training.prefix)],
            ["examples", len(self.training)],
            ["tokens of the longest, without prompt", self.training.input_ids.shape[1]],
            ["rate of the masks", method.args.mask_learning_rate],
        ]
        return runs.Report(
            f"Nothing was changed: {target:,} of {cost.parameters:,} parameters can be reached",
            {"parameters, dense": float(cost.parameters), "parameters, at most": float(target)},
            [runs.Table("What a run would do", ["", "figure"], rows)],
        )


def _constraint_table(report: CompressoReport) -> runs.Table:
    what = "all parameters" if report.measure == "parameters" else "the prunable parameters"
    return runs.Table(
        "The constraint",
        [f"share of {what} removed", "figure"],
        [
            ["asked for", report.target_sparsity],
            ["expected, after the last step", report.sparsity_expected],
            ["by the masks that the gates settled to", report.sparsity_masks],
            ["of the cut model", report.sparsity_realised],
            ["masked against cut model, largest difference of a logit", report.masked_against_cut],
        ],
        f"The stream keeps {report.hidden} of {report.hidden_before} dimensions. The difference is a share of the "
        "largest logit; the masks' values are folded into the weights before cutting.",
    )


def _widths_figure(report: CompressoReport) -> runs.Figure:
    """Kept units by layer; the stream, which is one for the whole model, is in the caption."""
    return kept_widths_figure(
        {"heads": report.heads, "feed-forward channels": report.channels},
        {"heads": report.heads_before, "feed-forward channels": report.channels_before},
    )


def _cost_table(report: CompressoReport) -> runs.Table:
    phases: list[list[Any]] = [[f"{phase}, seconds", seconds] for phase, seconds in report.seconds.items()]
    return runs.Table(
        "What it took",
        ["", "figure"],
        [
            *phases,
            ["peak memory, bytes", report.peak_bytes],
            ["of it before pruning, bytes", report.start_bytes],
            ["trained entries of adapters", report.trainable_adapters],
            ["trained entries of masks", report.trainable_masks],
            ["examples", report.examples],
        ],
    )
