"""FOLD-SE: a short list of default rules with exceptions, learned from a table of mixed columns (arXiv 2208.07912)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.fold_se.classifier import FoldSEClassifier
    from paperworks.papers.fold_se.explain import Explanation, LiteralProof, RuleProof
    from paperworks.papers.fold_se.presets import FoldRMClassifier, FoldRPPClassifier
    from paperworks.papers.fold_se.programs import clingo_labels, templates
    from paperworks.papers.fold_se.rules import FlatRule, Literal, Rule
    from paperworks.papers.fold_se.ruleset import RuleSet
else:
    __getattr__, __dir__ = lazy_imports(__name__)

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
