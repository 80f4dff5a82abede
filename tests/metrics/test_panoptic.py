"""Panoptic quality and boundary IoU, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.metrics import boundary_iou, panoptic_quality


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((8, 8), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_the_same_segments_have_quality_one() -> None:
    segments = [(0, box(0, 4, 0, 4)), (0, box(4, 8, 0, 4)), (2, box(0, 8, 4, 8))]
    found = panoptic_quality([segments], [segments[::-1]], 3)
    assert (found.mean, found.segmentation, found.recognition) == (1, 1, 1)
    assert found.per_class[[0, 2]].tolist() == [1, 1]
    assert np.isnan(found.per_class[1])


def test_by_hand() -> None:
    truth = [(0, box(0, 4, 0, 8)), (1, box(4, 8, 0, 8))]
    guess = [(0, box(0, 3, 0, 8)), (0, box(4, 6, 0, 8)), (1, box(6, 8, 0, 8))]
    found = panoptic_quality([truth], [guess], 2)
    # class 0: a match of IoU 3/4 and a false one; class 1: IoU 1/2 is no match, so one missed and one false
    assert found.per_class.tolist() == pytest.approx([0.75 / 1.5, 0])
    assert found.mean == pytest.approx(0.25)
    assert found.segmentation == pytest.approx(0.75)
    assert found.recognition == pytest.approx((1 / 1.5) / 2)


def test_pixels_without_a_label_do_not_count() -> None:
    truth, guess = [(0, box(0, 4, 0, 4))], [(0, box(0, 4, 0, 8)), (0, box(4, 8, 0, 8))]
    assert panoptic_quality([truth], [guess], 1).mean == 1


def test_a_false_segment_that_lies_mostly_on_unlabelled_pixels_does_not_count() -> None:
    truth = [(0, box(0, 4, 0, 8))]
    right = (0, box(0, 3, 0, 8))
    for rows, counted in ((2, True), (3, False)):  # one row of two is labelled, or one of three
        found = panoptic_quality([truth], [[right, (1, box(3, 3 + rows, 0, 8))]], 2)
        assert np.isnan(found.per_class[1]) == (not counted)
        assert found.per_class[0] == pytest.approx(0.75)


def test_random_maps_against_the_definition() -> None:
    """Pairs of (true, guessed) segment are counted from the two maps at once, as the paper defines PQ."""
    rng = np.random.default_rng(0)
    classes, segments = 3, 6
    for _ in range(60):
        true_ids = rng.integers(0, segments, (4, 4)).repeat(3, 0).repeat(3, 1)
        noise = rng.integers(0, segments, (4, 4)).repeat(3, 0).repeat(3, 1)
        ids = np.where(rng.random(true_ids.shape) < 0.8, true_ids, noise)
        true_class = rng.integers(0, classes + 1, segments)  # the last one is unlabelled
        guess_class = np.where(rng.random(segments) < 0.7, true_class, rng.integers(0, classes + 1, segments))
        truth = [(int(true_class[n]), true_ids == n) for n in np.unique(true_ids) if true_class[n] < classes]
        guess = [(int(guess_class[n]), ids == n) for n in np.unique(ids) if guess_class[n] < classes]
        if not truth:
            continue
        joint = np.zeros((segments, segments), int)
        np.add.at(joint, (true_ids.ravel(), ids.ravel()), 1)
        unlabelled = joint[true_class == classes].sum(0)
        value, weight = np.zeros(classes), np.zeros(classes)
        matched: tuple[set[int], set[int]] = (set(), set())
        for t in range(segments):
            for g in range(segments):
                either = joint[t].sum() + joint[:, g].sum() - unlabelled[g] - joint[t, g]
                if true_class[t] == guess_class[g] < classes and joint[t, g] / max(either, 1) > 0.5:
                    value[true_class[t]] += joint[t, g] / either
                    weight[true_class[t]] += 1
                    matched[0].add(t)
                    matched[1].add(g)
        for n in range(segments):
            if true_class[n] < classes and joint[n].any() and n not in matched[0]:
                weight[true_class[n]] += 0.5
            size = joint[:, n].sum()
            if guess_class[n] < classes and size and n not in matched[1] and unlabelled[n] / size <= 0.5:
                weight[guess_class[n]] += 0.5
        expected = np.where(weight > 0, value / np.maximum(weight, 0.5), np.nan)
        np.testing.assert_allclose(panoptic_quality([truth], [guess], classes).per_class, expected)


def test_bad_segments() -> None:
    one = [(0, box(0, 4, 0, 4))]
    for truth, guess, classes, field in (
        ([one], [], 1, "y_pred"),
        ([one], [[(1, box(0, 1, 0, 1))]], 1, "y_pred"),
        ([one], [[(0, np.zeros((2, 2), bool))]], 1, "y_pred"),
        ([[]], [[]], 1, "y_true"),
        ([one], [one], 0, "n_classes"),
    ):
        with pytest.raises(InputError, match=field):
            panoptic_quality(truth, guess, classes)  # type: ignore[arg-type]


def test_boundaries() -> None:
    whole, part = box(0, 6, 0, 6), box(0, 6, 0, 5)
    assert boundary_iou(whole, whole) == 1
    # borders of 20 and of 18 pixels; common: two rows of 5 and the left column's other 4
    assert boundary_iou(whole, part) == pytest.approx(14 / 24)
    assert boundary_iou(whole, part, width=9) == pytest.approx(30 / 36)
    assert boundary_iou(whole & ~whole, whole & ~whole) == 1
    with pytest.raises(InputError, match="width"):
        boundary_iou(whole, part, width=0)
    with pytest.raises(InputError, match="guess"):
        boundary_iou(whole, part[:4])
