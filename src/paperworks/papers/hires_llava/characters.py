"""A small language model of characters: the language side where none is given."""

from __future__ import annotations

import string
from typing import Any

import torch

from paperworks.parameters import check_seed

SPECIAL = ("<pad>", "<unk>", "</s>")


def character_model(*, width: int = 64, layers: int = 2, context: int = 512, seed: int = 0) -> tuple[Any, Any]:
    """A Llama of random weights with one token for each printable ASCII character, and its tokenizer.

    Returns
    -------
    a ``LlamaForCausalLM`` in float32, and a ``PreTrainedTokenizerFast`` with an end and a padding token.
    """
    check_seed("seed", seed)
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = [c for c in string.printable if c.isprintable()]
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=context,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    return model, tokenizer
