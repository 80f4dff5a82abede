"""The estimators, the bundled networks and ``solve``."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from paperworks.errors import InputError
from paperworks.papers.pointer_networks import (
    ConvexHullPointer,
    DelaunayPointer,
    NetworkConfig,
    PointerNetwork,
    SetToSequence,
    TSPPointer,
    estimators,
    make_delaunay,
    make_hull,
    make_tsp,
    solve,
)
from paperworks.papers.pointer_networks.estimators import BUNDLED
from paperworks.papers.pointer_networks.instances import Instances
from paperworks.papers.pointer_networks.scaling import to_unit_square
from paperworks.papers.pointer_networks.tours import held_karp, tour_length


def test_bundled_networks_do_what_their_cards_say():
    hulls = make_hull(5, 150, seed=1)
    found = ConvexHullPointer.bundled().metrics(hulls.inputs(), hulls.solutions())
    assert found["accuracy"] >= 0.70
    assert found["area"] >= 0.97
    tours = make_tsp(5, 150, seed=2)
    found = TSPPointer.bundled().metrics(tours.inputs(), tours.solutions())
    assert found["valid"] == 1
    assert found["ratio"] == pytest.approx(1.0005, abs=0.003)  # the card's, on other instances
    triangulations = make_delaunay(5, 150, seed=3)
    found = DelaunayPointer.bundled().metrics(triangulations.inputs())
    assert found["coverage"] >= 0.5


@pytest.mark.parametrize("name", ["hull", "delaunay", "tsp", "tsp-50"])
def test_model_cards(name):
    card = (BUNDLED / name / "README.md").read_text()
    about = json.loads((BUNDLED / name / "config.json").read_text())["about"]
    assert f"python -m paperworks.papers.pointer_networks.train {name.split('-')[0]}" in card
    assert str(about["steps"]) in card.replace(",", "")
    assert sum(f.stat().st_size for f in (BUNDLED / name).iterdir()) < 2_000_000


def test_each_input_gets_the_network_whose_training_is_nearest_in_size(monkeypatch, tmp_path):
    networks = {}
    for folder, sizes in (("tsp", [5, 10]), ("tsp-50", [50, 50]), ("hull", [5, 10])):
        network = PointerNetwork(NetworkConfig(hidden=8), generator=torch.Generator().manual_seed(len(networks)))
        network.save_pretrained(tmp_path / folder, about={"sizes": sizes})
        networks[folder] = network
    monkeypatch.setattr(estimators, "BUNDLED", tmp_path)
    both = TSPPointer.bundled()
    sets = [np.random.default_rng(n).random((n, 2)) for n in (60, 4, 22, 23, 8)]
    found = both.predict(sets)
    for points, output, folder in zip(sets, found, ("tsp-50", "tsp", "tsp", "tsp-50", "tsp"), strict=True):
        assert output == TSPPointer(network=networks[folder]).predict([points])[0]
    assert ConvexHullPointer.bundled().by_size_ == {}
    instances = Instances.from_lists(sets[1:2], [[0, 1, 2, 3]])
    fitted = TSPPointer.bundled(hidden=8, steps=1).fit(instances)
    assert fitted.predict(sets) == TSPPointer(network=fitted.network_).predict(sets)


def test_shape_and_place_do_not_matter_after_scaling():
    p = np.random.default_rng(0).random((7, 2))
    far = 1000 * p + [500, -70_000]
    assert np.allclose(to_unit_square(p), to_unit_square(far))
    estimator = TSPPointer.bundled()
    estimator.rescale = "always"
    assert estimator.predict([p]) == estimator.predict([far])
    estimator.rescale = "auto"
    with pytest.warns(UserWarning, match="outside the unit square"):
        estimator.predict([far])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.predict([p])
    assert np.array_equal(to_unit_square(np.ones((3, 2))), np.full((3, 2), 0.5))


def test_predictions_do_not_depend_on_batch_mates():
    estimator = ConvexHullPointer.bundled()
    points = [p for p, _ in make_hull((5, 12), 12, seed=4)]
    assert estimator.predict(points) == [estimator.predict([p])[0] for p in points]


def test_best_of_k_draws_is_the_shortest_and_more_draws_help():
    estimator = TSPPointer.bundled()
    points = make_tsp(10, 12, seed=5).inputs()
    few, many = (
        [tour_length(p, t) for p, t in zip(points, estimator.predict(points, samples=k), strict=True)] for k in (4, 64)
    )
    assert np.mean(many) < np.mean(few)
    for beams, draws in ((3, 16), (8, 8), (8, 3)):  # also where a beam would have as many
        estimator.beams = beams
        for p, tour, decoded in zip(
            points, estimator.predict(points, samples=draws), estimator.decode(points, samples=draws), strict=True
        ):
            assert tour_length(p, tour) == pytest.approx(min(tour_length(p, o) for o in decoded.outputs))


def test_the_score_of_tours_is_the_mean_of_optimal_over_length_and_0_without_a_tour():
    estimator = TSPPointer(network=TSPPointer.bundled().network_, beams=1, constraint=None)
    points = make_tsp((12, 14), 10, seed=6).inputs()
    expected = [
        tour_length(p, held_karp(p)) / tour_length(p, t) if sorted(t) == list(range(len(p))) else 0.0
        for p, t in zip(points, estimator.predict(points), strict=True)
    ]
    assert 0 < sum(value > 0 for value in expected) < 10  # both kinds
    assert estimator.score(points) == pytest.approx(np.mean(expected))


def test_solve_by_every_method():
    p = np.random.default_rng(1).random((9, 2))
    best = tour_length(p, held_karp(p))
    lengths = {}
    for method in ("exact", "a1", "a2", "a3", "nearest", "random", "model", "model+2opt", "sample", "sample+2opt"):
        tour = solve(p, method)
        assert sorted(tour) == list(range(9))
        lengths[method] = tour_length(p, tour)
    assert lengths["exact"] == pytest.approx(best)
    assert min(lengths.values()) >= best - 1e-9
    assert lengths["model+2opt"] <= lengths["model"] + 1e-9
    hull = solve(p, "exact", problem="hull")
    assert set(solve(p, "model", problem="hull")) <= set(range(9))
    assert len(solve(p, "exact", problem="delaunay")) == 3 * (2 * 9 - 2 - len(hull))
    for few in (1, 2, 3):
        assert solve(p[:few], "model+2opt") == list(range(few))


def test_solve_names_what_is_wrong():
    p = np.random.default_rng(1).random((9, 2))
    with pytest.raises(InputError, match="did you mean 'exact'"):
        solve(p, "exat")
    with pytest.raises(InputError, match="exact, model"):
        solve(p, "a1", problem="hull")
    with pytest.raises(InputError, match="problem"):
        solve(p, problem="knapsack")
    with pytest.raises(InputError, match="row 3"):
        solve([[0, 0], [1, 1], [np.nan, 0]])
    with pytest.raises(InputError, match="at least 3"):
        solve([[0, 0], [1, 1]], problem="hull")


def test_an_own_problem_with_three_features(tmp_path):
    """Elements above the mean of the second feature, in their order."""
    rng = np.random.default_rng(2)
    elements = [rng.normal(50, 10, (int(n), 3)) for n in rng.integers(2, 5, 500)]
    targets = [[int(e[:, 1].argmax())] for e in elements]
    model = SetToSequence(hidden=32, steps=400, learning_rate=1e-2, batch_size=64).fit(elements, targets)
    assert np.mean(model.losses_[-20:]) < 0.7 * np.mean(model.losses_[:5])
    assert model.score(elements[:100], targets[:100]) > 0.6
    model.save_pretrained(tmp_path / "own")
    back = SetToSequence.from_pretrained(tmp_path / "own")
    assert back.predict(elements[:30]) == model.predict(elements[:30])
    with pytest.raises(InputError, match="2 features"):
        model.predict([np.zeros((3, 2))])
    with pytest.raises(InputError, match="a network for sequence"):
        TSPPointer.from_pretrained(tmp_path / "own")


def test_answers_may_be_longer_than_the_input(tmp_path):
    """Whether the first or the second element is larger, five times; read back in a folder of its own."""
    rng = np.random.default_rng(3)
    elements = list(rng.random((300, 2, 1)))
    targets = [[int(e.argmax())] * 5 for e in elements]
    model = SetToSequence(hidden=16, steps=150, learning_rate=2e-2, batch_size=64).fit(elements, targets)
    assert model.score(elements, targets) > 0.9
    model.save_pretrained(tmp_path / "own")
    assert SetToSequence.from_pretrained(tmp_path / "own").score(elements, targets) > 0.9
    assert model.problem.most_outputs(6) == 15
    assert SetToSequence(network=model.network_).problem.most_outputs(6) == 6


def test_fitting_on_generated_instances():
    model = ConvexHullPointer(hidden=8, steps=3, batch_size=16).fit_generated((4, 6), 64)
    assert len(model.losses_) == 3
    assert len(model.predict(make_hull(5, 3).inputs())) == 3
    teacher = TSPPointer(hidden=8, steps=2, batch_size=16).fit_generated(6, 32, label="a1")
    assert sorted(teacher.predict(make_tsp(8, 1).inputs())[0]) == list(range(8))


def test_estimators_name_what_is_wrong():
    with pytest.raises(InputError, match="no trained network"):
        TSPPointer().predict([np.zeros((3, 2))])
    with pytest.raises(InputError, match="constraint"):
        TSPPointer(constraint="loop")
    with pytest.raises(InputError, match="targets"):
        SetToSequence().fit([np.zeros((3, 2))])
    with pytest.raises(InputError, match="instance 2"):
        SetToSequence().fit([np.zeros((3, 2)), np.zeros((3, 2))], [[0], [3]])
    with pytest.raises(InputError, match="3 features"):
        Instances.from_lists([np.zeros((3, 2)), np.zeros((3, 3))])
    network = PointerNetwork(NetworkConfig(hidden=4))
    with pytest.raises(InputError, match="points that all differ"):
        ConvexHullPointer(network=network).predict([np.zeros((3, 2))])
