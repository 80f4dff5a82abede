"""The recipe and the method of the comparison, on a tiny checkpoint with the bundled tokenizer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from tiny_transformers import tiny
from transformers import AutoModelForCausalLM

from paperworks.errors import InputError
from paperworks.language import bundled_model_path, load_model
from paperworks.papers.atp.method import prune
from paperworks.papers.atp.recipe import Config, run
from paperworks.pruning import PruningJob
from paperworks.runs import Run

pytestmark = pytest.mark.usefixtures("one_round_of_speed")

TEXT = "shoal (noun): a stretch of shallow water\n\nside chapel (noun): a small chapel off the side aisle\n\n" * 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("qwen2")
    _, tokenizer = load_model(bundled_model_path(), "float32", "cpu")
    tiny("qwen2", vocab_size=len(tokenizer)).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def config(folder: Path, tmp_path: Path, **more: object) -> Config:
    text = tmp_path / "domain.txt"
    text.write_text(TEXT)
    values = {"model": folder, "text": text, "evaluation": text, "steps": 4, "batch_size": 2, "length": 16}
    return Config(**{**values, "device": "cpu", **more})  # type: ignore[arg-type]


def hashes(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_a_smaller_checkpoint_and_an_untouched_one(folder: Path, tmp_path: Path) -> None:
    before = hashes(folder)
    job = Run(tmp_path / "run")
    report = run(config(folder, tmp_path), job)
    assert hashes(folder) == before
    model = AutoModelForCausalLM.from_pretrained(job.files / "model")
    assert sum(p.numel() for p in model.parameters()) == report.metrics["parameters, pruned"]
    assert report.metrics["parameters, pruned"] < report.metrics["parameters, dense"]
    report.save(tmp_path)


def test_dry_run_changes_nothing(folder: Path, tmp_path: Path) -> None:
    job = Run(tmp_path / "run")
    assert "Nothing was changed" in run(config(folder, tmp_path, dry_run=True), job).headline
    assert not any(job.files.iterdir())


def test_a_target_out_of_reach(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least") as found:
        run(config(folder, tmp_path, target="0.01p"), Run(tmp_path / "run"))
    assert found.value.field == "target"


def test_method_meets_the_budget(folder: Path, tmp_path: Path) -> None:
    dense = sum(p.numel() for p in load_model(folder, "float32", "cpu")[0].parameters())
    job = PruningJob(
        folder, dense - 6000, (TEXT,), tmp_path, sequences=4, length=16, batch_size=2, train_steps=10, device="cpu"
    )
    pruned = prune(job)
    size = sum(p.numel() for p in pruned.model.parameters())
    assert dense - 6000 - 200 < size <= dense - 6000
    assert pruned.steps == 10
    with torch.no_grad():
        pruned.model(input_ids=torch.tensor([[5, 6]]))


def test_rounded_widths_and_a_uniform_model_inside_the_budget(folder: Path, tmp_path: Path) -> None:
    job = Run(tmp_path / "run")
    report = run(config(folder, tmp_path, round_to=8, uniform_export=True, uniform_multiple=8), job)
    model = AutoModelForCausalLM.from_pretrained(job.files / "model")
    assert all(record["ffn"] % 8 == 0 for record in model.config.layer_widths)
    target = json.loads((job.state / "target.json").read_text())
    assert sum(p.numel() for p in model.parameters()) <= target
    stock = AutoModelForCausalLM.from_pretrained(job.files / "model-uniform")
    assert type(stock).__name__ == "Qwen2ForCausalLM"
    assert sum(p.numel() for p in stock.parameters()) <= target
    assert "The uniform model" in [table.title for table in report.tables]
