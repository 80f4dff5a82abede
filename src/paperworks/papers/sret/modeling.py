"""``SReTModel`` and ``SReTForImageClassification``: the three-stage pyramid as models of transformers.

::

    pixel_values [n, c, H, W]
        |  stem: convolutions, + positions                [n, D_1, H/8, W/8]
        |  stage 1: sliced recursive blocks on tokens     [n, N_1, D_1]
        |  pooling: a convolution of stride 2             [n, D_2, H/16, W/16]
        |  stage 2, pooling, stage 3
        v
    mean over tokens -> LayerNorm -> Linear -> logits [n, classes]
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils import can_return_tuple

from paperworks.errors import InputError
from paperworks.papers.sret.configuration import SReTConfig, variant_config
from paperworks.papers.sret.layers import EPS, Block, ConvStem, NonlinearProjection
from paperworks.papers.sret.recursion import RecursiveStack

__all__ = [
    "SReTConfig",
    "SReTForImageClassification",
    "SReTModel",
    "register",
    "sret_small",
    "sret_tiny",
    "sret_tiny_large",
]


def _stage(config: SReTConfig, stage: int) -> RecursiveStack:
    width, dropout, lrc = config.widths[stage], config.hidden_dropout_prob, config.use_lrc
    return RecursiveStack(
        lambda block: Block(
            width,
            config.heads[stage],
            config.mlp_ratio,
            lrc=lrc,
            dropout=dropout,
            attention_dropout=config.attention_probs_dropout_prob,
            drop_path=config.drop_path_of(stage, block),
        ),
        config.recursive_num[stage],
        config.loops[stage],
        projection=(lambda _: NonlinearProjection(width, config.np_mlp_ratio, lrc=lrc, dropout=dropout))
        if config.use_nll
        else None,
        order=config.share_order,
        groups=(config.groups1[stage], config.groups2[stage]),
        permute=config.permute,
        # passes of different stages get permutations of their own
        seed=(config.permutation_seed + 0x9E3779B9 * stage) % 2**64,
    )


class SReTPreTrainedModel(PreTrainedModel):
    """What both models share: initialisation, checkpointing of activations, and what gets no weight decay."""

    config_class = SReTConfig
    base_model_prefix = "sret"
    main_input_name = "pixel_values"
    input_modalities = "image"
    supports_gradient_checkpointing = True
    _no_split_modules = ["RecursiveStack"]  # noqa: RUF012 - as in transformers; a shared block is wrapped once
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's own defaults; positions normal, cut at two deviations of 0.02; coefficients 1."""
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)):
            module.reset_parameters()
        elif isinstance(module, (Block, NonlinearProjection)) and module.coefficients is not None:
            nn.init.ones_(module.coefficients)
        elif isinstance(module, SReTModel):
            nn.init.trunc_normal_(module.positions, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay would hurt: positions, coefficients, gains and biases."""
        return {n for n, p in self.named_parameters() if p.ndim < 2 or n.rpartition(".")[2] == "positions"}


class SReTModel(SReTPreTrainedModel):
    """The network up to the last normalisation.

    Attributes
    ----------
    stem, positions, stages, poolings, norm : its parts; ``stages`` are ``RecursiveStack``.
    """

    def __init__(self, config: SReTConfig) -> None:
        super().__init__(config)
        widths = config.widths
        self.stem = ConvStem(config.num_channels, widths[0], config.stem_strides, config.stem_norm)
        self.positions = nn.Parameter(torch.zeros(1, widths[0], *config.grids[0]))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.stages = nn.ModuleList([_stage(config, stage) for stage in range(len(widths))])
        self.poolings = nn.ModuleList(
            [nn.Conv2d(w, after, 3, 2, 1, groups=w) for w, after in itertools.pairwise(widths)]
        )
        self.norm = nn.LayerNorm(widths[-1], eps=EPS)
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """Features of images float ``[n, c, H, W]``.

        Returns
        -------
        ``last_hidden_state`` ``[n, N, D]``, tokens of the last stage in row-major order; ``pooler_output`` ``[n, D]``,
        their mean, normalised; ``hidden_states``, where asked for, a map ``[n, D_s, H_s, W_s]`` for each stage.

        Raises
        ------
        InputError : images of another size than ``config.image_size``, or with other channels.
        """
        self._check(pixel_values)
        maps = self.dropout(self.stem(pixel_values) + self.positions)
        kept = []
        tokens = maps
        for number, stage in enumerate(self.stages):
            if number:
                maps = self.poolings[number - 1](maps)
            tokens = stage(maps.flatten(2).transpose(1, 2).contiguous())
            maps = tokens.transpose(1, 2).reshape(maps.shape)
            kept.append(maps)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutputWithPooling(
            last_hidden_state=tokens,
            pooler_output=self.norm(tokens.mean(1)),
            hidden_states=tuple(kept) if wanted else None,
        )

    def _check(self, images: Tensor) -> None:
        config: Any = self.config
        if images.ndim != 4 or images.shape[1] != config.num_channels:
            raise InputError("pixel_values", tuple(images.shape), f"[n, {config.num_channels}, height, width]")
        if tuple(images.shape[2:]) != config.sides:
            height, width = config.sides
            found = f"images of {images.shape[2]} x {images.shape[3]}"
            expected = f"{height} x {width}, which the positions are for; resize_positions or finetune_at change them"
            raise InputError("pixel_values", found, expected)


class SReTForImageClassification(SReTPreTrainedModel):
    """``SReTModel`` with a linear head.

    Attributes
    ----------
    sret, classifier : features and head.
    """

    def __init__(self, config: SReTConfig) -> None:
        super().__init__(config)
        self.sret = SReTModel(config)
        self.classifier = nn.Linear(config.widths[-1], config.classes)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> ImageClassifierOutput:
        """``logits`` ``[n, classes]`` of images float ``[n, c, H, W]``; with labels int64 ``[n]``, their ``loss``."""
        found = self.sret(pixel_values, output_hidden_states=output_hidden_states)
        logits = self.classifier(found.pooler_output)
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=found.hidden_states)


def sret_tiny(*, sliced: bool = True, **options: Any) -> SReTForImageClassification:
    """SReT_T with random weights: 4,755,979 parameters at 224 pixels and 1,000 classes. See ``variant_config``."""
    return SReTForImageClassification(variant_config("tiny", sliced=sliced, **options))


def sret_tiny_large(*, sliced: bool = True, **options: Any) -> SReTForImageClassification:
    """SReT_LT with random weights: 4,988,024 parameters at 224 pixels and 1,000 classes. See ``variant_config``."""
    return SReTForImageClassification(variant_config("tiny-large", sliced=sliced, **options))


def sret_small(*, sliced: bool = True, **options: Any) -> SReTForImageClassification:
    """SReT_S with random weights: 20,899,692 parameters at 224 pixels and 1,000 classes. See ``variant_config``."""
    return SReTForImageClassification(variant_config("small", sliced=sliced, **options))


def register() -> None:
    """Make the Auto classes of transformers know the architecture."""
    AutoConfig.register(SReTConfig.model_type, SReTConfig, exist_ok=True)
    AutoModel.register(SReTConfig, SReTModel, exist_ok=True)
    AutoModelForImageClassification.register(SReTConfig, SReTForImageClassification, exist_ok=True)


register()
