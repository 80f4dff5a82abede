"""Evaluation, thresholds, z-ranges, maps and baselines against other libraries and by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from papers.petct_slices.petct_helpers import fitted, table
from paperworks.errors import InputError
from paperworks.papers.petct_slices import (
    baseline_scores,
    case_scores,
    choose_threshold,
    class_activation_maps,
    correctly_localised,
    evaluate,
    lroc_curve,
    median_of_three,
    patient_split,
    slice_metrics,
    z_ranges,
)
from paperworks.papers.petct_slices.baselines import position_prior
from paperworks.papers.petct_slices.evaluation import calibration
from paperworks.papers.petct_slices.examples import inputs_of
from paperworks.papers.petct_slices.explanation import METHODS, centre_of_mass


def scores(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(int)
    return y, np.round(1 / (1 + np.exp(-(y * 1.5 - 1 + rng.normal(size=n)))), 2)


def test_figures_are_scikit_learns() -> None:
    y, p = scores()
    found, marked = slice_metrics(y, p, 0.4), p >= 0.4
    expected = {
        "AUROC": sk.roc_auc_score(y, p),
        "AUPRC": sk.average_precision_score(y, p),
        "sensitivity": sk.recall_score(y, marked),
        "specificity": sk.recall_score(1 - y, ~marked),
        "PPV": sk.precision_score(y, marked),
        "NPV": sk.precision_score(1 - y, ~marked),
        "accuracy": sk.accuracy_score(y, marked),
        "balanced accuracy": sk.balanced_accuracy_score(y, marked),
        "F1": sk.f1_score(y, marked),
        "MCC": sk.matthews_corrcoef(y, marked),
        "Brier score": sk.brier_score_loss(y, p),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    logit = np.log(np.clip(p, 1e-9, 1 - 1e-9) / (1 - np.clip(p, 1e-9, 1 - 1e-9)))
    fitted_slope = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], y)
    assert found["calibration slope"] == pytest.approx(fitted_slope.coef_[0, 0], rel=1e-4)
    alone = slice_metrics(np.zeros(5), np.full(5, 0.2))
    assert math.isnan(alone["AUROC"])
    assert math.isnan(alone["sensitivity"])
    assert alone["specificity"] == 1
    assert math.isnan(calibration(y, y.astype(float))[0])


def frame(y: np.ndarray, patients: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": patients,
            "case_id": patients,
            "center": np.where(patients < "5", "A", "B"),
            "disease": "x",
            "label": y,
            "edge": np.arange(len(y)) % 2 == 0,
            "area_mm2": np.arange(len(y)) * 1.0,
            "suv_max": np.arange(len(y)) * 0.1,
        }
    )


def test_evaluation_by_group_scan_and_lesion() -> None:
    y, p = scores()
    patients = np.repeat([str(i) for i in range(10)], 40)
    found = evaluate(frame(y, patients), p, n_boot=100)
    assert found.slices == 400
    assert found.patients == 10
    rows = {row["name"]: row for row in found.by_group.to_dict("records")}
    half = patients < "5"
    assert rows["A"]["AUROC"] == pytest.approx(sk.roc_auc_score(y[half], p[half]))
    interval = found.intervals["AUROC"]
    assert interval.low < found.metrics["AUROC"] < interval.high
    assert interval.n == 10
    one = (patients == "3") & (y == 1)
    assert dict(zip(found.per_case["case_id"], found.per_case["sensitivity"], strict=True))["3"] == pytest.approx(
        (p[one] >= 0.5).mean()
    )
    edge = (y == 1) & (np.arange(400) % 2 == 0)
    assert found.strata["sensitivity"][0] == pytest.approx((p[edge] >= 0.5).mean())
    assert found.strata["positive"][:2].sum() == y.sum()
    assert "not a medical device" in found.to_markdown()
    assert found.to_dict()["metrics"]["AUROC"] == found.metrics["AUROC"]
    # one patient: no interval, and no error
    assert evaluate(frame(y, np.full(400, "1")), p, n_boot=50).intervals == {}
    with pytest.raises(InputError, match="without a label"):
        evaluate(frame(y - 1, patients), p)
    with pytest.raises(InputError, match="one per slice"):
        evaluate(frame(y, patients), p[1:])


def test_thresholds_by_their_definitions() -> None:
    y, p = scores()
    grid = np.unique(p)

    def best(value: np.ndarray) -> float:
        return float(grid[np.flatnonzero(value >= value.max() - 1e-12)[-1]])

    sensitivity = np.array([(p[y == 1] >= t).mean() for t in grid])
    specificity = np.array([(p[y == 0] < t).mean() for t in grid])
    f1 = np.array([sk.f1_score(y, p >= t) for t in grid])
    assert choose_threshold(y, p, "youden") == pytest.approx(best(sensitivity + specificity))
    assert choose_threshold(y, p, "f1") == pytest.approx(best(f1))
    for wanted in (0.95, 0.99):
        threshold = choose_threshold(y, p, f"sensitivity-{wanted}")
        assert threshold == pytest.approx(grid[sensitivity >= wanted].max())
    # 2/3 - 0 and 1 - 1/3: equal, but not in the last bit
    tied = np.array([1, 0, 1, 0, 0, 1]), np.array([0.5, 0.6, 0.8, 0.2, 0.1, 0.7])
    assert choose_threshold(*tied, "youden") == 0.7
    assert choose_threshold(y, p, "0.3") == 0.3
    for rule in ("1.5", "best", "sensitivity-2", ""):
        with pytest.raises(InputError, match="threshold"):
            choose_threshold(y, p, rule)
    with pytest.raises(InputError, match="one class"):
        choose_threshold(np.ones(4), np.ones(4), "youden")


def test_runs_smoothing_and_scores_of_scans() -> None:
    rows = pd.DataFrame(
        {
            "case_id": ["a"] * 6 + ["b"] * 3,
            "slice": [0, 1, 2, 3, 4, 5, 0, 1, 2],
            "z_mm": [0, 3, 6, 9, 12, 15, 30, 27, 24.0],
            "thickness_mm": 3.0,
        }
    )
    p = np.array([0.9, 0.6, 0.1, 0.2, 0.8, 0.7, 0.1, 0.2, 0.9])
    found = z_ranges(rows, p, 0.5)
    assert [(r.case_id, r.first, r.last) for r in found] == [("a", 0, 1), ("a", 4, 5), ("b", 2, 2)]
    assert [(r.from_mm, r.to_mm) for r in found] == [(-1.5, 4.5), (10.5, 16.5), (22.5, 25.5)]
    smooth = median_of_three(p, rows["case_id"].to_numpy())
    np.testing.assert_allclose(smooth, [0.9, 0.6, 0.2, 0.2, 0.7, 0.7, 0.1, 0.2, 0.9])
    assert case_scores(rows["case_id"].to_numpy(), p) == {"a": 0.9, "b": 0.9}
    assert case_scores(rows["case_id"].to_numpy(), p, 2)["b"] == pytest.approx(0.55)


class Brightness(torch.nn.Module):
    """The logit is the mean of one of two channels of features: where maps must point is known."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, 0.25]).reshape(2, 1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)[:, 0].mean((1, 2)) * 8


@pytest.mark.parametrize("method", METHODS)
def test_maps_point_at_what_counts(method: str) -> None:
    x = torch.zeros(2, 1, 32, 32)
    x[0, 0, 4:9, 20:25] = 1
    x[1, 0, 22:26, 6:10] = 1
    model = Brightness()
    maps = class_activation_maps(model, x, method, layer=model.features)  # type: ignore[arg-type]
    assert maps.shape == (2, 32, 32)
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.max((1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(centre_of_mass(maps), [[6, 22], [23.5, 7.5]], atol=0.6)
    lesions = x[:, 0].numpy() > 0
    assert correctly_localised(maps, lesions).all()
    assert not correctly_localised(maps, lesions[::-1]).any()
    assert not correctly_localised(np.zeros_like(maps), lesions).any()
    network = fitted().network_
    assert network is not None
    own = class_activation_maps(network, inputs_of(table(), np.arange(4), fitted().options.inputs()), method)  # type: ignore[arg-type]
    assert np.isfinite(own).all()
    assert not any(p.grad is not None for p in network.parameters())


def test_grad_cam_by_hand() -> None:
    network = fitted().network_
    assert network is not None
    inputs = inputs_of(table(), np.array([8]), fitted().options.inputs())
    with torch.no_grad():
        features = network.body(inputs).last_hidden_state
    features.requires_grad_(True)
    logit = network.head(features.mean((2, 3)))
    weights = torch.autograd.grad(logit.sum(), features)[0].mean((2, 3), keepdim=True)
    expected = (weights * features).sum(1, keepdim=True)
    expected = torch.nn.functional.interpolate(expected, inputs.shape[2:], mode="bilinear").relu()[0, 0]
    expected = (expected / expected.max().clamp_min(1e-12)).detach().numpy()
    np.testing.assert_allclose(class_activation_maps(network, inputs)[0], expected, atol=1e-5)


def test_lroc() -> None:
    y, p = scores()
    _, _, area = lroc_curve(y, p, np.ones(len(y), dtype=bool))
    assert area == pytest.approx(sk.roc_auc_score(y, p))
    right = np.arange(len(y)) % 3 == 0
    false, true, area = lroc_curve(y, p, right)
    assert true[-1] == pytest.approx(right[y == 1].mean())
    at = 0.5
    place = np.searchsorted(false, (p[y == 0] >= at).mean())
    assert true[place] == pytest.approx(((p >= at) & right)[y == 1].mean(), abs=0.02)
    assert area <= right[y == 1].mean()
    with pytest.raises(InputError, match="one class"):
        lroc_curve(np.ones(4), np.ones(4), np.ones(4, bool))


def test_baselines_see_the_training_slices_only() -> None:
    train, test = patient_split(table(), 0.3, 1)
    found = baseline_scores(table(), train, test)
    assert len(found) == 5
    np.testing.assert_array_equal(
        found["SUVmax of the slice"],
        table().images("pet", test).max((1, 2)) * 0 + [*table().rows["feature_suv_max"].iloc[test]],
    )
    prior = position_prior(np.array([0.0, 0.0, 1.0, 1.0]), np.array([1, 1, 0, 0]), np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(prior, [2.5 / 3, 0.5, 0.5 / 3])
    with pytest.raises(InputError, match="one class"):
        baseline_scores(table(), np.flatnonzero(table().labels == 0), test)
