"""Matching against brute force, points against dense maps, and post-processing against transformers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.gkc import post_processing
from paperworks.papers.gkc.matching import HungarianMaskMatcher
from paperworks.papers.gkc.points import cross_entropy, dice_loss, pixel_centres, sample, uncertain_points
from paperworks.papers.gkc.segmenter import GKCOutput


@pytest.mark.parametrize("targets", [1, 3, 6])
def test_the_matching_is_the_cheapest_of_all(targets: int) -> None:
    torch.manual_seed(targets)
    matcher = HungarianMaskMatcher(points=None)
    logits, masks = torch.randn(1, 7, 5), torch.randn(1, 7, 8, 8)
    labels = torch.randint(4, (1, targets))
    truth = torch.rand(1, targets, 8, 8) < 0.4
    cost = matcher.costs(logits, masks, labels, truth)[0]
    found = matcher(logits, masks, labels, truth)[0]
    best = min(
        float(sum(cost[q, t] for t, q in enumerate(chosen))) for chosen in itertools.permutations(range(7), targets)
    )
    assert float(sum(cost[q, t] for t, q in enumerate(found.tolist()))) == pytest.approx(best, abs=1e-5)


def test_costs_are_those_of_the_dense_maps() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 4), torch.randn(2, 3, 6, 6)
    labels, truth = torch.tensor([[0, 2], [1, -1]]), torch.rand(2, 2, 6, 6) < 0.5
    cost = HungarianMaskMatcher(points=None).costs(logits, masks, labels, truth)
    for image, query, target in itertools.product(range(2), range(3), range(2)):
        if labels[image, target] < 0:
            continue
        x, y = masks[image, query], truth[image, target].float()
        entropy = functional.binary_cross_entropy_with_logits(x, y)
        dice = 1 - (2 * (x.sigmoid() * y).sum() + 1) / (x.sigmoid().sum() + y.sum() + 1)
        named = logits[image, query].softmax(0)[labels[image, target]]
        assert float(cost[image, query, target]) == pytest.approx(float(-2 * named + 5 * entropy + 5 * dice), abs=1e-5)


def test_padding_and_more_targets_than_queries() -> None:
    torch.manual_seed(1)
    matcher = HungarianMaskMatcher(points=32)
    labels = torch.tensor([[0, 1, 2, 0], [-1, -1, -1, -1]])
    found = matcher(torch.randn(2, 2, 4), torch.randn(2, 2, 8, 8), labels, torch.rand(2, 4, 8, 8) < 0.5)
    assert (found[1] == -1).all()
    assert sorted(found[0].tolist()) == [-1, -1, 0, 1]


def test_losses_at_all_pixel_centres_are_the_dense_ones() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(3, 9, 5), (torch.rand(3, 9, 5) < 0.5).float()
    places = pixel_centres(9, 5).expand(3, -1, -1)
    assert torch.allclose(sample(x, places), x.flatten(1), atol=1e-5)
    dense = functional.binary_cross_entropy_with_logits(x, y, reduction="none").mean((1, 2))
    assert torch.allclose(cross_entropy(sample(x, places), sample(y, places)), dense, atol=1e-5)
    s = x.sigmoid()
    wanted = 1 - (2 * (s * y).sum((1, 2)) + 1) / (s.sum((1, 2)) + y.sum((1, 2)) + 1)
    assert torch.allclose(dice_loss(sample(x, places), sample(y, places)), wanted, atol=1e-5)


def test_uncertain_points_are_where_the_logits_are_small() -> None:
    torch.manual_seed(0)
    logits = torch.linspace(-8, 8, 64).expand(1, 64, 64)
    places = uncertain_points(logits, 400)
    assert places.shape == (1, 400, 2)
    values = sample(logits, places)[0].abs()
    assert float(values[:300].median()) < float(values[300:].median())


def outputs(classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    return 3 * torch.randn(2, 5, classes + 1), 4 * torch.randn(2, 5, 8, 8)


def test_one_query_of_a_certain_class_is_everywhere() -> None:
    logits = torch.full((1, 2, 4), -60.0)
    logits[0, 0, 2], logits[0, 1, 3] = 60.0, 60.0
    masks = torch.stack([torch.full((4, 4), 1e9), torch.randn(4, 4)])[None]
    found = post_processing.semantic(logits, masks, [(9, 7)])[0]
    assert found.shape == (9, 7)
    assert (found == 2).all()


@pytest.fixture(scope="module")
def processor() -> object:
    module = pytest.importorskip("transformers.models.mask2former.image_processing_pil_mask2former")
    return module.Mask2FormerImageProcessorPil()


def test_maps_are_those_of_transformers(processor: object) -> None:
    """transformers passes through 384 x 384: at this size both are the same."""
    logits, masks = outputs()
    given = GKCOutput(class_logits=logits, mask_logits=masks)
    sizes = [(384, 384), (384, 384)]
    theirs = processor.post_process_semantic_segmentation(given, sizes)  # type: ignore[attr-defined]
    for own, other in zip(post_processing.semantic(logits, masks, sizes), theirs, strict=True):
        assert float((own == other).float().mean()) > 0.9999
    options = {"threshold": 0.3, "overlap_threshold": 0.5}
    theirs = processor.post_process_panoptic_segmentation(  # type: ignore[attr-defined]
        given,
        mask_threshold=0.5,
        overlap_mask_area_threshold=0.5,
        threshold=0.3,
        label_ids_to_fuse=set(),
        target_sizes=sizes,
    )
    for own, other in zip(post_processing.panoptic(logits, masks, sizes, **options), theirs, strict=True):
        labels = sorted(s["label_id"] for s in own["segments_info"])
        assert labels == sorted(s["label_id"] for s in other["segments_info"])
        assert set(own["segments_info"][0]) == set(other["segments_info"][0])


def test_panoptic_segments_do_not_overlap_and_stuff_is_one() -> None:
    logits = torch.full((1, 3, 3), -30.0)
    logits[0, 0, 0] = logits[0, 1, 0] = logits[0, 2, 1] = 30.0
    masks = torch.full((1, 3, 6, 6), -20.0)
    masks[0, 0, :2], masks[0, 1, 4:], masks[0, 2, 2:4] = 20.0, 20.0, 20.0
    apart = post_processing.panoptic(logits, masks)[0]
    assert [s["label_id"] for s in apart["segments_info"]] == [0, 0, 1]
    assert sorted(apart["segmentation"].unique().tolist()) == [1, 2, 3]
    fused = post_processing.panoptic(logits, masks, fuse=[0])[0]
    assert [s["label_id"] for s in fused["segments_info"]] == [0, 1]
    assert fused["segments_info"][0]["was_fused"]
    nothing = post_processing.panoptic(torch.zeros(1, 3, 3), masks)[0]
    assert nothing["segments_info"] == []
    assert (nothing["segmentation"] == -1).all()


def test_panoptic_segments_are_those_of_mask2formers_rule_pixel_by_pixel() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        logits = 4 * rng.normal(size=(5, 4))
        masks = np.kron(3 * rng.normal(size=(5, 4, 4)), np.ones((2, 2)))
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        kept = [q for q in range(5) if shares[q].argmax() < 3 and shares[q].max() > 0.4]
        weighed = {q: shares[q].max() / (1 + np.exp(-masks[q])) for q in kept}
        wanted = []
        for q in kept:
            got = np.array([[max(kept, key=lambda k: weighed[k][y, x]) == q for x in range(8)] for y in range(8)])
            whole = masks[q] >= 0
            if (got & whole).any() and got.sum() > 0.8 * whole.sum():
                wanted.append((int(shares[q].argmax()), int((got & whole).sum())))
        found = post_processing.panoptic(torch.tensor(logits)[None], torch.tensor(masks)[None], threshold=0.4)[0]
        sizes = [(s["label_id"], int((found["segmentation"] == s["id"]).sum())) for s in found["segments_info"]]
        assert sizes == wanted


def test_instances_are_sorted_by_score() -> None:
    logits, masks = outputs()
    for found in post_processing.instance(logits, masks, threshold=0.2):
        scores = [s["score"] for s in found["segments_info"]]
        assert scores == sorted(scores, reverse=True)
        assert len(found["masks"]) == len(scores)
        assert all(score > 0.2 for score in scores)
    with pytest.raises(InputError, match="top_k"):
        post_processing.instance(logits, masks, top_k=0)
    with pytest.raises(InputError, match="sizes"):
        post_processing.semantic(logits, masks, [(4, 4)])
