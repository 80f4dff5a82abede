"""The transformer families that can be read: where each keeps its stream, its blocks, its norms and its matrices.

A ``Family`` is a declarative record of module paths. Nothing is traced, so it serves a model on any device and of any
type. This file and the two beside it, ``configuration_sliced.py`` and ``modeling_sliced.py``, travel with every saved
checkpoint: they may import nothing but torch and transformers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Topology = Literal["sequential", "parallel", "post_norm"]


@dataclass(frozen=True)
class Block:
    """One branch of a layer: what it reads from the stream and what it writes back. Paths are relative to the layer.

    ``norm``: the norm in front of the block, or, in a ``post_norm`` layer, the norm after the block's residual sum.
    ``inputs``: matrices that read the (normed) stream. ``outputs``: matrices that write to it.
    """

    norm: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """How one architecture of transformers is laid out. Paths are relative to the model, with dots.

    ``topology``: ``sequential`` (norm, attention, add; norm, feed-forward, add), ``parallel`` (attention and
    feed-forward read one norm and are added together) or ``post_norm`` (block, add, norm).
    ``norm``: ``rms`` or ``layer``. ``gain_offset``: what is added to a norm's stored weight to get its gain (Gemma: 1).
    ``embedding_norm``: the norm over the sum of the embeddings, for ``post_norm``. ``final_norm`` and ``head`` are
    empty for encoders. ``learned_positions``: whether position embeddings are a table, so that inputs have a
    longest length. ``padded_at``: a dropout in front of the layers, for models (GPT-2) that expect the last hidden
    state to be as wide as the first: the stream is padded with zeros there, up to its last width.

    ``attention.inputs`` are query, key and value, or one matrix with their rows in that order (``by_group``: with the
    rows of every key-value group together, its queries, its key and its value);
    ``feed_forward.inputs`` are gate and up, one matrix with the rows of gate and then of up (``fused_gate_up``), or one
    plain matrix. ``core``: the module whose forward splits the heads. ``mlp``: the module of the feed-forward, where it
    is one. ``qk_norms``: norms over the channels of a query or key head; ``wide_qk_norms``: over all heads together.
    ``rotary``: whether positions turn pairs of channels (j, j + half). ``width_key``: the configuration's name for the
    feed-forward's width ("": four times the hidden size). ``kv_key``, ``head_key``: its names for the number of
    key-value heads and for the channels of a head, "" where the architecture reads neither. ``poolers``: matrices
    outside the layers that read the stream.

    ``kinds``: the units that can be cut, None for all. ``unrotatable``: why the stream cannot be rotated ("": it can).
    ``required``: settings of the configuration that must have these values, with what they are.
    """

    model_type: str
    config_class: str
    model_class: str
    layer_class: str
    topology: Topology
    norm: Literal["rms", "layer"]
    embeddings: tuple[str, ...]
    layers: str
    attention: Block
    feed_forward: Block
    embedding_norm: str = ""
    final_norm: str = ""
    head: str = ""
    gain_offset: float = 0.0
    learned_positions: bool = False
    padded_at: str = ""
    core: str = "self_attn"
    mlp: str = "mlp"
    fused_gate_up: bool = False
    qk_norms: tuple[str, ...] = ()
    wide_qk_norms: tuple[str, ...] = ()
    by_group: bool = False
    rotary: bool = True
    width_key: str = "intermediate_size"
    kv_key: str = "num_key_value_heads"
    head_key: str = "head_dim"
    poolers: tuple[str, ...] = ()
    kinds: tuple[str, ...] | None = None
    unrotatable: str = ""
    required: tuple[tuple[str, object], ...] = ()

    @property
    def pruned_type(self) -> str:
        """``model_type`` of the same architecture with heads, channels and widths of its own in every layer."""
        return f"pruned_{self.model_type}"

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks between two sums of the stream: a parallel layer has one, made of both branches."""
        if self.topology == "parallel":
            both = (self.attention, self.feed_forward)
            return (
                Block(
                    self.attention.norm,
                    tuple(path for block in both for path in block.inputs),
                    tuple(path for block in both for path in block.outputs),
                ),
            )
        return (self.attention, self.feed_forward)

    @property
    def sliced_type(self) -> str:
        """``model_type`` of the same architecture with a width per layer."""
        return f"sliced_{self.model_type}"


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
    return replace(
        like,
        attention=replace(like.attention, norm=norms[0]),
        feed_forward=Block(norms[1], inputs, (output,)),
        unrotatable=unrotatable,
        **{"kinds": WHOLE_UNITS, **more},
    )


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
    )
}

STOCK_CLASSES: dict[str, tuple[Any, Any]] = {}
"""Configuration and model classes of families that transformers does not have itself."""


def stock_classes(family: Family) -> tuple[Any, Any]:
    """The stock configuration and model class of a family."""
    import transformers

    if family.model_type in STOCK_CLASSES:
        return STOCK_CLASSES[family.model_type]
    return getattr(transformers, family.config_class), getattr(transformers, family.model_class)
