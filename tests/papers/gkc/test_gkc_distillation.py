"""Text-guided distillation and the grounding loss: optimum, symmetry, gradients, forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.gkc.distillation import FORMS, TextGuidedDistillation, region_limit
from paperworks.papers.gkc.grounding import GroundingLoss, caption_nouns, drop_words


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    values = np.random.default_rng(seed).normal(size=(count, width))
    return functional.normalize(torch.from_numpy(values), dim=1)


@pytest.mark.parametrize("form", ["distance", "inner", "point"])
def test_the_optimum_is_zero_and_any_changed_row_is_above(form: str) -> None:
    loss = TextGuidedDistillation(form)  # type: ignore[arg-type]
    same = torch.linalg.qr(rows(6, 6, 0)).Q
    assert float(loss(same, same, same).detach()) < 1e-20
    for row in range(6):
        changed = same.clone()
        changed[row] = functional.normalize(changed[row] + 0.1 * rows(1, 6, row)[0], dim=0)
        assert float(loss(changed, same, same).detach()) > 1e-6
    turned = same @ torch.linalg.qr(rows(6, 6, 9)).Q  # the texts' own space may be turned: distances stay
    assert float(loss(same, same, turned).detach()) < 1e-12


def test_regions_permuted_together_change_nothing_and_teachers_alone_do() -> None:
    v, r, t, order = rows(7, 5, 1), rows(7, 5, 2), rows(7, 9, 3), torch.tensor([3, 1, 0, 6, 5, 4, 2])
    for form in FORMS:
        loss = TextGuidedDistillation(form)  # type: ignore[arg-type]
        whole = float(loss(v, r, t).detach())
        assert float(loss(v[order], r[order], t[order]).detach()) == pytest.approx(whole, abs=1e-12)
        assert abs(float(loss(v, r[order], t).detach()) - whole) > 1e-4


def test_the_distance_form_is_the_sum_over_pairs() -> None:
    v, r, t = rows(4, 3, 1), rows(4, 3, 2), rows(4, 6, 3)
    total = sum(abs(float((v[i] - r[j]).norm()) - float((t[i] - t[j]).norm())) for i in range(4) for j in range(4))
    assert float(TextGuidedDistillation()(v, r, t)) == pytest.approx(total / 4, rel=1e-5)
    assert float(TextGuidedDistillation(reduction="mean")(v, r, t)) == pytest.approx(total / 16, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form: str) -> None:
    loss = TextGuidedDistillation(form).double()  # type: ignore[arg-type]
    v, r, t = rows(3, 4, 1).requires_grad_(), rows(3, 4, 2), rows(3, 5, 3)
    assert torch.autograd.gradcheck(lambda x: loss(x, r, t), (v,))


def test_coincident_points_have_a_finite_gradient() -> None:
    v = rows(3, 4, 1).requires_grad_()
    TextGuidedDistillation()(v, v.detach(), rows(3, 5, 3)).backward()
    assert torch.isfinite(v.grad).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_both_forms_vanish_together_on_unit_vectors(seed: int, count: int) -> None:
    """|x - y|^2 = 2 - 2 x.y: where every distance is the text's, every product is, with a = 1."""
    t = rows(count, 8, seed)
    turn = torch.linalg.qr(rows(8, 8, seed + 1)).Q
    v = t @ turn
    inner, distance = TextGuidedDistillation("inner"), TextGuidedDistillation()
    assert float(distance(v, v, t)) < 1e-7
    assert float(inner(v, v, t).detach()) < 1e-14
    off = rows(count, 8, seed + 2)
    assert float(distance(off, v, t)) > 1e-3
    assert float(inner(off, v, t).detach()) > 1e-6


def test_images_are_apart_and_none_or_one_region_is_no_trouble() -> None:
    v, r, t = rows(5, 4, 1), rows(5, 4, 2), rows(5, 4, 3)
    image = torch.tensor([0, 0, 1, 1, 1])
    loss = TextGuidedDistillation()
    apart = (loss(v[:2], r[:2], t[:2]) + loss(v[2:], r[2:], t[2:])) / 2
    assert float(loss(v, r, t, image)) == pytest.approx(float(apart), rel=1e-12)
    assert float(loss(v[:1], r[:1], t[:1])) == pytest.approx(float((v[0] - r[0]).norm()), rel=1e-5)
    empty = torch.zeros(0, 4, requires_grad=True)
    nothing = loss(empty, torch.zeros(0, 4), torch.zeros(0, 4))
    nothing.backward()
    assert float(nothing.detach()) == 0


def test_half_precision_is_computed_in_full() -> None:
    v, r, t = rows(4, 4, 1), rows(4, 4, 2), rows(4, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = TextGuidedDistillation()(v.bfloat16(), r.bfloat16(), t.bfloat16())
    assert found.dtype == torch.float32


def test_bad_regions_and_options() -> None:
    with pytest.raises(InputError, match="form"):
        TextGuidedDistillation("banana")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reduction"):
        TextGuidedDistillation(reduction="max")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="regions"):
        TextGuidedDistillation()(rows(3, 4, 1), rows(3, 5, 1), rows(3, 4, 1))


def test_at_most_so_many_regions() -> None:
    assert region_limit(3, 5).tolist() == [0, 1, 2]
    chosen = region_limit(300, 200)
    assert len(chosen.unique()) == 200
    assert chosen.tolist() == sorted(chosen.tolist())


def test_grounding_finds_the_right_caption_and_disregards_padding() -> None:
    e = torch.eye(4)
    regions = torch.stack([e[:2], e[2:]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    right = GroundingLoss()(regions, mask, regions, mask, 10.0)
    wrong = GroundingLoss()(regions, mask, regions.flip(0), mask, 10.0)
    assert float(right) < 0.01 < float(wrong)
    padded = torch.cat([regions, torch.full((2, 1, 4), 7.0)], 1)
    more = torch.cat([mask, torch.zeros(2, 1, dtype=torch.bool)], 1)
    assert float(GroundingLoss()(padded, more, padded, more, 10.0)) == pytest.approx(float(right), abs=1e-6)


def test_grounding_by_hand_for_one_region_and_one_word_each() -> None:
    r, w = rows(3, 5, 1), rows(3, 5, 2)
    one = torch.ones(3, 1, dtype=torch.bool)
    cost = 4.0 * (1 - r @ w.T)
    labels = torch.arange(3)
    wanted = (functional.cross_entropy(-cost, labels) + functional.cross_entropy(-cost.T, labels)) / 2
    found = GroundingLoss()(r[:, None].float(), one, w[:, None].float(), one, 4.0)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


def test_grounding_without_captions_is_zero_with_a_gradient() -> None:
    regions = torch.ones(2, 1, 3, requires_grad=True)
    none = torch.zeros(2, 1, dtype=torch.bool)
    loss = GroundingLoss()(regions, none, torch.ones(2, 1, 3), none)
    loss.backward()
    assert float(loss.detach()) == 0
    with pytest.raises(InputError, match="words"):
        GroundingLoss()(torch.ones(2, 1, 3), none, torch.ones(2, 1, 4), none)


def test_nouns_of_captions() -> None:
    assert caption_nouns("A Cat sat on a cat's sofa-bed, a sofa.", {"cat", "sofa"}) == ["cat", "sofa"]
    rng = np.random.default_rng(0)
    assert all(1 <= len(drop_words([1, 2, 3, 4, 5, 6, 7], rng)) <= 5 for _ in range(50))
    assert {tuple(drop_words([1], rng)) for _ in range(30)} == {(1,)}
    assert drop_words([], rng) == []
