"""The recipe and the method on checkpoints that are not bundled: reports, files, resumption, bad input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from paperworks.errors import InputError
from paperworks.papers.adapt_pruner.method import prune, stages_for
from paperworks.papers.adapt_pruner.recipe import Config, run
from paperworks.pruning import PruningJob
from paperworks.runs import Cancelled, LocalEngine, Report, Run, Store, build_config

pytestmark = pytest.mark.usefixtures("one_round_of_speed")

TEXT = "\n\n".join(
    f"the {a} {b} goes to the {c} and sees a {b} there ."
    for a in ("big", "small", "red", "old")
    for b in ("cat", "dog", "bird", "fox", "cow")
    for c in ("house", "river", "hill", "town")
)
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}


def save_checkpoint(folder: Path, family: str, settings: dict[str, int]) -> Path:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([TEXT], trainers.WordLevelTrainer(special_tokens=["[UNK]", "[PAD]"]))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    config = AutoConfig.for_model(family, vocab_size=tokenizer.get_vocab_size(), **settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("llama"), "llama", LLAMA)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("gpt2"), "gpt2", GPT2)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


def options(checkpoint: Path, text: Path, /, **more: Any) -> Config:
    values = {
        "model": checkpoint,
        "text": text,
        "evaluation": text,
        "examples": 6,
        "length": 16,
        "train_length": 16,
        "batch_size": 3,
        "evaluation_sequences": 6,
        "steps": 6,
        "amplitude": 0.05,
        "target": "0.7p",
    }
    return build_config(Config, values | more)  # type: ignore[return-value]


def hashes(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def row(report: Report, name: str) -> list[Any]:
    return next(r for r in report.tables[0].rows if r[0] == name)[1:]


def weights(run_folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted((run_folder / "files" / "model").glob("*.safetensors"))}


Finished = Callable[[dict[str, Any]], tuple[Report, Path]]


@pytest.fixture(scope="module")
def as_saved(llama: Path) -> dict[str, str]:
    """The checkpoint's hashes before any run."""
    return hashes(llama)


@pytest.fixture(scope="module")
def finished(llama: Path, text: Path, as_saved: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The report and the folder of a run with these options that was never stopped; each is made once."""
    made: dict[str, tuple[Report, Path]] = {}

    def finish(more: dict[str, Any]) -> tuple[Report, Path]:
        key = json.dumps(more)
        if key not in made:
            folder = tmp_path_factory.mktemp("finished")
            made[key] = run(options(llama, text, **more), Run(folder)), folder
        return made[key]

    return finish


@pytest.mark.parametrize("more", [{}, {"train_steps": 6, "stages": 2}, {"mode": "layer_wise", "target": "0.8x"}])
def test_a_run_leaves_a_smaller_checkpoint_and_the_input_as_it_was(
    llama: Path, as_saved: dict[str, str], finished: Finished, more: dict[str, Any]
) -> None:
    report, folder = finished(more)
    assert hashes(llama) == as_saved
    model = AutoModelForCausalLM.from_pretrained(folder / "files" / "model")
    stored = sum(p.numel() for p in model.parameters())
    dense, pruned = row(report, "parameters")[:2]
    assert stored == pruned < dense
    assert "of the parameters are gone: perplexity" in report.headline
    assert row(report, "weights on disk, bytes")[1] < row(report, "weights on disk, bytes")[0]
    assert (folder / "files" / "model" / "tokenizer.json").exists()
    saved = json.loads((folder / "files" / "model" / "pruning_report.json").read_text())
    assert saved["parameters_after"] == stored
    assert all(figure.to_svg() for figure in report.figures)


def test_another_family_and_an_equal_width_export(gpt2: Path, llama: Path, text: Path, tmp_path: Path) -> None:
    report = run(options(gpt2, text, target="0.8p"), Run(tmp_path / "a"))
    assert row(report, "parameters")[1] < row(report, "parameters")[0]
    run(options(llama, text, uniform_export=True, uniform_multiple=8, round_to=8), Run(tmp_path / "b"))
    kept = json.loads((tmp_path / "b" / "files" / "model" / "pruning_report.json").read_text())["steps"][-1]["ffn"]
    assert all(n % 8 == 0 for n in kept)
    config = json.loads((tmp_path / "b" / "files" / "model-uniform" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["intermediate_size"] % 8 == 0


@pytest.mark.parametrize("more", [{}, {"train_steps": 6, "stages": 2}])
def test_a_cancelled_run_goes_on_to_the_same_weights(
    llama: Path, text: Path, home: Path, finished: Finished, more: dict[str, Any], every_item_reported: None
) -> None:
    config = options(llama, text, **more)
    _, whole = finished(more)
    store = Store(home)
    run_id = store.create("adapt-pruner", "paperworks.papers.adapt_pruner.recipe", config)

    def stop_in_the_middle(event: dict[str, Any]) -> None:
        wanted = "training" if more else "pruning"
        if event["kind"] == "progress" and event["description"] == wanted:
            store.request_cancel(run_id)

    with pytest.raises(Cancelled):
        LocalEngine().execute(store, run_id, stop_in_the_middle)
    record = LocalEngine().execute(store, run_id)
    assert weights(record.folder) == weights(whole)
    assert weights(whole)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": "0.01x"}, "target"),
        ({"target": "1000000000"}, "target"),
        ({"target": "half"}, "target"),
        ({"length": 65}, "length"),
        ({"train_length": 65}, "train_length"),
        ({"examples": 10_000}, "calibration"),
        ({"text": Path("missing.txt")}, "text"),
        ({"evaluation": Path("missing.txt")}, "evaluation"),
        ({"model": Path("missing")}, "model"),
        ({"layers": (9,)}, "layers"),
        ({"stages": 2}, "options"),
        ({"device": "abacus"}, "device"),
        ({"amplitude": -1}, "amplitude"),
        ({"taylor": "third"}, "taylor"),
    ],
)
def test_bad_options_name_the_field(
    llama: Path, text: Path, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as caught:
        run(options(llama, text, **change), Run(tmp_path))
    assert caught.value.field == field
    assert not (tmp_path / "files" / "model").exists()


@pytest.mark.parametrize("steps", [0, 7])
def test_the_method_keeps_to_its_budget(llama: Path, tmp_path: Path, steps: int) -> None:
    dense = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(llama).parameters())
    job = PruningJob(llama, int(0.8 * dense), (TEXT,), tmp_path, 6, 16, 3, steps, 1e-3)
    before = hashes(llama)
    pruned = prune(job)
    left = sum(p.numel() for p in pruned.model.parameters())
    one_group = 2 * (2 * 8 + 8) * 32
    assert job.target - one_group < left <= job.target
    assert pruned.steps == steps
    assert hashes(llama) == before
    assert stages_for(100, 75) == 5
