"""Storage layouts, causality, exports and tokens, on small models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, CodeGenForCausalLM

from paperworks.errors import InputError
from paperworks.papers.codegen2 import (
    PrefixLMMask,
    add_infill_tokens,
    convert_checkpoint,
    infill_many,
    infill_tokens,
    load_code_model,
    load_released,
    pack_qkv,
    regroup_qkv,
    resize,
    small_model,
    split_qkv,
    to_phi,
)
from paperworks.papers.codegen2.conversion import SNIPPET
from paperworks.papers.codegen2.export import gguf_name
from paperworks.papers.codegen2.fitting import prefix_logits
from paperworks.papers.codegen2.models import fused_kernels


@pytest.fixture(scope="module")
def bundled() -> Any:
    return load_code_model(device="cpu")


def direct_logits(state: dict[str, torch.Tensor], ids: torch.Tensor, groups: int, heads: int, rotary: int) -> Any:
    """The architecture of the specification, written out: one sequence ``[T]``, plain matrices, loops over heads."""
    x = state["transformer.wte.weight"][ids]
    width = x.shape[1]
    size = width // heads
    angles = torch.arange(len(ids))[:, None] / 10000 ** (torch.arange(0, rotary, 2) / rotary)
    turn = torch.polar(torch.ones_like(angles), angles)

    def turned(part: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(part[:, :rotary].reshape(len(ids), -1, 2).contiguous())
        return torch.cat([torch.view_as_real(pairs * turn).flatten(1), part[:, rotary:]], 1)

    def norm(name: str, value: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(value, (width,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    layer = 0
    while f"transformer.h.{layer}.ln_1.weight" in state:
        at = f"transformer.h.{layer}"
        h = norm(f"{at}.ln_1", x)
        stored = state[f"{at}.attn.qkv_proj.weight"].reshape(groups, 3, width // groups, width)
        query, value, key = (h @ stored[:, i].reshape(width, width).T for i in range(3))
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = turned(query[:, own]) @ turned(key[:, own]).T / math.sqrt(size)
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
            parts.append(scores.softmax(-1) @ value[:, own])
        attention = torch.cat(parts, 1) @ state[f"{at}.attn.out_proj.weight"].T
        inner = h @ state[f"{at}.mlp.fc_in.weight"].T + state[f"{at}.mlp.fc_in.bias"]
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        x = x + attention + inner @ state[f"{at}.mlp.fc_out.weight"].T + state[f"{at}.mlp.fc_out.bias"]
        layer += 1
    return norm("transformer.ln_f", x) @ state["lm_head.weight"].T + state["lm_head.bias"]


def random_model(seed: int = 0, vocabulary: int = 300) -> CodeGenForCausalLM:
    model = small_model(vocabulary, layers=2, width=64, heads=8, context=64, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # biases that are not zero, scores that are far from uniform
        for name, parameter in model.named_parameters():
            spread = 0.5 if parameter.ndim < 2 else 0.2
            parameter += spread * torch.randn(parameter.shape, generator=generator)
            if name.endswith("wte.weight"):
                parameter *= 4
    return model.eval()


@pytest.mark.parametrize("groups", [4, 8])
def test_a_stored_layout_computes_what_the_block_says(groups: int, tmp_path: Path, bundled: Any) -> None:
    model = random_model(0, 2048)
    ids = torch.randint(0, 300, (20,), generator=torch.Generator().manual_seed(1))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = direct_logits(state, ids, 4, 8, model.config.rotary_dim)
    assert torch.allclose(model(input_ids=ids[None]).logits[0], expected, atol=2e-4)
    for name in state:
        if name.endswith("qkv_proj.weight"):
            state[name] = regroup_qkv(state[name], 4, groups)
    assert torch.allclose(direct_logits(state, ids, groups, 8, model.config.rotary_dim), expected, atol=1e-5)
    save_released(tmp_path / "released", model, state, bundled.tokenizer)
    loaded, _, check = load_released(tmp_path / "released", groups=groups, device="cpu")
    assert check.groups == groups
    assert torch.allclose(loaded(input_ids=ids[None]).logits[0], expected, atol=2e-4)
    wrong, _, _ = load_released(tmp_path / "released", groups=12 - groups, device="cpu")
    assert not torch.allclose(wrong(input_ids=ids[None]).logits[0], expected, atol=0.1)
    with pytest.raises(InputError, match=r"^groups: .*too near to tell"):
        load_released(tmp_path / "released", device="cpu")


def save_released(folder: Path, model: Any, state: dict[str, torch.Tensor], tokenizer: Any, **config: Any) -> None:
    """As the released folders are: remote code, wrong end tokens, buffers among the weights, a .bin file."""
    folder.mkdir()
    raw = json.loads(model.config.to_json_string())
    raw |= {"auto_map": {"AutoModelForCausalLM": "modeling_codegen.CodeGenForCausalLM"}, "bos_token_id": 1}
    raw |= {"eos_token_id": 2, "torch_dtype": "float32", "vocab_size": state["lm_head.bias"].shape[0], **config}
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "modeling_codegen.py").write_text("raise RuntimeError('this must not run')\n")
    buffers = {"transformer.h.0.attn.causal_mask": torch.ones(1, 1, 4, 4).bool()}
    torch.save({**state, **buffers}, folder / "pytorch_model.bin")
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("groups", [4, 8])
def test_the_check_tells_the_layout_of_a_trained_model(groups: int, tmp_path: Path, bundled: Any) -> None:
    state = {name: tensor.clone() for name, tensor in bundled.model.state_dict().items()}
    for name in state:
        if name.endswith("qkv_proj.weight"):
            state[name] = regroup_qkv(state[name], 4, groups)
    save_released(tmp_path / "released", bundled.model, state, bundled.tokenizer)
    check = convert_checkpoint(tmp_path / "released", tmp_path / "converted")
    assert check.groups == groups
    assert check.losses[12 - groups] > check.losses[groups] + 0.25
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "converted").eval()
    ids = torch.tensor([bundled.tokenizer(SNIPPET)["input_ids"][:50]])
    assert torch.allclose(plain(input_ids=ids).logits, bundled.model(input_ids=ids).logits, atol=1e-4)
    assert plain.generation_config.eos_token_id == [
        bundled.tokenizer.eos_token_id,
        infill_tokens(bundled.tokenizer).eom,
    ]
    with pytest.raises(InputError, match=rf"^groups: found {12 - groups}, while the losses say {groups}"):
        load_released(tmp_path / "released", groups=12 - groups, device="cpu")
    with pytest.raises(InputError, match=r"^out"):
        convert_checkpoint(tmp_path / "released", tmp_path / "converted")


def test_packing_of_attention_matrices() -> None:
    weight = torch.arange(3 * 16 * 2.0).reshape(48, 2)
    query, key, value = split_qkv(weight, 8)
    # group g holds rows 6 g to 6 g + 5: two of the query, two of the value, two of the key
    assert query[:, 0].tolist() == [2.0 * (6 * g + i) for g in range(8) for i in (0, 1)]
    assert value[:, 0].tolist() == [2.0 * (6 * g + i) for g in range(8) for i in (2, 3)]
    assert key[:, 0].tolist() == [2.0 * (6 * g + i) for g in range(8) for i in (4, 5)]
    assert torch.equal(pack_qkv(query, key, value, 8), weight)
    assert torch.equal(regroup_qkv(regroup_qkv(weight, 8, 4), 4, 8), weight)
    assert not torch.equal(split_qkv(weight, 4)[0], query)
    with pytest.raises(InputError, match="groups"):
        split_qkv(weight, 5)


def test_causality() -> None:
    model = random_model(2)
    ids = torch.randint(0, 300, (1, 12), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, 7] = (ids[0, 7] + 1) % 300
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits[0, :7], model(changed).logits[0, :7], atol=1e-5)
        for prefix in (5, 10):
            a, b = (prefix_logits(model, x, torch.tensor([prefix])) for x in (ids, changed))
            moved = (a - b).abs().amax(-1)[0] > 1e-5
            # inside the prefix the change is seen everywhere; outside of it, only from its place on
            assert moved[:7].all() == (prefix == 10)
            assert moved[7:].all()
        causal = prefix_logits(model, ids, torch.tensor([0]))
        assert torch.allclose(causal, model(ids).logits, atol=1e-4)
        with fused_kernels(model):
            assert torch.allclose(model(ids).logits, causal, atol=1e-4)
            mask = torch.tensor([[0, 0] + [1] * 10])
            padded = model(ids, attention_mask=mask).logits
        assert torch.allclose(model(ids, attention_mask=mask).logits[:, 2:], padded[:, 2:], atol=1e-4)
    assert PrefixLMMask(3).additive(4).shape == (1, 1, 4, 4)


def test_as_a_phi(tmp_path: Path) -> None:
    model = random_model(3)
    ids = torch.randint(0, 300, (2, 30), generator=torch.Generator().manual_seed(0))
    phi = to_phi(model)
    assert torch.allclose(phi(input_ids=ids).logits, model(input_ids=ids).logits, atol=2e-4)
    phi.save_pretrained(tmp_path / "phi")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "phi", attn_implementation="sdpa")
    assert torch.allclose(again(input_ids=ids).logits, phi(input_ids=ids).logits, atol=1e-4)
    names = {gguf_name(name) for name in phi.state_dict()}
    assert {"token_embd.weight", "output.bias", "output_norm.bias", "blk.1.attn_q.bias", "blk.0.ffn_up.weight"} <= names
    assert len(names) == len(phi.state_dict())
    with pytest.raises(InputError, match="model"):
        to_phi(phi)  # type: ignore[arg-type]


def test_tokens_of_a_tokenizer_that_has_none() -> None:
    from paperworks.language import load_model

    model, tokenizer = load_model(device="cpu")
    with pytest.raises(InputError, match=r"^tokenizer: found one without <sep>, <eom>, <mask_1>"):
        infill_tokens(tokenizer)
    before = model.get_input_embeddings().weight[:5].clone()
    added = add_infill_tokens(tokenizer, 3, fim=True)
    assert added == [
        "<sep>",
        "<eom>",
        "<mask_1>",
        "<mask_2>",
        "<mask_3>",
        "<fim_prefix>",
        "<fim_suffix>",
        "<fim_middle>",
    ]
    assert resize(model, tokenizer) == 8
    assert resize(model, tokenizer) == 0
    tokens = infill_tokens(tokenizer)
    assert len(tokens.masks) == 3
    assert tokens.fim is not None
    assert tokenizer("a<mask_1>b<eom>")["input_ids"].count(tokens.masks[0]) == 1
    assert torch.equal(model.get_input_embeddings().weight[:5], before)
    assert add_infill_tokens(tokenizer, 3, fim=True) == []
    with pytest.raises(InputError, match=r"4 holes; expected at most 3"):
        infill_many(model, tokenizer, [("a", "b", "c", "d", "e")])
