"""Models by the recipe's options: the bundled one, a CodeGen checkpoint whose layout is checked, any other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.nn.loading import check_model_folder
from paperworks.papers.codegen2.conversion import load_released
from paperworks.papers.codegen2.models import BUNDLED
from paperworks.papers.codegen2.tokens import DEFAULT_MASKS, add_infill_tokens, infill_tokens, resize


@dataclass
class Loaded:
    """A model with its tokenizer, what was found out about it, and the tokens that it was given."""

    model: Any
    tokenizer: Any
    notes: list[str]
    added: list[str]
    bundled: bool


def load_code_model(
    model: str | Path = "bundled",
    *,
    groups: int | None = None,
    device: str = "auto",
    masks: int = DEFAULT_MASKS,
    add_tokens: bool = False,
    fim: bool = False,
    modes: bool = False,
) -> Loaded:
    """A model for completing and infilling, in float32 on a CPU, else as stored, in evaluation mode.

    Parameters
    ----------
    model : "bundled", or a folder. Of CodeGen checkpoints the layout is checked (``load_released``).
    add_tokens : give a tokenizer without the infill tokens ``masks`` of them, and the model rows for them.
    fim, modes : also the tokens of reordered files, and of UL2.

    Raises
    ------
    InputError : not a model; or, without ``add_tokens``, the infill tokens that the tokenizer lacks.
    """
    import torch

    from paperworks.language import load_model
    from paperworks.nn import resolve_device

    bundled = str(model) == "bundled"
    folder = BUNDLED if bundled else Path(model).expanduser()
    place = resolve_device(device)
    notes: list[str] = []
    dtype = "float32" if torch.device(place).type == "cpu" else None
    if not bundled and check_model_folder(folder).get("model_type") == "codegen":
        loaded, tokenizer, check = load_released(folder, groups=groups, dtype=dtype, device=device)
        notes.append(f"{folder.name}: {check}.")
        net: Any = loaded
    else:
        if groups is not None:
            raise InputError("groups", groups, "auto: this is no CodeGen checkpoint of others")
        net, tokenizer = load_model(folder, dtype, device)
    added: list[str] = []
    if add_tokens:
        added = add_infill_tokens(tokenizer, masks if _lacks_masks(tokenizer) else 1, fim=fim, modes=modes)
        rows = resize(net, tokenizer)
        if added:
            notes.append(
                f"The tokenizer had no {added[0]}: {len(added)} infill tokens were added, with {rows} new rows. "
                "They mean nothing before training."
            )
    infill_tokens(tokenizer)
    tokenizer.padding_side = "left"
    return Loaded(net, tokenizer, notes, added, bundled)


def _lacks_masks(tokenizer: Any) -> bool:
    return "<mask_1>" not in tokenizer.get_vocab()
