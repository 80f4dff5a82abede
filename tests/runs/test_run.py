"""What a recipe gets of its run: places for output, streams of random numbers, and the meter of what it uses."""

from __future__ import annotations

import time
from pathlib import Path

from paperworks.runs import Run
from paperworks.runs.usage import UsageMeter


def test_a_run_replaces_its_own_output(tmp_path: Path) -> None:
    run = Run(tmp_path)
    (run.output("network") / "deep").mkdir(parents=True)
    assert not run.output("network").exists()
    run.output("deep/a.txt").write_text("old")
    assert not run.output("deep/a.txt").exists()


def test_named_streams_do_not_depend_on_order(tmp_path: Path) -> None:
    one, two = Run(tmp_path / "1", seed=3), Run(tmp_path / "2", seed=3)
    one.rng("other").normal(size=5)
    assert one.rng("a").integers(1 << 30) == two.rng("a").integers(1 << 30)
    assert one.rng("a").integers(1 << 30) != one.rng("b").integers(1 << 30)
    assert Run(tmp_path / "3", seed=4).rng("a").integers(1 << 30) != one.rng("a").integers(1 << 30)
    assert one.torch_rng("a").initial_seed() == two.torch_rng("a").initial_seed() != one.torch_rng("b").initial_seed()


def test_usage_meters_nest() -> None:
    with UsageMeter() as outer:
        block = bytearray(120_000_000)
        for i in range(0, len(block), 4096):
            block[i] = 1
        del block
        with UsageMeter() as inner:
            time.sleep(0.01)
        assert inner.peak_bytes < outer.start_bytes + 60_000_000
    assert outer.peak_bytes >= outer.start_bytes + 100_000_000
    assert outer.seconds >= inner.seconds >= 0.01
