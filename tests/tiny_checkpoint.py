"""A language model of a few thousand weights with its tokeniser and text, on disk: for tests that run whole recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = "\n\n".join(
    f"the {a} {b} goes to the {c} and sees a {b} there ."
    for a in ("big", "small", "red", "old")
    for b in ("cat", "dog", "bird", "fox", "cow")
    for c in ("house", "river", "hill", "town")
)
LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def tiny_inputs(folder: Path) -> tuple[str, str]:
    """Paths of a new Llama checkpoint with random weights and of a text file, in ``folder``."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    model, text = folder / "llama", folder / "text.txt"
    text.write_text(TEXT)
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([TEXT], trainers.WordLevelTrainer(special_tokens=["[UNK]", "[PAD]"]))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(model)
    settings: dict[str, Any] = {"vocab_size": tokenizer.get_vocab_size(), **LLAMA}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **settings)).save_pretrained(model)
    return str(model), str(text)
