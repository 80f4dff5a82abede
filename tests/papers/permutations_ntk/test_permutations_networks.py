"""Trained networks: gradients against autograd, closed forms at finite width, theory, and the estimator's promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk import (
    NTKMLP,
    NTKRegressor,
    PermutationEnsemble,
    all_inputs,
    apply_permutation,
    ntk_kernel,
    permutation_moments,
    trained_moments,
)
from paperworks.papers.permutations_ntk.diagnostics import compare_with_theory
from paperworks.papers.permutations_ntk.kernels import unit_rows
from paperworks.papers.permutations_ntk.networks import Descent, Members, NetworkSpec, draw_members
from paperworks.papers.permutations_ntk.theory import GradientDescent

SPECS = [
    NetworkSpec(4, 4, 32),
    NetworkSpec(4, 4, 32, sigma_w=1.4),
    NetworkSpec(4, 4, 32, "standard"),
    NetworkSpec(4, 4, 32, "standard", bias=True),
    NetworkSpec(4, 4, 32, trained_layers="last"),
    NetworkSpec(4, 4, 32, "standard", bias=True, trained_layers="last"),
]


def _double(spec: NetworkSpec, count: int = 3) -> Members:
    members = draw_members(spec, 7, range(count), torch.float64)
    if members.hidden_bias is not None:
        members.hidden_bias.normal_(generator=torch.Generator().manual_seed(0))
    return members


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_descent_is_that_of_autograd(spec: NetworkSpec) -> None:
    members = _double(spec)
    modules = [NTKMLP.of_member(members, i).double() for i in range(3)]
    for i, module in enumerate(modules):  # of_member copies through float32 parameters
        with torch.no_grad():
            module.hidden.copy_(members.hidden[i].T)
            module.output.copy_(members.output[i])
            if spec.bias:
                module.hidden_bias.copy_(members.hidden_bias[i, 0])
    rows = torch.tensor(unit_rows(np.random.default_rng(0).standard_normal((6, 4))))
    targets = torch.tensor(np.random.default_rng(1).standard_normal((6, 4)))
    members.descend(rows, targets, 0.02, 5)
    for i, module in enumerate(modules):
        moving = [module.output, module.output_bias] if spec.trained_layers == "last" else list(module.parameters())
        optimiser = torch.optim.SGD([p for p in moving if p is not None], lr=0.02)
        for _ in range(5):
            optimiser.zero_grad()
            (module(rows) - targets).square().sum().div(2).backward()
            optimiser.step()
        with torch.no_grad():
            torch.testing.assert_close(members.outputs(rows)[i], module(rows))
            torch.testing.assert_close(members.hidden[i].T, module.hidden.data)


def test_last_layer_training_at_finite_width_is_a_pseudoinverse() -> None:
    """Only the last layer moves: least squares, whose limit is known for the very features that were drawn."""
    spec = NetworkSpec(4, 4, 64, trained_layers="last")
    members = _double(spec, 1)
    rows, targets = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[[2, 0, 3, 1]]
    features = torch.relu(members.hidden[0] / 2).T.T / 8  # c1 = 1/2, c2 = 1/8
    start = members.output[0].clone()
    exact = start + (targets - features @ start.T).T @ torch.linalg.pinv(features).T
    eigenvalue = float(torch.linalg.eigvalsh(features @ features.T)[-1])
    members.descend(rows, targets, 1 / eigenvalue, 4000)
    torch.testing.assert_close(members.output[0], exact, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("spec", SPECS[:4] + SPECS[5:], ids=str)
def test_tangent_kernel_is_the_expected_product_of_gradients(spec: NetworkSpec) -> None:
    rows = unit_rows(np.array([[1.0, 0, 0, 0], [0.3, -1, 0.2, 0], [1, 1, 0, 0]]))
    wide = NetworkSpec(4, 4, 20_000, spec.parametrization, spec.bias, spec.sigma_w, spec.trained_layers)
    module = NTKMLP.of_member(draw_members(wide, 1, range(1)), 0).double()
    gradients = []
    for row in torch.tensor(rows):
        names = {"output", "output_bias"} if spec.trained_layers == "last" else set(dict(module.named_parameters()))
        moving = [p for n, p in module.named_parameters() if n in names]
        found = torch.autograd.grad(module(row)[0], moving)
        gradients.append(torch.cat([g.flatten() for g in found]))
    stacked = torch.stack(gradients)
    measured = (stacked @ stacked.T).numpy()
    expected = wide.tangent_kernel(rows)
    np.testing.assert_allclose(measured, expected, atol=0.04 * expected.max())
    if spec == SPECS[0]:
        np.testing.assert_allclose(expected, ntk_kernel(rows))


@pytest.mark.parametrize(
    ("parametrization", "layers", "kernel"),
    [("ntk", "all", "ntk"), ("standard", "all", "nngp"), ("ntk", "last", "nngp")],
)
def test_trained_networks_have_the_moments_of_theory(parametrization: str, layers: str, kernel: str) -> None:
    count, rows, permutation = 120, all_inputs(4), [2, 0, 3, 1]
    ensemble = PermutationEnsemble(
        count, width=2048, parametrization=parametrization, trained_layers=layers, keep="probe", random_state=1
    ).fit(permutation, probe=rows)
    z = {}
    for name in ("ntk", "nngp"):
        found = compare_with_theory(
            permutation, rows, ensemble.probe_mean_, count, variance=ensemble.probe_variance_, kernel=name
        )
        z[name] = max(abs(v) for a in found for v in (a.one_z, a.zero_z) if v is not None and a.ones > 1)
        if name == kernel:
            for a in found[1:]:
                assert a.variance == pytest.approx(a.variance_theory, rel=0.25)
    assert z[kernel] < 4.5
    assert z["ntk" if kernel == "nngp" else "nngp"] > 6
    mean, std = ensemble.predict_moments(rows)
    m = permutation_moments(4, [3], kernel=kernel)
    assert mean[rows.sum(axis=1) == 3].max() == pytest.approx(float(m.one_mean[0]))
    assert std[rows.sum(axis=1) == 3].max() == pytest.approx(float(m.std[0]))


def test_stopped_training_has_the_moments_of_its_steps() -> None:
    rows, permutation = all_inputs(4), [1, 2, 3, 0]
    for parametrization, sigma in (("ntk", 1.2), ("standard", 0.9)):
        ensemble = PermutationEnsemble(
            60, width=2048, parametrization=parametrization, sigma_w=sigma, steps=3, keep="probe"
        ).fit(permutation, probe=rows)
        mean, std = ensemble.predict_moments(rows)
        z = (ensemble.probe_mean_ - mean) / (std / np.sqrt(60))
        assert np.abs(z).max() < 4.5
        assert (ensemble.probe_variance_ / std**2).mean() == pytest.approx(1, abs=0.2)
        converged = permutation_moments(4, [2], sigma_w=sigma)
        assert abs(mean[(rows.sum(axis=1) == 2)].max() - float(converged.one_mean[0])) > 0.02


def test_an_ensemble_learns_every_input_exactly() -> None:
    permutation = [2, 0, 1]
    ensemble = PermutationEnsemble("auto", width=1024, delta=0.05).fit(permutation)
    rows = all_inputs(3)
    assert ensemble.score(rows, apply_permutation(permutation, rows)) == 1.0
    single = [PermutationEnsemble(1, width=1024, random_state=s).fit(permutation) for s in range(8)]
    assert min(one.score(rows, apply_permutation(permutation, rows)) for one in single) < 1.0
    assert ensemble.score(np.eye(3), apply_permutation(permutation, np.eye(3))) == 1.0


def test_members_do_not_depend_on_how_they_were_stacked() -> None:
    rows = all_inputs(3)
    whole = PermutationEnsemble(7, width=128, random_state=5).fit([1, 2, 0], probe=rows)
    grown = PermutationEnsemble(2, width=128, random_state=5).fit([1, 2, 0], probe=rows).extend(1).extend(4)
    np.testing.assert_allclose(whole.decision_function(rows), grown.decision_function(rows), atol=1e-6)
    assert grown.members_ == [(0, 7)]
    left = PermutationEnsemble(3, width=128, random_state=5).fit([1, 2, 0], probe=rows)
    right = PermutationEnsemble(4, width=128, random_state=5, first_member=3).fit([1, 2, 0], probe=rows)
    merged = left.merge(right)
    np.testing.assert_allclose(whole.decision_function(rows), merged.decision_function(rows), atol=1e-6)
    np.testing.assert_allclose(whole.probe_variance_, merged.probe_variance_, atol=1e-6)
    np.testing.assert_allclose(whole.probe_mean_, whole.decision_function(rows), atol=1e-6)
    with pytest.raises(InputError, match="networks 3 to 6 in both"):
        merged.merge(right)
    other = PermutationEnsemble(1, width=64, random_state=5, first_member=9).fit([1, 2, 0], probe=rows)
    with pytest.raises(InputError, match="width"):
        merged.merge(other)


def test_no_global_random_state_is_touched() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    np.random.seed(3)
    legacy = np.random.get_state()[1].copy()
    PermutationEnsemble(2, width=16).fit([1, 0])
    assert torch.equal(before, torch.random.get_rng_state())
    assert (legacy == np.random.get_state()[1]).all()


@pytest.mark.parametrize("keep", ["weights", "probe"])
def test_save_and_load(tmp_path: Path, keep: str) -> None:
    rows = all_inputs(3)
    ensemble = PermutationEnsemble(5, width=64, keep=keep, parametrization="standard", bias=True)
    ensemble.fit([1, 2, 0], probe=rows)
    path = ensemble.save(tmp_path / "e.safetensors")
    again = PermutationEnsemble.load(path)
    np.testing.assert_array_equal(again.decision_function(rows), ensemble.decision_function(rows))
    assert again.get_params() == ensemble.get_params()
    np.testing.assert_allclose(
        again.extend(3).decision_function(rows), ensemble.extend(3).decision_function(rows), atol=1e-6
    )
    with pytest.raises(InputError, match="nothing is overwritten"):
        ensemble.save(path)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-20])
    for bad in (cut, tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="that PermutationEnsemble"):
            PermutationEnsemble.load(bad)
    if keep == "probe":
        small = PermutationEnsemble(2, width=8, keep="probe").fit([1, 0], probe=[[1, 1]])
        with pytest.raises(InputError, match="X, row 1: found a row that was not probed"):
            small.predict([[1, 1], [0, 1]])


def test_general_training_rows_are_interpolated_and_follow_dense_theory() -> None:
    rows = all_inputs(4)
    train = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
    targets = apply_permutation([3, 1, 0, 2], train)
    ensemble = PermutationEnsemble(80, width=2048, general=True).fit(train, targets, probe=rows)
    assert ensemble.score(train, targets) == 1.0
    mean, std = ensemble.predict_moments(rows)
    dense, _ = trained_moments(unit_rows(train), targets, unit_rows(rows))
    np.testing.assert_allclose(mean, dense)
    unseen = std[:, 0] > 1e-6
    z = (ensemble.probe_mean_ - mean)[unseen] / (std[unseen] / np.sqrt(80))
    assert np.abs(z).max() < 4.5


def test_descent_plans() -> None:
    spec = NetworkSpec(6, 6, 64)
    plan = Descent.plan(spec, np.eye(6))
    assert plan.learning_rate == pytest.approx(6 / (1 + 5 / (2 * np.pi)))
    with pytest.raises(InputError, match=r"learning_rate: found 50.*2 / largest eigenvalue"):
        Descent.plan(spec, np.eye(6), learning_rate=50)
    with pytest.raises(InputError, match="singular"):
        Descent.plan(spec, np.eye(6)[[0, 0]])
    with pytest.raises(InputError, match="tolerance"):
        Descent(0.01, 1, 1, 1e-9).run(draw_members(spec, 0, range(1)), torch.eye(6), torch.eye(6))
    assert GradientDescent(plan.learning_rate, plan.steps).remaining(1 / 6 * (1 - 1 / (2 * np.pi))) < 1e-5


def test_estimators_are_scikit_learns() -> None:
    check_estimator(NTKRegressor(normalize=False, ridge=1e-3))
    ensemble = PermutationEnsemble(3, width=32)
    assert clone(ensemble).get_params() == ensemble.get_params()
    for call in (
        lambda: ensemble.save("nowhere.safetensors"),
        lambda: ensemble.probe_mean_,
        lambda: ensemble.probe_variance_,
        lambda: ensemble.round(np.eye(3), np.eye(3)),
        lambda: ensemble.merge(ensemble),
    ):
        with pytest.raises(NotFittedError):
            call()


def test_numbers_of_numpy_are_options(tmp_path: Path) -> None:
    options = {"width": np.int64(16), "threshold": np.float32(0.25), "random_state": np.int64(1)}
    ensemble = PermutationEnsemble(np.int64(2), **options).fit([1, 0])
    again = PermutationEnsemble.load(ensemble.save(tmp_path / "e.safetensors"))
    np.testing.assert_array_equal(again.predict(all_inputs(2)), ensemble.predict(all_inputs(2)))


@pytest.mark.parametrize(
    ("options", "arguments", "field"),
    [
        ({"n_estimators": 0}, ([1, 0],), "n_estimators"),
        ({"n_estimators": 2.5}, ([1, 0],), "n_estimators"),
        ({"n_estimators": None}, ([1, 0],), "n_estimators"),
        ({"random_state": None}, ([1, 0],), "random_state"),
        ({"first_member": 0.5}, ([1, 0],), "first_member"),
        ({"device": "abacus"}, ([1, 0],), "device"),
        ({"threshold": float("nan")}, ([1, 0],), "threshold"),
        ({"sigma_w": float("inf")}, ([1, 0],), "sigma_w"),
        ({"steps": 1.5, "n_estimators": 1}, ([1, 0],), "steps"),
        ({"n_estimators": 1, "width": 10**11, "keep": "probe"}, ([1, 0],), "width"),
        ({"n_estimators": "many"}, ([1, 0],), "n_estimators"),
        ({"width": 0}, ([1, 0],), "width"),
        ({"bias": True}, ([1, 0],), "bias"),
        ({"parametrization": "mup"}, ([1, 0],), "parametrization"),
        ({"trained_layers": "first"}, ([1, 0],), "trained_layers"),
        ({"keep": "all"}, ([1, 0],), "keep"),
        ({"threshold": "half"}, ([1, 0],), "threshold"),
        ({"threshold": "midpoint", "parametrization": "standard"}, ([1, 0],), "threshold"),
        ({"steps": 0, "n_estimators": 1}, ([1, 0],), "steps"),
        ({"tolerance": 0.0, "n_estimators": 1}, ([1, 0],), "tolerance"),
        ({"random_state": -1}, ([1, 0],), "random_state"),
        ({"general": True}, ([1, 0],), "n_estimators"),
        ({"general": True, "n_estimators": 1}, ([1, 0],), "Y"),
        ({"n_estimators": 10**6, "width": 10**6}, ([1, 0],), "n_estimators"),
        ({"n_estimators": 1}, ([1, 1],), "X[1]"),
        ({"n_estimators": 1}, ([[1, 0], [1, 1]], [[1, 0], [1, 1]]), "examples"),
        ({"n_estimators": 1}, ([[1, 0], [0, 1], [1, 1]], [[1, 0], [0, 1], [1, 1]]), "X"),
        ({"n_estimators": 1}, ([[1, 0], [0, 0]], [[1, 0], [0, 1]]), "X, row 1"),
    ],
)
def test_bad_input_names_the_field(options: dict, arguments: tuple, field: str) -> None:
    with pytest.raises(InputError) as caught:
        PermutationEnsemble(**options).fit(*arguments)
    assert caught.value.field == field
