"""Small checkpoints with random weights, of many families of transformers: what a stranger may have on disk.

Each is whole, loads with its own class, and has a tokenizer or an image processor beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiny_checkpoint import tiny_inputs

TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("AutoModelForCausalLM", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "gpt_neo": (
        "AutoModelForCausalLM",
        {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    ),
    "gpt_neox": ("AutoModelForCausalLM", {}),
    "gptj": ("AutoModelForCausalLM", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "rotary_dim": 4}),
    "codegen": ("AutoModelForCausalLM", {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4}),
    "opt": ("AutoModelForCausalLM", {"ffn_dim": 24, "word_embed_proj_dim": 16}),
    "bloom": ("AutoModelForCausalLM", {"n_layer": 2, "n_head": 2}),
    "falcon": ("AutoModelForCausalLM", {}),
    "mpt": ("AutoModelForCausalLM", {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 64}),
    "mistral": ("AutoModelForCausalLM", {"num_key_value_heads": 1}),
    "mixtral": ("AutoModelForCausalLM", {"num_key_value_heads": 1, "num_local_experts": 2}),
    "qwen2": ("AutoModelForCausalLM", {"num_key_value_heads": 1}),
    "phi": ("AutoModelForCausalLM", {}),
    "gemma": ("AutoModelForCausalLM", {"num_key_value_heads": 1, "head_dim": 8}),
    "mamba": ("AutoModelForCausalLM", {"state_size": 4}),
    "rwkv": ("AutoModelForCausalLM", {"attention_hidden_size": 16}),
    "xlnet": ("AutoModelForCausalLM", {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24}),
    "t5": ("AutoModelForSeq2SeqLM", {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}),
    "bart": (
        "AutoModelForSeq2SeqLM",
        {
            "d_model": 16,
            **{f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("layers", 1), ("ffn_dim", 24))},
            **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
        },
    ),
    "bert": ("AutoModelForMaskedLM", {}),
    "roberta": ("AutoModelForSequenceClassification", {}),
    "distilbert": ("AutoModel", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}),
    "whisper": (
        "AutoModelForSpeechSeq2Seq",
        {
            "d_model": 16,
            "num_mel_bins": 8,
            **{f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("layers", 1), ("ffn_dim", 24))},
            **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
            "pad_token_id": 1,
            "bos_token_id": 1,
            "eos_token_id": 1,
            "decoder_start_token_id": 1,
        },
    ),
}
IMAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("AutoModelForImageClassification", {"image_size": 16, "patch_size": 4}),
    "dinov2": ("AutoModel", {"image_size": 16, "patch_size": 4}),
    "swin": (
        "AutoModelForImageClassification",
        {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2},
    ),
    "resnet": (
        "AutoModelForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    ),
    "convnext": (
        "AutoModelForImageClassification",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 2},
    ),
    "mobilenet_v2": ("AutoModelForImageClassification", {"image_size": 32, "depth_multiplier": 0.35}),
    "segformer": (
        "AutoModelForSemanticSegmentation",
        {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8},
    ),
    "clip": ("AutoModel", {}),
}
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def strange_checkpoints(root: Path) -> Iterator[tuple[str, Path]]:
    """(name, folder) of each family; those that this version of transformers cannot make are left out."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_inputs(root)[0])
    for family, (auto, own) in (TEXT | IMAGES).items():
        if family not in transformers.CONFIG_MAPPING:
            continue
        settings = _settings(transformers.CONFIG_MAPPING[family](), own, len(tokenizer))
        if family == "clip":
            small = {**SIZES, "projection_dim": 8}
            settings = {
                "text_config": {**small, "vocab_size": len(tokenizer)},
                "vision_config": {**small, "image_size": 16, "patch_size": 4},
                "projection_dim": 8,
            }
        folder = root / f"model-{family}"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(family, **settings)
            getattr(transformers, auto).from_config(config).save_pretrained(folder)
        if family in TEXT or family == "clip":
            tokenizer.save_pretrained(folder)
        if family in IMAGES:
            transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
        yield folder.name, folder


def _settings(default: Any, own: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    """The common sizes that a family's configuration knows, and its own."""
    known = {name: size for name, size in {**SIZES, "vocab_size": vocabulary}.items() if name in default.to_dict()}
    return known | own
