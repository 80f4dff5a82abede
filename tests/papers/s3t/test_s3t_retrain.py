"""Training again: what was kept of a deleted record is not served, deletions go on, failures change nothing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.s3t import S3T, Folder, Lora, table_base
from paperworks.papers.s3t.layers import Adapted
from paperworks.papers.s3t.stages import Job, ShardTraining
from paperworks.training import TrainSettings

FAST = TrainSettings(epochs=1, batch_size=16, learning_rate=0.01, device="cpu")


class Stopped(Exception):
    """What a test stops a training with."""


def stop_after(jobs: int) -> Any:
    """Progress that raises in front of a sequence."""

    def progress(items: Any, label: str = "", total: int | None = None, **more: Any) -> Any:
        for number, item in enumerate(items):
            if label == "sequences" and number == jobs:
                raise Stopped
            yield item

    return progress


def rows(count: int = 40) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3)).astype(np.float32)
    return {"inputs": torch.from_numpy(x)}, (x[:, 0] > 0).astype(int)


def system_of(folder: Path | None, seed: int = 0, **options: Any) -> S3T:
    given: dict[str, Any] = {"n_slices": 2, "budget": 2, "peft_config": Lora(1, 2, 0.0), "settings": FAST}
    return S3T(table_base(3, 2, layers=2, width=4), folder, seed=seed, **given | options)


def fitted(folder: Path | None, **options: Any) -> S3T:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return system_of(folder, **options).fit(*rows())


def members(system: S3T, slice_: int) -> list[str]:
    manifest = system.manifest
    return [str(i) for i in range(40) if manifest.records[manifest.key(str(i))] == (0, slice_)]


def served(system: S3T) -> dict[str, dict[str, bytes]]:
    """The tensors of all files."""
    files = sorted((system.folder.path / "shards").rglob("*.safetensors"))
    return {str(p.relative_to(system.folder.path)): {n: v.tobytes() for n, v in load_file(p).items()} for p in files}


def test_stages_that_were_kept_of_a_stopped_retraining_are_not_those_of_a_record_deleted_since(tmp_path: Path) -> None:
    results = []
    for name in ("stopped", "whole"):
        system = fitted(tmp_path / name)
        for slice_ in (0, 1):
            system.delete(members(system, slice_)[0])
        kept = tmp_path / f"{name}-stages"
        if name == "stopped":
            with pytest.raises(Stopped):
                system.retrain(*rows(), checkpoint_dir=kept, progress=stop_after(1))
            assert list(kept.glob("*.safetensors"))
        system.delete(members(system, 0)[1])
        assert system.retrain(*rows(), checkpoint_dir=kept) == [0]
        assert system.verify().ok
        results.append(served(system))
    assert results[0] == results[1]


def test_stages_that_were_kept_of_a_fit_are_not_those_of_a_changed_record(tmp_path: Path) -> None:
    data, labels = rows()
    changed = {"inputs": data["inputs"].clone()}
    changed["inputs"][7] += 5
    with pytest.raises(Stopped), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        system_of(tmp_path / "a").fit(data, labels, checkpoint_dir=tmp_path / "kept", progress=stop_after(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = system_of(tmp_path / "a").fit(changed, labels, checkpoint_dir=tmp_path / "kept")
        whole = system_of(tmp_path / "b").fit(changed, labels)
    assert served(again) == served(whole)


def test_row_numbers_are_not_ids_of_a_file_with_fewer_rows(tmp_path: Path) -> None:
    system = fitted(tmp_path / "s")
    data, labels = rows()
    gone = members(system, 0)[0]
    system.delete([gone])
    left = np.arange(40) != int(gone)
    with pytest.raises(InputError, match="39 records without ids"):
        system.retrain({"inputs": data["inputs"][left]}, labels[left], shards="all")
    shifted = {"inputs": torch.cat([data["inputs"][left], data["inputs"][:1]])}
    with pytest.raises(InputError, match="other records than at fit"):
        system.retrain(shifted, np.append(labels[left], labels[0]), shards="all")
    ids = [str(i) for i in range(40) if left[i]]
    assert system.retrain({"inputs": data["inputs"][left]}, labels[left], ids, shards="all") == [0]


def test_statistics_are_read_where_the_network_is_now() -> None:
    adapted = Adapted(table_base(3, 2, layers=2, width=4).module, Lora(1, 2, 0.0))
    adapted.model.double()  # like a move to another device, it makes new buffers
    data = {"inputs": rows()[0]["inputs"] * 3 + 10}
    adapted.reset(0)
    adapted.fit_statistics(data)
    kept = adapted.read(head=True)
    mean = next(value for name, value in kept.items() if name.endswith("standardize.mean"))
    np.testing.assert_allclose(mean.numpy(), data["inputs"].double().mean(0).numpy(), rtol=1e-6)
    adapted.reset(0)
    assert not adapted.model.get_submodule("base_model.model.standardize").modules_to_save["default"].mean.any()


def test_a_process_that_serves_sees_what_another_one_deletes(tmp_path: Path) -> None:
    system = fitted(tmp_path / "s")
    data, _ = rows()
    before = system.predict_proba(data)
    Folder(tmp_path / "s").delete([members(system, 1)[0]])
    after = system.predict_proba(data)
    assert not np.array_equal(before, after)
    assert system.status().deleted == 1
    Folder(tmp_path / "s").delete([members(system, 0)[0]])
    with pytest.raises(InputError, match="retrain is due"):
        system.predict(data)
    with pytest.raises(InputError, match="serves nothing"):
        system.export(0, tmp_path / "out")


class Moving(nn.Module):
    """A layer that keeps a running mean of its own."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1), persistent=persistent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = self.mean * 0.9 + x.mean().detach() * 0.1
        return x - self.mean


@pytest.mark.parametrize("persistent", [True, False])
def test_a_base_with_a_state_of_its_own_is_refused(tmp_path: Path, persistent: bool) -> None:
    base = table_base(3, 2, layers=2, width=4).module
    base.blocks[0].norm = nn.Sequential(base.blocks[0].norm, Moving(persistent))
    system = S3T(base, tmp_path / "s", n_slices=2, peft_config=Lora(1, 2, 0.0), settings=FAST)
    with pytest.raises(InputError, match=r"^base: found blocks.0.norm.1.mean, which moves"):
        system.fit(*rows())
    assert not (tmp_path / "s").exists()


def test_a_stopped_retraining_changes_no_answer_and_leaves_no_file(tmp_path: Path) -> None:
    system = fitted(tmp_path / "s")
    data, labels = rows()
    before, files = system.predict_proba(data), served(system)
    with pytest.raises(Stopped):
        system.retrain(data, labels, shards="all", progress=stop_after(1))
    assert np.array_equal(system.predict_proba(data), before)
    assert served(system) == files


def test_a_deletion_during_a_retraining_does_not_wait_and_the_record_is_left_out(tmp_path: Path) -> None:
    system = fitted(tmp_path / "s")
    gone, seen = members(system, 1)[0], []

    def progress(items: Any, label: str = "", total: int | None = None, **more: Any) -> Any:
        for number, item in enumerate(items):
            if label == "sequences":
                seen.append(number)
                if len(seen) == 2:
                    Folder(tmp_path / "s").delete([gone])
                    assert S3T.load(tmp_path / "s").verify([gone]).ok
            yield item

    assert system.retrain(*rows(), shards="all", progress=progress) == [0]
    assert seen == [0, 1, 0, 1]
    assert system.verify([gone]).records == {gone: "deleted"}
    assert sum(q.stages[-1].records for q in system.manifest.sequences[0]) == 2 * 39
    assert sorted(p.name for p in (tmp_path / "s" / "shards").iterdir()) == ["0-1"]


def test_a_retraining_that_was_killed_is_found_and_erased(tmp_path: Path) -> None:
    system = fitted(tmp_path / "s")
    left = tmp_path / "s" / "retraining" / "shards" / "0-1"
    left.mkdir(parents=True)
    assert system.verify().erasing == ("retraining",)
    S3T.load(tmp_path / "s")
    assert not left.exists()
    assert system.verify().erasing == ()


def test_owners_and_risks_are_kept_in_a_retraining(tmp_path: Path) -> None:
    owners = [i // 4 for i in range(40)]
    risk = np.where(np.arange(40) < 8, 9.0, 1.0)
    data, labels = rows()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        system = system_of(tmp_path / "s").fit(data, labels, owners=owners, risk=risk)
    system.retrain(data, labels, shards="all", owners=owners, risk=risk)
    manifest = system.manifest
    slices = np.array([manifest.records[manifest.key(str(i))][1] for i in range(40)])
    assert all(len(set(slices[np.array(owners) == o])) == 1 for o in range(10))
    expected = [risk[slices == c].sum() / risk.sum() for c in range(2)]
    np.testing.assert_allclose(manifest.system.prior[0], expected)
    system.retrain(data, labels, shards="all")
    np.testing.assert_allclose(system.manifest.system.prior[0], [0.5, 0.5])


def test_a_network_with_adapters_is_refused() -> None:
    data, labels = rows()
    system = fitted(None)
    for again in (lambda: system.fit(data, labels), lambda: S3T(system.base, n_slices=2).fit(data, labels)):
        with pytest.raises(InputError, match="a fresh copy"):
            again()
    base = table_base(3, 2, layers=2, width=4)
    with pytest.raises(InputError, match="n_slices"):
        S3T(base, n_slices=3).fit(data, labels)
    S3T(base, n_slices=2, peft_config=Lora(1, 2, 0.0))._adapt()  # what was refused has wrapped nothing


class TwoLists(nn.Module):
    """A network of two numbered lists; the second one is longer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 4)])
        self.second = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(nn.Sequential(*self.first, nn.Tanh(), *self.second)(inputs))


def test_a_system_whose_layers_were_found_by_a_pattern_is_loaded(tmp_path: Path) -> None:
    options: dict[str, Any] = {"peft_config": Lora(1, 2, 0.0), "settings": FAST, "pattern": r"^first\.(\d+)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        system = S3T(TwoLists(), tmp_path / "s", n_slices=2, **options).fit(*rows())
    loaded = S3T.load(tmp_path / "s", TwoLists())
    assert loaded.adapted.layers == [["first.0"], ["first.1"]]
    assert np.array_equal(loaded.predict_proba(rows()[0]), system.predict_proba(rows()[0]))


def test_a_base_in_bfloat16_and_a_head_with_a_norm() -> None:
    module = table_base(3, 2, layers=2, width=4).module
    module.head = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    adapted = Adapted(module.bfloat16(), Lora(1, 2, 0.0))
    adapted.reset(0)
    norm = next(v for n, v in adapted.read(head=True).items() if n.endswith("head.1.weight"))
    assert norm.tolist() == [1, 1, 1, 1]
    data, labels = rows()
    job = Job(adapted, "classification", 2, 1, "top-down", FAST, 0)
    data = {"inputs": data["inputs"].bfloat16()}
    found = ShardTraining(job, data, labels, np.arange(40) % 2).sequence((0, 1))[-1]
    assert all(value.dtype == torch.float32 for value in found.values())
    adapted.write(found)
    assert all(torch.equal(value, found[name]) for name, value in adapted.read([0], head=True).items())
