"""modAL's pool-based rules and SGBS beside a learned policy, in the same games with the same answers.

    python benchmarks/active_learn_peers.py [--episodes 100] [--iterations 300]

The games: thresholds of 16 points and 12 answers that are flipped with a chance of 0.2, all 17 cuts; and 20 Questions
about the animals of Zoo in 12 questions that are flipped with a chance of 0.1.

modAL chooses points of a pool for a scikit-learn estimator. For thresholds the pool is the 16 points, the estimator
logistic regression on the point's place, and the cut is where its prediction changes. A point that was asked stays in
the pool, since asking again tells more. For 20 Questions an item is a class and an answer is no label of a pool's row,
so that modAL has no such game; it is left out there. Its time is that of fitting the estimator after each answer.

Writes docs/benchmarks/active-learn.md. About two minutes.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from paperworks.papers.active_learn import (
    GBS,
    SGBS,
    ActiveProblem,
    GameSettings,
    InformationGain,
    Passive,
    Policy,
    RobustActiveLearner,
    evaluate,
)
from paperworks.papers.active_learn.studies.examples import noisy_cuts
from paperworks.papers.active_learn.tables import read_questions
from paperworks.runs.files import write_text

OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks" / "active-learn.md"
HEAD = "| policy | mean risk | worst risk | ms an episode |\n| --- | --- | --- | --- |"


def modal_risks(points: int, flip: float, horizon: int, episodes: int, rule: str) -> np.ndarray:
    """Chance of a wrong cut ``[points + 1]`` of modAL's rule with logistic regression."""
    from modAL.models import ActiveLearner
    from modAL.uncertainty import entropy_sampling, margin_sampling, uncertainty_sampling
    from sklearn.linear_model import LogisticRegression

    rules = {"uncertainty": uncertainty_sampling, "margin": margin_sampling, "entropy": entropy_sampling}
    pool = np.linspace(-1, 1, points)[:, None]
    rng = np.random.default_rng(0)
    wrong = np.zeros(points + 1)
    for cut in range(points + 1):
        truth = (np.arange(points) >= cut).astype(int)
        for _ in range(episodes):
            asked, told = [], []
            learner = None
            for _ in range(horizon):
                # until both answers are known there is no classifier: the point furthest from those asked
                if learner is None:
                    far = [min((abs(i - a) for a in asked), default=points) for i in range(points)]
                    x = points // 2 if not asked else int(np.argmax(far))
                else:
                    x = int(learner.query(pool, random_tie_break=True)[0][0])
                asked.append(x)
                told.append(int(truth[x] ^ (rng.random() < flip)))
                if len(set(told)) == 2:
                    learner = ActiveLearner(LogisticRegression(C=100.0), rules[rule], pool[asked], np.array(told))
            labels = np.full(points, told[0]) if learner is None else learner.predict(pool)
            # the cut with the fewest contradictions to the predicted labels
            errors = [int((labels != (np.arange(points) >= j)).sum()) for j in range(points + 1)]
            wrong[cut] += int(np.argmin(errors)) != cut
    return wrong / episodes


def learned(problem: ActiveProblem, iterations: int) -> RobustActiveLearner:
    """A policy against all instances."""
    settings = GameSettings(
        draws=32, roll_outs=16, policy_rate=3e-4, guide_rate=3e-3, adversary_entropy=0.03, chunk=100
    )
    classes = [range(len(problem.thetas))]
    return RobustActiveLearner(
        problem, classes=classes, hidden=(64,), iterations=iterations, settings=settings, n_rollouts=200
    ).fit()


def main() -> None:
    """Write a table for each game: mean and worst risk, and milliseconds an episode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=100, help="modAL's episodes for each cut")
    parser.add_argument("--iterations", type=int, default=300, help="of the learned policy")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cuts = noisy_cuts(16, 0.6, 12)
    found = read_questions("zoo")
    animals = ActiveProblem.twenty_questions(found.p_yes, 12, found.items, found.questions, noise=0.1)
    command = f"python benchmarks/active_learn_peers.py --episodes {given.episodes} --iterations {given.iterations}"
    lines = [
        "# Learned active learning beside its peers",
        "",
        f"`{command}`, {platform.machine()}, modAL {version('modAL-python')}, torch {version('torch')}, one thread.",
        "",
        "Risk: chance of naming the wrong cut or animal. The learned policy is trained against all instances.",
        f"Risks are over 1000 episodes of each instance ({given.episodes} for modAL); a worst of many is too high.",
    ]
    for title, problem in (
        ("Thresholds: 16 points, 12 answers, flipped with 0.2", cuts),
        ("Zoo: 59 kinds of animals, 12 answers, flipped with 0.1", animals),
    ):
        lines += ["", f"## {title}", "", HEAD]
        policies: list[Policy] = [learned(problem, given.iterations).policy_]
        policies += [SGBS(problem), GBS(problem), InformationGain(problem), Passive(problem)]
        for policy in policies:
            began = time.process_time()
            result = evaluate(policy, n_rollouts=1000, seed=9)
            each = 1000 * (time.process_time() - began) / result.n_rollouts / len(result.per_theta)
            lines.append(row(policy.name, result.per_theta, each))
        if problem is cuts:
            for rule in ("uncertainty", "margin", "entropy"):
                began = time.process_time()
                risks = modal_risks(16, 0.2, 12, given.episodes, rule)
                each = 1000 * (time.process_time() - began) / (given.episodes * len(risks))
                lines.append(row(f"modAL, {rule} sampling", risks, each))
    lines += [
        "",
        "modAL's rules choose for a scikit-learn estimator that is fitted again after each answer (logistic regression "
        "on the point's place). With two classes its three rules rank points alike. 20 Questions is no pool of "
        "labelled rows: modAL has no such game.",
    ]
    write_text(OUTPUT, "\n".join(lines) + "\n")
    print(OUTPUT.read_text())


def row(name: str, risks: np.ndarray, milliseconds: float) -> str:
    """A line of the table."""
    return f"| {name} | {risks.mean():.3f} | {risks.max():.3f} | {milliseconds:.3g} |"


if __name__ == "__main__":
    main()
