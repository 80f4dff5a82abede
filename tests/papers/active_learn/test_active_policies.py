"""Policies: ask and tell, fixed rules against what they say, gradients, saving, evaluation."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from paperworks.errors import InputError
from paperworks.papers.active_learn import (
    GBS,
    LUCB,
    SGBS,
    ActiveProblem,
    GameSettings,
    InformationGain,
    LearnedPolicy,
    Passive,
    Policy,
    RobustActiveLearner,
    SequentialHalving,
    SuccessiveRejects,
    TopTwoThompson,
    XYAllocation,
    evaluate,
    exact_risk,
    fixed_prior_policy,
    worst_case,
)
from paperworks.papers.active_learn.evaluation import exact_risk_tensor
from paperworks.papers.active_learn.interactive import main, play, session_data, write_session
from paperworks.papers.active_learn.learner import constant_guess, new_network
from paperworks.papers.active_learn.studies.examples import two_class_game
from paperworks.papers.active_learn.tasks import fixed_policies
from paperworks.papers.active_learn.training import policy_surrogate, roll_out, theta_surrogate

TINY = GameSettings(draws=4, roll_outs=4, particles=4, refresh=2, chunk=1)


def learned(problem: ActiveProblem, kind: str = "auto", spread: float = 0.3) -> LearnedPolicy:
    """A policy with random weights in every layer."""
    network = new_network(problem, kind, (8,), 0)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return LearnedPolicy(problem, network)


def problems() -> list[ActiveProblem]:
    return [
        ActiveProblem.flipped_thresholds(5, 0.1, 4),
        ActiveProblem.best_arm(4, 9, "bernoulli"),
        ActiveProblem.best_arm(3, 7, "gaussian", "regret"),
        ActiveProblem.thresholds(5, 4, "regret"),
        ActiveProblem.transductive(np.eye(3), [[1, 1, 0], [0, 1, 1], [1, 0, 1]], 6),
    ]


@pytest.mark.parametrize("number", range(5))
def test_every_policy_asks_and_tells_alike(number: int) -> None:
    problem = problems()[number]
    policies: list[Policy] = [*fixed_policies(problem), learned(problem)]
    assert len(policies) >= 3
    for policy in policies:
        transcripts = []
        for _ in range(2):
            session = policy.start(seed=5)
            with pytest.raises(InputError):
                session.tell(1.0)
            while not session.done:
                x = session.ask()
                assert x == session.ask()
                session.tell(1.0 if x % 2 else problem.observation.check(getattr(problem.observation, "low", 0.0)))
            with pytest.raises(InputError):
                session.ask()
            transcripts.append((session.transcript, session.recommend()))
        assert transcripts[0] == transcripts[1]
        assert len(transcripts[0][0]) == problem.horizon
        assert 0 <= transcripts[0][1] < problem.n_outputs


def test_impossible_answers_are_refused() -> None:
    session = GBS(problems()[0]).start()
    session.ask()
    for answer in (0.5, float("nan"), -1):
        with pytest.raises(InputError):
            session.tell(answer)
    real = Passive(problems()[2]).start()
    real.ask()
    with pytest.raises(InputError):
        real.tell(float("inf"))


def test_gbs_is_binary_search_and_sgbs_forgives_one_lie() -> None:
    problem = ActiveProblem.flipped_thresholds(8, 0.0, 3)
    assert exact_risk(GBS(problem)).max() == 0
    session = GBS(problem).start()
    assert session.ask() == 3  # the middle of 7 points
    noisy = ActiveProblem.flipped_thresholds(4, 0.1, 9)
    soft = SGBS(noisy, 0.2).start(1)
    lied = False
    while not soft.done:
        x = soft.ask()
        truth = float(x >= 2)
        soft.tell(truth if lied else 1 - truth)
        lied = True
    assert soft.recommend() == 2


def test_sgbs_multiplies_by_b() -> None:
    problem = ActiveProblem.flipped_thresholds(3, 0.1, 2)
    policy = SGBS(problem, 0.2)
    history = policy.begin(1)
    policy.observe(history, torch.tensor([0]), torch.tensor([1.0]))
    # cut 0 says 1 at point 0; cuts 1 and 2 say 0
    np.testing.assert_allclose(policy.log_weights(history).softmax(1)[0], np.array([0.8, 0.2, 0.2]) / 1.2, rtol=1e-5)


def test_successive_rejects_and_halving_pull_by_their_schedules() -> None:
    problem = ActiveProblem.best_arm(4, 24)
    policy = SuccessiveRejects(problem)
    total = 0.5 + 1 / 2 + 1 / 3 + 1 / 4
    assert [n for n, _ in policy.phases()] == [math.ceil(20 / (total * (5 - k))) for k in (1, 2, 3)]
    assert [left for _, left in policy.phases()] == [3, 2, 1]
    halving = SequentialHalving(problem).phases()
    assert halving == [(3, 2), (9, 1)]
    means = torch.tensor([[0.9, 0.6, 0.3, 0.0]]).repeat(20, 1)
    from paperworks.papers.active_learn.policies import simulate

    exact = ActiveProblem.best_arm(4, 24, sigma=1e-6)
    for kind, counts in ((SequentialHalving, [9, 9, 3, 3]), (SuccessiveRejects, [8, 7, 5, 4])):
        _, z, history = simulate(kind(exact), means, torch.Generator().manual_seed(0))
        assert (z == 0).all()
        assert history.counts.sum(1).eq(24).all()
        assert (history.counts[:, 0] >= history.counts[:, 3]).all()
        assert history.counts[0, 3] == counts[3]


@pytest.mark.parametrize("kind", [SuccessiveRejects, SequentialHalving, TopTwoThompson, LUCB, XYAllocation])
def test_bandit_rules_beat_uniform_pulls(kind: type[Policy]) -> None:
    problem = ActiveProblem.best_arm(5, 60)
    theta = np.array([[0.9, 0.2, 0.1, 0.0, 0.55]])
    ours = evaluate(kind(problem), theta, 1500).mean
    assert ours < evaluate(Passive(problem), theta, 1500).mean


@pytest.mark.parametrize("kind", ["mlp", "deepsets", "gru"])
def test_probabilities_sum_to_one_and_policies_load_to_the_bit(kind: str, tmp_path: Path) -> None:
    problem = ActiveProblem.best_arm(3, 2, "bernoulli")
    policy = learned(problem, kind)
    assert exact_risk(policy, np.array([[0.9, 0.5, 0.1]]))[0] <= 1
    with torch.no_grad():
        everything = exact_risk_tensor(
            policy, problem.instances(np.array([[0.9, 0.5, 0.1], [0.1, 0.9, 0.5], [0.5, 0.1, 0.9]]))
        )
        history = policy.begin(2)
        policy.observe(history, torch.tensor([0, 1]), torch.tensor([1.0, 0.0]))
        for p in (policy.query_probabilities(history), policy.output_probabilities(history)):
            np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
        if kind == "deepsets":  # relabelled arms give relabelled outputs
            np.testing.assert_allclose(everything, everything[0].expand(3), rtol=1e-5)
        policy.save(tmp_path / "policy")
        loaded = LearnedPolicy.load(tmp_path / "policy")
        assert torch.equal(
            exact_risk_tensor(loaded, torch.tensor([[0.9, 0.5, 0.1]])),
            exact_risk_tensor(policy, torch.tensor([[0.9, 0.5, 0.1]])),
        )
    with pytest.raises(InputError):
        policy.save(tmp_path / "policy")
    (tmp_path / "policy/problem.json").write_text("{}")
    with pytest.raises(InputError):
        LearnedPolicy.load(tmp_path / "policy")


def test_score_function_gradients_are_those_of_the_exact_risk() -> None:
    problem, _ = two_class_game(1)
    policy = learned(problem)
    instances = problem.instances()
    parameter = policy.network.query_head.bias
    exact = torch.autograd.grad(exact_risk_tensor(policy, instances).mean(), parameter)[0]
    step, finite = 1e-3, []
    for i in range(2):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[i] += sign * step
                values.append(float(exact_risk_tensor(policy, instances).mean()))
                parameter[i] -= sign * step
        finite.append((values[0] - values[1]) / (2 * step))
    np.testing.assert_allclose(exact, finite, atol=1e-4)
    found = roll_out(policy, instances, 40_000, torch.Generator().manual_seed(0))
    estimate = torch.autograd.grad(policy_surrogate(found), parameter)[0]
    np.testing.assert_allclose(estimate, finite, atol=1e-2)
    assert np.abs(finite).max() > 1e-2


def test_the_gradient_in_theta_is_that_of_the_exact_risk() -> None:
    problem = ActiveProblem.best_arm(2, 2, "bernoulli", "regret")
    policy = learned(problem)
    theta = torch.tensor([[0.7, 0.4]], requires_grad=True)
    exact = torch.autograd.grad(exact_risk_tensor(policy, theta).sum(), theta)[0]
    found = roll_out(policy, theta, 100_000, torch.Generator().manual_seed(0))
    estimate = torch.autograd.grad(theta_surrogate(problem, theta, found), theta)[0]
    np.testing.assert_allclose(estimate, exact, atol=1e-2)


def test_training_improves_resumes_and_saves(tmp_path: Path) -> None:
    problem, members = two_class_game(1)
    options = {"classes": members, "hidden": (8,), "iterations": 30, "robust_iterations": 6, "n_rollouts": 400}
    settings = GameSettings(draws=8, roll_outs=16, policy_rate=1e-2, chunk=10)
    learner = RobustActiveLearner(problem, settings=settings, **options).fit()  # type: ignore[arg-type]
    assert learner.class_values_[0] < 0.2
    again = RobustActiveLearner(problem, settings=settings, **options)  # type: ignore[arg-type]
    (tmp_path / "state").mkdir()
    again.fit(tmp_path / "state")
    again.fit(tmp_path / "state")
    for a, b in zip(learner.policy_.network.parameters(), again.policy_.network.parameters(), strict=True):
        assert torch.equal(a, b)
    learner.save(tmp_path / "saved")
    loaded = RobustActiveLearner.load(tmp_path / "saved")
    assert loaded.class_values_ == learner.class_values_
    assert loaded.history_ == learner.history_
    assert np.array_equal(exact_risk(loaded.class_policies_[1]), exact_risk(learner.class_policies_[1]))


@pytest.mark.parametrize("adversary", ["closed", "gradient"])
def test_particles_of_a_box_stay_in_their_class(adversary: str) -> None:
    from dataclasses import replace

    from paperworks.papers.active_learn.adversary import Particles
    from paperworks.papers.active_learn.classes import complexities, make_classes
    from paperworks.papers.active_learn.training import GameTraining

    problem = ActiveProblem.best_arm(3, 3, "gaussian", "regret")
    classes = make_classes(problem, [20.0, 60.0])
    particles = Particles.of(problem, classes, [0.1, 0.2], 4, torch.Generator().manual_seed(0))
    start = particles.instances.detach().clone()
    np.testing.assert_allclose(particles.excess().detach(), 0, atol=1e-3)
    training = GameTraining(learned(problem, spread=0), particles, replace(TINY, adversary=adversary), 4, 0)
    training.run()
    assert not torch.equal(start, particles.instances)
    values = complexities(problem, particles.instances.detach())
    assert (values <= particles.radii.numpy() * (1 + 1e-3)).all()
    assert float(particles.weights.detach().sum()) == pytest.approx(1)


def test_the_fixed_prior_policy_forgets_what_the_prior_excludes() -> None:
    problem, _ = two_class_game(1)
    settings = GameSettings(draws=16, roll_outs=16, policy_rate=1e-2)
    policy = fixed_prior_policy(problem, [1, 1, 0, 0], hidden=(8,), iterations=40, settings=settings)
    risks = exact_risk(policy)
    assert risks[:2].max() < 0.2
    assert risks[2:].max() > 0.4


def test_the_worst_case_is_found_and_its_interval_holds_it() -> None:
    problem = ActiveProblem.flipped_thresholds(5, 0.2, 3)
    policy = SGBS(problem)
    exact = exact_risk(policy)
    found = worst_case(policy, n_rollouts=20_000)
    assert found.risk.low <= exact.max() <= found.risk.high + 0.01
    assert exact[int(found.instance)] == pytest.approx(exact.max(), abs=0.01)
    whole = evaluate(policy, n_rollouts=4000)
    np.testing.assert_allclose(whole.per_theta, exact, atol=5 * whole.per_theta_stderr.max() + 1e-9)
    assert constant_guess(problem, problem.instances()) == pytest.approx(0.8)
    arms = ActiveProblem.best_arm(3, 4)
    boxed = worst_case(Passive(arms), 40.0, restarts=1, n_rollouts=500, search_rollouts=50)
    assert arms.complexity(boxed.instance.double().numpy())[0] <= 40 * (1 + 1e-3)
    assert boxed.risk.estimate > evaluate(Passive(arms), [[1.0, -1.0, -1.0]], 500).mean


def test_a_person_is_asked_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = ActiveProblem.twenty_questions([[1, 0], [0, 1]], 2, ["cat", "hen"], ["fur?", "wings?"], noise=0.1)
    said: list[str] = []
    answers = iter(["perhaps", "y", "n", "y", "n"])
    policy = InformationGain(problem)
    assert play(policy, 0, lambda prompt: "y" if "fur" in prompt else "n", said.append) == 0
    assert said[-1] == "It is: cat"
    play(policy, 0, lambda _: next(answers), said.append)
    assert any("yes or no" in line for line in said)
    assert play(policy, 0, lambda _: "stop", said.append) is None
    assert main(["--help"]) == 0
    assert main([str(tmp_path / "absent")]) == 2
    assert "problem.json" in capsys.readouterr().err


def test_the_page_computes_what_python_does(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    cases = []
    for problem in (problems()[0], problems()[2], problems()[3], problems()[4]):
        policy = learned(problem)
        low = getattr(problem.observation, "low", -0.3)
        steps = [(0, 1.0), (1, low), (0, low)]
        history = policy.begin(1)
        for x, y in steps:
            policy.observe(history, torch.tensor([x]), torch.tensor([y]))
        with torch.no_grad():
            expected = [
                policy.query_probabilities(history)[0].tolist(),
                policy.output_probabilities(history)[0].tolist(),
            ]
        page = write_session(policy, tmp_path / "session.html").read_text()
        script = page.rpartition('<script>\n"use strict";')[2].partition("</script>")[0]
        data = json.dumps(json.dumps(session_data(policy)))
        code = f"const document = {{ getElementById: () => ({{ textContent: {data} }}) }};{script}"
        code += f"console.log(JSON.stringify([queryProbabilities({steps!r}.map(a => a)), outputProbabilities(S)]))"
        code = code.replace(f"{steps!r}.map(a => a)", "S").replace(
            "const document", f"const S = {json.dumps(steps)}; const document", 1
        )
        (tmp_path / f"{len(cases)}.js").write_text(code)
        cases.append(expected)
    joined = " && ".join(f"{node} {tmp_path}/{i}.js" for i in range(len(cases)))
    out = subprocess.run(["bash", "-c", joined], capture_output=True, text=True, check=True).stdout.splitlines()
    for line, expected in zip(out, cases, strict=True):
        for found, right in zip(json.loads(line), expected, strict=True):
            np.testing.assert_allclose(found, right, atol=1e-5)
