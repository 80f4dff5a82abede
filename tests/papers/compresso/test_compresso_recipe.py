"""The recipe on the bundled model and on another checkpoint, the common method, and what both refuse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compresso_models import ROWS, byte_tokenizer, tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from paperworks.errors import InputError
from paperworks.papers.compresso import PromptTemplate, recipe
from paperworks.papers.compresso.estimator import MASKS_FILE
from paperworks.papers.compresso.method import LEAST_STEPS, mask_rate, phases, prune
from paperworks.papers.compresso.recipe import Config, run
from paperworks.pruning import PruningJob
from paperworks.runs import Cancelled, Run, build_config
from paperworks.structure import records_of, units_of
from paperworks.structure.units import stream_width

pytestmark = pytest.mark.usefixtures("one_round_of_speed")

QUICK: dict[str, Any] = {
    "tuning_steps": 1,
    "pruning_steps": 4,
    "final_steps": 1,
    "batch_size": 4,
    "learning_rate": 0.01,
    "evaluation_sequences": 4,
    "prompt": "You are being pruned.",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen2")
    tiny("qwen2", positions=256).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS * 4))
    return path


def hashes(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_recipe_on_a_users_checkpoint_and_rows(checkpoint: Path, rows: Path, tmp_path: Path) -> None:
    before = hashes(checkpoint)
    config = Config(model=checkpoint, target="0.8x", text=rows, **QUICK)
    report = run(config, Run(tmp_path / "run"))
    assert hashes(checkpoint) == before
    folder = tmp_path / "run" / "files" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    dense = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(checkpoint).parameters())
    kept = sum(p.numel() for p in model.parameters())
    assert report.metrics["parameters, pruned"] == kept <= 0.8 * dense
    assert 0.8 * dense - kept < 100  # a channel has 3 x 32 weights at most
    assert report.metrics["masked against cut"] < 1e-5
    assert PromptTemplate.load(folder).system == "You are being pruned."
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert (folder / MASKS_FILE).exists()
    titles = [table.title for table in report.tables]
    assert "Before and after" in titles
    assert "Held-out requests, answered greedily" in titles
    assert len(report.figures) == 2
    report.save(tmp_path / "run")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_stopped_run_goes_on(checkpoint: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(model=checkpoint, text=rows, **QUICK)
    # what is measured before and after does not change the model
    monkeypatch.setattr(recipe, "measured", lambda *args, **options: {"parameters": 1.0, "perplexity": 2.0})
    monkeypatch.setattr(recipe._Pruning, "_answers", lambda self, model: [])

    class Stopping(Run):
        def progress(self, iterable: Any, description: str, total: int | None = None) -> Any:
            for number, item in enumerate(super().progress(iterable, description, total)):
                if description == "training" and total == 4 and number == 2:
                    raise Cancelled
                yield item

    with pytest.raises(Cancelled):
        run(config, Stopping(tmp_path / "one"))
    assert (tmp_path / "one" / "state" / "training" / "pruning" / "training.pt").exists()
    run(config, Run(tmp_path / "one", resumed=True))
    run(config, Run(tmp_path / "two"))
    one, two = (AutoModelForCausalLM.from_pretrained(tmp_path / name / "files" / "model") for name in ("one", "two"))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_dry_run_changes_nothing(checkpoint: Path, rows: Path, tmp_path: Path) -> None:
    report = run(Config(model=checkpoint, text=rows, prompt="none", dry_run=True, device="cpu"), Run(tmp_path / "run"))
    assert report.headline.startswith("Nothing was changed")
    assert not list((tmp_path / "run" / "files").iterdir())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"target": "1.5x"}, "target"),
        ({"target": "1M"}, "target"),
        ({"target": "12"}, "target"),
        ({"prompt": "word"}, "prompt"),
        ({"text": Path("nowhere.jsonl")}, "text"),
        ({"model": Path("nowhere")}, "model"),
        ({"length": 20}, "max_length"),
    ],
)
def test_bad_input(checkpoint: Path, rows: Path, tmp_path: Path, options: dict[str, Any], field: str) -> None:
    config = Config(**{"model": checkpoint, "text": rows, **QUICK, **options})
    with pytest.raises(InputError) as caught:
        run(config, Run(tmp_path / "run"))
    assert caught.value.field == field


def test_options_have_bounds() -> None:
    for wrong in ({"units": ("depth",)}, {"units": ()}, {"warmup": 2.0}, {"batch_size": 0}, {"layers": (1,)}):
        with pytest.raises(InputError):
            build_config(Config, wrong)


def test_phases_of_a_common_budget() -> None:
    for steps in (LEAST_STEPS, 100, 300, 1000):
        assert sum(phases(steps)) == steps
    assert phases(300) == (15, 210, 75)
    assert mask_rate(10_000) == 0.1
    assert mask_rate(200) == 0.2


@pytest.mark.parametrize("share", [0.75, 0.5])
def test_method_meets_the_budget_within_one_unit(checkpoint: Path, tmp_path: Path, share: float) -> None:
    before = hashes(checkpoint)
    dense = tiny("qwen2", positions=256)
    target = int(share * sum(p.numel() for p in dense.parameters()))
    job = PruningJob(
        checkpoint,
        target,
        ("A text to tune on, letter by letter. " * 40,),
        tmp_path / "state",
        length=24,
        batch_size=4,
        train_steps=LEAST_STEPS,
        device="cpu",
    )
    found = prune(job)
    assert hashes(checkpoint) == before
    assert found.steps == LEAST_STEPS
    kept = sum(p.numel() for p in found.model.parameters())
    channel = 3 * 32
    assert target - channel < kept <= target
    assert units_of(found.model)  # still a model that can be pruned
    assert not any("lora" in name for name, _ in found.model.named_parameters())
    with pytest.raises(InputError, match="train_steps"):
        prune(PruningJob(checkpoint, target, ("text",), tmp_path / "other", train_steps=5))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_rounded_widths_and_a_uniform_model_inside_the_budget(checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("shoal: a stretch of shallow water\n" * 200)
    more: dict[str, Any] = {"round_to": 8, "uniform_export": True, "uniform_multiple": 8, "length": 32}
    more |= {"prompt": "none", "text": text, "final_steps": 0}
    job = Run(tmp_path / "run")
    report = run(Config(model=checkpoint, target="0.8x", **{**QUICK, **more}), job)
    model = AutoModelForCausalLM.from_pretrained(job.files / "model")
    assert all(record["ffn"] % 8 == 0 for record in records_of(model))
    assert stream_width(model) % 8 == 0
    target = json.loads((job.state / "target.json").read_text())
    assert sum(p.numel() for p in model.parameters()) <= target
    stock = AutoModelForCausalLM.from_pretrained(job.files / "model-uniform")
    assert type(stock).__name__ == "Qwen2ForCausalLM"
    assert sum(p.numel() for p in stock.parameters()) <= target
    assert "The uniform model" in [table.title for table in report.tables]
