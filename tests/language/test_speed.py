"""Speeds are medians over rounds in which the models take turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from paperworks.errors import InputError
from paperworks.language import bundled_model_path, load_model, measure_speed, speed, speeds_in_turn
from paperworks.language.speed import Speed


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The second round of three is ten times as slow, for every model; the second model is twice as fast."""
    values = iter([10.0, 20, 1, 2, 30, 60])
    warm_ups: list[int] = []

    def measure(model: object, *, warm_up: int, **options: object) -> Speed:
        warm_ups.append(warm_up)
        s = next(values)
        return Speed(s, s, 1 / s, 1 / s)

    monkeypatch.setattr(speed, "measure_speed", measure)
    return warm_ups


def test_folders_are_loaded_in_turn_and_warmed_up_each_time(told: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    monkeypatch.setattr(speed, "load_model", lambda folder, *more: (loaded.append(folder), None))
    found = speeds_in_turn({"dense": Path("whole"), "pruned": Path("cut")})
    assert loaded == [Path("whole"), Path("cut")] * 3
    assert told == [1] * 6
    assert found.median("dense") == Speed(10, 10, 0.1, 0.1)
    assert found.median("pruned").decode_tokens_per_second == 20
    assert found.ratios("pruned", to="dense") == (2, 2)


def test_live_models_are_warmed_up_once(told: list[int]) -> None:
    speeds_in_turn({"dense": object(), "pruned": object()})
    assert told == [1, 1, 0, 0, 0, 0]


def test_a_model_in_turn_with_itself_is_about_as_fast() -> None:
    model, _ = load_model(None, "float32", "cpu")
    found = speeds_in_turn({"a": model, "b": bundled_model_path()}, batch_size=1, prompt=4, new_tokens=2, device="cpu")
    assert 0.2 < found.ratios("a", to="b")[0] < 5
    own = found.median("a")
    assert own.decode_tokens_per_second == pytest.approx(1 / own.seconds_per_token, rel=0.8)


@pytest.mark.parametrize("name", ["batch_size", "prompt", "new_tokens", "repetitions"])
def test_counts_are_at_least_one(name: str) -> None:
    with pytest.raises(InputError, match=name):
        measure_speed(None, **{name: 0})
