"""The complexity, exact games, and what a problem refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from paperworks.errors import InputError
from paperworks.papers.active_learn import (
    ActiveProblem,
    Box,
    QueryWarning,
    class_values,
    complexity,
    complexity_gradient,
    evaluate,
    exact_risk,
    make_classes,
    sample_class,
    solve_game,
)
from paperworks.papers.active_learn.barrier import barrier_design
from paperworks.papers.active_learn.classes import complexities
from paperworks.papers.active_learn.designs import linear_complexities
from paperworks.papers.active_learn.studies.examples import (
    THRESHOLDS,
    deviation_interval,
    listed,
    three_arms,
    two_class_game,
)


@pytest.mark.parametrize(("k", "gap", "value"), [(2, 0.5, 16), (5, 0.5, 36), (10, 1.0, 16)])
def test_arms_with_equal_gaps_by_two_methods(k: int, gap: float, value: float) -> None:
    theta = np.full(k, -0.3)
    theta[k // 2] += gap
    found, design = complexity(ActiveProblem.best_arm(k), theta)
    assert found == pytest.approx(value, rel=1e-6)
    assert design.sum() == pytest.approx(1)
    directions = np.delete(np.eye(k)[k // 2] - np.eye(k), k // 2, 0) / gap
    assert barrier_design(np.eye(k), directions)[0] == pytest.approx(value, rel=1e-8)
    # the value does not depend on the units of the features, however unlike they are
    basis = np.diag(10.0 ** np.linspace(-3, 3, k)) @ np.linalg.qr(np.arange(k * k).reshape(k, k) % 7 + np.eye(k))[0]
    assert barrier_design(basis, directions @ basis)[0] == pytest.approx(value, rel=1e-6)


def test_thresholds_have_the_known_complexity_and_design() -> None:
    found, design = complexity(ActiveProblem.thresholds(4), [-0.5, -0.5, 0.5, 0.5])
    assert found == pytest.approx(32 / 3, abs=1e-6)
    np.testing.assert_allclose(design, [1 / 8, 3 / 8, 3 / 8, 1 / 8], atol=1e-5)
    assert complexity(ActiveProblem.thresholds(8), np.repeat([-0.5, 0.5], 4))[0] == pytest.approx(13.4095, abs=1e-4)


def test_unequal_arms_are_between_h_and_2h_and_do_not_depend_on_their_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        theta = rng.uniform(-1, 1, size=int(rng.integers(2, 8)))
        problem = ActiveProblem.best_arm(len(theta))
        gaps = np.sort(theta.max() - theta)[1:]
        h = (gaps**-2.0).sum() + gaps[0] ** -2.0
        value = complexity(problem, theta)[0]
        assert h * (1 - 1e-9) <= value <= 2 * h * (1 + 1e-9)
        assert complexity(problem, rng.permutation(theta))[0] == pytest.approx(value, rel=1e-9)


def test_a_linear_model_agrees_with_another_solver_scales_and_has_the_right_gradient() -> None:
    rng = np.random.default_rng(1)
    problem = ActiveProblem.transductive(rng.normal(size=(5, 3)), rng.normal(size=(4, 3)))
    theta = rng.uniform(-0.5, 0.5, size=3)
    x, z = problem.queries.double().numpy(), problem.outputs.double().numpy()  # type: ignore[union-attr]
    best = int((z @ theta).argmax())
    v = np.delete(z[best] - z, best, 0)
    v /= (v @ theta)[:, None]

    def worst(logits: np.ndarray) -> float:
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        return float(((v @ np.linalg.inv((x * weights[:, None]).T @ x)) * v).sum(1).max())

    tries = [minimize(worst, rng.normal(size=5), method="Nelder-Mead", options={"maxiter": 4000}).fun for _ in range(3)]
    value = complexity(problem, theta)[0]
    assert value <= min(tries) * (1 + 1e-7)
    assert value == pytest.approx(min(tries), rel=1e-3)
    assert complexity(problem, theta / 3)[0] == pytest.approx(9 * value, rel=1e-7)
    step = 1e-5 * np.eye(3)
    differences = [(complexity(problem, theta + e)[0] - complexity(problem, theta - e)[0]) / 2e-5 for e in step]
    np.testing.assert_allclose(complexity_gradient(problem, theta), differences, rtol=1e-4)


def test_designs_of_many_thetas_at_once_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(4)
    problem = ActiveProblem.transductive(rng.normal(size=(6, 3)), rng.normal(size=(5, 3)))
    thetas = rng.uniform(-1, 1, size=(12, 3)) * rng.choice([0.05, 1.0], size=(12, 1))  # easy and hard ones together
    thetas[5] = 0.0  # all outputs tie
    found = linear_complexities(problem, thetas)
    for design, theta in zip(found, thetas, strict=True):
        value, weights = complexity(problem, theta)
        assert design.value == pytest.approx(value, rel=1e-9)
        np.testing.assert_allclose(design.weights, weights, atol=1e-7)
    assert [i for i, design in enumerate(found) if np.isinf(design.value)] == [5]
    assert linear_complexities(problem, thetas[:0]) == []


def _game_of_losses(losses: list[list[float]]) -> ActiveProblem:
    yes = np.array([[0.9, 0.2], [0.1, 0.8], [0.5, 0.4]])
    return ActiveProblem(np.eye(2), len(losses[0]), "bernoulli", np.array(losses), 3, yes)


def test_an_instance_whose_best_output_is_always_right_has_complexity_0() -> None:
    problem = _game_of_losses([[0, 1], [0, 0], [1, 0]])
    assert complexities(problem, problem.instances())[1] == 0
    easy, *_, hard = make_classes(problem)
    assert (easy.radius, easy.name, easy.members.tolist()) == (0, "C <= 0", [1])
    assert hard.members.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"radii: found .* above 0"):
        make_classes(problem, [-1.0, 5.0])
    with pytest.raises(InputError, match=r"radii: found .* above 0"):
        make_classes(ActiveProblem.best_arm(2, 3), [0.0, 5.0])


def test_a_set_with_nothing_to_tell_apart_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="theta_set: found one output that is right for all"):
        make_classes(_game_of_losses([[0, 1], [0, 1], [0, 1]]))


def test_classes_whose_radii_are_close_have_names_of_their_own() -> None:
    problem = ActiveProblem.best_arm(3)
    names = [one.name for one in make_classes(problem, [20.0, 1144.1, 1144.4])]
    assert names == ["C <= 20", "C <= 1144.1", "C <= 1144.4"]


@pytest.mark.parametrize("sigma", [1.0, 0.1, 0.01, 1e-4])
def test_the_hardest_class_of_a_finite_set_has_all_members_however_small_the_noise(sigma: float) -> None:
    thetas = np.random.default_rng(0).normal(size=(6, 3))
    classes = make_classes(ActiveProblem.best_arm(3, 5, theta_set=thetas, sigma=sigma))
    assert [len(one.members) for one in classes] == [2, 3, 4, 5, 6]


def test_a_symmetric_game_of_scaled_arms_has_the_complexity_of_its_queries() -> None:
    theta = np.array([0.8, 0.3, 0.1])
    scaled = [ActiveProblem(2 * np.eye(3), np.eye(3), symmetric=symmetric) for symmetric in (False, True)]
    plain = complexity(ActiveProblem.best_arm(3), theta)[0]
    assert [complexity(one, theta)[0] for one in scaled] == pytest.approx([plain / 4] * 2, rel=1e-7)


def test_ties_are_infinite_and_never_nan() -> None:
    problem = ActiveProblem.best_arm(3)
    value, design = complexity(problem, [0.5, 0.5, 0.1])
    assert value == np.inf
    assert design.sum() == pytest.approx(1)
    with pytest.raises(InputError):
        complexity_gradient(problem, [0.5, 0.5, 0.1])


def test_a_finite_set_is_a_linear_programme() -> None:
    """Two items, one question that differs: 1 / KL, whatever the other questions."""
    p = np.array([[0.9, 0.5], [0.2, 0.5]])
    with pytest.warns(QueryWarning, match="same for all"):
        problem = ActiveProblem.twenty_questions(p, 3, questions=["a", "b"])
    assert problem.query_names == ("a",)
    kl = 0.9 * np.log(0.9 / 0.2) + 0.1 * np.log(0.1 / 0.8)
    assert complexity(problem, 0)[0] == pytest.approx(1 / kl, rel=1e-6)
    assert complexity(problem, [0.9, 0.5])[0] == complexity(problem, 0)[0]


def test_bernoulli_complexity_by_its_definition() -> None:
    """Two arms: by the definition, against a grid over designs and the common mean of the nearest alternative."""
    problem = ActiveProblem.best_arm(2, observation="bernoulli")
    a, b = 0.7, 0.4
    grid = np.linspace(b, a, 2001)[1:-1]

    def kl(p: float, q: np.ndarray) -> np.ndarray:
        return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))

    best = max((w * kl(a, grid) + (1 - w) * kl(b, grid)).min() for w in np.linspace(0.3, 0.7, 401))
    assert complexity(problem, [a, b], form="kl")[0] == pytest.approx(1 / best, rel=1e-4)


@pytest.mark.parametrize(("n", "flip", "horizon", "value"), THRESHOLDS)
def test_games_of_thresholds_have_the_known_values(n: int, flip: float, horizon: int, value: float) -> None:
    found = solve_game(ActiveProblem.flipped_thresholds(n, flip, horizon))
    assert found.value == pytest.approx(value, abs=1e-6)
    if horizon <= 2:
        assert solve_game(ActiveProblem.flipped_thresholds(n, flip, horizon), form="histories").value == pytest.approx(
            value, abs=1e-6
        )
        assert exact_risk(found.policy).max() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("horizon", "best", "minimax", "gap"), [(1, (0.1, 0.3), 0.366667, 0.133333), (3, (0.028, 0.216), 0.3, 0.146667)]
)
def test_the_two_class_game(horizon: int, best: tuple[float, float], minimax: float, gap: float) -> None:
    problem, members = two_class_game(horizon)
    classes = listed(problem, members)
    values = class_values(problem, classes)
    np.testing.assert_allclose(values, best, atol=1e-6)
    assert solve_game(problem, classes).value == pytest.approx(minimax, abs=1e-6)
    robust = solve_game(problem, classes, values)
    assert robust.value == pytest.approx(gap, abs=1e-6)
    if horizon == 1:
        np.testing.assert_allclose(robust.risks, [7 / 30, 7 / 30, 13 / 30, 13 / 30], atol=1e-6)
        assert float(robust.policy.query_probabilities(robust.policy.begin(1))[0, 0]) == pytest.approx(2 / 3, abs=1e-6)
    assert evaluate(robust.policy, n_rollouts=4000).per_theta == pytest.approx(robust.risks, abs=0.04)


def test_three_arms_have_one_policy_for_both_classes() -> None:
    problem, members = three_arms(3)
    classes = listed(problem, members)
    values = class_values(problem, classes)
    np.testing.assert_allclose(values, [0.136, 0.489], atol=1e-6)
    assert solve_game(problem, classes, values).value == pytest.approx(0, abs=1e-6)


def test_classes_are_nested_closed_under_permutation_and_within_their_radius() -> None:
    problem = ActiveProblem.best_arm(3)
    drawn = problem.sample_class(30.0, 20, seed=3)
    values = np.array([complexity(problem, t)[0] for t in drawn.double().numpy()])
    assert (values <= 30 * (1 + 1e-3)).all()
    assert (values > 29).sum() >= 5
    for order in itertools.permutations(range(3)):
        assert complexity(problem, drawn[0, list(order)].double().numpy())[0] == pytest.approx(values[0], rel=1e-5)
    finite = ActiveProblem.flipped_thresholds(5, 0.1, 3)
    easy, hard = make_classes(finite, count=3)
    assert set(easy.members.tolist()) <= set(hard.members.tolist()) == set(range(5))  # type: ignore[union-attr]
    assert torch.equal(
        sample_class(problem, 30.0, 4, torch.Generator().manual_seed(3)), problem.sample_class(30.0, 4, 3)
    )


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ActiveProblem(np.eye(2), np.zeros((0, 2))), "outputs"),
        (lambda: ActiveProblem(np.eye(2), [[1, 0], [1, 0]]), "outputs"),
        (lambda: ActiveProblem(np.eye(2), np.eye(2), horizon=0), "horizon"),
        (lambda: ActiveProblem([[1.0, 0.0]], np.eye(2)), "queries"),
        (lambda: ActiveProblem(np.zeros((2, 2)), np.eye(2)), "queries"),
        (lambda: ActiveProblem(np.eye(2), np.eye(2), theta_set=[[np.nan, 1]]), "theta_set"),
        (lambda: ActiveProblem(np.eye(2), np.eye(2), "bernoulli", theta_set=[[3.0, -2.0], [0.0, 1.0]]), "theta_set"),
        (lambda: ActiveProblem(np.eye(2), 2), "outputs"),
        (lambda: ActiveProblem(np.eye(2), np.eye(2), "poisson"), "observation"),  # type: ignore[arg-type]
        (lambda: ActiveProblem(np.eye(2), np.eye(2), sigma=0), "sigma"),
        (lambda: ActiveProblem(np.eye(2), np.eye(2), loss=np.eye(2), theta_set=np.ones((3, 2))), "loss"),
        (lambda: ActiveProblem(np.eye(2), np.eye(2), theta_set=Box(1, -1)), "theta_set"),
        (lambda: ActiveProblem.twenty_questions([[2.0, -1.0], [0.0, 1.0]]), "p_yes"),
        (lambda: ActiveProblem.twenty_questions([[0.5, 0.5], [0.5, 0.5]]), "p_yes"),
        (lambda: ActiveProblem.archetypes(np.ones((4, 3)), 2), "archetypes"),
        (lambda: ActiveProblem.archetypes(np.array([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan]]), 2), "ratings"),
        (lambda: ActiveProblem.best_arm(1), "arms"),
    ],
)
def test_games_that_are_none_are_refused(make: object, field: str) -> None:
    with pytest.raises(InputError) as refused:
        make()  # type: ignore[operator]
    assert refused.value.field == field
    assert isinstance(refused.value, ValueError)


def test_equal_items_become_one_with_a_warning() -> None:
    with pytest.warns(QueryWarning, match="count as one"):
        problem = ActiveProblem.twenty_questions([[1, 0], [1, 0], [0, 1]], 2, ["cat", "dog", "hen"])
    assert problem.output_names == ("cat / dog", "hen")


def test_a_law_that_is_a_function() -> None:
    problem = ActiveProblem(
        np.eye(2), np.eye(2), lambda theta: torch.sigmoid(4 * theta), "error", 2, theta_set=[[0.5, 0.0], [0.0, 0.5]]
    )
    assert problem.means(problem.instances())[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert solve_game(problem).value < 0.3


def test_interval_of_a_deviation() -> None:
    """Beside the table of chi-square: 0.0506 and 7.378 are its quantiles for two degrees of freedom."""
    found = deviation_interval([1.0, 2.0, 3.0])
    assert found.estimate == pytest.approx(1.0)
    assert (found.low, found.high) == (pytest.approx(np.sqrt(2 / 7.378), rel=1e-3), pytest.approx(6.285, rel=1e-3))


def test_design_of_arms_on_a_line() -> None:
    """The longest query tells the most; a second column that is the first one but for rounding changes little."""
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(30, 1))
    directions = rng.normal(size=(29, 1)) * queries[:1]
    value, weights, multipliers, ratios = barrier_design(queries, directions)
    assert value == pytest.approx(float((directions**2).max() / (queries**2).max()), rel=1e-12)
    assert weights.tolist() == np.eye(30)[np.abs(queries).argmax()].tolist()
    assert (multipliers.sum(), ratios.max()) == (1.0, value)
    doubled = np.repeat(queries, 2, axis=1).astype(np.float32)
    doubled[:, 1] = np.nextafter(doubled[:, 1], 2 * doubled[:, 1])
    both = (ActiveProblem.transductive(rows, rows) for rows in (doubled, queries))
    first, second = (complexity(problem, theta)[0] for problem, theta in zip(both, ([0.4, 0.4], [0.8]), strict=True))
    assert first == pytest.approx(second, rel=1e-5)
