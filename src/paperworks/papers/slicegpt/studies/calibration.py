"""Calibration text, multiple choice, and recovery fine-tuning, on the bundled language model."""

from __future__ import annotations

import statistics
from pathlib import Path

from paperworks import runs
from paperworks.language import bundled_model_path, bundled_text, token_windows
from paperworks.language.choice import choice_accuracy, continuation_questions
from paperworks.papers.slicegpt.studies.bench import LENGTH, Bench
from paperworks.pruning import lora_targets
from paperworks.pruning.recovery import recover
from paperworks.runs import Finding


@runs.study(
    claims=["calibration-size", "calibration-data", "zero-shot"], title="Calibration and multiple choice", minutes=4
)
def calibrations(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """How much calibration text, which text, and what is left of the ability to tell the true ending of a passage."""
    bench = Bench(run, fast)
    seeds = range(1 if fast else 3)
    sizes = {
        n: statistics.mean(
            bench.perplexity(bench.sliced(0.25, calibration=bench.calibration(n, seed), seed=seed).model_)
            for seed in seeds
        )
        for n in (4, 8 if fast else 128)
    }
    few, many = sizes.values()
    questions = continuation_questions(
        token_windows(bench.tokenizer, bundled_text("test"), 64), 20 if fast else 400, 40, 24, run.rng("questions")
    )
    code = "\n\n".join(path.read_text(encoding="utf-8", errors="ignore") for path in _stdlib_files())
    n = 8 if fast else 128
    own = bench.sliced(0.25, calibration=bench.calibration(n))
    other = bench.sliced(0.25, calibration=bench.calibration(n, text=code))
    accuracy = {
        name: choice_accuracy(model, questions, progress=run.progress)["acc"]
        for name, model in (("dense", bench.dense), ("own", own.model_), ("code", other.model_))
    }
    chance = 0.25
    return [
        Finding(
            "calibration-size",
            f"Perplexity at 25 % with {max(sizes)} calibration sequences, against 4",
            "empirical",
            many,
            "<",
            few,
            baseline=few,
            baseline_name="4 sequences",
            detail=f"mean of {len(seeds)} seeds, 256 tokens each",
        ),
        Finding(
            "zero-shot",
            "Share of the dense model's accuracy above chance that is left at 25 %",
            "empirical",
            (accuracy["own"] - chance) / (accuracy["dense"] - chance),
            ">",
            0.8,
            baseline=accuracy["dense"],
            baseline_name="dense accuracy",
            detail=f"{len(questions)} held-out passages, which of 4 endings is the true one; "
            f"sliced accuracy {accuracy['own']:.4f}",
        ),
        Finding(
            "calibration-data",
            "Accuracy when calibrated on text like the test's, against program code",
            "empirical",
            accuracy["own"],
            ">",
            accuracy["code"],
            baseline=accuracy["code"],
            baseline_name="calibrated on code",
            detail=f"perplexity {bench.perplexity(own.model_):.2f} against {bench.perplexity(other.model_):.2f}",
        ),
    ]


def _stdlib_files() -> list[Path]:
    """Modules of Python's standard library, enough for 128 calibration sequences."""
    return sorted(Path(statistics.__file__).parent.glob("*.py"))[:60]


@runs.study(claims=["recovery-fine-tuning"], title="Recovery fine-tuning", minutes=6)
def recovery(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """LoRA of rank 8 on the model with a quarter of its hidden size cut."""
    bench = Bench(run, fast)
    method = bench.sliced(0.25)
    before = bench.perplexity(method.model_)
    windows = token_windows(bench.tokenizer, bundled_text("train"), LENGTH)
    steps = 4 if fast else 200
    targets = lora_targets(bundled_model_path())
    merged, result = recover(
        method.model_,
        windows,
        targets,
        steps=steps,
        rank=8,
        alpha=32,
        dropout=0.05,
        batch_size=8,
        device="cpu",
        checkpoint_dir=run.state / "training",
        progress=run.progress,
    )
    after = bench.perplexity(merged)
    return [
        Finding(
            "recovery-fine-tuning",
            f"Perplexity after {steps} steps of LoRA on the sliced model, against before",
            "empirical",
            after,
            "<",
            before,
            baseline=bench.dense_perplexity,
            baseline_name="dense",
            detail=f"before {before:.3f}; "
            f"{result.steps} steps of 8 x {LENGTH} tokens, rank 8, from the calibration text",
        )
    ]
