"""The recipe on checkpoints that are not bundled: reports, files, resumption, and bad input."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from paperworks.errors import InputError
from paperworks.papers.slicegpt import predicted_parameters
from paperworks.papers.slicegpt.recipe import Config, read_report, run
from paperworks.runs import Cancelled, LocalEngine, Report, Run, Store, build_config
from paperworks.structure import KeepPlan, prune, save_model, units_of

pytestmark = pytest.mark.usefixtures("one_round_of_speed")

TEXT = "\n\n".join(
    f"the {a} {b} goes to the {c} and sees a {b} there ."
    for a in ("big", "small", "red", "old")
    for b in ("cat", "dog", "bird", "fox", "cow")
    for c in ("house", "river", "hill", "town")
)


def save_checkpoint(folder: Path, family: str, **settings: object) -> Path:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]", "[PAD]"])
    tokenizer.train_from_iterator([TEXT], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    config = AutoConfig.for_model(family, vocab_size=tokenizer.get_vocab_size(), **settings)
    auto = AutoModel if family == "bert" else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto.from_config(config).save_pretrained(folder)
    return folder


LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
BERT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("llama"), "llama", **LLAMA)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


def options(checkpoint: Path, text: Path, **more: object) -> Config:
    values = {
        "model": checkpoint,
        "calibration": text,
        "evaluation": text,
        "sequences": 16,
        "length": 32,
        "evaluation_sequences": 6,
    }
    return build_config(Config, values | more)  # type: ignore[return-value]


def hashes(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def row(report: Report, name: str) -> list:
    return next(r for r in report.tables[0].rows if r[0] == name)[1:]


def test_a_run_leaves_a_smaller_checkpoint_and_the_input_as_it_was(llama: Path, text: Path, tmp_path: Path) -> None:
    before = hashes(llama)
    report = run(options(llama, text, slicing=0.5), Run(tmp_path))
    assert hashes(llama) == before
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "files" / "model")
    stored = sum(p.numel() for p in model.parameters())
    assert row(report, "parameters")[1] == stored == predicted_parameters(llama, 0.5)
    assert model.config.stream_widths == [[16, 16, 16], [16, 16, 32]]
    saved = read_report(tmp_path / "files" / "model")
    assert saved.parameters_after == stored
    assert row(report, "perplexity")[0] > 1
    assert "of the parameters are gone: perplexity" in report.headline
    assert (tmp_path / "files" / "model" / "tokenizer.json").exists()


def weights(run_folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted((run_folder / "files" / "model").glob("*.safetensors"))}


@pytest.fixture(scope="module")
def whole(llama: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights of a run with the default seed."""
    folder = tmp_path_factory.mktemp("whole")
    run(options(llama, text), Run(folder))
    return weights(folder)


def test_same_seed_same_weights(llama: Path, text: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    for attempt, seed in (("again", options(llama, text).seed), ("other", 4)):
        run(options(llama, text, seed=seed), Run(tmp_path / attempt))
    assert weights(tmp_path / "again") == whole != weights(tmp_path / "other")
    assert whole


def test_target_as_a_share(llama: Path, text: Path, tmp_path: Path) -> None:
    report = run(options(llama, text, target="0.9x"), Run(tmp_path))
    dense, sliced = row(report, "parameters")[:2]
    assert sliced <= 0.9 * dense


def test_recovery_lowers_the_perplexity(llama: Path, text: Path, tmp_path: Path) -> None:
    config = options(
        llama, text, slicing=0.25, recovery_steps=30, learning_rate=0.01, lora_rank=4, lora_alpha=8, lora_dropout=0
    )
    report = run(config, Run(tmp_path))
    _, sliced, recovered = row(report, "perplexity")[:3]
    assert recovered < 0.95 * sliced
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "files" / "model")
    assert sum(p.numel() for p in model.parameters()) == predicted_parameters(llama, 0.25)


def test_dry_run_changes_nothing(llama: Path, text: Path, tmp_path: Path) -> None:
    report = run(options(llama, text, dry_run=True), Run(tmp_path))
    assert [p.name for p in (tmp_path / "files").iterdir()] == ["dry_run.json"]
    predictions = json.loads((tmp_path / "files" / "dry_run.json").read_text())["predictions"]
    for prediction in predictions:
        assert prediction["parameters"] == predicted_parameters(llama, prediction["slicing"])
    assert len(report.tables[0].rows) == len(predictions)


def test_an_encoder(text: Path, tmp_path: Path) -> None:
    bert = save_checkpoint(tmp_path / "bert", "bert", **BERT)
    report = run(options(bert, text, slicing=0.25, sequences=40), Run(tmp_path / "run"))
    dense, sliced = row(report, "cosine")[:2]
    assert dense == pytest.approx(1.0)
    assert 0.5 < sliced <= 1.0
    exact = run(options(bert, text, slicing=0.0, sequences=40), Run(tmp_path / "exact"))
    assert row(exact, "cosine")[1] == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(InputError, match="recovery_steps"):
        run(options(bert, text, recovery_steps=5), Run(tmp_path / "bad"))


def test_a_cancelled_run_goes_on_to_the_same_weights(
    llama: Path, text: Path, whole: dict[str, bytes], home: Path, every_item_reported: None
) -> None:
    store = Store(home)
    run_id = store.create("slicegpt", "paperworks.papers.slicegpt.recipe", options(llama, text))

    def stop_in_the_middle(event: dict) -> None:
        if event["kind"] == "progress" and event["description"] == "slicing" and event["done"] >= 5:
            store.request_cancel(run_id)

    with pytest.raises(Cancelled):
        LocalEngine().execute(store, run_id, stop_in_the_middle)
    record = LocalEngine().execute(store, run_id)
    assert weights(record.folder) == whole


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"slicing": 1.0}, "slicing"),
        ({"slicing": 0.9}, "slicing"),
        ({"target": "10"}, "target"),
        ({"target": "1x"}, "target"),
        ({"dims": (16,)}, "dims"),
        ({"dims": (16, 17)}, "dims"),
        ({"dims": (16, 16), "schedule": "variance"}, "options"),
        ({"dims": (16, 16), "target": "0.9x"}, "options"),
        ({"round_to": 64}, "round_to"),
        ({"length": 65}, "length"),
        ({"sequences": 10_000}, "n"),
        ({"calibration": Path("missing.txt")}, "calibration"),
        ({"evaluation": Path("missing.txt")}, "evaluation"),
        ({"model": Path("missing")}, "model"),
        ({"device": "abacus"}, "device"),
        ({"dtype": "int8"}, "dtype"),
        ({"sequences": 1, "length": 16}, "calibration"),
    ],
)
def test_bad_options_name_the_field(llama: Path, text: Path, tmp_path: Path, change: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        run(options(llama, text, **change), Run(tmp_path))
    assert caught.value.field.startswith(field)
    assert not (tmp_path / "files" / "model").exists()


def test_folders_that_are_not_checkpoints(text: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"without config\.json"):
        run(options(empty, text), Run(tmp_path / "a"))
    (empty / "config.json").write_text('{"model_type": "gemma2"}')
    (empty / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="family whose stream can be rotated"):
        run(options(empty, text), Run(tmp_path / "b"))


def test_a_pruned_checkpoint_is_sliced(llama: Path, text: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama)
    units = units_of(model, ["ffn"])
    cut = prune(model, KeepPlan.of(units, {(0, "ffn"): range(20), (1, "ffn"): range(30)}))
    save_model(cut, tmp_path / "pruned", AutoTokenizer.from_pretrained(llama))
    report = run(options(tmp_path / "pruned", text, target="0.9x"), Run(tmp_path / "run"))
    sliced = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "files" / "model")
    assert sliced.config.intermediate_size == 30
    assert row(report, "parameters")[1] == sum(p.numel() for p in sliced.parameters()) < row(report, "parameters")[0]


def test_a_dry_run_says_what_the_target_comes_to(llama: Path, text: Path, tmp_path: Path) -> None:
    dense = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(llama).parameters())
    report = run(options(llama, text, target="0.85x", round_to=1, dry_run=True), Run(tmp_path))
    said = int(report.headline.split("would leave ")[1].split()[0].replace(",", ""))
    assert 0.8 * dense < said <= 0.85 * dense
