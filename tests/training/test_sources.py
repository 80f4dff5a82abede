"""Batch sources and samplers: functions of the seed and the step, the same after a stop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paperworks.errors import InputError
from paperworks.runs import Cancelled
from paperworks.training import (
    BatchSource,
    Generated,
    Grouped,
    Rows,
    Sampler,
    Shuffled,
    Stream,
    Subset,
    TrainSettings,
    Weighted,
    train,
)
from training.test_loop import StopAfter

NUMBERS = {"inputs": torch.arange(20.0)[:, None], "index": torch.arange(20)}
SAMPLERS: dict[str, Sampler] = {
    "shuffled": Shuffled(),
    "weighted": Weighted(np.arange(20)),
    "weighted-by-epoch": Weighted(lambda epoch: np.arange(20) % (epoch + 2), draws=7),
    "subset": Subset(lambda epoch: np.arange(epoch % 4, 20, epoch % 4 + 1)),
    "grouped": Grouped(np.arange(20) // 6),
}


def generated() -> Generated:
    def make(step: int, n: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        inputs = torch.from_numpy(rng.normal(step, 1, (n, 1)).astype(np.float32))
        return {"inputs": inputs, "index": torch.arange(n)}

    return Generated(make)


def read(epoch: int) -> Iterator[dict[str, Any]]:
    return ({"inputs": [float(i)], "index": i} for i in range(epoch, 13))


SOURCES: dict[str, Any] = {
    **{name: (lambda sampler=sampler: Rows(NUMBERS, sampler)) for name, sampler in SAMPLERS.items()},
    "examples": lambda: Rows([{"inputs": [float(i)], "index": i} for i in range(20)]),
    "generated": generated,
    "stream": lambda: Stream(read),
    "stream-shuffled": lambda: Stream(read, buffer=4),
}


def index(source: BatchSource, step: int, part: range = range(4), per_step: int = 4, seed: int = 1) -> list[float]:
    return source.batch(step, part, per_step=per_step, seed=seed)["inputs"][:, 0].tolist()


@pytest.mark.parametrize("name", SOURCES)
def test_a_step_does_not_depend_on_the_steps_before(name: str) -> None:
    source = SOURCES[name]()
    straight = [index(source, step) for step in range(20)]
    for step in (19, 3, 11, 4, 0):
        fresh = SOURCES[name]()
        assert index(fresh, step) == straight[step] == index(source, step)
        parts = [index(fresh, step, range(i, i + 2)) for i in (0, 2)]
        assert parts[0] + parts[1] == straight[step]
    other = [index(SOURCES[name](), step, seed=2) for step in range(20)]
    assert (other != straight) == (name != "stream")  # a stream without a buffer has one order


@pytest.mark.parametrize("name", SOURCES)
def test_a_stopped_training_sees_what_one_that_was_not_stopped_sees(name: str, tmp_path: Path) -> None:
    def run(**options: Any) -> list[float]:
        model = nn.Linear(1, 1)
        nn.init.ones_(model.weight)
        return train(
            model,
            SOURCES[name](),
            TrainSettings(steps=9, batch_size=2, accumulation=2, learning_rate=1e-3),
            loss=lambda m, b: ((m(b["inputs"]) - 3).square().sum(), torch.tensor(len(b["inputs"]))),
            **options,
        ).losses

    torch.manual_seed(0)
    expected = run()
    torch.manual_seed(0)
    with pytest.raises(Cancelled):
        run(checkpoint_dir=tmp_path, progress=StopAfter(4))
    assert run(checkpoint_dir=tmp_path) == expected


def rows_of(sampler: Sampler, epochs: int, per_step: int) -> list[list[int]]:
    """The rows of each epoch, as the steps read them."""
    source, found = Rows(NUMBERS, sampler), []
    sizes = [sampler.size(epoch, 20, per_step) for epoch in range(epochs)]
    steps = -(-sum(sizes) // per_step)
    batches = (source.batch(step, range(per_step), per_step=per_step, seed=5) for step in range(steps))
    rows = iter(list(itertools.chain.from_iterable(batch["index"].tolist() for batch in batches)))
    for size in sizes:
        found.append(list(itertools.islice(rows, size)))
    return found


@given(per_step=st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_epochs_are_whole_whatever_the_batch(per_step: int) -> None:
    for epoch, rows in enumerate(rows_of(Shuffled(), 3, per_step)):
        assert sorted(rows) == list(range(20)), epoch
    for epoch, rows in enumerate(rows_of(SAMPLERS["subset"], 3, per_step)):
        assert sorted(rows) == list(range(epoch, 20, epoch + 1))
    assert Rows(NUMBERS, SAMPLERS["subset"]).steps(2, per_step) == -(-(20 + 10) // per_step)
    assert Rows(NUMBERS).steps(1.5, per_step) == -(-30 // per_step)


def test_weighted_rows_are_drawn_as_often_as_their_weights_say() -> None:
    weights = np.arange(20.0) ** 2
    rows = rows_of(Weighted(weights, draws=40_000), 1, 500)[0]
    share = np.bincount(rows, minlength=20) / len(rows)
    expected = weights / weights.sum()
    error = np.sqrt(expected * (1 - expected) / len(rows))
    assert share[0] == 0  # a weight of 0 is never drawn
    assert (np.abs(share - expected) <= 4.5 * error).all()
    changing = rows_of(Weighted(lambda epoch: np.arange(20) == epoch), 3, 6)
    assert [set(rows) for rows in changing] == [{0}, {1}, {2}]


def test_grouped_steps_have_one_group_each() -> None:
    groups = np.array([0] * 9 + [1] * 8 + [2] * 3)
    source = Rows(NUMBERS, Grouped(groups))
    per_epoch = [source.batch(step, range(4), per_step=4, seed=0)["index"].numpy() for step in range(5)]
    assert all(len(set(groups[rows])) == 1 for rows in per_epoch)
    assert sorted(groups[rows[0]] for rows in per_epoch) == [0, 0, 1, 1, 2]
    seen = np.concatenate(per_epoch)
    assert all(np.sum(seen == row) <= 1 for row in range(17))
    assert {17, 18, 19} <= set(seen.tolist())  # the group of three is read until a step is full
    assert source.steps(2, 4) == 10


def test_a_stream_goes_through_its_epochs_and_shuffles_in_its_buffer() -> None:
    plain = [index(Stream(read), step, range(5), 5)[0] for step in range(4)]
    assert plain == [0, 5, 10, 3]  # 0 to 12, then 1 to 12
    first = index(Stream(read, buffer=6), 0, range(13), 13)
    assert sorted(first) == list(range(13))
    assert first != list(range(13))
    assert all(value <= place + 6 for place, value in enumerate(first))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Rows([]), "data"),
        (lambda: Rows({"a": torch.zeros(2), "b": torch.zeros(3)}), "data"),
        (lambda: index(Rows([{"inputs": torch.zeros(2)}, {"inputs": torch.zeros(3)}]), 0), "data"),
        (lambda: index(Rows([{"inputs": torch.zeros(2)}, {"index": 1}]), 0), "data"),
        (lambda: index(Rows(NUMBERS, Weighted([1, 2])), 0), "weights"),
        (lambda: index(Rows(NUMBERS, Weighted([0] * 20)), 0), "weights"),
        (lambda: index(Rows(NUMBERS, Weighted([-1.0, *[1] * 19])), 0), "weights"),
        (lambda: Weighted([1], draws=0), "draws"),
        (lambda: index(Rows(NUMBERS, Subset(lambda epoch: [20])), 0), "rows_of"),
        (lambda: index(Rows(NUMBERS, Subset(lambda epoch: np.arange(0))), 0), "sampler"),
        (lambda: index(Rows(NUMBERS, Grouped([1, 2])), 0), "groups"),
        (lambda: index(Generated(lambda step, n, rng: {"inputs": torch.zeros(3, 1)}), 0), "data"),
        (lambda: Stream(read, buffer=-1), "buffer"),
        (lambda: index(Stream(lambda epoch: iter(())), 0), "data"),
        (lambda: train(nn.Linear(1, 1), generated(), TrainSettings()), "steps"),
    ],
)
def test_bad_data(make: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.field == field
