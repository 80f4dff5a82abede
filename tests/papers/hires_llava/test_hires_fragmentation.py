"""The probe of cuts: what moves, what is compared, and which towers lose something there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paperworks.errors import InputError
from paperworks.nn import TinyViT
from paperworks.papers.hires_llava.baselines import overlapping_windows
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid
from paperworks.papers.hires_llava.figures import cuts_figure
from paperworks.papers.hires_llava.fragmentation import fragmentation_report, relative_change
from paperworks.papers.hires_llava.restoration import (
    ReadingResult,
    ReadingSettings,
    SliceReader,
    accuracy_by_position,
    reading_accuracy,
    stand_in_tower,
)


def images(count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(count)]


def tower(**options: int) -> TinyViT:
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch_size": 2, "channels": 1, "width": 16, "layers": 2, "heads": 2} | options
    return TinyViT(**sizes).eval()  # type: ignore[arg-type]


def test_a_tower_that_looks_at_each_patch_alone_loses_nothing() -> None:
    """Without positions and attention a token depends on its patch only: no window changes it."""
    blind = tower()
    torch.nn.init.zeros_(blind.positions)
    for block in blind.blocks:
        torch.nn.init.zeros_(block.self_attn.out_proj.weight)
    with pytest.raises(InputError, match="tokens that do not change"):
        fragmentation_report(blind, images(1))


def test_positions_alone_count_as_much_beside_a_cut_as_elsewhere() -> None:
    """Positions without attention change tokens wherever a window moves; cuts add nothing to it."""
    placed = tower()
    for block in placed.blocks:
        torch.nn.init.zeros_(block.self_attn.out_proj.weight)
    torch.nn.init.normal_(placed.positions, std=0.5)
    report = fragmentation_report(placed, images(8), n_resamples=100)
    assert report.ratio.estimate == pytest.approx(1, abs=0.15)


def test_a_convolution_reaches_as_far_as_its_kernel() -> None:
    """A layer that mixes neighbouring patches only: tokens beside a cut change, no other does."""

    class Neighbours(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            square = x[:, 1:].unflatten(1, (8, 8)).movedim(-1, 1)
            mixed = torch.nn.functional.avg_pool2d(square, 3, 1, 1).movedim(1, -1).flatten(1, 2)
            return torch.cat([x[:, :1], mixed], 1)

    local = tower(layers=1)
    torch.nn.init.zeros_(local.positions)
    local.blocks = torch.nn.ModuleList([Neighbours()])
    with pytest.raises(InputError, match="tokens that do not change"):
        # mid-window nothing changes at all, so that there is nothing to compare with
        fragmentation_report(local, images(2), n_resamples=20)


def test_the_report_of_a_random_tower() -> None:
    found = fragmentation_report(tower(), [*images(2), np.zeros((8, 8, 3), np.uint8)], n_resamples=50)
    assert (len(found.images), found.uncut) == (2, 1)
    assert found.ratio.low <= found.ratio.estimate <= found.ratio.high
    assert len(found.profile) == 2
    one = found.images[0]
    assert one.change.shape == (16, 16)
    # two cuts, both sides, 16 tokens along each
    assert len(one.beside) == len(one.middle) == 2 * 2 * 16
    assert np.isnan(one.change[0, 0])
    assert not np.isnan(one.change[0, 7:9]).any()
    assert found.to_dict()["images_in_one_slice"] == 1
    again = fragmentation_report(HiResVisionEncoder(tower(), init="default"), images(2), n_resamples=50)
    assert again.beside == pytest.approx(found.beside)  # the tower is probed, not the adapter


def test_pictures_have_the_names_of_their_own_images() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (16, 40, 12, 64)]
    report = fragmentation_report(tower(), images, n_resamples=10)
    assert (report.uncut, [one.number for one in report.images]) == (2, [1, 3])
    figure = cuts_figure(report, ["a", "b", "c", "d"])
    assert [axis.get_title() for axis in figure.axes[:2]] == ["b", "d"]


def test_padding_is_left_out() -> None:
    rng = np.random.default_rng(1)
    report = fragmentation_report(tower(), [rng.integers(0, 256, (20, 32, 3), dtype=np.uint8)], n_resamples=20)
    one = report.images[0]
    assert np.isnan(one.change[10:]).all()
    assert np.isfinite(report.ratio.estimate)


def test_relative_change_and_bad_input() -> None:
    assert relative_change(np.array([[3.0, 4.0]]), np.array([[0.0, 4.0]])).tolist() == [0.75]
    with pytest.raises(InputError, match="fit into one slice of 16 x 16 pixels"):
        fragmentation_report(tower(), [np.zeros((16, 16, 3), np.uint8)])
    with pytest.raises(InputError, match="images: found none"):
        fragmentation_report(tower(), [])
    with pytest.raises(InputError, match="at least 4"):
        fragmentation_report(tower(patch_size=8), images(1))
    with pytest.raises(InputError, match="max_slices"):
        fragmentation_report(tower(), images(1), max_slices=1)


def test_overlapping_windows_hold_what_fits_into_the_overlap() -> None:
    canvas = np.arange(32 * 32 * 3).reshape(32, 32, 3)
    windows = overlapping_windows(canvas, 16, 8)
    assert windows.shape == (9, 16, 16, 3)
    assert np.array_equal(windows[4], canvas[8:24, 8:24])
    assert len(overlapping_windows(canvas[:20], 16, 0)) == 2 * 2
    with pytest.raises(InputError, match="overlap"):
        overlapping_windows(canvas, 16, 16)
    with pytest.raises(InputError, match="canvas"):
        overlapping_windows(canvas, 40, 0)


def test_a_reader_is_trained_on_a_frozen_tower_and_tested_on_unseen_objects() -> None:
    grid = EntityGrid("digits", canvas=32, per_category=4)
    model = stand_in_tower(grid, steps=2, batch_size=4, width=8, layers=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = ReadingSettings(steps=2, batch_size=4, test_per_position=3)
    found = {}
    for name, reading in (("with", "sliced"), ("overlap", "overlap"), ("low", "low-resolution")):
        found[name] = reading_accuracy(
            model,
            grid,
            settings,
            encoder=(lambda vision: HiResVisionEncoder(vision, sra_layers="all", sampler=None, global_view=False))
            if name == "with"
            else None,
            reading=reading,  # type: ignore[arg-type]
        )
    assert all(one.by_position.shape == (9,) for one in found.values())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    again = reading_accuracy(model, grid, settings)
    assert again.losses == reading_accuracy(model, grid, settings).losses


def test_positions_of_a_result() -> None:
    result = ReadingResult(np.array([1, 0.5, 1, 0.5, 0.2, 0.5, 1, 0.5, 1.0]), [])
    assert (result.inside, result.edge, result.center) == (1, 0.5, pytest.approx(0.2))
    assert (result.disc1, result.disc2) == (0.5, pytest.approx(0.8))


def test_a_reader_without_the_adapter_cannot_tell_slices_in_another_order() -> None:
    """Its mean forgets where slices lie; with the adapter it does not."""
    grid = EntityGrid("digits", canvas=32, per_category=4)
    model = tower(patch_size=4)
    swapped = torch.tensor([3, 2, 1, 0])
    for layers, same in (("none", True), ("all", False)):
        encoder = HiResVisionEncoder(model, sra_layers=layers, init="default", sampler=None, global_view=False)  # type: ignore[arg-type]
        reader = SliceReader(encoder, 10).eval()
        given = reader.slices_of(grid.draw([(0, 1)])[None])
        with torch.no_grad():
            assert torch.allclose(reader(given), reader(given[:, swapped]), atol=1e-4) == same
        assert accuracy_by_position(reader, grid, ReadingSettings(test_per_position=2)).shape == (9,)
