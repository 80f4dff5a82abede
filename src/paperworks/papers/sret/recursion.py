"""``RecursiveStack``: a few blocks, each applied several times, with a projection of its own after every pass.

    for each pass t of block r, the l-th of its passes:
        x <- block_r(x)               attention inside groups of tokens, G1 groups where l = 0, else G2
        x <- projection_t(x)          never shared

In passes after a block's first, tokens are permuted before they are put into groups, and put back afterwards.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paperworks.errors import InputError
from paperworks.inputs.transforms import RowRandom
from paperworks.parameters import check_seed, check_whole

Permute = Literal["train", "always", "fixed", "none"]
"""When the permutation of a pass is drawn anew: in training mode; in every forward pass, as in the official code;
never; or tokens are not permuted at all."""
ShareOrder = Literal["block", "stage"]
"""Order of the passes over blocks A and B with two loops: A A B B, or A B A B."""
PERMUTES: tuple[str, ...] = get_args(Permute)
SHARE_ORDERS: tuple[str, ...] = get_args(ShareOrder)


def fixed_permutation(tokens: int, seed: int = 0, application: int = 0) -> Tensor:
    """The permutation of ``tokens`` positions that seed and pass number decide, int64 ``[tokens]``.

    It ranks numbers of a counter-based generator, so that it is the same in every version of every library.
    """
    check_seed("seed", seed)
    drawn = RowRandom(seed, application, np.arange(tokens)).uniform()
    return torch.from_numpy(np.argsort(drawn, kind="stable"))


def divisors(tokens: int) -> list[int]:
    """The group counts that ``tokens`` positions can be put into."""
    return [count for count in range(1, tokens + 1) if tokens % count == 0]


def check_groups(field: str, groups: int, tokens: int) -> None:
    """Raise InputError, listing the group counts that are possible, unless ``groups`` divides ``tokens``."""
    if tokens % groups:
        valid = ", ".join(map(str, divisors(tokens)))
        raise InputError(field, f"{groups} groups of {tokens} tokens", f"a divisor of {tokens}: {valid}")


class RecursiveStack(nn.Module):
    """Blocks with shared weights, applied several times in succession.

    Parameters
    ----------
    make_block : function of a block's number that makes it. A block takes tokens ``[n, N, D]`` first and returns tokens
        of the same shape; keywords of ``forward`` are passed on. One whose ``forward`` takes ``pass_index`` gets the
        number of its own pass, from 0.
    distinct : number of blocks with weights of their own.
    loops : passes of each block.
    projection : function of a pass's number that makes the module behind it; each pass has its own. None: none.
    order : "block" repeats each block (A A B B), "stage" repeats the sequence (A B A B).
    groups : (G1, G2), groups of tokens in a block's first pass and in its later ones; None leaves tokens together. A
        block whose ``forward`` takes ``groups`` and ``permutation`` slices its attention itself; any other gets each
        group as an example of its own, ``[n G, N / G, D]``; keywords of shape ``[n, N, ...]`` (masks) likewise.
    permute : when the permutation of a pass is drawn anew. Draws are common to all examples of a batch.
    seed : of the fixed permutations.

    Attributes
    ----------
    blocks, projections : the modules, each once.
    schedule : (number of the block, number of its pass) of every pass, in order.
    gradient_checkpointing : compute every pass again in the backward pass instead of keeping its activations.

    Examples
    --------
    >>> layer = lambda number: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    >>> stack = RecursiveStack(layer, distinct=2, loops=3, groups=(4, 2))
    >>> stack(torch.zeros(5, 8, 16)).shape, len(stack.schedule)
    (torch.Size([5, 8, 16]), 6)
    """

    def __init__(
        self,
        make_block: Callable[[int], nn.Module],
        distinct: int,
        loops: int,
        *,
        projection: Callable[[int], nn.Module] | None = None,
        order: ShareOrder = "block",
        groups: tuple[int, int] | Sequence[int] | None = None,
        permute: Permute = "train",
        seed: int = 0,
    ) -> None:
        check_seed("seed", seed)
        check_whole("distinct", distinct, 1)
        check_whole("loops", loops, 1)
        if order not in SHARE_ORDERS:
            raise InputError("order", repr(order), f"one of {', '.join(SHARE_ORDERS)}")
        if permute not in PERMUTES:
            raise InputError("permute", repr(permute), f"one of {', '.join(PERMUTES)}")
        if groups is not None and (len(groups) != 2 or any(count < 1 for count in groups)):
            raise InputError("groups", groups, "two counts of 1 or more, or None")
        super().__init__()
        if order == "block":
            self.schedule = [(block, turn) for block in range(distinct) for turn in range(loops)]
        else:
            self.schedule = [(block, turn) for turn in range(loops) for block in range(distinct)]
        self.blocks = nn.ModuleList([make_block(number) for number in range(distinct)])
        passes = range(distinct * loops if projection is not None else 0)
        self.projections = nn.ModuleList([cast(Any, projection)(number) for number in passes])
        self.groups = None if groups is None else (int(groups[0]), int(groups[1]))
        self.permute, self.seed = permute, seed
        self.gradient_checkpointing = False
        self._fixed: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, tokens: Tensor, **keywords: Any) -> Tensor:
        """Tokens ``[n, N, D]`` after all passes. Raises InputError for a group count that does not divide N."""
        for number, (block, turn) in enumerate(self.schedule):
            groups = 1 if self.groups is None else self.groups[min(turn, 1)]
            check_groups("groups", groups, tokens.shape[1])
            permutation = self._permutation(number, turn, groups, tokens)
            arguments = (self.blocks[block], turn, groups, permutation, tokens, keywords)
            if self.gradient_checkpointing and self.training:
                tokens = checkpoint(_apply, *arguments, use_reentrant=False)
            else:
                tokens = _apply(*arguments)
            if len(self.projections):
                tokens = self.projections[number](tokens)
        return tokens

    def _permutation(self, number: int, turn: int, groups: int, tokens: Tensor) -> Tensor | None:
        """Where each position of a pass's sequence comes from, or None."""
        if turn == 0 or groups == 1 or self.permute == "none":
            return None
        count = tokens.shape[1]
        if self.permute == "always" or (self.permute == "train" and self.training):
            return torch.randperm(count).to(tokens.device)
        key = (number, count, tokens.device)
        if key not in self._fixed:
            self._fixed[key] = fixed_permutation(count, self.seed, number).to(tokens.device)
        return self._fixed[key]


def _apply(
    block: nn.Module, turn: int, groups: int, permutation: Tensor | None, tokens: Tensor, keywords: dict[str, Any]
) -> Tensor:
    taken = inspect.signature(block.forward).parameters
    aware = {"pass_index": turn} if "pass_index" in taken else {}
    if "groups" in taken and "permutation" in taken:
        return block(tokens, groups=groups, permutation=permutation, **aware, **keywords)
    if groups == 1:
        return block(tokens, **aware, **keywords)
    sliced = {
        name: into_groups(value, groups, permutation)
        if isinstance(value, Tensor) and value.shape[:2] == tokens.shape[:2]
        else value
        for name, value in keywords.items()
    }
    found = block(into_groups(tokens, groups, permutation), **aware, **sliced)
    return out_of_groups(found, groups, permutation)


def into_groups(tokens: Tensor, groups: int, permutation: Tensor | None = None) -> Tensor:
    """``[n, N, ...]`` permuted and cut into consecutive groups: ``[n G, N / G, ...]``."""
    if permutation is not None:
        tokens = tokens.index_select(1, permutation)
    return tokens.reshape(tokens.shape[0] * groups, tokens.shape[1] // groups, *tokens.shape[2:])


def out_of_groups(tokens: Tensor, groups: int, permutation: Tensor | None = None) -> Tensor:
    """The inverse of ``into_groups``."""
    tokens = tokens.reshape(tokens.shape[0] // groups, tokens.shape[1] * groups, *tokens.shape[2:])
    return tokens if permutation is None else tokens.index_select(1, torch.argsort(permutation))
