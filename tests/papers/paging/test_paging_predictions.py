"""Noise, history and learned bits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier

from paperworks.errors import InputError
from paperworks.papers.paging import (
    BitPredictor,
    FlushWhenAll0s,
    HistoryPredictor,
    LearnedPredictor,
    Trace,
    belady,
    flip,
    noisy_times,
    oracle,
    prediction_error,
    simulate,
)
from paperworks.papers.paging.features import pleco_probabilities, popularity_gaps, request_features


def structured_trace(requests=12_000):
    """Hot pages that come back, in between pages that are requested twice in quick succession and never again."""
    rng = np.random.default_rng(0)
    ids, fresh = [], 1000
    while len(ids) < requests:
        if rng.random() < 0.6:
            ids.append(int(rng.integers(0, 25)))
        else:
            ids += [fresh, fresh]
            fresh += 1
    return Trace.of(np.array(ids[:requests]))


def test_flips():
    rng = np.random.default_rng(0)
    truth = (rng.random(100_000) < 0.3).astype(np.uint8)
    eta0, eta1 = prediction_error(flip(truth, 0.1, rng), truth)
    assert abs(eta0 - 0.1 * truth.sum()) < 5 * np.sqrt(0.09 * truth.sum())
    assert abs(eta1 - 0.1 * (1 - truth).sum()) < 5 * np.sqrt(0.09 * (1 - truth).sum())
    assert prediction_error(flip(truth, 0.5, rng, only=1), truth)[1] == 0
    assert prediction_error(flip(truth, 0.5, rng, only=0), truth)[0] == 0
    assert np.array_equal(flip(truth, 1.0, rng), 1 - truth)
    assert np.array_equal(flip(truth, 0.0, rng), truth)
    with pytest.raises(InputError, match="probability"):
        flip(truth, 1.5, rng)


def test_noisy_times():
    rng = np.random.default_rng(0)
    times = np.arange(10_000)
    assert np.array_equal(noisy_times(times, 0, rng), times)
    added = noisy_times(times, 2.0, rng) - times
    assert (added >= 0).all()
    assert np.median(added[added > 0]) < 20 < added.max()
    assert noisy_times(times, 200.0, rng).max() <= 2**62


def test_oracle():
    trace = Trace.of([1, 2, 1, 3])
    assert oracle(trace, 1, "next_time").tolist() == [2, 4, 4, 4]
    assert oracle(trace, 1, "discard").tolist() == [1, 1, 1, 0]
    assert oracle(trace, 2, "phase").tolist() == [1, 1, 1, 1]
    with pytest.raises(InputError, match="kind"):
        oracle(trace, 1, "size")


def test_features_by_hand():
    trace = Trace.of([7, 8, 7, 7, 8])
    blocks = list(request_features(trace, 2))
    assert [first for first, _ in blocks] == [0, 2, 4]
    features = np.concatenate([b for _, b in blocks])
    assert features.shape == (5, 20)
    assert np.isnan(features[0, :10]).all()
    assert features[3, :3].tolist()[:2] == [1, 2]
    assert np.isnan(features[3, 2])
    assert features[4, 0] == 3
    # E_1 of page 7 at its third request: 1 + 2^(-1/2^10) (1 + 2^(-2/2^10))
    assert features[3, 10] == pytest.approx(1 + 2 ** (-1 / 1024) * (1 + 2 ** (-2 / 1024)), rel=1e-6)
    assert features[3, 19] == pytest.approx(1 + 2 ** (-1 / 2**19) * (1 + 2 ** (-2 / 2**19)), rel=1e-6)
    assert popularity_gaps(trace).tolist() == [1, 2, 1.5, 4 / 3, 2.5]


def test_pleco_by_hand():
    weight = lambda d: (d + 10) ** -1.8 * np.exp(-d / 670)  # noqa: E731
    sequence = [7, 8, 7, 7, 8]
    expected = []
    for t, page in enumerate(sequence):
        ages = [t - u + 1 for u in range(t + 1)]
        own = [t - u + 1 for u in range(t + 1) if sequence[u] == page]
        expected.append(sum(map(weight, own)) / sum(map(weight, ages)))
    assert pleco_probabilities(Trace.of(sequence)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "predictor", [LearnedPredictor("discard"), HistoryPredictor("pleco"), HistoryPredictor("popu", "phase")]
)
def test_predictions_are_causal(predictor):
    trace = structured_trace(4000)
    predictor = clone(predictor).fit(trace, 30)
    other = Trace.of(np.concatenate([trace.ids[trace.pages[:2000]], np.arange(5000, 7000)]))
    assert np.array_equal(predictor.scores(trace)[:2000], predictor.scores(other)[:2000])
    assert set(np.unique(predictor.predict(trace))) <= {0, 1}


def test_learned_bits_close_most_of_the_gap_where_the_past_tells():
    trace, k = structured_trace(), 30
    cut = len(trace) // 2
    rest = trace.part(cut, len(trace))
    predictor = LearnedPredictor(estimator=DecisionTreeClassifier(max_depth=5, random_state=0)).fit(
        trace.part(0, cut), k
    )
    bits = predictor.predict(trace)[cut:]
    got = simulate(FlushWhenAll0s(k, lazy=True), rest, bits).misses
    none = simulate(FlushWhenAll0s(k), rest, np.zeros(len(rest), np.uint8)).misses
    opt = belady(rest, k).misses
    assert opt <= got < opt + 0.5 * (none - opt)


def test_one_kind_of_bit_only():
    trace = Trace.of([1, 2, 3] * 20)
    predictor = LearnedPredictor().fit(trace, 5)  # nothing is ever evicted
    assert predictor.predict(Trace.of([1, 9, 1])).tolist() in ([0, 0, 0], [1, 1, 1])


def test_save_and_load(tmp_path):
    trace = structured_trace(3000)
    predictor = HistoryPredictor("popu").fit(trace, 20)
    predictor.save(tmp_path / "p.joblib")
    back = BitPredictor.load(tmp_path / "p.joblib")
    assert np.array_equal(back.predict(trace), predictor.predict(trace))
    with pytest.raises(InputError, match="exists"):
        predictor.save(tmp_path / "p.joblib")
    (tmp_path / "q.joblib").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"q\.joblib"):
        BitPredictor.load(tmp_path / "q.joblib")


def test_bad_options():
    with pytest.raises(InputError, match="target"):
        LearnedPredictor("both").fit(structured_trace(100), 5)
    with pytest.raises(InputError, match="rule"):
        HistoryPredictor("lfu").fit(structured_trace(100), 5)
