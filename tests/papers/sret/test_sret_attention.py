"""Sliced attention against the definition, shared weights against unshared ones, and the stack around any block."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paperworks.errors import InputError
from paperworks.papers.sret import Block, GroupAttention, NonlinearProjection, RecursiveStack, fixed_permutation
from paperworks.papers.sret.recursion import PERMUTES, divisors, into_groups, out_of_groups

N, D, HEADS = 12, 8, 2


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def masked_attention(attention: GroupAttention, x: Tensor, groups: int, permutation: Tensor) -> Tensor:
    """Softmax attention over all tokens with the mask "same group", written out; no reshaping into groups."""
    place = torch.empty_like(permutation)
    place[permutation] = torch.arange(len(permutation))
    group = place // (len(permutation) // groups)
    q, k, v = attention.qkv(x).split(x.shape[2], dim=2)
    heads = []
    width = x.shape[2] // attention.heads
    for h in range(attention.heads):
        part = slice(h * width, (h + 1) * width)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(width)
        scores = scores.masked_fill(group[:, None] != group[None, :], -math.inf)
        heads.append(scores.softmax(-1) @ v[..., part])
    return attention.output(torch.cat(heads, 2))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(divisors(N)), st.integers(0, 2**32), st.booleans())
def test_sliced_attention_is_full_attention_under_a_mask(groups: int, seed: int, permuted: bool) -> None:
    torch.manual_seed(seed % 1000)
    attention, x = GroupAttention(D, HEADS), torch.randn(2, N, D)
    permutation = fixed_permutation(N, seed) if permuted else torch.arange(N)
    expected = masked_attention(attention, x, groups, permutation)
    found = attention(x, groups, permutation if permuted else None)
    assert (found - expected).abs().max() < 1e-5
    if groups == 1:
        assert torch.allclose(found, attention(x), atol=1e-6)


def test_permutation_equivariance_holds_without_slices_only() -> None:
    block, x, order = Block(D, HEADS), torch.randn(2, N, D), torch.randperm(N)
    assert torch.allclose(block(x[:, order]), block(x)[:, order], atol=1e-5)
    fixed = fixed_permutation(N)
    assert not torch.allclose(block(x[:, order], 3, fixed), block(x, 3, fixed)[:, order], atol=1e-3)


def stack(loops: int = 2, distinct: int = 2, *, nll: bool = True, **options: object) -> RecursiveStack:
    projection = (lambda _: NonlinearProjection(D, 1.0)) if nll else None
    return RecursiveStack(lambda _: Block(D, HEADS, 2.0), distinct, loops, projection=projection, **options)  # type: ignore[arg-type]


def test_coefficients_of_zero_make_the_identity() -> None:
    made, x = stack(groups=(4, 2)), torch.randn(2, N, D)
    for module in made.modules():
        if isinstance(module, (Block, NonlinearProjection)):
            module.coefficients.data[1::2] = 0
    assert torch.equal(made(x), x)


def test_without_projections_two_loops_are_the_block_of_the_block() -> None:
    made, x = stack(distinct=1), torch.randn(2, N, D)
    made.projections[0].coefficients.data[1] = made.projections[1].coefficients.data[1] = 0
    assert torch.equal(made(x), made.blocks[0](made.blocks[0](x)))


def test_the_gradient_of_a_shared_block_is_the_sum_over_unshared_copies() -> None:
    shared = stack(distinct=1, groups=(4, 2), permute="fixed")
    unshared = stack(loops=2, distinct=1, groups=(4, 2), permute="fixed")
    unshared.load_state_dict(shared.state_dict())
    copies = [Block(D, HEADS, 2.0), Block(D, HEADS, 2.0)]
    for copy in copies:
        copy.load_state_dict(shared.blocks[0].state_dict())
    x = torch.randn(2, N, D)
    shared(x).pow(2).sum().backward()
    first = unshared.projections[0](copies[0](x, 4))
    last = unshared.projections[1](copies[1](first, 2, fixed_permutation(N, 0, 1)))
    last.pow(2).sum().backward()
    for one, a, b in zip(shared.blocks[0].parameters(), *(c.parameters() for c in copies), strict=True):
        both = a.grad + b.grad
        assert (one.grad - both).norm() <= 1e-5 * both.norm()
        assert not torch.allclose(one.grad, a.grad, rtol=1e-3)


def test_order_of_the_passes() -> None:
    assert stack(order="block").schedule == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert stack(order="stage").schedule == [(0, 0), (1, 0), (0, 1), (1, 1)]


class Noting(nn.Module):
    """A block that notes how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int, list[int] | None]] = []

    def forward(self, x: Tensor, pass_index: int, groups: int, permutation: Tensor | None) -> Tensor:
        self.calls.append((pass_index, groups, None if permutation is None else permutation.tolist()))
        return x


def calls(training: bool, permute: str, times: int = 2) -> list[tuple[int, int, list[int] | None]]:
    made = RecursiveStack(lambda _: Noting(), 1, 3, groups=(4, 2), permute=permute).train(training)  # type: ignore[arg-type]
    for _ in range(times):
        made(torch.zeros(1, N, 1))
    return made.blocks[0].calls  # type: ignore[return-value]


def test_the_first_pass_is_not_permuted_and_later_ones_have_their_own_groups() -> None:
    for permute in PERMUTES:
        found = calls(True, permute, 1)
        assert [(turn, groups) for turn, groups, _ in found] == [(0, 4), (1, 2), (2, 2)]
        assert found[0][2] is None
        assert all((order is None) == (permute == "none") for _, _, order in found[1:])


@pytest.mark.parametrize(
    ("permute", "training", "redrawn"),
    [("train", True, True), ("train", False, False), ("always", False, True), ("fixed", True, False)],
)
def test_when_a_permutation_is_drawn_anew(permute: str, training: bool, redrawn: bool) -> None:
    found = calls(training, permute)
    assert all(sorted(order) == list(range(N)) for _, _, order in found if order is not None)
    assert (found[1] != found[4]) == redrawn
    assert found[1][2] != found[2][2], "passes have permutations of their own"


def test_fixed_permutations_stay_the_same_in_every_version() -> None:
    assert fixed_permutation(8, 3, 2).tolist() == [3, 5, 1, 0, 2, 4, 6, 7]
    assert fixed_permutation(8).tolist() == [5, 4, 7, 6, 3, 0, 1, 2]
    with pytest.raises(InputError, match="seed"):
        fixed_permutation(8, -1)


@given(st.integers(0, 1000), st.sampled_from(divisors(N)))
@settings(max_examples=20, deadline=None)
def test_groups_are_undone(seed: int, groups: int) -> None:
    x, order = torch.randn(2, N, 3), fixed_permutation(N, seed)
    assert torch.equal(out_of_groups(into_groups(x, groups, order), groups, order), x)


class Plain(nn.Module):
    """Our block without knowledge of groups."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Block(D, HEADS, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_block_that_knows_no_groups_gets_each_group_as_an_example() -> None:
    aware = stack(nll=False, groups=(4, 2))
    plain = RecursiveStack(lambda _: Plain(), 2, 2, groups=(4, 2))
    for ours, theirs in zip(aware.blocks, plain.blocks, strict=True):
        theirs.inner.load_state_dict(ours.state_dict())
    x = torch.randn(2, N, D)
    assert torch.allclose(aware.eval()(x), plain.eval()(x), atol=1e-5)


def test_a_layer_of_pytorch_and_its_mask_are_sliced() -> None:
    layer = nn.TransformerEncoderLayer(D, HEADS, 2 * D, dropout=0.0, batch_first=True)
    made = RecursiveStack(lambda _: layer, 1, 2, groups=(3, 2), permute="fixed")
    x = torch.randn(2, N, D)
    mask = torch.zeros(2, N, dtype=torch.bool)
    mask[0, -2:] = True
    found = made(x, src_key_padding_mask=mask)
    changed = x.clone()
    changed[0, -2:] += 1.0
    other = made(changed, src_key_padding_mask=mask)
    assert torch.allclose(found[0, :-2], other[0, :-2], atol=1e-5), "padding must not reach other tokens"
    assert torch.allclose(found[1], other[1], atol=1e-5)


def test_checkpointed_passes_have_the_same_gradient() -> None:
    made, x = stack(groups=(4, 2), permute="train"), torch.randn(2, N, D)
    gradients = []
    for checkpointing in (False, True):
        made.gradient_checkpointing = checkpointing
        made.zero_grad()
        torch.manual_seed(3)
        made.train()(x).pow(2).sum().backward()
        gradients.append([p.grad.clone() for p in made.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_bad_options_are_named() -> None:
    for options, field in (
        ({"loops": 0}, "loops"),
        ({"distinct": 0}, "distinct"),
        ({"order": "other"}, "order"),
        ({"permute": "never"}, "permute"),
        ({"groups": (0, 1)}, "groups"),
        ({"groups": (1,)}, "groups"),
    ):
        with pytest.raises(InputError, match=field):
            stack(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"5 groups of 12 tokens; expected a divisor of 12: 1, 2, 3, 4, 6, 12"):
        stack(groups=(5, 1))(torch.zeros(1, N, D))
    with pytest.raises(InputError, match="heads"):
        GroupAttention(D, 3)
