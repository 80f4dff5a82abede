"""Masks on the frozen part alone: what the adapter adds to a pruned dimension stays, where the block writes it."""

from __future__ import annotations

import pytest
import torch
from tiny_transformers import tiny, token_ids

from paperworks.structure import masked, units_of
from paperworks.training import add_lora


@pytest.mark.parametrize(("kind", "name"), [("attention_out", "o_proj"), ("feed_forward_out", "down_proj")])
def test_the_adapter_of_a_masked_output_keeps_its_gradient(kind: str, name: str) -> None:
    model = tiny("llama")
    adapted = add_lora(model, [name], r=2, dropout=0.0)
    for n, p in adapted.named_parameters():
        if "lora_B" in n:
            torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(0))
    key = (1, kind)
    units = units_of(adapted, [kind], [1])
    none = {key: torch.zeros(units[key].n_units)}
    path = next(n for n, m in adapted.named_modules() if "layers.1." in n and n.endswith(name))
    module = adapted.get_submodule(path)
    seen = {}
    handle = module.register_forward_hook(lambda m, args, out: seen.update(x=args[0], out=out))
    with masked(adapted, none, base_only=True):
        adapted(input_ids=token_ids(2, 8)).logits.sum().backward()
    handle.remove()
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
    scale = module.scaling["default"]
    torch.testing.assert_close(seen["out"], seen["x"] @ a.T @ b.T * scale)
    assert float(b.grad.abs().sum()) > 0
    with masked(adapted, none), torch.no_grad():
        handle = module.register_forward_hook(lambda m, args, out: seen.update(out=out))
        adapted(input_ids=token_ids(2, 8))
        handle.remove()
    assert float(seen["out"].abs().max()) == 0
