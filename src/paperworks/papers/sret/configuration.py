"""``SReTConfig``: the sizes of a sliced recursive transformer, and those of the released variants."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

from transformers import PretrainedConfig

from paperworks.errors import InputError
from paperworks.papers.sret.recursion import PERMUTES, SHARE_ORDERS, Permute, ShareOrder, check_groups
from paperworks.parameters import check_number, check_seed, check_whole


class SReTConfig(PretrainedConfig):
    """Configuration of ``SReTModel`` and ``SReTForImageClassification``; the defaults are SReT_T with slices.

    Lists have a value for each stage. Stage s has width ``base_dims[s] * heads[s]``, ``depth[s]`` passes and
    ``recursive_num[s]`` blocks with weights of their own, each applied ``depth[s] / recursive_num[s]`` times in a row.

    Parameters
    ----------
    image_size : side of square images in pixels, or (height, width); divisible by the product of the strides of the
        stem, and such that grids in front of a pooling are even.
    num_channels : of the images (``in_chans`` is another name).
    base_dims, heads : width of a head, and number of heads.
    depth, recursive_num : passes, and distinct blocks.
    groups1, groups2 : groups of tokens in a block's first pass and in its later ones; 1 is plain attention.
    mlp_ratio, np_mlp_ratio : hidden units of the MLP of a block, and of the projection behind every pass, by width.
    stem_strides, stem_norm : of the convolutions of the stem; "batch" or "group" (see ``ConvStem``). Fewer strides, or
        strides of 1, are for small images.
    use_nll, use_lrc : with the projections, and with learnable residual coefficients.
    permute : "train" draws the permutation of later passes anew in training and keeps a fixed one in evaluation;
        "always" draws it in every forward pass, as the official code does; "fixed"; or "none".
    permutation_seed : of the fixed permutations.
    share_order : "block" (A A B B) or "stage" (A B A B).
    drop_path_rate : of the last block; it grows linearly with the number of passes in front.
    hidden_dropout_prob, attention_probs_dropout_prob : shares dropped in training.
    num_labels : classes (``num_classes`` is another name).

    Raises
    ------
    InputError : naming the stage, for sizes that do not go together; group counts that are possible are listed.
    """

    model_type = "sret"
    attribute_map = {"in_chans": "num_channels"}  # noqa: RUF012 - as in transformers

    def __init__(
        self,
        image_size: int | Sequence[int] = 224,
        num_channels: int = 3,
        base_dims: Sequence[int] = (32, 32, 32),
        heads: Sequence[int] = (2, 4, 8),
        depth: Sequence[int] = (4, 10, 6),
        recursive_num: Sequence[int] = (2, 5, 3),
        groups1: Sequence[int] = (8, 4, 1),
        groups2: Sequence[int] = (2, 1, 1),
        mlp_ratio: float = 3.6,
        np_mlp_ratio: float = 1.0,
        stem_strides: Sequence[int] = (2, 2, 2),
        stem_norm: Literal["batch", "group"] = "batch",
        use_nll: bool = True,
        use_lrc: bool = True,
        permute: Permute = "train",
        permutation_seed: int = 0,
        share_order: ShareOrder = "block",
        drop_path_rate: float = 0.1,
        hidden_dropout_prob: float = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        **rest: Any,
    ) -> None:
        if "in_chans" in rest:
            num_channels = rest.pop("in_chans")
        if "num_classes" in rest:
            rest["num_labels"] = rest.pop("num_classes")
        sides = [image_size] if isinstance(image_size, int) else list(image_size)
        self.image_size = sides[0] if len(set(sides)) == 1 and len(sides) <= 2 else sides
        self.num_channels = num_channels
        self.base_dims, self.heads = list(base_dims), list(heads)
        self.depth, self.recursive_num = list(depth), list(recursive_num)
        self.groups1, self.groups2 = list(groups1), list(groups2)
        self.mlp_ratio, self.np_mlp_ratio = mlp_ratio, np_mlp_ratio
        self.stem_strides, self.stem_norm = list(stem_strides), stem_norm
        self.use_nll, self.use_lrc = use_nll, use_lrc
        self.permute, self.permutation_seed, self.share_order = permute, permutation_seed, share_order
        self.drop_path_rate = drop_path_rate
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self._check()
        super().__init__(**rest)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the images."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        return self.image_size[0], self.image_size[1]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.num_labels or 0)

    @property
    def widths(self) -> list[int]:
        """Width of the tokens of each stage."""
        return [base * heads for base, heads in zip(self.base_dims, self.heads, strict=True)]

    @property
    def loops(self) -> list[int]:
        """Passes of each block, by stage."""
        return [depth // distinct for depth, distinct in zip(self.depth, self.recursive_num, strict=True)]

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Height and width of each stage's grid of tokens."""
        down = prod(self.stem_strides)
        height, width = (side // down for side in self.sides)
        return [(height >> stage, width >> stage) for stage in range(len(self.depth))]

    def drop_path_of(self, stage: int, block: int) -> float:
        """Probability with which a branch of a block is dropped: by its number, not by its pass."""
        return self.drop_path_rate * (sum(self.depth[:stage]) + block) / sum(self.depth)

    def _check(self) -> None:
        stages = len(self.depth)
        for name in ("base_dims", "heads", "depth", "recursive_num", "groups1", "groups2"):
            values = getattr(self, name)
            if len(values) != stages or not stages:
                raise InputError(name, f"{len(values)} values", f"{max(stages, 1)}, one for each stage")
            for stage, value in enumerate(values):
                check_whole(f"{name}[{stage}]", value, 1)
        for name in ("mlp_ratio", "np_mlp_ratio"):
            check_number(name, getattr(self, name))
        for name in ("drop_path_rate", "hidden_dropout_prob", "attention_probs_dropout_prob"):
            if check_number(name, getattr(self, name)) >= 1:
                raise InputError(name, getattr(self, name), "a share from 0 to below 1")
        for name, known in (
            ("permute", PERMUTES),
            ("share_order", SHARE_ORDERS),
            ("stem_norm", ("batch", "group")),
        ):
            if getattr(self, name) not in known:
                raise InputError(name, repr(getattr(self, name)), f"one of {', '.join(known)}")
        check_seed("permutation_seed", self.permutation_seed)
        check_whole("num_channels", self.num_channels, 1)
        if self.widths[0] < 2:
            raise InputError("base_dims", self.base_dims, "a first stage of width 2 or more")
        for stage, (before, after) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            if after % before:  # the pooling has a group for each channel
                found = f"a stage of width {after} behind one of {before}"
                raise InputError(f"base_dims[{stage + 1}]", found, f"a multiple of {before}")
        if not self.stem_strides or any(stride not in (1, 2, 4) for stride in self.stem_strides):
            raise InputError("stem_strides", self.stem_strides, "one or more strides of 1, 2 or 4")
        self._check_grids()

    def _check_grids(self) -> None:
        if not isinstance(self.image_size, int) and len(self.image_size) != 2:
            raise InputError("image_size", self.image_size, "a side, or (height, width)")
        for side in self.sides:
            check_whole("image_size", side, 1)
        step = prod(self.stem_strides) * 2 ** (len(self.depth) - 1)
        if any(side % step for side in self.sides):
            found = " x ".join(map(str, self.sides))
            poolings = f"and even grids for {len(self.depth) - 1} poolings" if len(self.depth) > 1 else "and no pooling"
            raise InputError(
                "image_size", found, f"multiples of {step} (strides of the stem {self.stem_strides}, {poolings})"
            )
        for stage, (passes, distinct) in enumerate(zip(self.depth, self.recursive_num, strict=True)):
            if passes % distinct:
                raise InputError(
                    f"depth[{stage}]", passes, f"a multiple of the {distinct} distinct blocks of that stage"
                )
        for stage, (height, width) in enumerate(self.grids):
            for name in ("groups1", "groups2"):
                check_groups(f"{name}[{stage}]", getattr(self, name)[stage], height * width)


VARIANTS: dict[str, dict[str, Any]] = {
    "tiny": {"mlp_ratio": 3.6},
    "tiny-large": {"mlp_ratio": 4.0},
    "small": {
        "base_dims": (42, 42, 42),
        "heads": (3, 6, 12),
        "mlp_ratio": 3.0,
        "np_mlp_ratio": 2.0,
        "drop_path_rate": 0.2,
    },
}
"""What each released variant changes in the defaults of ``SReTConfig``: SReT_T, SReT_LT ("TL" in the paper), SReT_S."""


def variant_config(name: str, *, sliced: bool = True, **options: Any) -> SReTConfig:
    """The configuration of a released variant for 1,000 classes; ``options`` replace its own.

    Parameters
    ----------
    name : "tiny", "tiny-large" or "small".
    sliced : groups of 8, 4, 1 and 2, 1, 1; otherwise plain attention without drop path, as in the unsliced classes.
    """
    if name not in VARIANTS:
        raise InputError("name", repr(name), f"one of {', '.join(VARIANTS)}")
    plain = {} if sliced else {"groups1": (1, 1, 1), "groups2": (1, 1, 1), "drop_path_rate": 0.0}
    classes = {} if {"num_labels", "num_classes", "id2label"} & options.keys() else {"num_labels": 1000}
    return SReTConfig(**{**VARIANTS[name], **plain, **classes, **options})
