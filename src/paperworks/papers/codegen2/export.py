"""The trained model for other programs: as a Phi, as GGUF for llama.cpp, and the prompt format of infilling.

Phi's block is CodeGen2's: one LayerNorm in front of attention and feed-forward side by side, rotary positions on a
part of each head, a head with a bias. Two things differ. Phi turns coordinate i with i + r / 2 where CodeGen turns
neighbours: rows of queries and keys change places. And Phi's projections have biases: they are zero. The function is
the same.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from paperworks.errors import InputError
from paperworks.papers.codegen2.conversion import STOCK_GROUPS, split_qkv
from paperworks.papers.codegen2.tokens import EOM, SEP, infill_tokens, mask_name
from paperworks.runs.files import new_file

if TYPE_CHECKING:
    from transformers import CodeGenForCausalLM, PhiForCausalLM


def to_phi(model: CodeGenForCausalLM) -> PhiForCausalLM:
    """The same function as transformers' ``PhiForCausalLM``, which vLLM, llama.cpp and flash attention know."""
    from transformers import PhiConfig, PhiForCausalLM

    config: Any = model.config
    if config.model_type != "codegen":
        raise InputError("model", f"a {config.model_type}", "a CodeGen model")
    size = config.n_embd // config.n_head
    made = PhiConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.n_embd,
        intermediate_size=config.n_inner or 4 * config.n_embd,
        num_hidden_layers=config.n_layer,
        num_attention_heads=config.n_head,
        hidden_act=config.activation_function,
        max_position_embeddings=config.n_positions,
        layer_norm_eps=config.layer_norm_epsilon,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": config.rotary_dim / size,
        },
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        tie_word_embeddings=False,
    )
    phi: Any = PhiForCausalLM(made)
    phi = phi.to(model.dtype)
    state = phi_state(model.state_dict(), config.n_layer, config.n_head, config.rotary_dim)
    phi.load_state_dict(state, strict=True)
    if model.generation_config is not None:
        phi.generation_config = model.generation_config
    return phi.eval()


def phi_state(state: dict[str, torch.Tensor], layers: int, heads: int, rotary_dim: int) -> dict[str, torch.Tensor]:
    """The tensors of a CodeGen model under Phi's names."""
    found = {
        "model.embed_tokens.weight": state["transformer.wte.weight"],
        "lm_head.weight": state["lm_head.weight"],
        "lm_head.bias": state["lm_head.bias"],
    }
    for part in ("weight", "bias"):
        found[f"model.final_layernorm.{part}"] = state[f"transformer.ln_f.{part}"]
    for layer in range(layers):
        old, new = f"transformer.h.{layer}", f"model.layers.{layer}"
        query, key, value = split_qkv(state[f"{old}.attn.qkv_proj.weight"], STOCK_GROUPS)
        halves = [_halves(query, heads, rotary_dim), _halves(key, heads, rotary_dim), value]
        for name, matrix in zip(("q_proj", "k_proj", "v_proj"), halves, strict=True):
            found[f"{new}.self_attn.{name}.weight"] = matrix.contiguous()
            found[f"{new}.self_attn.{name}.bias"] = torch.zeros_like(matrix[:, 0])
        out = state[f"{old}.attn.out_proj.weight"]
        found[f"{new}.self_attn.dense.weight"] = out
        found[f"{new}.self_attn.dense.bias"] = torch.zeros_like(out[:, 0])
        for part in ("weight", "bias"):
            found[f"{new}.input_layernorm.{part}"] = state[f"{old}.ln_1.{part}"]
            found[f"{new}.mlp.fc1.{part}"] = state[f"{old}.mlp.fc_in.{part}"]
            found[f"{new}.mlp.fc2.{part}"] = state[f"{old}.mlp.fc_out.{part}"]
    return found


def _halves(matrix: torch.Tensor, heads: int, rotary_dim: int) -> torch.Tensor:
    """Rows of each head with the pairs (0, 1), (2, 3), ... moved to (0, r/2), (1, r/2 + 1), ..."""
    size = matrix.shape[0] // heads
    rows = torch.arange(size)
    order = torch.cat([rows[0:rotary_dim:2], rows[1:rotary_dim:2], rows[rotary_dim:]])
    return matrix.reshape(heads, size, -1)[:, order].reshape(matrix.shape)


def prompt_format(tokenizer: Any) -> dict[str, Any]:
    """How programs ask for an infill: a template, where to stop, and the same in the words of an editor's plug-in.

    ``llm-ls`` (editors by Hugging Face) writes ``fim.prefix + text before + fim.suffix + text after + fim.middle``.
    """
    end = tokenizer.eos_token
    infill_tokens(tokenizer)
    return {
        "left_to_right": "{prefix}",
        "infill": f"{{prefix}}{mask_name(1)}{{suffix}}{end}{SEP}{mask_name(1)}",
        "stop": [EOM, end],
        "white_space": "none around special tokens; leave out that in front of the hole and expect it in the answer",
        "llm_ls": {
            "fim": {"enabled": True, "prefix": "", "suffix": mask_name(1), "middle": f"{end}{SEP}{mask_name(1)}"},
            "tokensToClear": [EOM, end],
        },
    }


def save_gguf(model: CodeGenForCausalLM, tokenizer: Any, path: str | Path) -> None:
    """Write a CodeGen model as a GGUF file of the architecture ``phi2``, for llama.cpp; ``path`` must be free.

    Weights keep their precision where it is 16 or 32 bits (bfloat16 becomes float32). ``<eom>`` ends an answer. The
    tokenizer must be byte-level BPE with GPT-2's splitting of words, as CodeGen2's is.

    Raises
    ------
    InputError : the package ``gguf`` is missing, another tokenizer, or a taken path.
    """
    require_gguf()
    import gguf

    config: Any = model.config
    vocabulary = _vocabulary(tokenizer, config.vocab_size)
    with new_file(Path(path), "gguf") as aside:
        writer = gguf.GGUFWriter(aside, "phi2")
        writer.add_name("CodeGen2")
        writer.add_context_length(config.n_positions)
        writer.add_embedding_length(config.n_embd)
        writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
        writer.add_block_count(config.n_layer)
        writer.add_head_count(config.n_head)
        writer.add_head_count_kv(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        writer.add_rope_dimension_count(config.rotary_dim)
        writer.add_rope_freq_base(10000.0)
        half = model.dtype == torch.float16
        writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list([text for text, _ in vocabulary])
        writer.add_token_types([kind for _, kind in vocabulary])
        writer.add_token_merges(_merges(tokenizer))
        tokens = infill_tokens(tokenizer)
        writer.add_bos_token_id(tokens.end)
        writer.add_eos_token_id(tokens.end)
        writer.add_eot_token_id(tokens.eom)
        writer.add_add_bos_token(False)
        state = phi_state(model.state_dict(), config.n_layer, config.n_head, config.rotary_dim)
        for name, tensor in state.items():
            number = torch.float16 if half and tensor.ndim == 2 else torch.float32  # llama.cpp wants vectors in float32
            writer.add_tensor(gguf_name(name), tensor.detach().cpu().to(number).contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def require_gguf() -> None:
    """Raise InputError, with the command that brings it, where the package gguf is missing."""
    if importlib.util.find_spec("gguf") is None:
        raise InputError("gguf", "the package gguf not installed", "pip install gguf")


_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.final_layernorm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.dense": "attn_output",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


def gguf_name(name: str) -> str:
    """GGUF's name of a tensor of Phi."""
    stem, _, part = name.rpartition(".")
    if stem.startswith("model.layers."):
        layer, _, inner = stem.removeprefix("model.layers.").partition(".")
        return f"blk.{layer}.{_NAMES[inner]}.{part}"
    return f"{_NAMES[stem]}.{part}"


_NORMAL, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5


def _vocabulary(tokenizer: Any, rows: int) -> list[tuple[str, int]]:
    """Text and kind of every row of the embedding; special tokens are control tokens, other added ones the user's."""
    special = set(tokenizer.all_special_ids)
    added = tokenizer.added_tokens_decoder
    found = [(f"[PAD{row}]", _UNUSED) for row in range(rows)]
    for text, row in tokenizer.get_vocab().items():
        if row < rows:
            control = row in special or (row in added and added[row].special)
            found[row] = (text, _CONTROL if control else _USER if row in added else _NORMAL)
    return found


def _merges(tokenizer: Any) -> list[str]:
    import json

    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = {} if backend is None else json.loads(backend.to_str())
    merges = described.get("model", {}).get("merges")
    if described.get("model", {}).get("type") != "BPE" or merges is None:
        raise InputError("tokenizer", type(tokenizer).__name__, "byte-level BPE, as CodeGen2's is")
    return [m if isinstance(m, str) else " ".join(m) for m in merges]
