"""Configurations at which transformers raises something of its own: refused with words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from paperworks.errors import InputError
from paperworks.language import load_model
from paperworks.nn.loading import load_beside


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 0},
        {"model_type": "llama", "hidden_size": "8"},
        {"model_type": "llama", "num_hidden_layers": None},
        {"model_type": ["llama"]},
    ],
)
def test_a_strange_configuration_is_refused_with_words(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"model: found .*does not load"):
        load_model(tmp_path)
    with pytest.raises(InputError, match=r"towers: found .*; expected a tokenizer"):
        load_beside(AutoTokenizer, tmp_path, "towers", "a tokenizer")
