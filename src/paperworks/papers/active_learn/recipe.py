"""Training of a query policy on the user's questions, ratings or arms, and its worst case beside its average."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paperworks import runs
from paperworks.papers.active_learn.config import Config

if TYPE_CHECKING:
    from paperworks.papers.active_learn.learner import RobustActiveLearner
    from paperworks.papers.active_learn.policies import Policy
    from paperworks.papers.active_learn.problem import ActiveProblem
    from paperworks.papers.active_learn.reporting import Played
    from paperworks.papers.active_learn.tasks import Task

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Train the policy against an adversary of each level, and play it beside fixed policies."""
    from paperworks.papers.active_learn.learner import RobustActiveLearner
    from paperworks.papers.active_learn.reporting import make_report
    from paperworks.papers.active_learn.tasks import load_task

    run.step("reading the game")
    task = load_task(config)
    learner = RobustActiveLearner(
        task.problem,
        config.radii or None,
        n_classes=config.classes,
        network=config.network,
        hidden=_hidden(config, task.problem),
        iterations=config.iterations,
        robust_iterations=config.robust_iterations,
        settings=_settings(config),
        n_rollouts=config.test_rollouts,
        seed=config.seed,
        device="cpu" if config.device == "auto" else config.device,
    )
    learner.fit(run.state, run.progress)
    prior = _fixed_prior(config, run, learner)
    played = _play(config, run, task, learner, prior)
    files = _save(run, learner, played)
    return make_report(config, task, learner, played, files)


def _hidden(config: Config, problem: ActiveProblem) -> tuple[int, ...]:
    return config.hidden or ((32,) if problem.symmetric else (96,))


def _settings(config: Config) -> Any:
    from paperworks.papers.active_learn.training import GameSettings

    return GameSettings(
        particles=config.particles,
        draws=config.draws,
        roll_outs=config.roll_outs,
        policy_rate=config.learning_rate,
        guide_rate=min(10 * config.learning_rate, 1.0),
        adversary_entropy=config.adversary_entropy,
    )


def _fixed_prior(config: Config, run: runs.Run, learner: RobustActiveLearner) -> Policy:
    """The same network trained for the mean under a uniform prior: over the easiest class of a box, else over all."""
    import torch

    from paperworks.papers.active_learn.learner import fixed_prior_policy

    problem = learner.problem
    instances = None
    if not problem.finite:
        generator = torch.Generator().manual_seed(config.seed)
        instances = learner.classes_[0].draw(problem, config.particles, generator)
    return fixed_prior_policy(
        problem,
        instances=instances,
        network=config.network,
        hidden=learner.hidden,
        iterations=config.iterations,
        settings=_settings(config),
        seed=config.seed,
        device="cpu" if config.device == "auto" else config.device,
        path=run.state / "fixed-prior.pt",
        progress=run.progress,
    )


def _play(config: Config, run: runs.Run, task: Task, learner: RobustActiveLearner, prior: Policy) -> list[Played]:
    """Every policy against all instances of the hardest class, and against a fresh adversary of each class."""
    import torch

    from paperworks.papers.active_learn.evaluation import evaluate, worst_case
    from paperworks.papers.active_learn.reporting import Played
    from paperworks.papers.active_learn.tasks import fixed_policies

    problem = task.problem
    policies: list[Policy] = [learner.policy_, *fixed_policies(problem), prior]
    generator = torch.Generator().manual_seed(config.seed + 101)
    instances = learner.classes_[-1].draw(problem, 200, generator)
    each = max(50, config.test_rollouts // 10)
    search = each if problem.finite else max(50, each // 3)
    found = []
    for policy in run.progress(policies, "playing against a fresh adversary"):
        mean = evaluate(policy, instances, each, config.seed + 11)
        worst = [
            worst_case(policy, one, 1, config.test_rollouts, config.seed + 13 + 17 * k, search, run.progress)
            for k, one in enumerate(learner.classes_)
        ]
        found.append(Played(policy.name, mean, worst, instances))
    return found


def _save(run: runs.Run, learner: RobustActiveLearner, played: list[Played]) -> list[runs.ReportFile]:
    from paperworks.papers.active_learn.interactive import write_session
    from paperworks.papers.active_learn.reporting import risks_csv
    from paperworks.runs.files import write_text

    learner.save(run.output("policies"))
    files = [
        runs.ReportFile(
            "policies",
            "the robust policy (folder policy), the policy of each class, and learner.json; "
            "python -m paperworks.papers.active_learn FOLDER/policy asks in the terminal",
        )
    ]
    write_text(run.files / "risks.csv", risks_csv(learner.problem, played))
    files.append(runs.ReportFile("risks.csv", "risk of every policy on every instance"))
    if learner.policy_.network.kind != "gru":
        write_session(learner.policy_, run.files / "session.html")
        files.append(
            runs.ReportFile("session.html", "the policy as a page that asks: it needs a browser and nothing else")
        )
    return files
