"""FOLD-SE's predecessors: the same learner with their score, their literals and no tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from paperworks.papers.fold_se.classifier import Columns, FoldSEClassifier


class FoldRPPClassifier(FoldSEClassifier):
    """FOLD-R++ (arXiv 2110.07843): information gain, four kinds of literals, no tail.

    Parameters as in FoldSEClassifier.
    """

    def __init__(
        self,
        ratio: float = 0.5,
        *,
        numeric: Literal["auto"] | Columns = "auto",
        categorical: Columns | None = None,
        positive_label: Any = None,
        feature_names: Sequence[str] | None = None,
        allow_missing_columns: bool = False,
    ) -> None:
        super().__init__(
            ratio,
            0.0,
            numeric=numeric,
            categorical=categorical,
            positive_label=positive_label,
            heuristic="ig",
            literals="foldrpp",
            feature_names=feature_names,
            allow_missing_columns=allow_missing_columns,
        )


class FoldRMClassifier(FoldSEClassifier):
    """FOLD-RM (arXiv 2202.06913): an ordered list over any number of classes, learned as in FOLD-R++.

    Parameters as in FoldSEClassifier.
    """

    def __init__(
        self,
        ratio: float = 0.5,
        *,
        numeric: Literal["auto"] | Columns = "auto",
        categorical: Columns | None = None,
        unmatched: Literal["majority", "none"] = "majority",
        feature_names: Sequence[str] | None = None,
        allow_missing_columns: bool = False,
    ) -> None:
        super().__init__(
            ratio,
            0.0,
            numeric=numeric,
            categorical=categorical,
            heuristic="ig",
            literals="foldrpp",
            multiclass="ordered",
            unmatched=unmatched,
            feature_names=feature_names,
            allow_missing_columns=allow_missing_columns,
        )
