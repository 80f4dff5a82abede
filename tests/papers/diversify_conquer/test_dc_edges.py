"""Missing quality, numbers of numpy, seeds, files that are cut off, vectors that are all alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.diversify_conquer import (
    IterationState,
    IterativeSelector,
    KMeansSelector,
    choose_n_clusters,
    near_duplicates,
    select,
)
from paperworks.papers.diversify_conquer.studies import noisy

from .test_dc_recipe import execute, given

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(2), 20).astype(np.int32)
X = RNG.normal(size=(40, 3)) + 9 * np.eye(3)[LABELS]


def fitted(**options) -> KMeansSelector:
    centers = np.array([X[j == LABELS].mean(axis=0) for j in range(2)])
    return KMeansSelector(2, "random", **({"budget": 12} | options)).use_clusters(X, LABELS, centers)


def test_missing_quality_counts_as_the_median_of_its_cluster_in_select() -> None:
    selector = fitted(quality_temperature=0)
    quality = np.where(LABELS == 0, 1.0, 100.0) + np.arange(40) % 20 / 10
    quality[3] = np.nan  # 1.95 in its cluster: in the lower half; 51.4 over all rows would be its best
    assert 3 not in select(X, 4, "kmq", quality=quality, selector=selector)
    assert 3 in select(X, 25, "top-quality", quality=quality)  # the median of all rows beats the first cluster


@pytest.mark.parametrize(
    ("method", "options", "field"),
    [
        ("km-random", {"selector": KMeansSelector(5)}, "selector"),
        ("kmq", {"quality": ["good"] * 40}, "quality"),
        ("top-quality", {"quality": [None, "x"] * 20}, "quality"),
        ("km-random", {"random_state": -1}, "random_state"),
        ("random", {"random_state": -1}, "random_state"),
        ("k-center", {"random_state": 1.5}, "random_state"),
    ],
)
def test_bad_arguments_of_select_are_named(method, options: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        select(X, 5, method, **options)
    assert caught.value.field == field


def test_numbers_of_numpy_can_be_saved(tmp_path: Path) -> None:
    selector = fitted(budget=np.int64(12), quality_temperature=np.float32(0.5), random_state=np.int64(3))
    state = IterativeSelector(selector, 3, temperature=np.float32(2.0), probe=np.int64(2)).start()
    state.next_batch()
    state.save(tmp_path / "state.npz")
    again = IterationState.load(tmp_path / "state.npz")
    assert (again.selector.budget, again.options["temperature"], again.seed) == (12, 2.0, 3)


def test_without_a_seed_a_loaded_state_still_draws_what_an_unbroken_one_does(tmp_path: Path) -> None:
    state = IterativeSelector(fitted(random_state=None), 3).start()
    state.next_batch()
    with pytest.raises(InputError, match="scores: found what is no number"):
        state.update(["good"] * 4)
    state.update(np.ones(4))
    state.save(tmp_path / "state.npz")
    again = IterationState.load(tmp_path / "state.npz")
    np.testing.assert_array_equal(again.next_batch(), state.next_batch())
    first, second = (IterativeSelector(fitted(random_state=None), 1).start().next_batch() for _ in range(2))
    assert not np.array_equal(first, second)
    with pytest.raises(InputError, match="random_state"):
        fitted(random_state=-1)


def test_a_state_that_was_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    state = IterativeSelector(fitted(), 3).start()
    state.save(path)
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    del arrays["to_score"]
    np.savez(tmp_path / "part.npz", **arrays)
    for content in (b"", whole[:100], whole[:-10], whole[: len(whole) // 2], (tmp_path / "part.npz").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"IterationState\.save"):
            IterationState.load(path)


@pytest.mark.filterwarnings("ignore:.*distinct clusters")
def test_vectors_that_are_all_alike_are_one_cluster(tmp_path: Path) -> None:
    for criterion in ("silhouette", "elbow"):
        with pytest.warns(UserWarning, match="1 cluster is taken"):
            assert choose_n_clusters(np.ones((80, 4)), (2, 4, 8), criterion=criterion) == (1, {})  # type: ignore[arg-type]
    options = given(tmp_path, clusters="silhouette")
    np.save(tmp_path / "vectors.npy", np.ones((48, 8), np.float32))
    report, _ = execute(tmp_path, **options)
    assert (report.metrics["clusters"], report.metrics["chosen"]) == (1, 12)
    assert any("1 cluster is taken" in note for note in report.notes)


def test_the_elbow_shows_the_inertia_and_cards_have_words(tmp_path: Path) -> None:
    options = given(tmp_path, clusters="elbow")
    vectors = np.load(tmp_path / "vectors.npy")
    np.save(tmp_path / "vectors.npy", vectors / 100)  # an inertia below 1
    report, _ = execute(tmp_path, **options)
    figure = report.figures[-1]
    assert figure.figure is not None
    assert figure.figure.axes[0].get_ylabel() == "inertia"
    assert "elbow" in figure.caption
    assert all("_" not in label and " " in label for _, label, _ in report.cards())


def test_near_duplicates_names_the_row_of_zeros() -> None:
    rows = RNG.normal(size=(200, 3))
    rows[150] = 0
    with pytest.raises(InputError, match="row 150"):
        near_duplicates(rows, np.arange(200) // 100, 0.9)


def test_the_study_asks_for_the_papers_lead_not_only_for_a_difference() -> None:
    names = ("random", "top-quality", "Deita", "QDIT", "k-center", "kM-Closest", "kM-Random", "iter-kM")
    found = {name: np.full(10, 0.7) for name in names}
    found |= {f"noise {name}": np.full(10, 0.3) for name in ("pool", "random")}
    for lead, relative, holds in ((0.08, 1.03, False), (0.12, 1.12, True)):
        found |= {"kMQ": 0.7 + lead + np.arange(10) / 1e4, "iter-kMQ": 0.7 * relative + np.arange(10) / 1e4}
        findings = list(noisy._methods(found))
        kmq = [f for f in findings if f.claim == "clusters-with-quality"]
        gains = [f for f in findings if f.claim == "relative-gain"]
        assert [f.holds for f in (kmq[0], *gains)] == [holds] * 3
        assert all(f.holds for f in kmq[1:])
