"""The protector: budgets, types, resuming, baselines and evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits

from paperworks.errors import InputError
from paperworks.papers.unlearnable import (
    BayesErrorEstimator,
    BEOProtector,
    MixedDataset,
    SurrogateTraining,
    adversarial_poison,
    default_surrogate,
    error_minimizing_noise,
    evaluate_protection,
    project,
    quantise,
    random_noise,
    train_on,
    visibility,
)
from paperworks.papers.unlearnable.images import stored_values
from paperworks.papers.unlearnable.surrogates import embed, penultimate, pixel_gradient

FEW = SurrogateTraining(epochs=2, batch_size=32)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits(n_class=3)
    return (bunch.images[:120] / 16).astype(np.float32)[:, None], bunch.target[:120]


def protector(**options: object) -> BEOProtector:
    return BEOProtector(**{"eps": 0.1, "steps": 3, "lr": 0.06, "training": FEW, **options})  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["inf", "2", "1"]), st.floats(0.01, 3), st.integers(0, 2**32 - 1))
def test_projection_is_the_nearest_change_in_the_ball(norm: str, eps: float, seed: int) -> None:
    delta = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 2, 3)))
    found = project(delta, eps, norm)  # type: ignore[arg-type]
    order = float(norm)
    assert bool((found.flatten(1).norm(order, dim=1) <= eps + 1e-9).all())
    torch.testing.assert_close(project(found, eps, norm), found)  # type: ignore[arg-type]
    inside = delta.flatten(1).norm(order, dim=1) <= eps
    torch.testing.assert_close(found[inside], delta[inside])
    # nearest: the difference makes an obtuse angle with the way to every other point of the ball
    for _ in range(5):
        other = project(torch.randn(4, 2, 3, dtype=torch.float64), eps, norm)  # type: ignore[arg-type]
        assert bool((((delta - found) * (other - found)).flatten(1).sum(1) <= 1e-9).all())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.5))
def test_rounding_never_passes_the_budget(seed: int, eps: float) -> None:
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 256, size=(2, 3, 4, 4)).astype(np.uint8)
    changed = np.clip(original / 255 + rng.uniform(-eps, eps, size=original.shape), 0, 1).astype(np.float32)
    found = quantise(original, changed)
    assert np.abs(found.astype(int) - original).max() <= eps * 255 + 1e-3
    assert np.abs(found.astype(float) / 255 - changed).max() < 1 / 255
    whole = np.clip(original.astype(int) + 3, 0, 255)
    np.testing.assert_array_equal(quantise(original, (whole / 255).astype(np.float32)), whole)


def test_visibility_of_a_known_change() -> None:
    a = np.full((2, 1, 9, 9), 0.5, dtype=np.float32)
    found = visibility(a, a + np.float32(0.1))
    assert found["psnr"] == pytest.approx(20, abs=1e-4)
    assert found["linf"] == pytest.approx(0.1, abs=1e-6)
    assert found["l2"] == pytest.approx(0.9, abs=1e-5)
    # without variance only the means count: (2ab + c1) / (a^2 + b^2 + c1)
    assert found["ssim"] == pytest.approx((0.6 + 1e-4) / (0.25 + 0.36 + 1e-4), abs=1e-5)
    assert visibility(a, a) == {"linf": 0, "l2": 0, "psnr": float("inf"), "ssim": pytest.approx(1)}


def test_features_and_pixel_gradients_are_those_of_autograd() -> None:
    images = torch.rand(9, 1, 8, 8)
    model = default_surrogate((1, 8, 8), 3)(0)
    torch.testing.assert_close(embed(model, images, 4), model.layers(images.flatten(1)))
    weights = torch.randn(9, 64)
    leaf = images.clone().requires_grad_(True)
    (penultimate(model, leaf) * weights).sum().backward()
    torch.testing.assert_close(pixel_gradient(model, images, weights, 4), leaf.grad)


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.1), (2, 0.5), ("1", 2.0)])
def test_the_budget_and_the_range_hold(digits: tuple[np.ndarray, np.ndarray], norm: str | int, eps: float) -> None:
    X, y = digits
    found = protector(norm=norm, eps=eps).fit(X, y)
    change = (found.protected_.astype(np.float64) - X).reshape(len(X), -1)
    assert np.linalg.norm(change, ord=float(norm), axis=1).max() <= eps + 1e-5
    assert found.protected_.min() >= 0
    assert found.protected_.max() <= 1
    assert found.protected_.dtype == X.dtype
    assert np.abs(change).max() > 0
    assert len(found.history_) == 3
    assert {"bayes_error", "surrogate_accuracy", "linf"} == set(found.history_[0])


def test_bytes_come_back_as_bytes_within_the_budget(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    stored = (X * 255).astype(np.uint8)
    found = protector(eps=8 / 255, lr=None).fit_transform(stored, y)
    assert found.dtype == np.uint8
    assert 1 <= np.abs(found.astype(int) - stored).max() <= 8


def test_columns_of_a_table_have_budgets_of_their_own() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = np.column_stack([rng.normal(50, 5, 60) + 10 * y, rng.integers(0, 3, 60), rng.normal(0, 1, 60)])
    eps = np.array([4.0, 0.0, 0.5])
    found = protector(eps=eps, lr=None, feature_range=(-100.0, 100.0)).fit_transform(X, y)
    assert (np.abs(found - X).max(0) <= eps + 1e-5).all()
    np.testing.assert_array_equal(found[:, 1], X[:, 1])
    assert np.abs(found - X)[:, 0].max() > 0


def test_one_step_follows_the_gradient_of_the_estimate(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """AdamW's first step is lr times the sign of the gradient: the estimate in the same features rises."""
    X, y = digits
    model = FEW.train(default_surrogate(X.shape[1:], 3)(0), X, y, 0)
    found = BEOProtector(lambda seed: model, eps=0.02, steps=1, lr=0.02, retrain=False).fit(X, y)
    estimator = BayesErrorEstimator()
    before, after = (estimator.score(embed(model, torch.from_numpy(x)), y) for x in (X, found.protected_))
    assert found.history_[0]["bayes_error"] == pytest.approx(before, abs=1e-5)
    assert after > before + 0.01
    noise = estimator.score(embed(model, torch.from_numpy(random_noise(X, 0.02))), y)
    assert after > noise + 0.01


@pytest.mark.parametrize("options", [{}, {"fresh_every": 3, "warm_epochs": 1}])
def test_an_interrupted_ascent_goes_on_to_the_same_images(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, options: dict[str, int]
) -> None:
    X, y = digits
    whole = protector(**options).fit_transform(X, y)

    def stop_after_one(iterable, description, total=None):  # type: ignore[no-untyped-def]
        for count, item in enumerate(iterable):
            if count == 1:
                raise KeyboardInterrupt
            yield item

    file = tmp_path / "ascent.pt"
    with pytest.raises(KeyboardInterrupt):
        protector(**options).fit(X, y, checkpoint=file, progress=stop_after_one)
    resumed = protector(**options).fit(X, y, checkpoint=file)
    np.testing.assert_array_equal(resumed.protected_, whole)
    assert len(resumed.history_) == 3
    for other in ({"eps": 0.2}, {"surrogate": default_surrogate(X.shape[1:], 4)}):
        with pytest.raises(InputError, match="of other data or options"):
            protector(**other, **options).fit(X, y, checkpoint=file)
    with pytest.raises(InputError, match="of 3 steps"):
        protector(steps=2, **options).fit(X, y, checkpoint=file)


def test_the_result_is_saved_and_loaded(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    X, y = digits
    made = protector(steps=2).fit(X, y)
    made.save(tmp_path / "made")
    again = BEOProtector().load(tmp_path / "made")
    np.testing.assert_array_equal(again.protected_, made.protected_)
    assert again.history_ == made.history_
    again = BEOProtector().load(str(tmp_path / "made"))
    (tmp_path / "made/perturbation.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="folder"):
        again.load(tmp_path / "made")
    with pytest.raises(InputError, match="fit first"):
        BEOProtector().save(tmp_path / "other")
    with pytest.raises(InputError, match="folder"):
        BEOProtector().load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("X", "options", "field"),
    [
        (np.full((6, 2), 2.0), {}, "X"),
        (np.full((6, 2), np.nan), {}, "X"),
        (np.zeros((6, 2), dtype=np.int64), {}, "X"),
        (np.zeros(6), {}, "X"),
        (np.zeros((6, 2)), {"eps": 0}, "eps"),
        (np.zeros((6, 2)), {"eps": -0.1}, "eps"),
        (np.zeros((6, 2)), {"eps": [0.1, 0.1, 0.1]}, "eps"),
        (np.zeros((6, 2)), {"eps": [0.1, 0.1], "norm": "2"}, "eps"),
        (np.zeros((6, 2)), {"norm": "3"}, "norm"),
        (np.zeros((6, 2)), {"steps": 0}, "steps"),
        (np.zeros((6, 2)), {"lr": -1.0}, "lr"),
        (np.zeros((6, 2)), {"feature_range": (1.0, 0.0)}, "feature_range"),
        (np.zeros((6, 2)), {"feature_range": (1.0,)}, "feature_range"),
        (np.zeros((6, 2)), {"eps": 8}, "eps"),
        (np.zeros((6, 2)), {"eps": "a"}, "eps"),
        (np.zeros((6, 2), dtype=np.uint8), {"eps": 0.003}, "eps"),
        (np.zeros((6, 2)), {"retrain": False}, "surrogate"),
    ],
)
def test_bad_input(X: np.ndarray, options: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as refused:
        protector(**options).fit(X, np.arange(6) % 2)
    assert refused.value.field == field


def test_a_protector_is_copied_without_its_result() -> None:
    x = np.random.default_rng(0).random((24, 6)).astype(np.float32)
    y = np.arange(24) % 2
    made = BEOProtector(eps=np.full(6, 0.1), steps=2, lr=0.05, training=SurrogateTraining(epochs=1))
    found = made.fit_transform(x, y)
    other = clone(made)
    assert not hasattr(other, "protected_")
    assert np.array_equal(other.fit_transform(x, y), found)
    assert other.set_params(steps=1, estimator__sigma=0.2).estimator.sigma == 0.2
    assert made.estimator.sigma == 0.3


def test_too_few_steps_for_the_budget_are_said(digits: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.warns(UserWarning, match="at least 150 steps"):
        protector(eps=0.1, lr=0.001, steps=1).fit(*digits)


def test_shortcuts_are_fitted_and_poison_is_taken_for_the_next_class(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    make = default_surrogate(X.shape[1:], 3)
    training = SurrogateTraining(epochs=8, batch_size=32)
    short = error_minimizing_noise(X, y, make, eps=0.3, training=training, rounds=8)
    poison = adversarial_poison(X, y, make, eps=0.5, training=training, steps=20)
    for changed, eps in ((short, 0.3), (poison, 0.5)):
        assert np.abs(changed - X).max() <= eps + 1e-6
        assert changed.min() >= 0
        assert changed.max() <= 1
    clean = training.train(make(0), X, y, 0)
    from paperworks.classification import predict

    assert (predict(clean, {"inputs": torch.from_numpy(poison)}) == (y + 1) % 3).mean() > 0.9
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(clean(torch.from_numpy(x)), torch.from_numpy(y)) for x in (X, short)
        ]
    assert losses[1] < losses[0]


def test_mixtures_hold_every_sample_once(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    other = 1 - X
    half, most = (MixedDataset(X, other, y, ratio, seed=3) for ratio in (0.5, 0.9))
    assert len(half) == len(X)
    assert not (half.is_protected & ~most.is_protected).any()  # nested draws
    mixed, labels = half.arrays()
    np.testing.assert_array_equal(mixed[half.is_protected], other[half.is_protected])
    np.testing.assert_array_equal(mixed[~half.is_protected], X[~half.is_protected])
    np.testing.assert_array_equal(labels, y)
    image, label = half[5]
    np.testing.assert_array_equal(image.numpy(), mixed[5])
    assert label == y[5]
    assert MixedDataset(X, other, y, 1.0).is_protected.all()
    assert not MixedDataset(X, other, y, 0.0).is_protected.any()
    for bad in ({"ratio": 1.5}, {"protected": X[:3]}):
        with pytest.raises(InputError):
            MixedDataset(**{"clean": X, "protected": other, "y": y, "ratio": 0.5, **bad})  # type: ignore[arg-type]


def test_evaluation_has_a_row_for_each_training(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    make = default_surrogate(X.shape[1:], 3)
    table = evaluate_protection(
        make, X[:80], {"noise": random_noise(X[:80], 0.1)}, y[:80], (X[80:], y[80:]), ratios=(0.5, 1.0), training=FEW
    )
    assert [tuple(row) for row in table[["method", "ratio"]].to_numpy().tolist()] == [
        ("clean", 0.0),
        ("noise", 0.5),
        ("clean part alone", 0.5),
        ("noise", 1.0),
    ]
    one = train_on(make, X[:80], y[:80], (X[80:], y[80:]), training=FEW, seed=7_919)
    assert table.iloc[0]["test_accuracy"] == one.test_accuracy
    assert table.iloc[0]["bayes_error"] == pytest.approx(one.bayes_error)


def test_stored_values_keep_type_depth_and_alpha() -> None:
    change = np.full((3, 2, 2), 0.1)
    rgba = np.full((2, 2, 4), 100, dtype=np.uint8)
    found = stored_values(rgba, change, None)
    np.testing.assert_array_equal(found[..., :3], 125)  # 25.5 steps, rounded towards the original
    np.testing.assert_array_equal(found[..., 3], 100)
    deep = stored_values(np.full((2, 2), 1000, dtype=np.uint16), -change[:1], None)
    np.testing.assert_array_equal(deep, 0)
    grey = stored_values(np.full((2, 2), 100, dtype=np.uint8), change, None)  # a grey image in a set with colour
    np.testing.assert_array_equal(grey, 125)
    counts = stored_values(np.full((2, 2), 8, dtype=np.int64), change[:1], (0.0, 16.0))
    np.testing.assert_array_equal(counts, 9)
    exact = stored_values(np.full((2, 2), 0.25, dtype=np.float32), change[:1], None)
    np.testing.assert_allclose(exact, 0.35)
