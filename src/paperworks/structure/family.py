"""What a family of transformers is described by. Saved with every checkpoint: it imports the standard library only."""

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
class Experts:
    """The experts of a layer, fused into matrices with an axis of experts in front. Paths are relative to the layer.

    ``router``: the module whose weight [experts, D] chooses among them. ``matrices``: the module with ``gate_up_proj``
    [experts, 2 F, D] (rows of gate, then of up) and ``down_proj`` [experts, D, F]; ``transposed``: [experts, D, 2 F]
    with gate and up in turn, and [experts, F, D]. ``count_key``, ``width_key``, ``top_key``: the configuration's names
    for the number of experts, their channels, and how many of them a token goes to. ``shared``: a feed-forward beside
    them that every token goes through, with ``shared_keys``: settings whose product is its width. ``shared_gate``: the
    matrix that weighs it.
    """

    router: str
    matrices: str
    count_key: str = "num_local_experts"
    width_key: str = "intermediate_size"
    top_key: str = "num_experts_per_tok"
    transposed: bool = False
    shared: Block | None = None
    shared_keys: tuple[str, ...] = ()
    shared_gate: str = ""


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

    ``experts``: where the feed-forward of some or all layers is a choice of experts; ``feed_forward`` is then that of
    the others. ``head_parameters``: vectors with one number for each query head (attention sinks).

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
    experts: Experts | None = None
    head_parameters: tuple[str, ...] = ()
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
