"""FOLD-SE: a short list of default rules with exceptions, learned from a table of mixed columns (arXiv 2208.07912)."""

from __future__ import annotations

from paperworks.papers.fold_se.classifier import FoldSEClassifier
from paperworks.papers.fold_se.explain import Explanation, LiteralProof, RuleProof
from paperworks.papers.fold_se.presets import FoldRMClassifier, FoldRPPClassifier
from paperworks.papers.fold_se.programs import clingo_labels, templates
from paperworks.papers.fold_se.rules import FlatRule, Literal, Rule
from paperworks.papers.fold_se.ruleset import RuleSet

__all__ = [
    "Explanation",
    "FlatRule",
    "FoldRMClassifier",
    "FoldRPPClassifier",
    "FoldSEClassifier",
    "Literal",
    "LiteralProof",
    "Rule",
    "RuleProof",
    "RuleSet",
    "clingo_labels",
    "templates",
]
