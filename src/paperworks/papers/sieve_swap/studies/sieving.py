"""Sieving and swapping on real recipe steps: the separation of speech and chatter, and the segments that come out."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.inputs import path as input_path
from paperworks.metrics import mean_interval
from paperworks.papers.sieve_swap.evaluation import evaluate
from paperworks.papers.sieve_swap.procedures import KnowledgeBase, Procedure, wikibooks_recipes
from paperworks.papers.sieve_swap.sieve import SieveSwap, bundled_irrelevant
from paperworks.papers.sieve_swap.similarity import DenseIndex, LexicalIndex, StepIndex, make_index, top_steps
from paperworks.papers.sieve_swap.simulation import SimulatedVideo, simulate_videos, spoken, truth_of, uniform_steps
from paperworks.papers.sieve_swap.thresholds import percentile_threshold
from paperworks.runs import Finding

SEEDS = 3
RECIPES = 200
SPOKEN = 250
DOCSTRINGS = 160
VIDEOS = 3
SEGMENT_SEEDS = 5
SEGMENT_RECIPES = 150
MOST_STEPS = 8


@cache
def all_recipes() -> tuple[Procedure, ...]:
    """The English recipes of Wikibooks."""
    return tuple(wikibooks_recipes())


def some_recipes(seed: int, count: int) -> list[Procedure]:
    """``count`` recipes drawn without replacement."""
    recipes = all_recipes()
    order = np.random.default_rng([seed, 7]).permutation(len(recipes))[:count]
    return [recipes[i] for i in sorted(order)]


def docstrings(count: int, seed: int) -> list[str]:
    """First lines of docstrings of Python's standard library."""
    found: list[str] = []
    for file in sorted(Path(input_path("python-stdlib")).glob("*.py")):
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = (ast.get_docstring(node) or "").split("\n")[0].strip()
                if 5 <= len(text.split()) <= 25:
                    found.append(text)
    rng = np.random.default_rng([seed, 8])
    return [found[i] for i in sorted(rng.permutation(len(found))[:count])]


class Trial:
    """One draw of recipes, speech and chatter, to be measured with any index of the steps."""

    def __init__(self, seed: int, fast: bool) -> None:
        self.kb = KnowledgeBase.of(some_recipes(seed, 60 if fast else RECIPES))
        rng = np.random.default_rng([seed, 9])
        self.rows = np.sort(rng.permutation(len(self.kb.steps))[: 60 if fast else SPOKEN])
        self.speech = [spoken(self.kb.steps[row], rng) for row in self.rows]
        chatter = [bundled_irrelevant()[i] for i in rng.permutation(len(bundled_irrelevant()))]
        code = docstrings(40 if fast else DOCSTRINGS, seed)
        half, middle = len(chatter) // 2, len(code) // 2
        self.known, self.chatter = chatter[:half] + code[:middle], chatter[half:] + code[middle:]

    def measure(self, index: StepIndex) -> dict[str, float]:
        """Rank of the exact step, separation, and the sieve at the automatic threshold."""
        from sklearn.metrics import roc_auc_score

        similarity = index.similarity(index.queries(self.speech), slice(None))
        irrelevant = top_steps(index, index.queries(self.chatter), 1)[0][:, 0]
        tau = percentile_threshold(top_steps(index, index.queries(self.known), 1)[0][:, 0])
        same_recipe = self.kb.owner[None] == self.kb.owner[self.rows][:, None]
        best = {"": similarity.max(1), "held-out ": np.where(same_recipe, -np.inf, similarity).max(1)}
        out = {"exact": float((similarity.argmax(1) == self.rows).mean()), "tau": tau}
        for name, values in best.items():
            truth = [1] * len(values) + [0] * len(irrelevant)
            kept, wrong = int((values >= tau).sum()), int((irrelevant >= tau).sum())
            out[f"{name}auroc"] = float(roc_auc_score(truth, [*values, *irrelevant]))
            out[f"{name}precision"] = kept / max(1, kept + wrong)
            out[f"{name}recall"] = kept / len(values)
        return out


@runs.study(claims=("sieve-removes-chatter",), title="Spoken recipe steps against chatter", minutes=3)
def sieving(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """MiniLM and word overlap on spoken steps of Wikibooks recipes, chatter and docstrings."""
    rows: dict[str, list[dict[str, float]]] = {"minilm": [], "tfidf": [], "bm25": []}
    for seed in run.progress(range(2 if fast else SEEDS), "drawing recipes"):
        trial = Trial(seed, fast)
        rows["minilm"].append(trial.measure(make_index("minilm", trial.kb.steps)[0]))
        rows["tfidf"].append(trial.measure(LexicalIndex("tfidf", trial.kb.steps)))
        rows["bm25"].append(trial.measure(LexicalIndex("bm25", trial.kb.steps)))

    def values(kind: str, name: str) -> np.ndarray:
        return np.array([row[name] for row in rows[kind]])

    size = f"{RECIPES} recipes, {SPOKEN} spoken steps"
    for name, where in (("auroc", "in the collection"), ("held-out auroc", "taken out of it")):
        yield Finding(
            "sieve-removes-chatter",
            f"AUROC of spoken steps against irrelevant sentences, the recipe {where} (MiniLM)",
            "empirical",
            mean_interval(values("minilm", name)),
            ">=",
            0.98,
            detail=f"{size}; the exact step comes first for {values('minilm', 'exact').mean():.3f}",
        )
    exact = ", ".join(f"{kind} {values(kind, 'exact').mean():.3f}" for kind in rows)
    yield Finding(
        "sieve-removes-chatter",
        "with the recipe taken out, MiniLM separates better than TF-IDF by 0.2 of AUROC",
        "empirical",
        mean_interval(values("minilm", "held-out auroc") - values("tfidf", "held-out auroc")),
        ">=",
        0.2,
        baseline=float(values("tfidf", "held-out auroc").mean()),
        baseline_name="AUROC of TF-IDF",
        detail=f"AUROC of BM25 {values('bm25', 'held-out auroc').mean():.3f}; exact step first: {exact}",
    )
    yield from _threshold_findings(values)


def _threshold_findings(values: Any) -> Iterator[Finding]:
    tau = mean_interval(values("minilm", "tau"))
    name = "the automatic threshold, the 99th percentile of irrelevant sentences, is"
    yield Finding("sieve-removes-chatter", f"{name} at least 0.3", "empirical", tau, ">=", 0.3)
    yield Finding("sieve-removes-chatter", f"{name} at most 0.55", "empirical", tau, "<=", 0.55)
    for measure in ("precision", "recall", "held-out precision", "held-out recall"):
        where = "taken out of the collection" if measure.startswith("held") else "in the collection"
        yield Finding(
            "sieve-removes-chatter",
            f"{measure.removeprefix('held-out ')} of the sieve at that threshold, the recipe {where}",
            "empirical",
            mean_interval(values("minilm", measure)),
            ">=",
            0.95,
            detail="threshold from one half of the irrelevant sentences, measured on the other",
        )


@runs.study(
    claims=("sieve-removes-chatter", "pretraining-size"), title="Segments of simulated narrated videos", minutes=3
)
def segments(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Recipes told with chatter between the steps: the segments that come out, and controls on the same videos."""
    rows: list[dict[str, float]] = []
    for seed in run.progress(range(2 if fast else SEGMENT_SEEDS), "drawing videos"):
        recipes = some_recipes(100 + seed, 40 if fast else SEGMENT_RECIPES)
        told = [
            recipe for recipe in recipes if 4 <= len(recipe.steps) <= MOST_STEPS
        ]  # from their first step to their last
        videos = simulate_videos(told, VIDEOS, bundled_irrelevant(), seed, steps=(MOST_STEPS, MOST_STEPS))
        rows.append(_controls(recipes, videos, seed))
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    yield Finding(
        "sieve-removes-chatter",
        "F1 of the segments at an overlap of 0.5",
        "empirical",
        mean_interval(values["sieve-swap f1@0.5"]),
        ">=",
        0.9,
        detail=f"{VIDEOS} recipes of 4 to 8 steps a seed, steps of 12 to 24 s with chatter between; "
        f"F1 over all overlaps {values['sieve-swap f1'].mean():.3f}",
    )
    yield Finding(
        "sieve-removes-chatter",
        "swapped set and raw twin have the same timestamps",
        "exact",
        float(values["twins that differ"].sum()),
        "==",
        0.0,
        unit="videos that differ",
    )
    others = ", ".join(f"{name} {values[f'{name} soda_c'].mean():.3f}" for name in ("tfidf", "bm25", "aligned"))
    for name, words in (
        ("swap-only", "the whole transcript is kept and swapped"),
        ("uniform", "equal parts get retrieved steps"),
        ("random-swap", "random steps are put in"),
        ("sieve-only", "the speech is kept as it is"),
    ):
        yield Finding(
            "sieve-removes-chatter",
            f"SODA_c (token F1) is higher than where {words}",
            "empirical",
            mean_interval(values["sieve-swap soda_c"] - values[f"{name} soda_c"]),
            ">",
            0.0,
            baseline=float(values[f"{name} soda_c"].mean()),
            baseline_name="SODA_c of the control",
            detail=f"SODA_c {values['sieve-swap soda_c'].mean():.3f}; with other matching: {others}",
        )
    yield Finding(
        "pretraining-size",
        "the share of the speech that is kept differs from that of the steps by at most 0.05",
        "empirical",
        mean_interval(np.abs(values["kept"] - values["share of steps"])),
        "<=",
        0.05,
        baseline=float(values["share of steps"].mean()),
        baseline_name="share of the speech that is about steps",
        detail=f"kept {values['kept'].mean():.3f}",
    )


def _controls(recipes: Sequence[Procedure], videos: Sequence[SimulatedVideo], seed: int) -> dict[str, float]:
    """Scores of the method and of the controls on the same videos; the steps are encoded once."""
    truth, kb = truth_of(videos), KnowledgeBase.of(recipes)
    transcripts = [video.transcript for video in videos]
    index, _ = make_index("minilm", kb.steps)
    assert isinstance(index, DenseIndex)
    encoder = Remembering(index.encoder, dict(zip(kb.steps, index.vectors, strict=True)))
    ours = ("sieve-swap", "swap-only", "random-swap", "sieve-only", "aligned")
    trials: list[tuple[str, Any, Any]] = [(name, encoder, name) for name in ours]
    out: dict[str, float] = {}
    for name, source, variant in [*trials, ("tfidf", "tfidf", "sieve-swap"), ("bm25", "bm25", "sieve-swap")]:
        result = SieveSwap(source, variant=variant, seed=seed).fit(kb).transform(transcripts)
        scores = evaluate(result.swapped, truth, ("f1", "soda_c"), scorer="token_f1")
        out |= {f"{name} {metric}": scores[metric] for metric in ("f1", "f1@0.5", "soda_c")}
        if name == "sieve-swap":
            summary = result.summary()
            out["twins that differ"] = sum(
                result.raw[v].timestamps != result.swapped[v].timestamps for v in result.swapped
            )
            out["kept"] = summary["share of speech kept"]
            spoken_seconds = sum(row.end - row.start for row in result.audit)
            out["share of steps"] = sum(b - a for v in videos for a, b in v.steps.timestamps) / spoken_seconds
    equal = {video.id: _equal_parts(video, kb, index) for video in videos}
    out["uniform soda_c"] = evaluate(equal, truth, ("soda_c",), scorer="token_f1")["soda_c"]
    return out


def _equal_parts(video: SimulatedVideo, kb: KnowledgeBase, index: StepIndex) -> list[dict[str, Any]]:
    """As many equal parts as the video has steps, each with the step nearest to what is said in it."""
    parts = uniform_steps(video.steps.duration, len(video.steps), "")
    for part in parts:
        words = " ".join(w.text for w in video.transcript.transcript.between(part["start"], part["end"]))
        part["text"] = kb.steps[int(top_steps(index, index.queries([words or "nothing"]), 1)[1][0, 0])]
    return parts


class Remembering:
    """An encoder that does not encode a text twice."""

    name = "all-MiniLM-L6-v2"

    def __init__(self, encoder: Any, known: dict[str, np.ndarray]) -> None:
        self.encoder, self.known = encoder, known

    def encode(self, items: Sequence[str]) -> np.ndarray:
        """Vectors of texts, float32 ``[n, 384]``."""
        new = [text for text in dict.fromkeys(items) if text not in self.known]
        if new:
            self.known.update(zip(new, self.encoder.encode(new), strict=True))
        return np.array([self.known[text] for text in items], np.float32)
