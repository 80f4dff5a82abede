"""The game that the options describe, and the fixed policies that can play it."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.active_learn.archetypes import archetype_problem, find_archetypes
from paperworks.papers.active_learn.bandits import (
    LUCB,
    SequentialHalving,
    SuccessiveRejects,
    TopTwoThompson,
    XYAllocation,
)
from paperworks.papers.active_learn.baselines import GBS, SGBS, InformationGain, Passive
from paperworks.papers.active_learn.config import Config
from paperworks.papers.active_learn.policies import Policy
from paperworks.papers.active_learn.problem import ActiveProblem, QueryWarning
from paperworks.papers.active_learn.tables import read_arms, read_questions, read_ratings

MOST_ITEMS = 2000
"""Items of a table: a linear programme for each is solved, and a table of items by items is kept."""


@dataclass(frozen=True)
class Task:
    """A game with its words.

    Attributes
    ----------
    name : of the input. output : what is named at the end, in one word. lead : how the input was understood.
    """

    problem: ActiveProblem
    name: str
    output: str
    risk: str
    lead: list[str] = field(default_factory=list)


def load_task(config: Config) -> Task:
    """Read the input that the options name. Raises InputError for input that is no game."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QueryWarning)  # the problem's notes have the same words
        if config.ratings is not None:
            return _ratings(config, config.ratings)
        if config.arms is not None:
            return _arms(config, config.arms)
        return _table(config)


def _table(config: Config) -> Task:
    found = read_questions(config.table, config.item)
    if len(found.items) > MOST_ITEMS:
        raise InputError("table", f"{len(found.items):,} items", f"at most {MOST_ITEMS:,}")
    problem = ActiveProblem.twenty_questions(
        found.p_yes, config.budget, found.items, found.questions, noise=config.noise
    )
    name = Path(config.table).stem
    lead = [
        f"{name}: {len(found.items)} items of which {problem.n_outputs} differ, {problem.n_queries} questions, answers "
        f"flipped with a chance of {config.noise:g}.",
        *found.notes,
        *problem.notes,
    ]
    return Task(problem, name, "item", "chance of naming the wrong item", lead)


def _ratings(config: Config, source: str) -> Task:
    found = read_ratings(source)
    groups = find_archetypes(found.values, config.archetypes, config.recommend, config.seed)
    problem = archetype_problem(groups, config.budget, found.items)
    users, items = found.values.shape
    name = Path(source).stem
    kind = "of two values" if groups.two_valued else f"with a noise of {groups.sigma:.3g} around their archetype's mean"
    lead = [
        f"{name}: {users:,} users, {items} items, {np.isnan(found.values).mean():.0%} of the ratings missing; "
        f"{config.archetypes} archetypes by k-means; ratings {kind}.",
        *found.notes,
        *problem.notes,
    ]
    return Task(problem, name, "archetype", "regret of what is recommended, in units of the ratings", lead)


def _arms(config: Config, source: str) -> Task:
    risk = "chance of a wrong arm" if config.loss == "error" else "regret, in units of the answers"
    if re.fullmatch(r"\d{1,3}", source) and not Path(source).exists():
        if int(source) < 2:
            raise InputError("arms", source, "2 arms or more")
        problem = ActiveProblem.best_arm(int(source), config.budget, config.answers, config.loss, sigma=config.sigma)
        box = problem.box
        lead = [f"{source} arms with means from {box.low:g} to {box.high:g}; answers are {config.answers}."]
        return Task(problem, f"{source} arms", "arm", risk, lead)
    if config.answers == "bernoulli":
        raise InputError("answers", "bernoulli, beside a table of features", "gaussian")
    rows, names, notes = read_arms(source)
    problem = ActiveProblem.transductive(
        rows / np.sqrt(rows.shape[1]),
        rows / np.sqrt(rows.shape[1]),
        config.budget,
        loss=config.loss,
        sigma=config.sigma,
        query_names=names,
        output_names=names,
    )
    name = Path(source).stem
    lead = [
        f"{name}: {len(rows)} arms with {rows.shape[1]} features, each scaled to variance 1 / {rows.shape[1]}; the "
        "mean answer is <features, theta> with theta from -1 to 1.",
        *notes,
    ]
    return Task(problem, name, "arm", risk, lead)


def fixed_policies(problem: ActiveProblem) -> list[Policy]:
    """The fixed policies that apply to a game, the passive one first."""
    found: list[Policy] = []
    for kind in (
        Passive,
        GBS,
        SGBS,
        InformationGain,
        SuccessiveRejects,
        SequentialHalving,
        TopTwoThompson,
        LUCB,
        XYAllocation,
    ):
        try:
            found.append(kind(problem))
        except InputError:
            continue
    return found
