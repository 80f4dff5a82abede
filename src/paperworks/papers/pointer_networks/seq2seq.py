"""The models that the pointer network was compared with: LSTMs with a fixed dictionary of outputs (sections 2.1, 2.2).

The dictionary has one symbol per position of an input of ``size`` elements, and one that ends the output: a network
serves that one size. With ``attention``, the encoder's states are blended by u_ij = v^T tanh(W1 e_j + W2 d_i), and
[d_i; d'_i] gives the prediction and is fed to the next step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.attention import additive_scores
from paperworks.papers.pointer_networks.network import (
    Memory,
    State,
    check_batch,
    check_targets,
    initialise,
)
from paperworks.papers.pointer_networks.pretrained import NetworkConfig, PretrainedNetwork


@dataclass(frozen=True)
class Seq2SeqConfig(NetworkConfig):
    """``NetworkConfig`` (without ``embedding``) and

    size : the one number of elements that the dictionary serves.
    attention : blend the encoder's states by content.
    """

    size: int = 10
    attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding:
            raise InputError("embedding", True, "False: the fixed-dictionary models read the elements themselves")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise InputError("size", repr(self.size), "a whole number of 1 or more")


class Seq2Seq(PretrainedNetwork):
    """Sequence to sequence with a fixed dictionary; ``forward``, ``encode`` and ``step`` as in the pointer network.

    Raises InputError for inputs of any other number of elements than ``config.size``.
    """

    config: Seq2SeqConfig
    config_class: ClassVar[type[NetworkConfig]] = Seq2SeqConfig

    def __init__(self, config: Seq2SeqConfig | None = None, *, generator: torch.Generator | None = None) -> None:
        config = config or Seq2SeqConfig()
        super().__init__(config)
        d, h, symbols = config.features, config.hidden, config.size + 1
        self.go = nn.Parameter(torch.empty(d))  # the symbol "=>" that ends the input
        with torch.random.fork_rng(devices=[]):  # the modules draw weights, which are drawn again below
            self.encoder = nn.LSTM(d, h, batch_first=True)
            # Embeddings of the symbols 0 (stop) .. size, and of the start.
            self.symbols = nn.Embedding(symbols + 1, h)
            self.decoder = nn.LSTM(3 * h if config.attention else h, h, batch_first=True)
            self.output = nn.Linear(2 * h if config.attention else h, symbols)
            if config.attention:
                self.key = nn.Linear(h, h, bias=False)
                self.query = nn.Linear(h, h, bias=False)
        if config.attention:
            self.v = nn.Parameter(torch.empty(h))
        initialise(self, generator)

    def encode(self, points: Tensor, lengths: Tensor | None = None) -> tuple[Memory, State]:
        """Read float [B, size, d]. The state is (h, c), with attention also the blended states fed back."""
        points, lengths = check_batch(points, lengths, self.config.features)
        self._check_size(lengths)
        points = points[:, : self.config.size]
        states, (h, c) = self.encoder(torch.cat([points, self.go.expand(len(points), 1, -1)], dim=1))
        valid = torch.ones(len(points), self.config.size + 1, dtype=torch.bool, device=points.device)
        states = states[:, :-1]
        if not self.config.attention:
            return Memory(points, states, valid), (h[0], c[0])
        return Memory(points, self.key(states), valid, states), (h[0], c[0], h.new_zeros(len(points), 2 * h.shape[2]))

    def step(self, pointers: Tensor | None, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Logits [B, K, size + 1] of the next symbol after ``pointers`` [B, K], and the new state."""
        rows, batch = len(state[0]), len(memory.valid)
        if pointers is None:
            symbols = torch.full((rows, 1), self.config.size + 1, device=state[0].device)
        else:
            symbols = pointers.reshape(rows, 1)
        read = self.symbols(symbols)
        if self.config.attention:
            read = torch.cat([read, state[2][:, None]], dim=2)
        out, (h, c) = self.decoder(read, (state[0][None], state[1][None]))
        out = out.reshape(batch, rows // batch, -1)
        if not self.config.attention:
            return self.output(out), (h[0], c[0])
        both = self._blend(out, memory)
        return self.output(both), (h[0], c[0], both.reshape(rows, -1))

    def forward(self, points: Tensor, lengths: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Logits [B, m, size + 1]; see ``PointerNetwork.forward``."""
        memory, state = self.encode(points, lengths)
        if targets is not None:
            check_targets(targets, memory.valid)
        if targets is not None and not self.config.attention:
            start = torch.full_like(targets[:, :1], self.config.size + 1)
            read = self.symbols(torch.cat([start, targets[:, :-1].clamp(min=0)], dim=1))
            return self.output(self.decoder(read, (state[0][None], state[1][None]))[0])
        steps = self.config.size + 1 if targets is None else targets.shape[1]
        logits: list[Tensor] = []
        pointers = None
        for i in range(steps):
            step, state = self.step(pointers, state, memory)
            logits.append(step)
            pointers = step.argmax(-1) if targets is None else targets[:, i : i + 1].clamp(min=0)
        return torch.cat(logits, dim=1)

    def _blend(self, decoded: Tensor, memory: Memory) -> Tensor:
        weights = additive_scores(self.query(decoded), memory.keys, self.v).softmax(-1)
        assert memory.states is not None
        return torch.cat([decoded, weights @ memory.states], dim=2)

    def _check_size(self, lengths: Tensor) -> None:
        wrong = lengths[lengths != self.config.size]
        if len(wrong):
            raise InputError(
                "points",
                f"{int(wrong[0])} elements",
                f"{self.config.size}, the size of this model's fixed dictionary (a PointerNetwork takes any)",
            )
