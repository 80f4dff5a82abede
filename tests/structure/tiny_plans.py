"""Random masks and plans over the units of tiny models, and what every cut by a plan has to hold."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_transformers import outputs

from paperworks.structure import KeepPlan, count, kinds_of, masked, prune, save_model, units_of

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "phi", "gpt2", "opt", "bert")
MIXED = ("ffn", "kv_group", "qk_pair", "v_channel", "hidden", "layer")
ENDS = ("attention_in", "attention_out", "feed_forward_in", "feed_forward_out")


def random_masks(model: Any, kinds: Sequence[str], share: float = 0.6, seed: int = 1) -> dict[Any, torch.Tensor]:
    """0 and 1, at least one 1 in every set (and group of query heads). Kinds that a family lacks are left out."""
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for key, unit_set in units_of(model, [kind for kind in kinds if kind in kinds_of(model)]).items():
        groups = unit_set.groups
        each = unit_set.n_units // groups
        rows = torch.zeros(groups, each)
        for row in rows:
            row[torch.randperm(each, generator=generator)[: max(1, int(share * each))]] = 1
        masks[key] = rows.flatten()
    return masks


def random_plan(model: Any, kinds: Sequence[str], share: float = 0.6, seed: int = 1) -> KeepPlan:
    """The plan of ``random_masks``."""
    return KeepPlan.from_masks(random_masks(model, kinds, share, seed))


def kept_outputs(model: Any, ids: torch.Tensor, masks: dict[Any, torch.Tensor], **kwargs: Any) -> torch.Tensor:
    """Outputs of a masked model; of an encoder, in the dimensions that are kept."""
    found = outputs(model, ids, **kwargs)
    hidden = masks.get((None, "hidden"))
    return found if hidden is None or model.get_output_embeddings() is not None else found[..., hidden.bool()]


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def numel(model: Any) -> int:
    """Parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def assert_cut_is_masked_and_loads_again(model: Any, ids: Any, plan: KeepPlan, folder: Path) -> None:
    """A cut gives the outputs of the masked model, has the predicted parameters, and loads as it was saved."""
    whole = outputs(model, ids)
    with masked(model, plan.masks()):
        wanted = outputs(model, ids)
    assert torch.equal(outputs(model, ids), whole)
    assert (wanted - whole).abs().max() > 1e-3
    predicted = count(model, plan)
    cut = prune(copy.deepcopy(model), plan)
    torch.testing.assert_close(outputs(cut, ids), wanted, rtol=1e-4, atol=1e-5)
    assert count(cut) == predicted
    assert predicted.parameters == sum(p.numel() for p in cut.parameters()) < count(model).parameters
    save_model(cut, folder)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.testing.assert_close(outputs(loaded, ids), outputs(cut, ids), rtol=0, atol=0)
