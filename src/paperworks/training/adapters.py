"""Low-rank adapters (LoRA, Hu et al. 2021) through peft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from paperworks.errors import InputError
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    from peft import PeftModel


def add_lora(
    model: torch.nn.Module,
    targets: Sequence[str],
    *,
    r: int = 32,
    alpha: float = 10.0,
    dropout: float = 0.05,
    seed: int = 0,
    rank_stabilized: bool = False,
    train_also: Sequence[str] = (),
    token_rows: Sequence[int] = (),
) -> PeftModel:
    """Freeze a model and put an adapter ``W x + (alpha / r) B A x`` on its target modules.

    ``A`` (r x in) is drawn from the seed, ``B`` (out x r) is zero, so that the model's outputs are unchanged at first.

    Parameters
    ----------
    model : a model of transformers; its modules are replaced in place.
    targets : last part of the names of the linear modules to adapt, such as ``["q_proj", "v_proj"]``, or whole names.
    r : rank, from 1 to the smaller side of the largest matrix: more adds parameters and no freedom.
    alpha : the adapter's scale times ``r``.
    dropout : share of the adapter's inputs that is dropped in training, in [0, 1).
    rank_stabilized : scale by ``alpha / sqrt(r)`` (rsLoRA, Kalajdzievski 2023).
    train_also : whole names of modules that are copied, trained and saved with the adapter, such as a new head.
    token_rows : ids of tokens whose rows of the embedding and of the head are trained and saved with the adapter, such
        as those of tokens that were added.

    Raises
    ------
    InputError : no module has one of the names, or a value is out of bounds.
    """
    check_seed("seed", seed)
    from peft import LoraConfig, get_peft_model

    if r < 1:
        raise InputError("r", r, "a rank of 1 or more")
    if not 0 <= dropout < 1:
        raise InputError("dropout", dropout, "a share from 0 to below 1")
    linear = [name for name, module in model.named_modules() if _is_linear(module)]
    leaves = {name.rsplit(".", 1)[-1] for name in linear}
    missing = sorted(set(targets) - leaves - set(linear))
    if missing or not targets:
        raise InputError(
            "targets", missing or "no names", f"names of linear modules of the model: {', '.join(sorted(leaves))}"
        )
    unknown = sorted(set(train_also) - {name for name, _ in model.named_modules()})
    if unknown:
        raise InputError("train_also", ", ".join(unknown), "names of modules of the model")
    sides = [
        min(module.weight.shape)
        for name, module in model.named_modules()
        if _is_linear(module) and {name, name.rsplit(".", 1)[-1]} & set(targets)
    ]
    if r > max(sides):
        raise InputError("lora_rank", r, f"at most {max(sides)}, the smaller side of the largest matrix to adapt")
    # peft types alpha as an integer, but only ever divides it by r
    config = LoraConfig(
        r=r,
        lora_alpha=cast(int, alpha),
        lora_dropout=dropout,
        target_modules=list(targets),
        bias="none",
        use_rslora=rank_stabilized,
        modules_to_save=list(train_also) or None,
        trainable_token_indices=_rows_of(model, token_rows) or None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # peft draws A from the global generator
        return cast("PeftModel", get_peft_model(cast(Any, model), config))


def _rows_of(model: torch.nn.Module, ids: Sequence[int]) -> dict[str, list[int]]:
    """The ids, by the name of each module that has rows of its own: peft moves a tied head with its embedding."""
    if not ids:
        return {}
    kept, found = cast(Any, model), dict[str, list[int]]()
    embedding, head = kept.get_input_embeddings(), kept.get_output_embeddings()
    modules = [embedding]
    if head is not None and head.weight is not embedding.weight:
        modules.append(head)
    for name, module in model.named_modules():
        if any(module is one for one in modules):
            found[name] = list(ids)
    return found


def merge_lora(model: PeftModel) -> torch.nn.Module:
    """Add the adapters into the weights (``W + (alpha / r) B A``) and return the plain model without them."""
    merged = cast(torch.nn.Module, model.merge_and_unload(safe_merge=True))
    for parameter in merged.parameters():
        parameter.requires_grad_(True)
    return merged


def _is_linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
