"""A language model: word glosses mixed with clusters of junk, a tenth chosen, and the loss on glosses held out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.embedding import encode_to_file, load_text_encoder
from paperworks.language.generation import GenerationSettings, InstructionRecord, score_responses
from paperworks.metrics import mean_interval
from paperworks.papers.diversify_conquer.iterative import IterativeSelector
from paperworks.papers.diversify_conquer.pool import ChunkedEncoder, embedded_text, prompt_text
from paperworks.papers.diversify_conquer.quality import compression_quality, compression_ratio
from paperworks.papers.diversify_conquer.scorers import PerplexityScorer, feedback_scores
from paperworks.papers.diversify_conquer.selector import KMeansSelector
from paperworks.papers.diversify_conquer.studies.geometry import glosses
from paperworks.papers.diversify_conquer.trainers import LanguageModelTrainer, fit_context
from paperworks.runs import Finding
from paperworks.training import TrainSettings

GOOD, JUNK, HELD, BUDGET, CLUSTERS = 700, 300, 150, 100, 16
SETTINGS = TrainSettings(epochs=3, batch_size=16, learning_rate=3e-4, schedule="linear", device="cpu")
METHODS = ("random", "kM-Random", "kMQ", "iter-kM, likelihood", "iter-kM, perplexity")


def junk_pool(seed: int, good: int, junk: int, held: int) -> tuple[list[InstructionRecord], list[InstructionRecord]]:
    """(pool, held-out glosses): glosses, and others whose answer has its characters in a random order."""
    rng = np.random.default_rng([seed, 7])
    records = glosses()
    order = rng.permutation(len(records))
    pool = [records[i] for i in order[: good + junk]]
    for place in range(good, good + junk):
        record = pool[place]
        letters = list(str(record.response))
        rng.shuffle(letters)
        answer = {"role": "assistant", "content": "".join(letters).strip() or "x"}
        pool[place] = replace(record, messages=(*record.prompt, answer), extra={"kind": "junk"})  # type: ignore[arg-type]
    return pool, [records[i] for i in order[good + junk : good + junk + held]]


def held_loss(tuned: Any, records: Sequence[InstructionRecord]) -> float:
    """Mean negative log-likelihood of the held-out answers, nats per token."""
    pairs = [fit_context(tuned.model, tuned.tokenizer, prompt_text(r), str(r.response)) for r in records]
    scores = score_responses(tuned.model, tuned.tokenizer, [p for p, _ in pairs], [a for _, a in pairs], batch_size=32)
    return -sum(s.log_probability for s in scores) / sum(len(s.token_ids) for s in scores)


class _Job:
    """One seed: the pool, its clusters, and trainings from the same base."""

    def __init__(self, run: runs.Run, seed: int, sizes: tuple[int, int, int, int, int]) -> None:
        self.run, self.seed = run, seed
        good, junk, held, self.budget, clusters = sizes
        self.pool, self.held = junk_pool(seed, good, junk, held)
        self.junk = np.array([r.extra["kind"] == "junk" for r in self.pool])
        path = run.state / f"vectors-{seed}.npy"
        texts = [embedded_text(r) for r in self.pool]
        if path.is_file():
            self.vectors = np.load(path)
        else:
            self.vectors = encode_to_file(ChunkedEncoder(load_text_encoder()), texts, path, progress=run.progress)
        answers = [str(r.response) for r in self.pool]
        self.quality = compression_quality(
            np.array([compression_ratio(t) for t in answers]), np.array([len(t) for t in answers])
        )
        fitted = KMeansSelector(clusters, "random", self.budget, random_state=seed).fit(self.vectors)
        self.labels, self.centers = fitted.labels_, fitted.centers_
        self.clusters = clusters

    def trainer(self) -> LanguageModelTrainer:
        return LanguageModelTrainer(
            None,
            replace(SETTINGS, seed=self.seed),
            generation=GenerationSettings(max_new_tokens=16),
            progress=self.run.progress,
            device="cpu",
        )

    def selector(self, sampling: Any) -> KMeansSelector:
        made = KMeansSelector(self.clusters, sampling, self.budget, random_state=self.seed)
        return made.use_clusters(self.vectors, self.labels, self.centers, self.quality)

    def static(self, rows: np.ndarray) -> dict[str, float]:
        """Loss after training on some rows, and the share of junk among them."""
        tuned = self.trainer().train(1, [self.pool[i] for i in rows])
        return {"loss": held_loss(tuned, self.held), "junk": float(self.junk[rows].mean())}

    def iterative(self, sign: int) -> dict[str, float]:
        """The same after three rounds with the feedback of the base model."""
        trainer = self.trainer()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            judge = PerplexityScorer(None, sign=sign, device="cpu")

            def score(tuned: Any, rows: np.ndarray) -> np.ndarray:
                records = [self.pool[i] for i in rows]
                answers = trainer.generate(tuned, records)
                prompts = [prompt_text(r) for r in records]
                return feedback_scores(judge, prompts, [str(r.response) for r in records], answers)

            found = IterativeSelector(
                self.selector("random"), 3, lambda n, rows: trainer.train(n, [self.pool[i] for i in rows]), score
            ).fit()
        return {"loss": held_loss(found.model_, self.held), "junk": float(self.junk[found.indices_].mean())}


@runs.study(
    claims=["clusters-with-quality", "iterative-refinement", "feedback-source", "noise-is-filtered"],
    title="the bundled language model on glosses and junk: loss on glosses held out",
    minutes=8,
)
def language_model(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """700 glosses and 300 of shuffled letters, 100 chosen, three epochs; three seeds."""
    sizes = (60, 30, 20, 20, 5) if fast else (GOOD, JUNK, HELD, BUDGET, CLUSTERS)
    seeds = range(2 if fast else 3)
    loss: dict[str, list[float]] = {m: [] for m in ("base", *METHODS)}
    junk: dict[str, list[float]] = {m: [] for m in METHODS}
    for seed in seeds:
        kept = run.state / f"seed-{seed}.json"
        if kept.is_file():
            measured = json.loads(kept.read_text())
        else:
            measured = _seed(run, seed, sizes)
            runs.files.write_text(kept, json.dumps(measured))
        for method in METHODS:
            loss[method].append(measured[method]["loss"])
            junk[method].append(measured[method]["junk"])
        loss["base"].append(measured["base"]["loss"])
    yield from _findings({m: np.array(v) for m, v in loss.items()}, {m: np.array(v) for m, v in junk.items()})


def _seed(run: runs.Run, seed: int, sizes: tuple[int, int, int, int, int]) -> dict[str, dict[str, float]]:
    job = _Job(run, seed, sizes)
    rng = np.random.default_rng([seed, 8])
    work = {
        "base": lambda: {"loss": held_loss(_Base(*job.trainer().base()), job.held)},
        "random": lambda: job.static(np.sort(rng.choice(len(job.pool), job.budget, replace=False))),
        "kM-Random": lambda: job.static(job.selector("random").indices_),
        "kMQ": lambda: job.static(job.selector("quality").indices_),
        "iter-kM, likelihood": lambda: job.iterative(-1),
        "iter-kM, perplexity": lambda: job.iterative(1),
    }
    return {name: make() for name, make in run.progress(work.items(), f"seed {seed}: methods", len(work))}


class _Base:
    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer


def _findings(loss: dict[str, np.ndarray], junk: dict[str, np.ndarray]) -> Iterator[Finding]:
    detail = "mean loss (share of junk chosen): " + "; ".join(
        f"{m} {loss[m].mean():.4f}" + (f" ({junk[m].mean():.3f})" if m in junk else "") for m in loss
    )

    def less(claim: str, a: str, b: str, said: str = "") -> Finding:
        return Finding(
            claim,
            f"Glosses and junk, loss on glosses held out: {a} less {b}.",
            "empirical",
            mean_interval(loss[a] - loss[b]),
            "<",
            0.0,
            baseline=float(loss[b].mean()),
            baseline_name=b,
            unit="nats per token",
            detail=said,
        )

    yield less("clusters-with-quality", "kMQ", "random", detail)
    yield less("clusters-with-quality", "kMQ", "kM-Random")
    yield less("iterative-refinement", "iter-kM, likelihood", "random")
    yield less("iterative-refinement", "iter-kM, likelihood", "kM-Random")
    yield less("feedback-source", "iter-kM, likelihood", "iter-kM, perplexity")
    yield Finding(
        "noise-is-filtered",
        "Glosses and junk: share of junk that iter-kM chooses by likelihood, less that of kM-Random.",
        "empirical",
        mean_interval(junk["iter-kM, likelihood"] - junk["kM-Random"]),
        "<",
        0.0,
        baseline=float(junk["kM-Random"].mean()),
        baseline_name="kM-Random",
    )
