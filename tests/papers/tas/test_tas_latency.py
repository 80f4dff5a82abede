"""Measured time as a cost."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from paperworks.errors import InputError
from paperworks.papers.tas import LatencyTable, SearchNetwork, cifar_resnet, measure_latency_table, total_cost
from paperworks.papers.tas.costs import Operator

SHAPE = cifar_resnet(8, channels=1, width=4)


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return measure_latency_table(SHAPE, (6, 6), batch=2, grid=(0.5, 1.0), seconds=1e-4, device="cpu")


def test_every_operator_has_positive_times(table: LatencyTable) -> None:
    times = [seconds for _, _, rows in table.entries.values() for row in rows for seconds in row]
    assert min(times) > 0
    assert total_cost(SHAPE, (6, 6), table) < sum(times)


def test_times_are_bilinear_between_widths() -> None:
    made = LatencyTable({"a": ([2, 4], [1, 3], [[1.0, 3.0], [5.0, 11.0]])}, "cpu", 1, 1)
    operator = Operator("a", "conv", 3, 1, 4, (2, 2))
    assert made(operator, 2, 1) == 1.0
    assert made(operator, 3, 2) == pytest.approx((1 + 3 + 5 + 11) / 4)
    assert made(operator, 1, 9) == 3.0
    assert made(Operator("a", "identity", 1, 1, 4, (2, 2)), 3, 3) == 0.0
    with pytest.raises(InputError, match="cost"):
        made(Operator("b", "conv", 3, 1, 4, (2, 2)), 2, 2)


def test_the_mean_time_is_exact(table: LatencyTable) -> None:
    space = SearchNetwork(SHAPE, (6, 6), ratios=(0.5, 1.0), cost=table, search=("width",), seed=1)
    with torch.no_grad():
        space.widths.logits.normal_(generator=torch.Generator().manual_seed(0))
    chances = [p.detach().tolist() for p in space.probabilities()]
    mean = 0.0
    for places in itertools.product(*(range(len(p)) for p in chances)):
        chance = 1.0
        for p, place in zip(chances, places, strict=True):
            chance *= p[place]
        mean += chance * space.cost_of(space.genotype_at(list(places)))
    assert float(space.expected_cost().detach()) == pytest.approx(mean, rel=1e-9)


def test_a_table_is_kept(tmp_path: Path, table: LatencyTable) -> None:
    table.save(tmp_path / "times.json")
    assert LatencyTable.load(tmp_path / "times.json") == table
    (tmp_path / "bad.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="path"):
        LatencyTable.load(tmp_path / "bad.json")


def test_bad_input() -> None:
    with pytest.raises(InputError, match="grid"):
        measure_latency_table(SHAPE, (6, 6), grid=(0.0,))
    with pytest.raises(InputError, match="batch"):
        measure_latency_table(SHAPE, (6, 6), batch=0)
