"""The special tokens of infilling: which they are, how they are found in a tokenizer, and how one is given them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END, SEP, EOM = "<|endoftext|>", "<sep>", "<eom>"
FIM = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
"""Tokens of prefix-suffix-middle infilling, by the names that StarCoder uses."""
MODES = ("<ul2_r>", "<ul2_s>", "<ul2_x>")
"""Tokens that tell the denoisers of UL2 apart."""
DEFAULT_MASKS = 99


def mask_name(number: int) -> str:
    """The text of a mask token, counted from 1."""
    return f"<mask_{number}>"


@dataclass(frozen=True)
class InfillTokens:
    """Ids of the special tokens.

    Attributes
    ----------
    end : end of a document, ``<|endoftext|>``.
    sep : stands between a document with holes and its spans.
    eom : end of a span.
    masks : ``<mask_1>``, ``<mask_2>``, ...
    fim : prefix, suffix and middle, where the tokenizer has them; only the psm and spm objectives need them.
    modes : R, S and X of UL2, where the tokenizer has them.
    vocabulary : ids of a model are below this.
    """

    end: int
    sep: int
    eom: int
    masks: tuple[int, ...]
    fim: tuple[int, int, int] | None = None
    modes: tuple[int, int, int] | None = None
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "masks", tuple(int(i) for i in self.masks))
        named = [self.end, self.sep, self.eom, *self.masks, *(self.fim or ()), *(self.modes or ())]
        if not self.masks:
            raise InputError("masks", "none", "at least one mask token")
        if len(set(named)) != len(named):
            raise InputError("tokens", "one id for two special tokens", "an id for each")
        if min(named) < 0 or (self.vocabulary is not None and max(named) >= self.vocabulary):
            wrong = min(named) if min(named) < 0 else max(named)
            raise InputError("tokens", f"id {wrong}", f"ids from 0 to {(self.vocabulary or 0) - 1}")

    @property
    def reserved(self) -> tuple[int, ...]:
        """Tokens that must not stand in a document."""
        return (self.sep, self.eom, *self.masks, *(self.fim or ()), *(self.modes or ()))


RELEASED = InfillTokens(50256, 50299, 50300, tuple(51200 - i for i in range(1, 900)), vocabulary=51200)
"""The tokens of the released CodeGen2 checkpoints: 899 masks, counted down from 51199."""


def infill_tokens(tokenizer: Any) -> InfillTokens:
    """The infill tokens of a tokenizer of transformers.

    The end of a document is the tokenizer's ``eos_token``; ``<sep>``, ``<eom>`` and the masks are found by name, masks
    from ``<mask_1>`` on without a gap.

    Raises
    ------
    InputError : named ``tokenizer``, with the tokens that it lacks, or that it splits into several.
    """
    if isinstance(tokenizer, InfillTokens):
        return tokenizer
    known = tokenizer.get_vocab()
    missing = [name for name in (SEP, EOM, mask_name(1)) if name not in known]
    if tokenizer.eos_token_id is None:
        missing.insert(0, "an end-of-text token")
    if missing:
        raise InputError(
            "tokenizer", f"one without {', '.join(missing)}", "the infill tokens (see add_infill_tokens), or their ids"
        )
    masks: list[int] = []
    while mask_name(len(masks) + 1) in known:
        masks.append(known[mask_name(len(masks) + 1)])
    names = [SEP, EOM, *(mask_name(n) for n in range(1, len(masks) + 1))]
    split = [name for name in names if tokenizer(name, add_special_tokens=False)["input_ids"] != [known[name]]]
    if split:
        raise InputError("tokenizer", f"{split[0]} as several tokens", "single special tokens")
    fim = tuple(known[name] for name in FIM if name in known)
    modes = tuple(known[name] for name in MODES if name in known)
    return InfillTokens(
        int(tokenizer.eos_token_id),
        known[SEP],
        known[EOM],
        tuple(masks),
        (fim[0], fim[1], fim[2]) if len(fim) == 3 else None,
        (modes[0], modes[1], modes[2]) if len(modes) == 3 else None,
        max(known.values()) + 1,
    )


def add_infill_tokens(
    tokenizer: PreTrainedTokenizerBase, n_masks: int = DEFAULT_MASKS, *, fim: bool = False, modes: bool = False
) -> list[str]:
    """Give a tokenizer the infill tokens that it lacks, in place; returns the names of those that were added.

    A tokenizer without an end-of-text token gets ``<|endoftext|>``. The model needs rows for them: ``resize``.

    Parameters
    ----------
    n_masks : masks that it shall have, 1 or more. Those that it has are kept.
    fim : also the tokens of prefix-suffix-middle infilling.
    modes : also the tokens of UL2's denoisers.
    """
    if n_masks < 1:
        raise InputError("n_masks", n_masks, "1 or more")
    wanted = [SEP, EOM, *(mask_name(n) for n in range(1, n_masks + 1))]
    wanted += [*(FIM if fim else ()), *(MODES if modes else ())]
    known = tokenizer.get_vocab()
    added = [name for name in wanted if name not in known]
    if tokenizer.eos_token_id is None:
        tokenizer.add_special_tokens({"eos_token": END})
        if END not in known:
            added.insert(0, END)
    tokenizer.add_tokens(_special([name for name in added if name != END]), special_tokens=True)
    return added


def _special(names: Sequence[str]) -> list[Any]:
    """Tokens that take no white space beside them and are never made lower case."""
    from transformers import AddedToken

    return [AddedToken(name, lstrip=False, rstrip=False, normalized=False, special=True) for name in names]


def resize(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, seed: int = 0) -> int:
    """Give a model rows for the tokens that its tokenizer has more, in place; returns how many rows were added.

    A new row is the mean of the old ones and a tenth of their spread as noise from ``seed``, for the input and for the
    output. A model with rows enough is left as it is.
    """
    check_seed("seed", seed)
    import torch

    rows = max(tokenizer.get_vocab().values()) + 1
    inputs: Any = model.get_input_embeddings()
    old = inputs.weight.shape[0]
    if rows <= old:
        return 0
    model.resize_token_embeddings(rows, mean_resizing=False)
    rng = torch.Generator().manual_seed(seed)
    done: set[int] = set()
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            weight = getattr(module, "weight", None)
            if weight is None or id(weight) in done:
                continue
            done.add(id(weight))
            known = weight[:old].float()
            noise = torch.randn(rows - old, weight.shape[1], generator=rng).to(weight.device)
            weight[old:] = (known.mean(0) + 0.1 * known.std(0) * noise).to(weight.dtype)
            bias = getattr(module, "bias", None)
            if bias is not None:
                bias[old:] = bias[:old].float().mean().to(bias.dtype)
    return rows - old
