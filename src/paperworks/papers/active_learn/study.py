"""The claims, measured again: the complexity and the games exactly, trained policies beside exact and fixed ones.

The paper's figures are curves that could not be read. Bounds are those of exact solutions of the same games, or of
fixed policies in the same run.
"""

from __future__ import annotations

from paperworks.papers.active_learn.studies.boxes import gaussian_arms, transductive
from paperworks.papers.active_learn.studies.exact import bounds, closed_forms, games
from paperworks.papers.active_learn.studies.learned import arms, medium, small_thresholds, two_classes
from paperworks.papers.active_learn.studies.real import recommendation, zoo

__all__ = [
    "arms",
    "bounds",
    "closed_forms",
    "games",
    "gaussian_arms",
    "medium",
    "recommendation",
    "small_thresholds",
    "transductive",
    "two_classes",
    "zoo",
]
