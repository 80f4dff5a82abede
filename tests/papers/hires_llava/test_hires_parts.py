"""Slicing, merging and splitting, the adapter and the samplers: what must hold exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.hires_llava.adapter import SliceRestoreAdapter, adapter_macs, merge_slices, split_slices
from paperworks.papers.hires_llava.grid import choose_grid, cut_image, on_canvas, place_image
from paperworks.papers.hires_llava.samplers import (
    AveragePoolSampler,
    ConcatSampler,
    SelfMiningSampler,
    make_sampler,
    token_count,
)

sizes = st.integers(1, 4)


@given(k=sizes, m=sizes, n=sizes, h=sizes, w=sizes, width=sizes)
def test_split_undoes_merge(k: int, m: int, n: int, h: int, w: int, width: int) -> None:
    slices = torch.randn(k, m * n, h, w, width)
    assert torch.equal(split_slices(merge_slices(slices, (m, n)), (m, n)), slices)


@given(m=sizes, n=sizes, h=sizes, w=sizes)
def test_coordinates_are_in_order_on_the_merged_map(m: int, n: int, h: int, w: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(m * h), torch.arange(n * w), indexing="ij")
    whole = torch.stack([rows, columns], -1)
    slices = torch.stack([whole[r * h : r * h + h, c * w : c * w + w] for r in range(m) for c in range(n)])
    assert torch.equal(merge_slices(slices[None], (m, n))[0], whole)


def test_merge_and_split_refuse_what_is_no_grid() -> None:
    with pytest.raises(InputError, match=r"slices: found \(1, 3, 2, 2, 4\)"):
        merge_slices(torch.zeros(1, 3, 2, 2, 4), (2, 2))
    with pytest.raises(InputError, match="whole"):
        split_slices(torch.zeros(1, 3, 2, 4), (2, 1))


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 9))
def test_the_grid_is_the_best_of_all(height: int, width: int, most: int) -> None:
    side = 224

    def resolution(grid: tuple[int, int]) -> float:
        scale = min(grid[1] * side / width, grid[0] * side / height)
        return min(height * width, scale * scale * height * width)

    chosen = choose_grid(height, width, side, most)
    every = [(m, n) for m in range(1, most + 1) for n in range(1, most + 1) if m * n <= most]
    best = max(resolution(grid) for grid in every)
    assert chosen in every
    assert resolution(chosen) == pytest.approx(best)
    waste = min(m * n for m, n in every if resolution((m, n)) > best * (1 - 1e-12))
    assert chosen[0] * chosen[1] == waste


@pytest.mark.parametrize(
    ("size", "expected"),
    [((224, 224), (1, 1)), ((448, 448), (2, 2)), ((448, 224), (2, 1)), ((200, 900), (1, 4)), ((10, 10), (1, 1))],
)
def test_grids_of_known_images(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert choose_grid(*size, 224, 4) == expected


def test_slices_are_row_major_and_padding_is_at_the_bottom_right() -> None:
    image = np.arange(32 * 32, dtype=np.int64).reshape(32, 32, 1).repeat(3, 2).astype(np.uint8)
    place = place_image(32, 32, 16, 4)
    slices = cut_image(image, place, np.zeros(3))
    assert place.grid == (2, 2)
    assert np.array_equal(slices[1], image[:16, 16:])
    assert np.array_equal(slices[2], image[16:, :16])
    wide = place_image(20, 32, 16, 4, grid=(2, 2))
    canvas = on_canvas(np.full((20, 32, 3), 9, np.uint8), wide, np.array([1.0, 2.0, 3.0]))
    assert wide.scaled == (20, 32)
    assert (canvas[:20] == 9).all()
    assert (canvas[20:] == [1, 2, 3]).all()
    mask = wide.valid_tokens(4)
    assert mask.shape == (8, 8)
    assert mask[:5].all()
    assert not mask[5:].any()


def test_boxes_and_cuts_are_in_pixels_of_the_image() -> None:
    place = place_image(64, 128, 16, 2)
    assert place.grid == (1, 2)
    assert place.slice_boxes() == [(0, 0, 64, 64), (64, 0, 128, 64)]
    assert place.cut_lines() == ([], [64])


def test_zero_projection_changes_nothing_and_still_gets_a_gradient() -> None:
    adapter = SliceRestoreAdapter(8, 2)
    slices = torch.randn(2, 4, 3, 3, 8)
    assert torch.equal(adapter(slices, (2, 2)), slices)
    (adapter(slices, (2, 2)) * torch.randn(2, 4, 3, 3, 8)).sum().backward()
    assert adapter.projection.weight.grad is not None
    assert adapter.projection.weight.grad.abs().sum() > 0


def changed(adapter: SliceRestoreAdapter, grid: tuple[int, int], kernel: int = 3) -> torch.Tensor:
    """Which tokens of the first slice change when all tokens of the second do, bool [h, w]."""
    slices = torch.randn(1, grid[0] * grid[1], 5, 5, 8)
    other = slices.clone()
    other[:, 1] += torch.randn(1, 5, 5, 8)
    with torch.no_grad():
        return (adapter(slices, grid) != adapter(other, grid)).any(-1)[0, 0]


@pytest.mark.parametrize("kernel", [3, 5])
def test_the_local_path_reaches_half_a_kernel_across_a_cut(kernel: int) -> None:
    torch.manual_seed(0)
    adapter = SliceRestoreAdapter(8, 2, kernel=kernel, path="local", init="default")
    assert torch.equal(changed(adapter, (1, 2)), (torch.arange(5) >= 5 - kernel // 2).expand(5, 5))
    assert torch.equal(changed(adapter, (2, 1)), (torch.arange(5) >= 5 - kernel // 2)[:, None].expand(5, 5))


def test_the_global_path_reaches_every_token() -> None:
    torch.manual_seed(0)
    for path in ("global", "both"):
        assert changed(SliceRestoreAdapter(8, 2, path=path, init="default"), (2, 2)).all()


def test_images_of_a_group_do_not_mix() -> None:
    torch.manual_seed(0)
    adapter = SliceRestoreAdapter(8, 2, init="default")
    slices = torch.randn(3, 4, 3, 3, 8)
    together = adapter(slices, (2, 2))
    alone = torch.cat([adapter(one[None], (2, 2)) for one in slices])
    assert torch.allclose(together, alone, atol=1e-6)


def test_strided_convolution_and_single_slices() -> None:
    torch.manual_seed(0)
    slices = torch.randn(1, 1, 6, 6, 8)
    adapter = SliceRestoreAdapter(8, 2, path="local", stride=3, init="default")
    assert adapter(slices, (1, 1)).shape == slices.shape
    skipping = SliceRestoreAdapter(8, 2, init="default", skip_single=True)
    assert skipping(slices, (1, 1)) is slices
    # one slice, local only: the encoder's layer and a depth-wise convolution, nothing else
    local = SliceRestoreAdapter(8, 2, path="local", init="default", normalize=False)
    assert local.convolution is not None
    plain = local.convolution(slices[:, 0].movedim(-1, 1)).movedim(1, -1)[:, None]
    assert torch.allclose(local(slices, (1, 1)), slices + local.projection(plain), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "field"),
    [({"kernel": 2}, "kernel"), ({"stride": 2}, "stride"), ({"path": "x"}, "path"), ({"init": "x"}, "init")],
)
def test_bad_options_of_the_adapter(options: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}"):
        SliceRestoreAdapter(8, 2, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="heads"):
        SliceRestoreAdapter(8, 3)


def test_costs_are_those_of_the_specification() -> None:
    costs = adapter_macs((2, 2), 576, 1024)
    assert costs["local"] == pytest.approx(21e6, rel=0.02)
    assert costs["global"] == pytest.approx(3.1e9, rel=0.02)
    assert costs["full"] == pytest.approx(20.5e9, rel=0.02)


def test_a_sampler_without_output_is_average_pooling() -> None:
    torch.manual_seed(0)
    sampler = SelfMiningSampler(8, 2, window=2, layers=2)
    for layer in sampler.layers:
        for part in (layer.attention.out_proj, layer.feed_forward[2]):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)
    whole = torch.randn(2, 4, 6, 8)
    tokens, mask = sampler(whole)
    pooled = torch.nn.functional.avg_pool2d(whole.movedim(-1, 1), 2).movedim(1, -1).flatten(1, 2)
    assert mask.all()
    assert torch.allclose(tokens, pooled, atol=1e-6)
    assert torch.allclose(AveragePoolSampler(8)(whole)[0], pooled, atol=1e-6)


@pytest.mark.parametrize("name", ["self-mining", "avgpool", "concat"])
def test_one_token_in_changes_one_token_out(name: str) -> None:
    torch.manual_seed(0)
    sampler = make_sampler(name, 8, 2, window=3)  # type: ignore[arg-type]
    whole = torch.randn(1, 6, 9, 8)
    other = whole.clone()
    other[0, 4, 7] += 1
    with torch.no_grad():
        different = (sampler(whole)[0] != sampler(other)[0]).any(-1)[0]
    assert different.nonzero().tolist() == [[1 * 3 + 2]]


@given(m=sizes, n=sizes, half=st.integers(1, 3))
def test_the_number_of_tokens(m: int, n: int, half: int) -> None:
    side = 2 * half
    tokens, _ = AveragePoolSampler(2)(torch.zeros(1, m * side, n * side, 2))
    assert tokens.shape[1] == m * half * n * half == token_count((m, n), side, 2, global_view=False)


def test_tokens_of_the_papers_encoder() -> None:
    assert token_count((2, 2), 24, 2) == 720
    assert token_count((2, 2), 24, 1) == 2880


def test_padding_is_left_out_of_windows() -> None:
    torch.manual_seed(0)
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[:, 3:] = False
    mask[:, :, 2:] = False
    whole = torch.randn(1, 4, 4, 8)
    spoilt = torch.where(mask[..., None], whole, torch.full_like(whole, 1e4))
    for sampler in (SelfMiningSampler(8, 2), AveragePoolSampler(8), ConcatSampler(8)):
        with torch.no_grad():
            tokens, known = sampler(whole, mask)
            others, _ = sampler(spoilt, mask)
        assert known.tolist() == [[True, False, True, False]]
        assert torch.allclose(tokens, others, atol=1e-5)
        assert torch.isfinite(tokens).all()
    assert torch.allclose(AveragePoolSampler(8)(whole, mask)[0][0, 2], whole[0, 2, :2].mean(0), atol=1e-6)


def test_a_map_that_does_not_divide_is_padded() -> None:
    whole = torch.randn(1, 3, 5, 8)
    tokens, known = AveragePoolSampler(8)(whole)
    assert tokens.shape[1] == 2 * 3
    assert known.all()
    assert torch.allclose(tokens[0, 5], whole[0, 2, 4], atol=1e-6)


def test_learned_queries_give_their_number_of_tokens() -> None:
    for name in ("qformer", "resampler"):
        sampler = make_sampler(name, 8, 2, queries=5)  # type: ignore[arg-type]
        tokens, known = sampler(torch.randn(2, 4, 4, 8))
        assert tokens.shape == (2, 5, 8)
        assert known.all()
    with pytest.raises(InputError, match="sampler"):
        make_sampler("other", 8, 2)  # type: ignore[arg-type]


def test_a_window_attends_to_its_own_tokens_by_hand() -> None:
    """The sampler beside the formula written out for one window with one head."""
    torch.manual_seed(1)
    sampler = SelfMiningSampler(4, 1, window=2)
    whole = torch.randn(1, 2, 2, 4)
    layer = sampler.layers[0]
    keys = whole.reshape(4, 4)
    query = keys.mean(0, keepdim=True)
    wq, wk, wv = layer.attention.in_proj_weight.chunk(3)
    bq, bk, bv = layer.attention.in_proj_bias.chunk(3)
    q, k, v = (
        layer.norm_query(query) @ wq.T + bq,
        layer.norm_keys(keys) @ wk.T + bk,
        layer.norm_keys(keys) @ wv.T + bv,
    )
    z = query + layer.attention.out_proj(torch.softmax(q @ k.T / math.sqrt(4), -1) @ v)
    z = z + layer.feed_forward(layer.norm(z))
    with torch.no_grad():
        assert torch.allclose(sampler(whole)[0][0], z, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(30, 3000), st.integers(30, 3000))
def test_grids_are_as_good_as_those_of_llava_next(height: int, width: int) -> None:
    """The peer that users have: transformers' choice among the same grids, with lengths cut to whole pixels."""
    from transformers.image_processing_utils import select_best_resolution

    side, most = 336, 4
    grids = [(m, n) for m in range(1, most + 1) for n in range(1, most + 1) if m * n <= most]
    tall, wide = select_best_resolution((height, width), [(m * side, n * side) for m, n in grids])
    theirs, ours = (tall // side, wide // side), choose_grid(height, width, side, most)

    def resolution(grid: tuple[int, int]) -> float:
        scale = min(grid[1] * side / width, grid[0] * side / height)
        return min(height * width, scale * scale * height * width)

    assert resolution(ours) >= resolution(theirs) * (1 - 1e-9)
    if resolution(ours) < resolution(theirs) * (1 + 1e-9):  # as sharp: then no more slices than theirs
        assert ours[0] * ours[1] <= theirs[0] * theirs[1]
