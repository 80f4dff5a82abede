"""Slice discovery: the exact invariants of the specification, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.exceptions import NotFittedError

from papers.ladder.world import SENTENCES, encode, world
from paperworks.errors import InputError
from paperworks.papers.ladder import (
    ErrorAwareMixture,
    Hypothesis,
    LinearAligner,
    OfflineContrastBackend,
    SliceDiscovery,
    SliceRectifier,
    StaticBackend,
    split_captions,
    split_reports,
)
from paperworks.papers.ladder.aligner import undo_scaling
from paperworks.papers.ladder.backends.offline import ngrams, stem, two_proportion_z
from paperworks.papers.ladder.retrieval import retrieve
from paperworks.papers.ladder.slices import holm, reaches, two_proportion_p

pytestmark = pytest.mark.filterwarnings("ignore")


@given(st.integers(0, 100), st.floats(-6, 6), st.floats(-6, 6))
@settings(max_examples=25, deadline=None)
def test_ridge_recovers_an_affine_map_whatever_the_scales(seed: int, a: float, b: float) -> None:
    draw = np.random.default_rng(seed)
    w, bias = draw.normal(size=(3, 5)), draw.normal(size=3)
    x = 10**a * (draw.normal(size=(60, 5)) + 2)
    y = 10**b * (x / 10**a @ w.T + bias)
    fitted = LinearAligner().fit(x, y)
    np.testing.assert_allclose(fitted.weight_, w * 10 ** (b - a), rtol=1e-6, atol=1e-7 * 10 ** (b - a))
    np.testing.assert_allclose(fitted.bias_, bias * 10**b, rtol=1e-6, atol=1e-6 * 10**b)
    assert fitted.r2_ > 1 - 1e-9
    streamed = LinearAligner()
    for rows in np.array_split(np.arange(60), 4):
        streamed.partial_fit(x[rows], y[rows])
    np.testing.assert_allclose(streamed.transform(x), y, rtol=1e-6, atol=1e-6 * 10**b)


def test_the_margin_is_that_of_the_shares() -> None:
    # 0.9 - 0.8 is below 0.1 in floating point, and the error 0.2 is 0.1 above 0.1
    assert all(reaches(a / 100 - (a - 10) / 100, 0.1) for a in range(10, 101))
    assert not reaches(0.9 - 0.8001, 0.1)
    assert not reaches(float("nan"), 0.0)


def test_an_aligner_that_is_given_stays_as_it_is() -> None:
    one, shared = world(), LinearAligner(penalty=0.1)
    first = one.discover(aligner=shared)
    weight = first.aligner_.weight_.copy()
    world(5).discover(aligner=shared)
    np.testing.assert_array_equal(first.aligner_.weight_, weight)
    assert not hasattr(shared, "weight_")
    for rows in np.array_split(np.arange(len(one.features["train"])), 3):
        shared.partial_fit(one.features["train"][rows], one.vlr["train"][rows])
    rest = one.features["val"], one.y["val"], one.predicted, SENTENCES
    settings = {"top_k": 12, "text_encoder": encode}
    streamed = SliceDiscovery(shared, **settings).fit(None, None, *rest)  # type: ignore[arg-type]
    np.testing.assert_allclose(streamed.aligner_.weight_, weight, rtol=1e-8, atol=1e-12)
    with pytest.raises(InputError, match="features_train: found none"):
        SliceDiscovery(**settings).fit(None, None, *rest)  # type: ignore[arg-type]


def test_before_fit() -> None:
    one = world()
    x, y = one.features["val"], one.y["val"]
    for call in (
        lambda: LinearAligner().transform(x),
        lambda: SliceDiscovery().transform(x),
        lambda: SliceDiscovery().report(),
        lambda: SliceDiscovery().evaluate(x, y, y),
        lambda: SliceRectifier(SliceDiscovery()).fit(x, y),
        lambda: ErrorAwareMixture().predict_proba(x, y, y),
    ):
        with pytest.raises(NotFittedError):
            call()


def test_a_mixture_is_fitted_anew_to_other_classes() -> None:
    draw = np.random.default_rng(0)
    z, three, two = draw.normal(size=(60, 4)), np.arange(60) % 3, np.arange(60) % 2
    again = ErrorAwareMixture(2, n_components=4).fit(z, two, two).fit(z, three, three)
    np.testing.assert_allclose(
        again.predict_proba(z, three, three),
        ErrorAwareMixture(2, n_components=4).fit(z, three, three).predict_proba(z, three, three),
    )


def test_ridge_with_a_penalty_is_the_closed_form_and_streaming_agrees() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(50, 6)), draw.normal(size=(50, 2))
    fitted = LinearAligner(penalty=0.3).fit(x, y)
    c = x - x.mean(axis=0)
    scatter = c.T @ c
    w = np.linalg.solve(scatter + 0.3 * np.trace(scatter) / 6 * np.eye(6), c.T @ (y - y.mean(axis=0))).T
    np.testing.assert_allclose(fitted.weight_, w, rtol=1e-10)
    np.testing.assert_allclose(fitted.bias_, y.mean(axis=0) - w @ x.mean(axis=0), rtol=1e-10)
    streamed = LinearAligner(penalty=0.3).partial_fit(x[:20], y[:20]).partial_fit(x[20:], y[20:])
    np.testing.assert_allclose(streamed.weight_, w, rtol=1e-9)
    chosen = LinearAligner().fit(x, y)
    np.testing.assert_allclose(LinearAligner().partial_fit(x, y).penalty_, chosen.penalty_)


def test_the_bias_is_undone_by_its_own_scale() -> None:
    w, b, x = np.array([[2.0, 1.0]]), np.array([3.0]), np.array([[0.5, -1.0]])
    c1, c2 = 4.0, 0.25
    weight, bias = undo_scaling(w, b, c1, c2)
    assert (x @ weight.T + bias)[0, 0] == pytest.approx((w @ (c1 * x[0]) + b)[0] / c2)


def test_sgd_comes_near_the_ridge_and_keeps_its_bias() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(400, 4)) * 30 + 5
    y = x @ draw.normal(size=(4, 3)) * 0.01 + 7.0
    fitted = LinearAligner("sgd", epochs=60, weight_decay=0.0, lr=0.02).fit(x, y)
    assert fitted.r2_ > 0.95
    assert np.abs((fitted.transform(x) - y).mean(axis=0)).max() < 0.05


def test_half_precision_features_do_not_overflow() -> None:
    draw = np.random.default_rng(0)
    x = (draw.normal(size=(80, 3)) * 300).astype(np.float16)
    y = x.astype(np.float64) @ np.array([[1.0, 0], [0, 2], [1, 1]])
    assert LinearAligner("sgd").fit(x, y).r2_ > 0.5


def test_a_map_that_explains_nothing_is_said() -> None:
    draw = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="explains .*% of the variance"):
        LinearAligner().fit(draw.normal(size=(60, 3)), draw.normal(size=(60, 2)))


def test_a_constant_added_to_the_features_changes_nothing_found() -> None:
    one, other = world(), world()
    for part in other.features:
        other.features[part] = other.features[part] + np.array([5.0, -3.0, 2.0, 9.0])
    a = one.discover()
    other.guess = one.predicted
    b = other.discover()
    for code in (0, 1):
        np.testing.assert_allclose(a.delta_[code], b.delta_[code], atol=1e-9)
        assert a.top_sentences_[code] == b.top_sentences_[code]


@given(st.permutations(SENTENCES))
@settings(max_examples=20, deadline=None)
def test_the_order_of_sentences_changes_nothing(order: list[str]) -> None:
    delta = np.array([1.0, -0.5, 0.2, 0.0, 0.1])
    assert retrieve(delta, encode(order), order, 7) == retrieve(delta, encode(SENTENCES), SENTENCES, 7)
    doubled = split_captions([f"{s}." for s in [*order, *order]])
    assert sorted(doubled) == sorted(SENTENCES)


def test_delta_is_the_difference_of_means_and_the_ranking_its_inner_product() -> None:
    one = world()
    found = one.discover()
    projected = found.aligner_.transform(one.features["val"])
    y, guess = one.y["val"], one.predicted
    delta = projected[(y == 1) & (guess == 1)].mean(axis=0) - projected[(y == 1) & (guess == 0)].mean(axis=0)
    np.testing.assert_allclose(found.delta_[1], delta)
    vectors = encode(SENTENCES)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = dict(zip(SENTENCES, vectors @ delta, strict=True))
    assert sorted(scores, key=lambda s: -scores[s])[:12] == found.top_sentences_[1] or np.allclose(
        sorted(scores.values())[-12:], sorted(scores[s] for s in found.top_sentences_[1])
    )


def test_scores_are_those_of_the_mean_direction_and_ignore_doubled_test_sentences() -> None:
    one = world()
    tests = ("a bird on water", "a lake with light")
    static = [
        StaticBackend({"sea": [Hypothesis("water", "", sentences)]})
        for sentences in (tests, tests * 2, (*tests, tests[0]))
    ]
    scores = [one.discover(backend=b).score(one.features["test"])[:, 0] for b in static]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])
    rows = encode(tests)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    direction = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    expected = one.discover().aligner_.transform(one.features["test"]) @ direction
    np.testing.assert_allclose(scores[0], expected, atol=1e-6)  # the encoder's numbers are float32


def test_the_slice_is_what_step_5_says() -> None:
    one = world()
    found = one.discover(percentile=40)
    x, y, right = one.features["val"], one.y["val"], one.predicted == one.y["val"]
    s = found.score(x)
    for number, slice_ in enumerate(found.slices_):
        threshold = np.percentile(s[:, number], 40)
        inside = (y == slice_.class_code) & (s[:, number] < threshold)
        outside = (y == slice_.class_code) & (s[:, number] >= threshold)
        assert slice_.threshold == pytest.approx(threshold)
        assert (slice_.n_without, slice_.n_with) == (inside.sum(), outside.sum())
        assert slice_.accuracy_without == pytest.approx(right[inside].mean())
        assert slice_.gap == pytest.approx(right[outside].mean() - right[inside].mean())
        rise = right[y == slice_.class_code].mean() - right[inside].mean()
        assert slice_.confirmed == (rise >= 0.1)
        of_class = y == slice_.class_code
        clip = 100 * (s[of_class & right, number].mean() - s[of_class & ~right, number].mean())
        assert slice_.clip_score == pytest.approx(clip)
    np.testing.assert_array_equal(found.transform(x), found.soft_membership(x) > 0.5)
    np.testing.assert_allclose([z.p_holm for z in found.slices_], holm([z.p for z in found.slices_]))


def test_the_scope_of_the_percentile() -> None:
    one = world()
    found = one.discover(percentile=30, percentile_scope="class")
    for s in found.slices_:
        assert s.n_without == pytest.approx(0.3 * (s.n_without + s.n_with), abs=1)


def test_the_planted_ground_is_found_for_both_classes() -> None:
    found = world().discover()
    best = {c: next(s for s in found.slices_ if s.class_code == c) for c in (0, 1)}
    assert re.search("grass|meadow", best[0].name)
    assert re.search("water|lake", best[1].name)
    assert min(s.gap for s in best.values()) > 0.4
    assert all(s.confirmed for s in best.values())


def test_p_values() -> None:
    pooled = (30 + 45) / 110
    z = (30 / 60 - 45 / 50) / np.sqrt(pooled * (1 - pooled) * (1 / 60 + 1 / 50))
    assert two_proportion_p(30, 60, 45, 50) == pytest.approx(2 * norm.sf(abs(z)))
    assert two_proportion_p(0, 0, 3, 4) == two_proportion_p(4, 4, 5, 5) == 1.0
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_saved_and_loaded_it_gives_the_same_membership(tmp_path: Path) -> None:
    one = world()
    found = one.discover()
    found.save(tmp_path / "kept")
    again = SliceDiscovery.load(tmp_path / "kept")
    np.testing.assert_array_equal(found.score(one.features["test"]), again.score(one.features["test"]))
    np.testing.assert_array_equal(found.transform(one.features["test"]), again.transform(one.features["test"]))
    assert again.slices_ == found.slices_
    assert again.to_markdown() == found.to_markdown()
    with pytest.raises(InputError, match="nothing is overwritten"):
        found.save(tmp_path / "kept")
    with pytest.raises(InputError, match="rows of validation"):
        again.evaluate(one.features["val"], one.y["val"], one.predicted)
    (tmp_path / "kept" / "discovery.json").write_text("{}")
    with pytest.raises(InputError, match=r"a folder that SliceDiscovery\.save wrote"):
        SliceDiscovery.load(tmp_path / "kept")


def test_on_other_rows_the_thresholds_stay() -> None:
    one = world()
    found = one.discover()
    guess = (one.features["test"] @ one.head[0].T).argmax(axis=1)
    table = found.evaluate(one.features["test"], one.y["test"], guess)
    assert len(table) == len(found.slices_)
    assert (table["accuracy_with"] - table["accuracy_without"]).iloc[0] > 0.4


def test_classes_without_errors_are_left_out_and_few_errors_are_said() -> None:
    one = world()
    guess = one.predicted.copy()
    guess[one.y["val"] == 0] = 0
    found = SliceDiscovery(top_k=12, text_encoder=encode).fit(
        one.features["train"], one.vlr["train"], one.features["val"], one.y["val"], guess, SENTENCES
    )
    assert found.skipped_ == {0: "no error"}
    assert {s.class_code for s in found.slices_} == {1}
    wrong = np.flatnonzero((one.y["val"] == 1) & (guess == 0))
    guess[wrong[5:]] = 1
    found = SliceDiscovery(top_k=12, text_encoder=encode).fit(
        one.features["train"], one.vlr["train"], one.features["val"], one.y["val"], guess, SENTENCES
    )
    assert any("5 errors only" in note for note in found.notes_)
    assert 0 <= found.stability_[1] <= 1


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("rows", {"vlr_train": np.ones((3, 5))}, "vlr_train and features_train: found 3 and 240 rows"),
    (
        "finite",
        {"features_val": np.full((240, 4), np.nan)},
        "features_val: found row 0 with a value that is not finite",
    ),
    ("labels", {"y_val": np.arange(240) % 2 * 2}, "y_val: found codes up to 2, without 1"),
    ("negative", {"y_val": np.arange(240) % 2 - 1}, "y_val: found code -1"),
    ("multi", {"y_val": np.ones((240, 2), int)}, "multi-label is not supported"),
    ("text labels", {"y_val": np.array(["a"] * 240)}, "y_val: found values such as"),
    ("one class", {"y_val": np.zeros(240, int), "pred_val": np.zeros(240, int)}, "y_val: found one class only"),
    ("predictions", {"pred_val": np.zeros(7, int)}, r"pred_val and y_val: found shapes \(7,\) and \(240,\)"),
    (
        "logits",
        {"pred_val": np.tile([3.0, -1.0], (240, 1))},
        "pred_val: found row 0 with a negative value, as of logits",
    ),
    ("sums", {"pred_val": np.tile([3.0, 1.0], (240, 1))}, "with a sum of 4, as of logits"),
    ("empty", {"sentences": ["", " "]}, "sentences: found 2 sentences, all empty"),
    ("alike", {"sentences": ["a"] * 5}, "sentences: found 5 times 'a'; expected at least two different"),
    ("none", {"sentences": []}, "sentences: found none"),
    ("one text", {"sentences": "a bird"}, "sentences: found one text"),
    (
        "dimensions",
        {"vlr_train": np.ones((240, 3)) * np.arange(240)[:, None]},
        "text_encoder: found 5 dimensions beside 3 of vlr_train",
    ),
    ("width", {"features_val": np.ones((240, 9))}, "features: found 9 columns; expected 4"),
]


@pytest.mark.parametrize(("change", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    one = world()
    arguments = {
        "features_train": one.features["train"],
        "vlr_train": one.vlr["train"],
        "features_val": one.features["val"],
        "y_val": one.y["val"],
        "pred_val": one.predicted,
        "sentences": SENTENCES,
    } | change
    with pytest.raises(InputError, match=message):
        SliceDiscovery(text_encoder=encode).fit(**arguments)


def test_the_training_array_is_no_validation_array_and_too_many_sentences_are_cut() -> None:
    one = world()
    x = one.features["train"]
    with pytest.raises(InputError, match="the array of features_train"):
        SliceDiscovery(text_encoder=encode).fit(x, one.vlr["train"], x, one.y["val"], one.predicted, SENTENCES)
    with pytest.warns(UserWarning, match="top_k is 500, but there are 24 sentences"):
        found = one.discover(top_k=500)
    assert len(found.top_sentences_[0]) == 24
    assert found.slices_  # its better half is set against the other


def test_vectors_of_sentences_in_place_of_an_encoder() -> None:
    one = world()
    twice = [*SENTENCES, SENTENCES[3]]
    found = SliceDiscovery(top_k=12).fit(
        one.features["train"], one.vlr["train"], one.features["val"], one.y["val"], one.predicted, twice, encode(twice)
    )
    assert [s.name for s in found.slices_]
    with pytest.raises(InputError, match=r"text_encoder: found none, and no vector of 'nowhere'"):
        SliceDiscovery(backend=StaticBackend({"1": {"x": ["nowhere"]}})).fit(
            one.features["train"],
            one.vlr["train"],
            one.features["val"],
            one.y["val"],
            one.predicted,
            twice,
            encode(twice),
        )


def test_sentences_are_split_as_the_specification_says() -> None:
    assert split_captions(["A bird. A tree.", "A tree", " "]) == ["A bird", "A tree"]
    reports = ["No effusion. Chest tube in place.", "Fine.\nHeart size is normal!"]
    assert split_reports(reports) == ["Chest tube in place", "Heart size is normal!"]
    assert split_reports(reports, min_words=2)[0] == "No effusion"


def test_ngrams_avoid_stop_words_at_their_ends_and_the_name_of_the_class() -> None:
    found = ngrams("A landbird with the birds in a green field", {stem("bird")})
    assert "green field" in found
    assert "field" in found
    assert not any("bird" in g.split() or "birds" in g.split() or g.startswith(("the ", "a ")) for g in found)
    assert {stem(w) for w in ("dogs", "dog", "dog's")} == {"dog"}
    assert stem("babies") == stem("baby")
    assert stem("classes") == stem("class")


def test_the_contrast_ranks_by_z_and_merges_what_is_in_the_same_sentences() -> None:
    top = [f"tall grass {i}" for i in range(8)] + [f"red {i}" for i in range(4)]
    rest = [f"red {i}" for i in range(10, 30)] + ["tall grass here"]
    backend = OfflineContrastBackend()
    found = backend.candidates("dog", top, top + rest)
    by_name = {c.text: c for c in found}
    assert by_name["tall grass"].z == pytest.approx(two_proportion_z(8, 12, 1, 21))
    proposed = backend.propose("dog", top, top + rest, 8)
    assert proposed[0].name == "tall grass"  # of equal contrast the longest
    assert all(h.name not in ("grass", "tall") for h in proposed[1:])  # merged: the same sentences
    assert proposed[0].test_sentences == tuple(top[:5])
    p1, p0, p = 8.5 / 13, 1.5 / 22, 10 / 35
    assert two_proportion_z(8, 12, 1, 21) == pytest.approx((p1 - p0) / np.sqrt(p * (1 - p) * (1 / 12 + 1 / 21)))
    assert [h.name for h in OfflineContrastBackend(contrast="log-odds").propose("dog", top, top + rest, 1)] == [
        "tall grass"
    ]
    kept = OfflineContrastBackend(keep=lambda g: g == "grass").propose("dog", top, top + rest, 8)
    assert [h.name for h in kept] == ["grass"]
    templates = OfflineContrastBackend(tests="templates", encode=encode).propose("dog", top, top + rest, 1)[0]
    assert "a photo of a dog with tall grass" in templates.test_sentences
