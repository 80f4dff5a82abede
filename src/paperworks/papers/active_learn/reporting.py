"""The report: worst case beside average, risk by class, the hardest instances."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np
import torch

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.active_learn import figures
from paperworks.papers.active_learn.config import Config
from paperworks.papers.active_learn.evaluation import Evaluation, WorstCase
from paperworks.papers.active_learn.games import Solution, solve_game
from paperworks.papers.active_learn.learner import RobustActiveLearner, constant_guess
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.tasks import Task

SOLVED = 2000
"""States of a game that the report solves exactly; more take minutes."""
SHOWN = 10
"""Instances in the table of the hardest."""


@dataclass(frozen=True)
class Played:
    """How a policy did: on all instances of the hardest class, and in the worst case of each class."""

    name: str
    evaluation: Evaluation
    worst: list[WorstCase]
    instances: torch.Tensor


def make_report(
    config: Config, task: Task, learner: RobustActiveLearner, played: list[Played], files: list[runs.ReportFile]
) -> runs.Report:
    """Headline, tables and figures of a run."""
    exact = _exact(learner)
    guess = constant_guess(task.problem, played[0].instances)
    return runs.Report(
        headline=_headline(task, played),
        lead=[*task.lead, *learner.notes_, *_short_training(config)],
        metrics=_metrics(learner, played, exact),
        labels=_labels(task, played),
        tables=[
            _policies(task, played, exact, guess),
            _classes(learner, played),
            _hardest(task, played),
        ],
        figures=_figures(task, learner, played),
        files=files,
        notes=[
            "The worst case is found by an adversary that took no part in the training, and measured with episodes "
            "that took no part in its search. It is a lower bound: a stronger search may find worse.",
            f"The learned policy draws its queries and its {task.output} at random, as minimax policies must: always "
            "taking the most likely one could be exploited.",
        ],
    )


def _headline(task: Task, played: list[Played]) -> str:
    ours, rivals = played[0], played[1:]
    best = min(rivals, key=lambda p: p.worst[-1].risk.estimate)
    share = task.risk.startswith("chance")

    def text(value: float) -> str:
        return f"{100 * value:.1f} %" if share else f"{value:.3g}"

    return (
        f"{task.name}, {task.problem.horizon} queries, {task.risk}: worst case {text(ours.worst[-1].risk.estimate)} "
        f"and mean {text(ours.evaluation.mean)} for the learned policy; {text(best.worst[-1].risk.estimate)} and "
        f"{text(best.evaluation.mean)} for {best.name}, the best of the others in the worst case"
    )


def _short_training(config: Config) -> list[str]:
    if config.iterations >= 1000:
        return []
    return [
        f"The policy was trained for {config.iterations} steps a level and {config.robust_iterations} against all. "
        "More steps (--iterations 3000 --robust-iterations 6000 --hidden 256,256,256) lower its worst case."
    ]


def _exact(learner: RobustActiveLearner) -> Solution | None:
    """The optimal robust policy where the game is small enough for the linear programme."""
    if any(one.members is None for one in learner.classes_):
        return None
    try:
        values = [solve_game(learner.problem, [one], most_states=SOLVED).value for one in learner.classes_]
        return solve_game(learner.problem, learner.classes_, values, most_states=SOLVED)
    except InputError:
        return None


def _metrics(learner: RobustActiveLearner, played: list[Played], exact: Solution | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in played:
        found[f"mean risk, {one.name}"] = one.evaluation.mean
        found[f"worst risk, {one.name}"] = one.worst[-1].risk.estimate
    gaps = [w.risk.estimate - v for w, v in zip(played[0].worst, learner.offsets, strict=True)]
    found["largest gap to a class-optimal policy"] = max(gaps)
    for k, (value, stderr) in enumerate(zip(learner.class_values_, learner.class_stderrs_, strict=True), 1):
        found[f"class-optimal risk, class {k}"] = value
        found[f"class-optimal risk, standard error, class {k}"] = stderr
    if exact is not None:
        found["optimal largest gap"] = exact.value
    return found


def _labels(task: Task, played: list[Played]) -> dict[str, str]:
    rivals = [p for p in played[1:] if p.name != "fixed prior"]
    best = min(rivals, key=lambda p: p.worst[-1].risk.estimate)
    return {
        "worst risk, learned": f"worst {task.risk}, learned",
        f"worst risk, {best.name}": f"the same, {best.name}",
        "mean risk, learned": "mean, learned",
        f"mean risk, {best.name}": f"mean, {best.name}",
        "largest gap to a class-optimal policy": "largest gap to the best policy of a level",
    }


def _policies(task: Task, played: list[Played], exact: Solution | None, guess: float) -> runs.Table:
    rows: list[list[runs.report.Cell]] = []
    for one in played:
        worst = one.worst[-1]
        rows.append(
            [
                one.name,
                one.evaluation.mean,
                worst.risk.estimate,
                f"{worst.risk.low:.4f} to {worst.risk.high:.4f}",
                instance_name(task.problem, worst.instance),
            ]
        )
    if exact is not None:
        rows.append(["optimal (linear programme)", float(exact.risks.mean()), float(exact.risks.max()), "exact", None])
    rows.append(["a guess without queries", None, guess, "best constant", None])
    return runs.Table(
        "Policies: mean and worst case",
        ["policy", "mean risk", "worst risk", "95 % interval", "where"],
        rows,
        f"Risk: {task.risk}. Worst: over the hardest class, by a fresh adversary.",
    )


def _classes(learner: RobustActiveLearner, played: list[Played]) -> runs.Table:
    names = [one.name for one in played]
    rows: list[list[runs.report.Cell]] = []
    for k, one in enumerate(learner.classes_):
        risks = [p.worst[k].risk.estimate for p in played]
        size = None if one.members is None else len(one.members)
        rows.append([one.name, size, learner.class_values_[k], risks[0] - learner.offsets[k], *risks])
    return runs.Table(
        "Worst risk by class of difficulty",
        ["class", "instances", "l* (best found)", "gap of learned", *names],
        rows,
        "l*: worst risk of the policy trained for that class alone, by a fresh adversary. The robust policy minimises "
        "the largest gap. A gap below 0 says that the class's own policy was trained too short.",
    )


def _hardest(task: Task, played: list[Played]) -> runs.Table:
    risks = [p.evaluation.per_theta for p in played]
    order = np.argsort(-risks[0], kind="stable")[:SHOWN]
    return runs.Table(
        f"Hardest {'instances' if not task.problem.finite else task.output + 's'} for the learned policy",
        [task.output if task.problem.finite else "theta", *(p.name for p in played)],
        [[instance_name(task.problem, played[0].instances[i]), *(float(r[i]) for r in risks)] for i in order.tolist()],
        f"{played[0].evaluation.n_rollouts} episodes of each.",
    )


def _figures(task: Task, learner: RobustActiveLearner, played: list[Played]) -> list[runs.Figure]:
    unit = "risk"
    return [
        runs.Figure(
            "Risk by class of difficulty",
            figures.draw_classes(
                [one.name for one in learner.classes_],
                learner.offsets,
                {p.name: [w.risk.estimate for w in p.worst] for p in played},
                unit,
            ),
            f"Worst {task.risk} in each class, by a fresh adversary. Classes are nested.",
        ),
        runs.Figure(
            "Risk of all instances",
            figures.draw_instances(
                {p.name: p.evaluation.per_theta for p in played},
                unit,
                task.output if task.problem.finite else "instance",
            ),
            "Each curve is sorted by itself. A policy with a low mean may have a high right end.",
        ),
        runs.Figure(
            "Training",
            figures.draw_training(learner.history_, unit),
            "Risk of the instances that the adversary chose. It falls as the policy learns, and rises where the "
            "adversary finds worse.",
        ),
    ]


def instance_name(problem: ActiveProblem, instance: torch.Tensor) -> str:
    """An item's name, or theta's numbers."""
    if problem.finite:
        number = int(instance)
        if problem.loss == "matrix" and len(problem.thetas) == problem.n_outputs:
            return problem.output_names[number]
        return f"theta {number + 1}"
    shown = ", ".join(f"{v:.2f}" for v in instance.tolist()[:8])
    return f"({shown}{', ...' if len(instance) > 8 else ''})"


def risks_csv(problem: ActiveProblem, played: list[Played]) -> str:
    """A row for each instance, a column for each policy."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["instance", *(p.name for p in played)])
    for i, instance in enumerate(played[0].instances):
        writer.writerow(
            [instance_name(problem, instance), *(f"{float(p.evaluation.per_theta[i]):.6g}" for p in played)]
        )
    return out.getvalue()
