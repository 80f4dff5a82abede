"""Learning to actively learn: query policies trained against adversaries, one for each level of difficulty
(arXiv 2010.15382)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.active_learn.bandits import (
        LUCB,
        SequentialHalving,
        SuccessiveRejects,
        TopTwoThompson,
        XYAllocation,
    )
    from paperworks.papers.active_learn.baselines import GBS, SGBS, InformationGain, Passive
    from paperworks.papers.active_learn.classes import DifficultyClass, default_radii, make_classes, sample_class
    from paperworks.papers.active_learn.designs import complexity, complexity_gradient
    from paperworks.papers.active_learn.evaluation import Evaluation, WorstCase, evaluate, exact_risk, worst_case
    from paperworks.papers.active_learn.games import ExactPolicy, Solution, class_values, solve_game
    from paperworks.papers.active_learn.inputs_check import Box
    from paperworks.papers.active_learn.learner import RobustActiveLearner, fixed_prior_policy
    from paperworks.papers.active_learn.policies import Policy, RandomisedPolicy, Session
    from paperworks.papers.active_learn.problem import ActiveProblem, QueryWarning
    from paperworks.papers.active_learn.storage import LearnedPolicy
    from paperworks.papers.active_learn.training import GameSettings
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "GBS",
    "LUCB",
    "SGBS",
    "ActiveProblem",
    "Box",
    "DifficultyClass",
    "Evaluation",
    "ExactPolicy",
    "GameSettings",
    "InformationGain",
    "LearnedPolicy",
    "Passive",
    "Policy",
    "QueryWarning",
    "RandomisedPolicy",
    "RobustActiveLearner",
    "SequentialHalving",
    "Session",
    "Solution",
    "SuccessiveRejects",
    "TopTwoThompson",
    "WorstCase",
    "XYAllocation",
    "class_values",
    "complexity",
    "complexity_gradient",
    "default_radii",
    "evaluate",
    "exact_risk",
    "fixed_prior_policy",
    "make_classes",
    "sample_class",
    "solve_game",
    "worst_case",
]
