"""Batched augmentations: exact results, and random numbers that belong to a row and not to its batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from paperworks.errors import InputError
from paperworks.inputs.transforms import (
    ColorJitter,
    Compose,
    Cutout,
    Normalize,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    Resize,
    RowRandom,
    cutmix,
    mixup,
    one_hot,
)

ALL = Compose(
    [
        RandomCrop(2),
        RandomHorizontalFlip(),
        ColorJitter(0.3, 0.3, 0.3),
        RandomErasing(),
        Cutout(3),
        Normalize([0.5], [0.2]),
    ]
)


def images(n: int = 6, channels: int = 3, size: int = 8) -> torch.Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_numbers_are_uniform_and_differ_by_seed_epoch_and_row() -> None:
    draw = RowRandom(0, 0, np.arange(2000)).uniform(5)
    assert stats.kstest(draw.ravel(), "uniform").pvalue > 0.001
    assert abs(np.corrcoef(draw.T) - np.eye(5)).max() < 0.1
    keys = [(s, e) for s in range(3) for e in range(3)]
    first = {k: tuple(RowRandom(*k, [0, 1, 2]).uniform()) for k in keys}
    assert len({value for row in first.values() for value in row}) == 27
    assert RowRandom(1, 2, [7]).integers(3, 5, 1000).min() == 3
    assert set(RowRandom(1, 2, [7]).integers(3, 5, 1000).ravel().tolist()) == {3, 4}


def test_a_row_does_not_depend_on_its_batch() -> None:
    x, rows = images(), np.array([10, 3, 7, 99, 0, 5])
    whole = ALL(x, RowRandom(4, 2, rows))
    order = [5, 0, 3]
    assert torch.equal(ALL(x[order], RowRandom(4, 2, rows[order])), whole[order])
    assert torch.equal(torch.cat([ALL(x[i : i + 1], RowRandom(4, 2, rows[i : i + 1])) for i in range(6)]), whole)
    assert not torch.equal(ALL(x, RowRandom(4, 3, rows)), whole)
    mixed = ALL(x, RowRandom(4, np.array([2, 2, 2, 3, 3, 3]), rows))
    assert torch.equal(mixed[:3], whole[:3])
    assert torch.equal(mixed[3:], ALL(x, RowRandom(4, 3, rows))[3:])


def test_a_crop_is_a_window_of_the_padded_image_and_all_windows_occur() -> None:
    x = images(400, 1, 4)
    cropped = RandomCrop(1)(x, RowRandom(0, 0, np.arange(400)))
    padded = torch.nn.functional.pad(x, (1,) * 4)
    seen = set()
    for before, after in zip(padded, cropped, strict=True):
        fits = [(t, le) for t in range(3) for le in range(3) if torch.equal(before[:, t : t + 4, le : le + 4], after)]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 9
    assert RandomCrop(0, (3, 2))(x, RowRandom(0, 0, np.arange(400))).shape == (400, 1, 3, 2)


def test_flip() -> None:
    x = images(200)
    assert torch.equal(RandomHorizontalFlip(1)(x, RowRandom(0, 0, np.arange(200))), x.flip(3))
    half = RandomHorizontalFlip()(x, RowRandom(0, 0, np.arange(200)))
    flipped = [torch.equal(a, b.flip(2)) for a, b in zip(half, x, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(half, x, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 70 < sum(flipped) < 130


def test_erasing_and_cutout_fill_one_rectangle_and_leave_the_rest() -> None:
    x = images(100, 3, 12)
    for transform in (RandomErasing(1, value=-1), Cutout(4, value=-1)):
        done = transform(x, RowRandom(0, 0, np.arange(100)))
        gone = (done == -1).all(1)
        assert torch.equal(done[~gone[:, None].expand_as(done)], x[~gone[:, None].expand_as(done)])
        for mask in gone:
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            box = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert box.all()
            assert 1 <= len(rows) * len(columns) <= (16 if isinstance(transform, Cutout) else 0.45 * 144)
    assert torch.equal(RandomErasing(0)(x, RowRandom(0, 0, np.arange(100))), x)


def test_colour_jitter_is_a_factor_and_stays_in_range() -> None:
    x = images()
    none = ColorJitter()(x, RowRandom(0, 0, np.arange(6)))
    assert torch.allclose(none, x, atol=1e-6)
    dim = 0.4 * x + 0.2
    bright = ColorJitter(brightness=0.5)(dim, RowRandom(0, 0, np.arange(6)))
    factor = 1 + (2 * RowRandom(0, 0, np.arange(6)).uniform(3)[:, 0] - 1) * 0.5
    assert torch.allclose(bright, dim * torch.tensor(factor)[:, None, None, None].float(), atol=1e-6)
    wild = ColorJitter(1, 1, 1)(x, RowRandom(0, 0, np.arange(6)))
    assert 0 <= wild.min() <= wild.max() <= 1
    grey = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert torch.allclose(ColorJitter(saturation=1)(grey, RowRandom(0, 0, np.arange(6))), grey, atol=1e-5)


def test_normalise_and_resize() -> None:
    x = images()
    scaled = Normalize(x.mean((0, 2, 3)).tolist(), x.std((0, 2, 3)).tolist())(x)
    assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(scaled.std((0, 2, 3)), torch.ones(3), atol=1e-5)
    assert Resize((8, 8))(x) is x
    assert torch.allclose(Resize((5, 3))(torch.full((1, 1, 8, 8), 0.3)), torch.full((1, 1, 5, 3), 0.3))


def test_mixup_and_cutmix() -> None:
    x, y = images(16), one_hot(torch.arange(16) % 4, 4)
    seen = set()
    for seed in range(20):
        mixed, target = mixup(x, y, torch.Generator().manual_seed(seed), alpha=1.0)
        again = mixup(x, y, torch.Generator().manual_seed(seed), alpha=1.0)[0]
        assert torch.equal(mixed, again)
        assert torch.allclose(mixed.sum(), x.sum(), rtol=1e-4)  # every row has weight 1 in all
        assert torch.allclose(target.sum(1), torch.ones(16))
        pasted, weights = cutmix(x, y, torch.Generator().manual_seed(seed))
        own = (pasted == x).all(1)
        share = own.float().mean((1, 2))
        moved = weights[torch.arange(16), torch.arange(16) % 4] < 1  # rows that were not paired with their own class
        assert torch.allclose(weights[torch.arange(16), torch.arange(16) % 4][moved], share[moved], atol=1e-5)
        seen.add(round(float(share.min()), 3))
    assert len(seen) > 5
    assert one_hot(torch.tensor([1]), 2, smoothing=0.2).tolist() == [[pytest.approx(0.1), pytest.approx(0.9)]]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: RowRandom(-1, 0, [0]), "seed"),
        (lambda: RowRandom(0, 0, [0.5]), "rows"),
        (lambda: RowRandom(0, [0, 1], [0]), "epoch"),
        (lambda: RandomCrop(-1), "padding"),
        (lambda: RandomCrop(mode="edge"), "mode"),
        (lambda: RandomCrop(0, (9, 9))(images(1), RowRandom(0, 0, [0])), "size"),
        (lambda: RandomHorizontalFlip(1.5), "p"),
        (lambda: ColorJitter(brightness=2), "brightness"),
        (lambda: RandomErasing(scale=(0, 1)), "scale"),
        (lambda: RandomErasing(ratio=(2, 1)), "ratio"),
        (lambda: Cutout(0), "length"),
        (lambda: Normalize([0.5], [0]), "std"),
        (lambda: Normalize([0.5, 0.5], [1, 1])(images(1)), "mean"),
        (lambda: Resize((0, 1)), "size"),
        (lambda: ALL(images(2), RowRandom(0, 0, [0])), "random"),
        (lambda: ALL(images(1).to(torch.uint8), RowRandom(0, 0, [0])), "images"),
        (lambda: mixup(images(2), torch.zeros(2, dtype=torch.long), torch.Generator()), "targets"),
        (lambda: mixup(images(2), torch.zeros(2, 3), torch.Generator(), alpha=0), "alpha"),
        (lambda: one_hot(torch.tensor([3]), 3), "labels"),
        (lambda: one_hot(torch.tensor([0]), 3, smoothing=1), "smoothing"),
    ],
)
def test_bad_input_names_the_field(call, field: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert error.value.field == field
