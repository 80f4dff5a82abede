"""The transformer families that can be read: where each keeps its stream, its blocks, its norms and its matrices.

A ``Family`` is a declarative record of module paths. Nothing is traced, so it serves a model on any device and of any
type. This file and the two beside it, ``configuration_sliced.py`` and ``modeling_sliced.py``, travel with every saved
checkpoint: they may import nothing but torch and transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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

    ``attention.inputs`` are query, key and value, or one matrix with their rows in that order;
    ``feed_forward.inputs`` are gate and up, one matrix with the rows of gate and then of up (``fused_gate_up``), or one
    plain matrix. ``core``: the module whose forward splits the heads. ``mlp``: the module of the feed-forward, where it
    is one. ``qk_norms``: norms over the channels of a query or key head. ``rotary``: whether positions turn pairs of
    channels (j, j + half). ``width_key``: the configuration's name for the feed-forward's width. ``poolers``: matrices
    outside the layers that read the stream.
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
    rotary: bool = True
    width_key: str = "intermediate_size"
    poolers: tuple[str, ...] = ()

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
    poolers=("pooler.dense",),
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
    )
}
