"""Reading the user's texts and models, and the ones that the package brings."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from paperworks.errors import InputError
from paperworks.inputs.splits import passages
from paperworks.language import (
    bundled_model_path,
    bundled_text,
    load_model,
    perplexity,
    read_texts,
    token_windows,
)


def test_ends_of_lines_of_every_system_give_one_text(tmp_path: Path) -> None:
    """A model reads a carriage return as a token of its own, and its perplexity would tell of the text's machine."""
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "a.txt").write_bytes("one\n\ntwo\n".replace("\n", end).encode())
        assert read_texts(tmp_path / "a.txt") == ["one\n\ntwo\n"]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.gz"])
def test_damaged_gzip_data_are_told(tmp_path: Path, name: str) -> None:
    whole = gzip.compress("".join(f"{i * i} words\n" for i in range(500)).encode())
    for data in (whole[:60], whole[:60] + bytes(60) + whole[120:], b"no gzip"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"calibration: found .*{name}, which cannot be read"):
            read_texts(tmp_path / name, "calibration")


def test_texts_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("plain\ntext", encoding="utf-8-sig")
    (tmp_path / "a.jsonl").write_text('{"text": "one\\u2028more", "id": 1}\n\n{"text": " "}\n{"text": "two"}\n')
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "three"}'))
    (tmp_path / "deep" / "d.TXT.gz").write_bytes(gzip.compress("vier ä".encode()))
    (tmp_path / "notes.md").write_text("not this")
    assert read_texts(tmp_path / "b.txt") == ["plain\ntext"]
    assert read_texts(tmp_path) == ["one\u2028more", "two", "plain\ntext", "three", "vier ä"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', r'a\.jsonl, line 2: no string under the key "text"'),
        ("a.jsonl", b'{"text": "x"}\n\n["y"]\n', r"line 3: no string"),
        ("a.jsonl", b'{"text": "x"\n', r"line 1: not JSON"),
        ("a.txt", b"one\ntwo\n\xff\n", r"a\.txt, line 3: bytes that are not UTF-8"),
        ("a.txt.gz", b"not gzip", "cannot be read"),
        ("a.txt", b" \n ", "without any text"),
        ("a.md", b"text", "a name that ends in"),
    ],
)
def test_bad_texts(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_texts(tmp_path / name, "calibration")
    assert caught.value.field == "calibration"


def test_no_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing there"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(InputError, match="without any text"):
        read_texts(tmp_path)


@pytest.fixture
def saved(tmp_path: Path, small_model: Any, byte_tokenizer: Any) -> Path:
    small_model.save_pretrained(tmp_path / "m")
    byte_tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def test_a_model_loads_as_saved_or_converted(saved: Path, small_model: Any) -> None:
    model, tokenizer = load_model(saved, device="cpu")
    assert not model.training
    assert tokenizer.decode(tokenizer("abc")["input_ids"]) == "abc"
    assert all(torch.equal(v, small_model.state_dict()[k]) for k, v in model.state_dict().items())
    assert load_model(saved, "bfloat16", "cpu")[0].dtype == torch.bfloat16


def test_bad_model_folders(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model: found .*nothing there"):
        load_model(tmp_path / "none")
    with pytest.raises(InputError, match="a file"):
        load_model(saved / "config.json")
    with pytest.raises(InputError, match=r"without config\.json"):
        load_model(tmp_path)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(InputError, match="gptq weights"):
        load_model(saved)
    (saved / "config.json").write_text(json.dumps(config | {"model_type": "no-such-model"}))
    with pytest.raises(InputError, match="model: "):
        load_model(saved)
    (saved / "config.json").write_text(json.dumps(config))
    shutil.copy(saved / "model.safetensors", tmp_path / "aside")
    (saved / "model.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match="does not load"):
        load_model(saved)
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match="without weights"):
        load_model(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        load_model(saved)


def _changed(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_a_missing_tensor_is_named(saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    del tensors[name]
    save_file(tensors, saved / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="no such tensor") as caught:
        load_model(saved)
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"num_hidden_layers": 1}, "model.layers.1.input_layernorm.weight"),  # more layers in the file
        ({"num_hidden_layers": 3}, "model.layers.2.input_layernorm.weight"),
        ({"intermediate_size": 20}, "model.layers.0.mlp.down_proj.weight"),
        ({"model_type": "gpt2"}, "config.model_type"),
        ({"model_type": "mistral"}, "config.model_type"),  # whose tensors have the same names
        ({"model_type": "qwen2", "architectures": None}, "model.layers.0.self_attn.k_proj.bias"),
        ({"mlp_bias": True}, "model.layers.0.mlp.down_proj.bias"),
    ],
)
def test_weights_are_those_of_the_configuration(saved: Path, fields: dict[str, Any], field: str) -> None:
    _changed(saved, **fields)
    with pytest.raises(InputError) as caught:
        load_model(saved)
    assert caught.value.field == field


def test_a_bias_without_a_place_is_refused_and_another_head_is_not(saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    save_file(tensors | {"score.weight": torch.zeros(2, 2)}, saved / "model.safetensors", {"format": "pt"})
    load_model(saved)
    bias = {"model.layers.0.self_attn.q_proj.bias": torch.ones(1)}
    save_file(tensors | bias, saved / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"q_proj\.bias: found a tensor without a place"):
        load_model(saved)


def test_the_bundled_model_is_what_its_card_says() -> None:
    folder = bundled_model_path()
    files = list(folder.glob("*.safetensors"))
    assert sum(f.stat().st_size for f in files) < 16_000_000
    with safe_open(files[0], "pt") as weights:
        shapes = [weights.get_slice(name) for name in weights.keys()]  # noqa: SIM118
        assert {s.get_dtype() for s in shapes} == {"BF16"}
        parameters = sum(int(torch.tensor(s.get_shape()).prod()) for s in shapes)
    card = (folder / "README.md").read_text()
    assert f"{parameters:,} parameters" in card
    assert 3_000_000 < parameters < 6_000_000
    row = re.search(r"^\| test \| ([\d,]+) \| ([\d.]+) \|", card, re.M)
    assert row is not None
    model, tokenizer = load_model(None, "float32", "cpu")
    windows = token_windows(tokenizer, bundled_text("test"), 256)
    assert f"{windows.numel():,}" == row[1]
    # a quarter of the windows: near the card's figure, which is of all
    assert perplexity(model, windows[::4]) == pytest.approx(float(row[2]), rel=0.1)


def test_the_bundled_tokenizer_writes_every_text_and_reads_it_back() -> None:
    _, tokenizer = load_model(None, device="cpu")
    assert 2048 <= len(tokenizer) <= 4096
    for text in ("Ünïcödé \U0001f600 \x00\t  two  spaces\r\n", bundled_text("validation")[:5000]):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_held_out_text_shares_no_passage_with_the_bundled_training_text() -> None:
    train = passages(bundled_text("train"))
    for split in ("validation", "test"):
        text = bundled_text(split)
        assert 200_000 < len(text.encode()) < 300_000
        assert not passages(text) & train
    with pytest.raises(InputError, match="split"):
        bundled_text("dev")  # type: ignore[arg-type]
