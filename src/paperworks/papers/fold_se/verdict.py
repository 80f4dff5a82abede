"""What the figures mean, in words: the headline, and what to say first about rules that add nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from paperworks.papers.fold_se.classifier import FoldSEClassifier
from paperworks.papers.fold_se.config import Config
from paperworks.papers.fold_se.evaluation import Measured

FEW_ROWS = 20
"""Below this many held-out rows an accuracy says little."""


def labels(folds: bool) -> dict[str, str]:
    """Names for people of the figures to show first."""
    names = {
        "accuracy": "accuracy of the rules, held-out rows",
        "majority_accuracy": "accuracy of the majority class",
        "tree_accuracy": "accuracy of a decision tree as large",
        "balanced_accuracy": "mean recall over the classes",
        "rules": "rules",
        "literals": "literals",
        "fit_seconds": "learning, seconds",
    }
    return names | ({"cv_accuracy": "accuracy of the rules, cross-validation"} if folds else {})


def adds_nothing(found: Sequence[Measured]) -> bool:
    """Whether the rules are right no more often than the majority class."""
    rules, majority = found[0], found[2]
    return rules.accuracy <= majority.accuracy


def headline(model: FoldSEClassifier, found: Sequence[Measured], name: str, n_test: int) -> str:
    """One sentence. Rules that are no better than the majority class say so first."""
    rules, tree, majority = found
    size = f"{model.n_rules_} rule{'s' * (model.n_rules_ != 1)} with {model.n_literals_} literal"
    size += "s" * (model.n_literals_ != 1)
    text = (
        f"{size} classif{'ies' if model.n_rules_ == 1 else 'y'} {rules.accuracy:.1%} of {n_test} held-out rows "
        f"of {name} rightly "
        f"(majority class {majority.accuracy:.1%}, decision tree with {tree.size} leaves {tree.accuracy:.1%})."
    )
    if not adds_nothing(found):
        return text
    if model.n_rules_ == 0:
        return f"No rule was learned; always the majority class is right for {majority.accuracy:.1%} of {n_test} rows."
    than = "more often" if rules.accuracy == majority.accuracy else "as often"
    return f"The rules are not right {than} than the majority class: {text}".replace("as often than", "as often as")


def lead(
    model: FoldSEClassifier,
    found: Sequence[Measured],
    truth: np.ndarray,
    predicted: np.ndarray,
    training: np.ndarray,
    config: Config,
) -> list[str]:
    """What a reader has to know before the figures; empty where the rules are better than the majority class."""
    notes = []
    if adds_nothing(found):
        notes += [_what(found, truth, predicted), _why(model, training), f"To try: {_tries(model, config)}."]
    if len(truth) < FEW_ROWS:
        notes.append(
            f"Only {len(truth)} rows are held out: one row is {1 / len(truth):.0%}. "
            "Cross-validation is the better figure."
        )
    return notes


def _what(found: Sequence[Measured], truth: np.ndarray, predicted: np.ndarray) -> str:
    values = {str(p) for p in predicted}
    if len(values) == 1:
        return f"Every held-out row is predicted {next(iter(values))!r}: the rules tell nothing apart."
    chance = 1 / len(np.unique(truth.astype(str)))
    recall = found[0].balanced_accuracy
    if recall > chance + 0.05:
        return (
            f"They do find rows of rarer classes (mean recall {recall:.2f}; {chance:.2f} for one class always), "
            "at the cost of as many wrong ones."
        )
    return (
        f"They find no more of the rarer classes than chance does (mean recall {recall:.2f}, {chance:.2f} by chance)."
    )


def _why(model: FoldSEClassifier, training: np.ndarray) -> str:
    """Why learning stopped where it did."""
    counts = Counter(training.astype(str).tolist())
    small = [f"{label!r} ({count})" for label, count in counts.items() if count < model.minimum_cover_]
    if small:
        shown = ", ".join(small[:4]) + (", ..." if len(small) > 4 else "")
        return (
            f"Learning stopped since a rule has to cover {model.minimum_cover_:g} new training rows (tail), and these "
            f"classes have fewer: {shown}."
        )
    if model.n_rules_ == 0:
        return (
            "Learning stopped at once: no condition on one column is right more often than wrong, or what it covers is "
            f"less than the {model.minimum_cover_:g} training rows that a rule has to cover (tail)."
        )
    label, count = counts.most_common(1)[0]
    return (
        f"Learning stopped where no further condition is right more often than wrong: {label!r} has {count} of "
        f"{len(training)} training rows, so that a condition for another class must be purer than the columns allow."
    )


def _tries(model: FoldSEClassifier, config: Config) -> str:
    tries = []
    classes = model.classes_.tolist()
    if len(classes) == 2 and config.preset != "fold-rm":
        rare = next((str(c) for c in classes if c != model.program_.positive), str(classes[0]))
        tries.append(f"--positive {rare!r} (rules for the other class)")
    if model.minimum_cover_ > 0:
        tries.append("--tail 0 (also rules for few rows)")
    if config.ratio > 0.2:
        tries.append("--ratio 0.1 (purer rules)")
    tries.append("columns that bear on the label, declared --numeric or --categorical if they were read wrongly")
    return "; ".join(tries)
