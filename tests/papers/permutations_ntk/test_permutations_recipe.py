"""The recipe on the bundled rows and on the user's files, interrupted and resumed; and the fast studies."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paperworks import catalog, reproduction, runs
from paperworks.errors import InputError
from paperworks.papers.permutations_ntk import PermutationEnsemble, all_inputs, apply_permutation, required_models
from paperworks.papers.permutations_ntk import recipe as recipe_module
from paperworks.papers.permutations_ntk.recipe import Config
from paperworks.papers.permutations_ntk.recipe import run as recipe


def _run(folder: Path, seed: int = 0, *, save: bool = True, **options: Any) -> tuple[runs.Report, runs.Run]:
    one = runs.Run(folder, seed=seed)
    report = recipe(Config(seed=seed, **options), one)
    for file in report.files:
        assert (one.files / file.path).is_file()
    if save:
        report.save(folder)
        assert runs.Report.load(folder).headline == report.headline
    return report, one


def test_bundled_digits_with_drawn_networks(tmp_path: Path) -> None:
    report, one = _run(tmp_path, networks="limit")
    assert report.metrics["bound of the failure probability"] <= 0.1
    assert report.metrics["share of distinct rows exact"] > 0.9
    assert report.metrics["share exact with one network"] < 0.5
    permuted = np.load(one.files / "permuted.npy")
    from sklearn.datasets import load_digits

    digits = (load_digits().images.reshape(-1, 8) >= 8).astype(np.uint8)
    assert permuted.shape == digits.shape
    assert (permuted == digits[:, ::-1]).all(axis=1).mean() > 0.9
    methods = {row[0]: row[1] for row in report.tables[0].rows}
    assert methods["infinitely many and wide"] == methods["least squares on the unit vectors"] == 1
    assert methods["output of the nearest unit vector"] < 0.3
    assert len(report.figures) == 4


def test_trained_networks_on_a_users_table(tmp_path: Path) -> None:
    rows = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0]])
    (tmp_path / "mine.csv").write_text("\n".join(",".join(map(str, r)) for r in rows.tolist()))
    report, one = _run(
        tmp_path / "run", input=tmp_path / "mine.csv", permutation="2,0,1", width=1024, delta=0.01, keep_weights=True
    )
    wanted = apply_permutation([2, 0, 1], rows)
    assert (np.load(one.files / "permuted.npy") == wanted).all()
    assert any("1 rows have no ones" in note for note in report.notes)
    assert report.metrics["networks"] == required_models(3, 0.01, {1: 1, 2: 1, 3: 1}, method="tails")
    ensemble = PermutationEnsemble.load(one.files / "ensemble.safetensors")
    assert (ensemble.predict([[1, 0, 1]]) == apply_permutation([2, 0, 1], [[1, 0, 1]])).all()
    assert json.loads((one.files / "permutation.json").read_text()) == [2, 0, 1]


def test_a_users_file_of_bits(tmp_path: Path) -> None:
    (tmp_path / "bits.bin").write_bytes(b"paperworks\x00")
    _, one = _run(tmp_path / "run", input=tmp_path / "bits.bin", members=5000, networks="limit")
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in b"paperworks\x00")
    assert (one.files / "permuted.bin").read_bytes() == mirrored


def test_learning_from_a_users_examples(tmp_path: Path) -> None:
    rows = all_inputs(4)
    outputs = apply_permutation([1, 3, 0, 2], rows)
    np.save(tmp_path / "examples.npy", np.hstack([rows, outputs]))
    report, _ = _run(tmp_path / "run", examples=tmp_path / "examples.npy", networks="limit", delta=0.001)
    assert report.metrics["share of held-out examples reproduced"] == 1.0
    assert "11 of 11 held-out examples are reproduced" in report.headline
    outputs[-1] = [0, 1, 0, 0]  # no permutation gives this to the last row
    np.save(tmp_path / "wrong.npy", np.hstack([rows, outputs]))
    report, _ = _run(tmp_path / "other", examples=tmp_path / "wrong.npy", save=False, networks="limit", delta=0.001)
    assert report.metrics["share of held-out examples reproduced"] == pytest.approx(10 / 11)
    assert report.headline.startswith("Only 10 of 11 held-out examples are reproduced")
    np.save(tmp_path / "units.npy", np.hstack([np.eye(4, dtype=int), np.eye(4, dtype=int)]))
    report, _ = _run(tmp_path / "units", examples=tmp_path / "units.npy", save=False, networks="limit")
    assert "of 10 distinct rows of 4 bits" in report.headline


class StopAfter(runs.Run):
    """A run that is cancelled after so many steps of its progress."""

    steps = 6

    def progress(self, iterable: Iterable[Any], description: str, total: int | None = None) -> Any:
        for number, item in enumerate(super().progress(iterable, description, total)):
            if number == self.steps:
                self.cancel()
                self.check()
            yield item


def test_stopped_and_resumed_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_module, "CHECKPOINT_SECONDS", 0.0)
    options: dict[str, Any] = {"bits": 3, "members": 40, "width": 64, "permutation": "random"}
    whole, first = _run(tmp_path / "whole", save=False, **options)
    stopped = StopAfter(tmp_path / "stopped")
    with pytest.raises(runs.Cancelled):
        recipe(Config(**options), stopped)
    assert len(list(stopped.state.iterdir())) == 1
    again, second = _run(tmp_path / "stopped", save=False, **options)
    left, right = (PermutationEnsemble.load(one.files / "ensemble.safetensors") for one in (first, second))
    assert left.members_ == right.members_ == [(0, 40)]
    np.testing.assert_allclose(left.probe_mean_, right.probe_mean_, atol=1e-6)
    assert again.metrics == pytest.approx(whole.metrics)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"permutation": "0,1,2", "bits": 4}, "permutation"),
        ({"permutation": "up"}, "permutation"),
        ({"input": Path("nowhere.csv")}, "input"),
        ({"examples": Path("nowhere.csv")}, "examples"),
        ({"delta": 1.0}, "delta"),
        ({"members": 0}, "members"),
        ({"bits": 0}, "bits"),
        ({"keep_weights": True, "networks": "limit"}, "options"),
        ({"threshold": "midpoint", "parametrization": "standard"}, "options"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe(runs.build_config(Config, options), runs.Run(tmp_path))
    assert caught.value.field == field


def test_only_zeros_and_odd_examples(tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", np.zeros((3, 4), dtype=int))
    with pytest.raises(InputError, match="only rows of zeros"):
        _run(tmp_path / "a", input=tmp_path / "zeros.npy")
    np.save(tmp_path / "odd.npy", np.eye(3, dtype=int))
    with pytest.raises(InputError, match="3 columns; expected 2k"):
        _run(tmp_path / "b", examples=tmp_path / "odd.npy")


@pytest.mark.parametrize(
    "study", reproduction.load_studies(catalog.find("permutations-ntk")), ids=lambda study: study.name
)
def test_fast_studies_and_their_exact_findings(study: runs.Study, tmp_path: Path) -> None:
    findings = list(study(runs.Run(tmp_path), True))
    assert {f.claim for f in findings} == set(study.claims)
    assert [f.statement for f in findings if f.kind == "exact" and not f.holds] == []
