"""A multi-layer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn.saving import SavedNetwork, require

Activation = Literal["relu", "gelu", "tanh", "silu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "silu": nn.SiLU}


class MLP(SavedNetwork):
    """A multi-layer perceptron: hidden layers with an activation, and a linear head.

    ::

        inputs [n, ...] -> flatten -> ( Linear -> BatchNorm? -> activation -> Dropout? ) * -> Linear -> [n, outputs]
                                              `layers`                            `head`

    Parameters
    ----------
    inputs : numbers of an example, over all its axes.
    hidden : widths of the hidden layers; () is a linear model.
    outputs : logits.
    activation : relu, gelu, tanh or silu.
    batch_norm : normalise in front of each activation.
    dropout : share of the hidden values that is dropped in training.

    Examples
    --------
    >>> MLP(inputs=64, hidden=(32,), outputs=10)(torch.zeros(5, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        *,
        inputs: int = 784,
        hidden: Sequence[int] = (256, 128),
        outputs: int = 10,
        activation: Activation = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            inputs=inputs,
            hidden=list(hidden),
            outputs=outputs,
            activation=activation,
            batch_norm=batch_norm,
            dropout=dropout,
        )
        require("inputs", inputs, inputs >= 1, "1 or more")
        require("hidden", hidden, all(width >= 1 for width in hidden), "widths of 1 or more")
        require("outputs", outputs, outputs >= 1, "1 or more")
        require("activation", activation, activation in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}")
        require("dropout", dropout, 0 <= dropout < 1, "a share from 0 to below 1")
        layers: list[nn.Module] = []
        for before, width in itertools.pairwise((inputs, *hidden)):
            layers.append(nn.Linear(before, width))
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear((inputs, *hidden)[-1], outputs)

    def forward(self, inputs: torch.Tensor | None = None, *, pixel_values: torch.Tensor | None = None) -> torch.Tensor:
        """Logits ``[n, outputs]`` of examples ``[n, ...]`` with ``inputs`` numbers each; images may have their name."""
        given = pixel_values if inputs is None else inputs
        size = self.config["inputs"]
        if given is None or given.flatten(1).shape[1] != size:
            found = None if given is None else tuple(given.shape)
            raise InputError("inputs", found, f"[n, ...] with {size} numbers an example")
        return self.head(self.layers(given.flatten(1)))
