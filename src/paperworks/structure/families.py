"""The transformer families that can be read: where each keeps its stream, its blocks, its norms and its matrices.

A ``Family`` is a declarative record of module paths. Nothing is traced, so it serves a model on any device and of any
type. This file and those beside it, such as ``modeling_sliced.py``, travel with every saved
checkpoint: they may import nothing but torch and transformers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .family import Block, Experts, Family


def _llama_like(model_type: str, name: str, gain_offset: float = 0.0, qk_norms: tuple[str, ...] = ()) -> Family:
    return Family(
        model_type=model_type,
        config_class=f"{name}Config",
        model_class=f"{name}ForCausalLM",
        layer_class=f"{name}DecoderLayer",
        topology="sequential",
        norm="rms",
        embeddings=("model.embed_tokens",),
        layers="model.layers",
        attention=Block(
            "input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",)
        ),
        feed_forward=Block("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",)),
        final_norm="model.norm",
        head="lm_head",
        gain_offset=gain_offset,
        qk_norms=qk_norms,
    )


_PHI = Family(
    model_type="phi",
    config_class="PhiConfig",
    model_class="PhiForCausalLM",
    layer_class="PhiDecoderLayer",
    topology="parallel",
    norm="layer",
    embeddings=("model.embed_tokens",),
    layers="model.layers",
    attention=Block(
        "input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.dense",)
    ),
    feed_forward=Block("input_layernorm", ("mlp.fc1",), ("mlp.fc2",)),
    final_norm="model.final_layernorm",
    head="lm_head",
)

_PHI3 = Family(
    model_type="phi3",
    config_class="Phi3Config",
    model_class="Phi3ForCausalLM",
    layer_class="Phi3DecoderLayer",
    topology="sequential",
    norm="rms",
    embeddings=("model.embed_tokens",),
    layers="model.layers",
    attention=Block("input_layernorm", ("self_attn.qkv_proj",), ("self_attn.o_proj",)),
    feed_forward=Block("post_attention_layernorm", ("mlp.gate_up_proj",), ("mlp.down_proj",)),
    final_norm="model.norm",
    head="lm_head",
    fused_gate_up=True,
)

_OPT = Family(
    model_type="opt",
    config_class="OPTConfig",
    model_class="OPTForCausalLM",
    layer_class="OPTDecoderLayer",
    topology="sequential",
    norm="layer",
    embeddings=("model.decoder.embed_tokens", "model.decoder.embed_positions"),
    layers="model.decoder.layers",
    attention=Block(
        "self_attn_layer_norm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.out_proj",)
    ),
    feed_forward=Block("final_layer_norm", ("fc1",), ("fc2",)),
    final_norm="model.decoder.final_layer_norm",
    head="lm_head",
    learned_positions=True,
    mlp="",
    rotary=False,
    width_key="ffn_dim",
    kv_key="",
    head_key="",
)

_GPT2 = Family(
    model_type="gpt2",
    config_class="GPT2Config",
    model_class="GPT2LMHeadModel",
    layer_class="GPT2Block",
    topology="sequential",
    norm="layer",
    embeddings=("transformer.wte", "transformer.wpe"),
    layers="transformer.h",
    attention=Block("ln_1", ("attn.c_attn",), ("attn.c_proj",)),
    feed_forward=Block("ln_2", ("mlp.c_fc",), ("mlp.c_proj",)),
    final_norm="transformer.ln_f",
    head="lm_head",
    learned_positions=True,
    padded_at="transformer.drop",
    core="attn",
    rotary=False,
    width_key="n_inner",
    kv_key="",
    head_key="",
)

_BERT = Family(
    model_type="bert",
    config_class="BertConfig",
    model_class="BertModel",
    layer_class="BertLayer",
    topology="post_norm",
    norm="layer",
    embeddings=(
        "embeddings.word_embeddings",
        "embeddings.position_embeddings",
        "embeddings.token_type_embeddings",
    ),
    layers="encoder.layer",
    attention=Block(
        "attention.output.LayerNorm",
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        ("attention.output.dense",),
    ),
    feed_forward=Block("output.LayerNorm", ("intermediate.dense",), ("output.dense",)),
    embedding_norm="embeddings.LayerNorm",
    learned_positions=True,
    core="attention.self",
    mlp="",
    rotary=False,
    kv_key="",
    head_key="",
    poolers=("pooler.dense",),
)

WHOLE_UNITS = ("ffn", "kv_group", "q_head", "layer")
"""Units that leave every module's own forward as it is."""
SANDWICH = "a norm on the output of a block is not linear in the rotated stream"
INTERLEAVED = "its norms or positions are not among those that are known here"


def _whole_units(
    model_type: str,
    name: str,
    *,
    unrotatable: str = INTERLEAVED,
    norms: tuple[str, str] = ("input_layernorm", "post_attention_layernorm"),
    inputs: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj"),
    output: str = "mlp.down_proj",
    **more: Any,
) -> Family:
    """A family with Llama's names whose heads, channels and layers are cut as wholes, and whose stream is not."""
    like = _llama_like(model_type, name)
    made = replace(
        like,
        attention=replace(like.attention, norm=norms[0]),
        feed_forward=Block(norms[1], inputs, (output,)),
        unrotatable=unrotatable,
        kinds=WHOLE_UNITS,
    )
    return replace(made, **more)


_SANDWICH_NORMS = ("input_layernorm", "pre_feedforward_layernorm")
_GPT_NEOX = Family(
    model_type="gpt_neox",
    config_class="GPTNeoXConfig",
    model_class="GPTNeoXForCausalLM",
    layer_class="GPTNeoXLayer",
    topology="sequential",
    norm="layer",
    embeddings=("gpt_neox.embed_in",),
    layers="gpt_neox.layers",
    attention=Block("input_layernorm", ("attention.query_key_value",), ("attention.dense",)),
    feed_forward=Block("post_attention_layernorm", ("mlp.dense_h_to_4h",), ("mlp.dense_4h_to_h",)),
    final_norm="gpt_neox.final_layer_norm",
    head="embed_out",
    core="attention",
    by_group=True,
    kv_key="",
    head_key="",
    kinds=("ffn", "kv_group", "layer"),
    unrotatable="attention and feed-forward may read two norms side by side",
)
_BLOOM = Family(
    model_type="bloom",
    config_class="BloomConfig",
    model_class="BloomForCausalLM",
    layer_class="BloomBlock",
    topology="sequential",
    norm="layer",
    embeddings=("transformer.word_embeddings",),
    layers="transformer.h",
    attention=Block("input_layernorm", ("self_attention.query_key_value",), ("self_attention.dense",)),
    feed_forward=Block("post_attention_layernorm", ("mlp.dense_h_to_4h",), ("mlp.dense_4h_to_h",)),
    final_norm="transformer.ln_f",
    head="lm_head",
    core="self_attention",
    by_group=True,
    rotary=False,
    width_key="",
    kv_key="",
    head_key="",
    kinds=("ffn", "layer"),
    unrotatable="a norm follows the embeddings",
)
EXPERT_UNITS = ("expert", "expert_channel")
_SPARSE = ("kv_group", "q_head", "layer", *EXPERT_UNITS)
_WITH_DENSE = ("ffn", *_SPARSE)
_IN_EXPERTS = "its experts read the stream as well"
_QWEN_EXPERTS = Experts("mlp.gate", "mlp.experts", count_key="num_experts", width_key="moe_intermediate_size")


def _with_experts(model_type: str, name: str, experts: Experts, kinds: tuple[str, ...], **more: Any) -> Family:
    return _whole_units(model_type, name, unrotatable=_IN_EXPERTS, experts=experts, kinds=kinds, **more)


def _gated(prefix: str) -> Block:
    return Block("post_attention_layernorm", (f"{prefix}.gate_proj", f"{prefix}.up_proj"), (f"{prefix}.down_proj",))


_EXPERT_FAMILIES = (
    _with_experts("mixtral", "Mixtral", Experts("mlp.gate", "mlp.experts"), _SPARSE),
    _with_experts(
        "qwen2_moe",
        "Qwen2Moe",
        replace(
            _QWEN_EXPERTS,
            shared=_gated("mlp.shared_expert"),
            shared_keys=("shared_expert_intermediate_size",),
            shared_gate="mlp.shared_expert_gate",
        ),
        _WITH_DENSE,
    ),
    _with_experts(
        "qwen3_moe", "Qwen3Moe", _QWEN_EXPERTS, _WITH_DENSE, qk_norms=("self_attn.q_norm", "self_attn.k_norm")
    ),
    _with_experts(
        "granitemoe",
        "GraniteMoe",
        Experts("block_sparse_moe.router", "block_sparse_moe.experts"),
        _SPARSE,
        mlp="block_sparse_moe",
    ),
    _with_experts(
        "olmoe",
        "Olmoe",
        Experts("mlp.gate", "mlp.experts", count_key="num_experts"),
        ("kv_group", "layer", *EXPERT_UNITS),
        wide_qk_norms=("self_attn.q_norm", "self_attn.k_norm"),
    ),
    _with_experts(
        "gpt_oss",
        "GptOss",
        Experts("mlp.router", "mlp.experts", transposed=True),
        _SPARSE,
        head_parameters=("self_attn.sinks",),
    ),
    _with_experts(
        "deepseek_v2",
        "DeepseekV2",
        Experts(
            "mlp.gate",
            "mlp.experts",
            count_key="n_routed_experts",
            width_key="moe_intermediate_size",
            shared=_gated("mlp.shared_experts"),
            shared_keys=("moe_intermediate_size", "n_shared_experts"),
        ),
        ("ffn", "layer", *EXPERT_UNITS),
        attention=Block(
            "input_layernorm",
            tuple(
                f"self_attn.{name}" for name in ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
            ),
            ("self_attn.o_proj",),
        ),
        required=(("topk_method", "greedy"),),
    ),
)

_FALCON = replace(
    _BLOOM,
    model_type="falcon",
    config_class="FalconConfig",
    model_class="FalconForCausalLM",
    layer_class="FalconDecoderLayer",
    rotary=True,
    width_key="ffn_hidden_size",
    unrotatable="attention and feed-forward may read two norms side by side",
)

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        _llama_like("llama", "Llama"),
        _llama_like("mistral", "Mistral"),
        _llama_like("qwen2", "Qwen2"),
        _llama_like("qwen3", "Qwen3", qk_norms=("self_attn.q_norm", "self_attn.k_norm")),
        _llama_like("gemma", "Gemma", gain_offset=1.0),
        _PHI,
        _PHI3,
        _OPT,
        _GPT2,
        _BERT,
        _whole_units("smollm3", "SmolLM3"),
        _whole_units("granite", "Granite", unrotatable="what the blocks write is scaled"),
        _whole_units("olmo", "Olmo", unrotatable="its norms have no weights", norm="layer"),
        _whole_units(
            "olmo2",
            "Olmo2",
            unrotatable=SANDWICH,
            norms=("post_attention_layernorm", "post_feedforward_layernorm"),
            wide_qk_norms=("self_attn.q_norm", "self_attn.k_norm"),
            kinds=("ffn", "kv_group", "layer"),
        ),
        _whole_units("gemma2", "Gemma2", unrotatable=SANDWICH, norms=_SANDWICH_NORMS, gain_offset=1.0),
        replace(
            _whole_units("gemma3_text", "Gemma3Text", unrotatable=SANDWICH, norms=_SANDWICH_NORMS, gain_offset=1.0),
            model_class="Gemma3ForCausalLM",
            layer_class="Gemma3DecoderLayer",
            qk_norms=("self_attn.q_norm", "self_attn.k_norm"),
        ),
        _whole_units("cohere2", "Cohere2", norms=("input_layernorm", "input_layernorm"), topology="parallel"),
        _whole_units(
            "glm4",
            "Glm4",
            unrotatable=SANDWICH,
            inputs=("mlp.gate_up_proj",),
            fused_gate_up=True,
        ),
        _whole_units(
            "exaone4",
            "Exaone4",
            unrotatable=SANDWICH,
            norms=("post_attention_layernorm", "post_feedforward_layernorm"),
            qk_norms=("self_attn.q_norm", "self_attn.k_norm"),
        ),
        _whole_units("nemotron", "Nemotron", norm="layer", inputs=("mlp.up_proj",)),
        _whole_units("helium", "Helium"),
        _whole_units("stablelm", "StableLm", norm="layer", head_key="", required=(("qk_layernorm", False),)),
        _whole_units("starcoder2", "Starcoder2", norm="layer", inputs=("mlp.c_fc",), output="mlp.c_proj"),
        _GPT_NEOX,
        _BLOOM,
        _FALCON,
        *_EXPERT_FAMILIES,
    )
}

__all__ = ["EXPERT_UNITS", "FAMILIES", "STOCK_CLASSES", "WHOLE_UNITS", "Block", "Experts", "Family", "stock_classes"]

STOCK_CLASSES: dict[str, tuple[Any, Any]] = {}
"""Configuration and model classes of families that transformers does not have itself."""


def stock_classes(family: Family) -> tuple[Any, Any]:
    """The stock configuration and model class of a family."""
    import transformers

    if family.model_type in STOCK_CLASSES:
        return STOCK_CLASSES[family.model_type]
    return getattr(transformers, family.config_class), getattr(transformers, family.model_class)
