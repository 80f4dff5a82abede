"""Localisation, SODA and caption scores against brute force, published values and other implementations."""

from __future__ import annotations

import importlib.util
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.sieve_swap.captions import bleu4, cider_d, meteor_es, rouge_l, token_f1
from paperworks.papers.sieve_swap.evaluation import evaluate, read_predictions
from paperworks.papers.sieve_swap.segments import localisation, suppress, temporal_iou
from paperworks.papers.sieve_swap.steps_dataset import StepDataset
from paperworks.papers.sieve_swap.story_scores import ordered_matching, soda
from paperworks.papers.sieve_swap.studies.exact import brute_force_order

TEXTS = ["add the onion to the pan", "stir the soup slowly", "bake it", "cut the bread into thin slices now"]


def video(times: list[list[float]], texts: list[str] | None = None, duration: float = 100.0) -> dict[str, Any]:
    return {"duration": duration, "timestamps": times, "sentences": (texts or TEXTS)[: len(times)]}


def test_overlap_of_segments() -> None:
    a, b = np.array([[0, 10], [20, 30]]), np.array([[5, 15], [20, 30]])
    assert temporal_iou(a, b) == pytest.approx(np.array([[1 / 3, 0], [0, 1]]), abs=1e-8)
    assert temporal_iou(a, a)[0, 0] < 1


def test_localisation_is_strict_and_a_mean_of_videos() -> None:
    predictions = [np.array([[0.0, 10.0], [50, 60]]), np.empty((0, 2))]
    references = [[np.array([[0.0, 10.0], [20, 30], [21, 30]])], [np.array([[0.0, 5.0]])]]
    found = localisation(predictions, references, (0.5,))
    assert (found["recall"], found["precision"]) == pytest.approx((1 / 6, 1 / 4))
    assert found["f1"] == pytest.approx(2 * (1 / 6) * (1 / 4) / (1 / 6 + 1 / 4))
    half = [np.array([[0.0, 5.0]])]
    assert localisation(half, [[np.array([[0.0, 10.0]])]], (0.5,))["recall"] == 0  # an overlap of 0.5 is not above it
    two = [[np.array([[50.0, 90.0]]), np.array([[0.0, 5.0]])]]  # the better of two annotations
    assert localisation(half, two, (0.5,))["f1"] == 1


def test_soda_equals_enumeration() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.random((int(rng.integers(1, 7)), int(rng.integers(1, 7))))
        total, pairs = ordered_matching(scores)
        assert abs(total - brute_force_order(scores)) < 1e-12
        assert abs(total - sum(scores[i, j] for i, j in pairs)) < 1e-12
        assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))


def test_soda_of_crossing_pairs_and_of_nothing() -> None:
    crossing = np.array([[0.1, 0.9], [0.8, 0.2]])
    assert ordered_matching(crossing)[0] == pytest.approx(0.9)
    assert soda(np.ones((2, 2)), crossing)["f1"] == pytest.approx(0.45)
    assert soda(crossing, np.ones((2, 2)), "d")["precision"] == pytest.approx(0.45)
    for shape in ((0, 3), (3, 0), (0, 0)):
        assert soda(np.zeros(shape), np.zeros(shape))["f1"] == 0
    assert ordered_matching(np.ones((1500, 1500)))[0] == 1500  # no recursion


def test_soda_b_matches_by_overlap_and_a_asks_for_more_of_it() -> None:
    iou, scores = np.array([[0.4, 0.0], [0.0, 0.8]]), np.array([[0.5, 1.0], [1.0, 0.25]])
    assert soda(iou, scores, "b")["precision"] == pytest.approx((0.5 + 0.25) / 2)
    assert soda(iou, scores, "a", (0.3, 0.5))["precision"] == pytest.approx((0.75 + 0.25) / 2 / 2)
    assert soda(iou, scores, "c")["precision"] == pytest.approx((0.2 + 0.2) / 2)


def test_predictions_of_the_references_are_perfect_and_order_does_not_count() -> None:
    references = {"a": video([[0, 10], [12, 30], [40, 50]]), "b": video([[5, 15], [20, 30]])}
    found = evaluate(references, references, ("f1", "soda_c", "soda_d", "token_f1", "rouge_l"), scorer="token_f1")
    assert [found[n] for n in ("f1", "soda_c", "soda_d", "token_f1", "rouge_l")] == pytest.approx([1] * 5, abs=1e-7)
    mixed = {
        v: [{"timestamp": t, "sentence": s} for t, s in zip(c["timestamps"], c["sentences"], strict=True)][::-1]
        for v, c in references.items()
    }
    assert evaluate({"results": mixed}, references, ("soda_c", "cider")) == evaluate(
        references, references, ("soda_c", "cider")
    )


def test_videos_without_a_prediction_count_as_nothing() -> None:
    references = {"a": video([[0, 10]]), "b": video([[0, 10]])}
    only = {"a": [{"timestamp": [0, 10], "sentence": TEXTS[0]}]}
    strict, compat = (evaluate(only, references, ("soda_c", "f1"), scorer="token_f1", compat=c) for c in (False, True))
    assert (strict["soda_c"], compat["soda_c"]) == pytest.approx((0.5, 1), abs=1e-7)
    assert strict["f1@0.5"] == compat["f1@0.5"]  # localisation counts them either way
    assert evaluate({}, references)["soda_c"] == 0


def test_predictions_without_a_reference_are_left_out_with_a_warning() -> None:
    references = {"a": video([[0, 10]])}
    both = {v: [{"timestamp": [0, 10], "sentence": TEXTS[0]}] for v in ("a", "z")}
    with pytest.warns(UserWarning, match="1 videos have predictions and no reference"):
        found = evaluate(both, references)
    assert found == evaluate({"a": both["a"]}, references)


def test_caption_scores_are_of_all_pairs_that_overlap() -> None:
    references = {"a": video([[0, 10], [0, 10], [50, 60]], ["stir the soup", "bake it", "cut it"])}
    predictions = {"a": [{"timestamp": [0, 10], "sentence": "stir the soup"}, {"timestamp": [90, 95], "sentence": "x"}]}
    found = evaluate(predictions, references, ("token_f1",), thresholds=(0.5,))
    assert found["token_f1"] == pytest.approx((1 + 0 + 0) / 3)  # two pairs, and one prediction that overlaps nothing


@pytest.mark.skipif(importlib.util.find_spec("pycocoevalcap") is None, reason="pycocoevalcap is not installed")
def test_cider_bleu_and_rouge_are_those_of_pycocoevalcap() -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    rng = np.random.default_rng(1)
    words = ["add", "stir", "the", "onion", "pan", "water", "salt", "heat", "slowly", "cut"]
    captions = [" ".join(rng.choice(words, int(rng.integers(4, 12)))) for _ in range(20)]
    references = [
        [" ".join(rng.choice(words, int(rng.integers(4, 12)))) for _ in range(int(rng.integers(1, 4)))]
        for _ in captions
    ]
    references[0][0] = captions[0]
    known, said = dict(enumerate(references)), {i: [c] for i, c in enumerate(captions)}
    assert cider_d(captions, references) == pytest.approx(Cider().compute_score(known, said)[1], abs=1e-9)
    assert rouge_l(captions, references) == pytest.approx(Rouge().compute_score(known, said)[1], abs=1e-9)
    exact = bleu4(captions, references)
    theirs = Bleu(4).compute_score(known, said, verbose=0)[1][3]
    assert [v for v in exact if v > 0] == pytest.approx(
        [b for a, b in zip(exact, theirs, strict=True) if a > 0], abs=1e-6
    )


def test_meteor_of_known_cases() -> None:
    assert meteor_es(["the cat sat on the mat"], [["the cat sat on the mat"]]) == pytest.approx([1 - 0.5 / 6**3])
    # on the mat sat the cat: six matches in six chunks
    assert meteor_es(["on the mat sat the cat"], [["the cat sat on the mat"]])[0] < 0.95
    assert meteor_es(["chopping onions"], [["chop onion"]]) == pytest.approx([1 - 0.5 / 8])
    assert meteor_es(["a b c d"], [["a b x y z w"]]) == pytest.approx(
        [10 * (2 / 4) * (2 / 6) / (2 / 6 + 9 * 2 / 4) * (1 - 0.5 / 8)]
    )
    assert meteor_es(["", "x"], [["a"], []]) == [0, 0]
    assert token_f1(["a a b"], [["a b b"]]) == pytest.approx([2 / 3])


def test_suppression_keeps_the_best_of_those_that_overlap() -> None:
    segments = np.array([[0, 10], [1, 10], [20, 30]])
    assert suppress(segments, np.array([0.5, 0.9, 0.1]), 0.7).tolist() == [1, 2]


def test_files_of_both_forms_are_read(tmp_path: Path) -> None:
    database = {"database": {"a": {"duration": 20, "annotations": [{"segment": [1, 5], "id": 0, "sentence": "stir"}]}}}
    (tmp_path / "yc2.json").write_text(json.dumps(database))
    found = StepDataset.read(tmp_path / "yc2.json")
    assert found["a"].timestamps == ((1.0, 5.0),)
    found.write(tmp_path / "own.json")
    assert StepDataset.read(tmp_path / "own.json").to_dict() == found.to_dict()
    assert json.loads((tmp_path / "own.json").read_text())["a"]["sentences"] == [["stir"]]
    assert read_predictions(tmp_path / "own.json") == {"a": [{"timestamp": (1.0, 5.0), "sentence": "stir"}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "a mapping from video id"),
        ([], "a mapping from video id"),
        ({"a": {"timestamps": [[0, 1]]}}, "duration, timestamps and sentences"),
        ({"a": {"duration": 9, "timestamps": [[0, 1]], "sentences": []}}, "one sentence for each"),
        ({"a": {"duration": 9, "timestamps": [[2, 1]], "sentences": ["x"]}}, "an end after its start"),
        ({"a": {"duration": 9, "timestamps": [[1, 1]], "sentences": ["x"]}}, "an end after its start"),
        ({"a": {"duration": 9, "timestamps": [["1", 2]], "sentences": ["x"]}}, "start, end"),
        ({"a": {"duration": 9, "timestamps": [[float("nan"), 2]], "sentences": ["x"]}}, "finite"),
        ({"a": {"duration": 9, "timestamps": [[10, 12]], "sentences": ["x"]}}, "before the end"),
        ({"a": {"duration": 0, "timestamps": [], "sentences": []}}, "above 0"),
        ({"a": {"duration": 9, "timestamps": [[1, 2]], "sentences": [3]}}, "a text, or a list"),
    ],
)
def test_a_set_that_cannot_be_is_named(content: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        StepDataset.of(content)


@pytest.mark.parametrize(
    ("predictions", "options", "words"),
    [
        ({"z": []}, {}, "of which there is no reference"),
        ({"a": [{"timestamp": [5, 1], "sentence": "x"}]}, {}, "an end after its start"),
        ({"a": [{"timestamp": [0, 1], "sentence": 5}]}, {}, "a text"),
        ({"a": "x"}, {}, "a list of predictions"),
        ({"a": []}, {"metrics": ("sodac",)}, "did you mean 'soda_c'"),
        ({"a": []}, {"thresholds": (1.5,)}, "below 1"),
    ],
)
def test_predictions_that_cannot_be_are_named(predictions: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(predictions, {"a": video([[0, 10]])}, **options)
