"""Exact properties on random models."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from paperworks import runs
from paperworks.papers.atp.adapters import attach
from paperworks.papers.atp.estimator import ATP
from paperworks.papers.atp.settings import SPACES, TrainerArgs
from paperworks.pruning.sparsity import lora_group_norms
from paperworks.runs import Finding, largest, smallest
from paperworks.structure import masked, units_of
from paperworks.structure.units import Key


def _small(name: str) -> Any:
    shape: dict[str, Any] = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = LlamaForCausalLM(LlamaConfig(**shape)) if name == "llama" else Qwen2ForCausalLM(Qwen2Config(**shape))
    return made.eval()


@runs.study(
    claims=["lora-aware-forward", "direct-removal", "reversible-decisions"],
    title="Exact properties, random models",
    minutes=0.3,
)
def exact_properties(run: runs.Run, fast: bool) -> list[Finding]:
    """LoRA-aware forward and cut on random Llama and Qwen2 with grouped queries, every pruning space."""
    ids = torch.arange(3, 51).view(4, 12)
    plain, masking, cut = 0.0, 0.0, 0.0
    least, most = [], []
    generator = torch.Generator().manual_seed(0)
    for name in ("llama", "qwen2"):
        for space, kinds in SPACES.items():
            model = _small(name)
            units = units_of(model, kinds)
            masks = {key: (torch.rand(u.n_units, generator=generator) < 0.6).float() for key, u in units.items()}
            for mask in masks.values():
                mask[0] = 1
            with torch.no_grad(), masked(model, masks):
                expected = model(input_ids=ids).logits
            adapted = attach(model, rank=4, dropout=0.1, svd=False, seed=0).eval()
            with torch.no_grad(), masked(adapted, masks, base_only=True):
                masking = largest((masking, float((adapted(input_ids=ids).logits - expected).abs().max())))
            for part in (p for n, p in adapted.named_parameters() if "lora_B" in n):
                part.data.normal_(std=0.1, generator=generator)
            with torch.no_grad():
                lora = adapted(input_ids=ids).logits
                ones = {key: torch.ones_like(mask) for key, mask in masks.items()}
                with masked(adapted, ones, base_only=True):
                    plain = largest((plain, float((adapted(input_ids=ids).logits - lora).abs().max())))
            if space != "disp":  # its masks on what a layer reads are on the adapter's side, too
                least.append(smallest(_gradients(adapted, masks, ids, base_only=True)))
                most.append(largest(_gradients(adapted, masks, ids, base_only=False)))
            args = TrainerArgs(steps=4, batch_size=4, learning_rate=1e-2)
            method = ATP(0.4, space=space, trainer_args=args, device="cpu")  # type: ignore[arg-type]
            cut = largest((cut, method.fit(_small(name), ids).report_.masked_against_cut))
    detail = "float32; Llama and Qwen2 with 2 query heads to a key-value head; " + ", ".join(SPACES)
    return [
        Finding(
            "lora-aware-forward",
            "Largest change of a logit against plain LoRA with nothing pruned",
            "exact",
            plain,
            "<=",
            0.0,
            detail=detail,
        ),
        Finding(
            "lora-aware-forward",
            "Largest difference of a logit to the plain mask with an empty adapter",
            "exact",
            masking,
            "<",
            1e-5,
            detail=detail,
        ),
        Finding(
            "direct-removal",
            "Largest change of a logit by the cut, random models",
            "exact",
            cut,
            "<",
            1e-4,
            detail=detail,
        ),
        Finding(
            "reversible-decisions",
            "Smallest gradient of a pruned unit's adapter entries, against the largest under masks on complete outputs",
            "exact",
            smallest(least),
            ">",
            largest(most),
            baseline=largest(most),
            baseline_name="masks on complete outputs",
            detail="joint norm over the entries that touch the unit; random adapters; layer_uniform, heads",
        ),
    ]


def _gradients(adapted: Any, masks: dict[Key, torch.Tensor], ids: torch.Tensor, *, base_only: bool) -> list[float]:
    """Of every pruned unit: the joint norm of the gradient of its adapter entries."""
    adapted.zero_grad()
    with masked(adapted, masks, base_only=base_only):
        adapted(input_ids=ids, labels=ids).loss.backward()
    twin = copy.deepcopy(adapted)  # with the gradients in place of the adapters, their norms are those asked for
    ours = dict(adapted.named_parameters())
    for name, parameter in twin.named_parameters():
        if "lora_" in name:
            parameter.data = ours[name].grad.clone()
    units = units_of(twin, {kind for _, kind in masks})
    return [float(n) for key, mask in masks.items() for n in lora_group_norms(twin, units[key])[mask == 0]]
