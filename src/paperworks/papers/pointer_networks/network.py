"""The pointer network: attention over the input as the output distribution (section 2.3 of the paper).

    E = [e_0; LSTM(P_1), ..., LSTM(P_n)]       keys; e_0 is learned, and pointing at it means "stop"
    d_i = LSTM(P_{C_{i-1}}, d_{i-1})           the decoder reads the element it pointed at last
    u_ij = v^T tanh(W1 e_j + W2 d_i)
    p(C_i = j | C_1 .. C_{i-1}, P) = softmax_j(u_ij)

No parameter depends on n. Pointers are 1-based inside the networks, and 0 is the stop; the rest of this package speaks
of 0-based indices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.attention import additive_scores
from paperworks.papers.pointer_networks.pretrained import NetworkConfig, PretrainedNetwork

State = tuple[Tensor, ...]
"""The decoder's state: tensors with one row per sequence that is being decoded."""

INIT_RANGE = 0.08
"""Range of the learned symbols' initial values, which is the paper's for all parameters (section 4.1)."""


@dataclass(frozen=True)
class Memory:
    """What the decoder looks at.

    Attributes
    ----------
    inputs : [B, n + 1, d] elements by pointer; row 0 is zero and never read by a live sequence.
    keys : [B, n + 1, H] W1 e_j.
    valid : [B, n + 1] whether a pointer may be used (False for padding).
    states : [B, n, H] encoder states, for those that blend them.
    """

    inputs: Tensor
    keys: Tensor
    valid: Tensor
    states: Tensor | None = None


class PointerNetwork(PretrainedNetwork):
    """An LSTM encoder, an LSTM decoder and a pointing attention.

    Parameters
    ----------
    config : ``NetworkConfig(features, hidden, embedding)``.
    generator : the initial weights come from it; None draws from seed 0.
    """

    def __init__(self, config: NetworkConfig | None = None, *, generator: torch.Generator | None = None) -> None:
        config = config or NetworkConfig()
        super().__init__(config)
        d, h = config.features, config.hidden
        width = h if config.embedding else d
        with torch.random.fork_rng(devices=[]):  # the modules draw weights, which are drawn again below
            self.embed = nn.Linear(d, h) if config.embedding else nn.Identity()
            self.encoder = nn.LSTM(width, h, batch_first=True)
            self.decoder = nn.LSTM(width, h, batch_first=True)
            self.key = nn.Linear(h, h, bias=False)
            self.query = nn.Linear(h, h, bias=False)
        self.v = nn.Parameter(torch.empty(h))
        self.stop_key = nn.Parameter(torch.empty(h))
        self.start = nn.Parameter(torch.empty(d))
        initialise(self, generator)

    def encode(self, points: Tensor, lengths: Tensor | None = None) -> tuple[Memory, State]:
        """Read the input.

        Parameters
        ----------
        points : float [B, n, d]; rows from ``lengths`` on are padding and ignored.
        lengths : int [B], 1 to n; None means that nothing is padded.

        Returns
        -------
        the memory, and the decoder's first state (h, c), each [B, H].
        """
        points, lengths = check_batch(points, lengths, self.config.features)
        states, last = run_encoder(self.encoder, self.embed(points), lengths)
        keys = torch.cat([self.stop_key.expand(len(points), 1, -1), states], dim=1)
        inputs = nn.functional.pad(points, (0, 0, 1, 0))
        positions = torch.arange(points.shape[1] + 1, device=points.device)
        return Memory(inputs, self.key(keys), positions <= lengths[:, None]), last

    def step(self, pointers: Tensor | None, state: State, memory: Memory) -> tuple[Tensor, State]:
        """One decoding step of K sequences per instance.

        Parameters
        ----------
        pointers : int [B, K], what each sequence pointed at last; None at the start.
        state : (h, c), each [B * K, H].

        Returns
        -------
        logits [B, K, n + 1], -inf at padding, and the new state.
        """
        rows, batch = len(state[0]), len(memory.inputs)
        if pointers is None:
            read = self.start.expand(rows, 1, -1)
        else:
            read = pointed(memory.inputs, pointers).reshape(rows, 1, -1)
        out, (h, c) = self.decoder(self.embed(read), (state[0][None], state[1][None]))
        return self._point(out.reshape(batch, rows // batch, -1), memory), (h[0], c[0])

    def forward(self, points: Tensor, lengths: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Logits of every output.

        Parameters
        ----------
        points, lengths : as in ``encode``.
        targets : int [B, m], pointers 1 to n, then 0 for the stop, then anything negative: teacher forcing. None
            decodes greedily for n + 1 steps.

        Returns
        -------
        float [B, m, n + 1]; the softmax over the last axis is p(C_i | C_1 .. C_{i-1}, P).
        """
        memory, state = self.encode(points, lengths)
        if targets is None:
            return greedy_logits(self, memory, state)
        check_targets(targets, memory.valid)
        first = self.start.expand(len(targets), 1, -1)
        read = torch.cat([first, pointed(memory.inputs, targets[:, :-1].clamp(min=0))], dim=1)
        out, _ = self.decoder(self.embed(read), (state[0][None], state[1][None]))
        return self._point(out, memory)

    def _point(self, decoded: Tensor, memory: Memory) -> Tensor:
        query = self.query(decoded)
        scores = additive_scores(query, memory.keys, self.v)
        return scores.masked_fill(~memory.valid[:, None], -torch.inf)


def pointed(inputs: Tensor, pointers: Tensor) -> Tensor:
    """Rows [B, K, d] of inputs [B, n + 1, d] that the pointers [B, K] name."""
    return inputs.gather(1, pointers[..., None].expand(-1, -1, inputs.shape[-1]))


def run_encoder(encoder: nn.LSTM, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
    """States [B, n, H] and the (h, c) after each row's own last element."""
    if bool((lengths == inputs.shape[1]).all()):
        states, (h, c) = encoder(inputs)
        return states, (h[0], c[0])
    packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
    out, (h, c) = encoder(packed)
    states, _ = pad_packed_sequence(out, batch_first=True, total_length=inputs.shape[1])
    return states, (h[0], c[0])


def greedy_logits(network: PointerNetwork, memory: Memory, state: State) -> Tensor:
    """Logits [B, n + 1, n + 1] of free-running greedy decoding."""
    logits, pointers = [], None
    for _ in range(memory.inputs.shape[1]):
        step, state = network.step(pointers, state, memory)
        logits.append(step)
        pointers = step.argmax(-1)
    return torch.cat(logits, dim=1)


def check_batch(points: Tensor, lengths: Tensor | None, features: int) -> tuple[Tensor, Tensor]:
    """Raise InputError for a batch of the wrong shape or with numbers that are not finite; fill in ``lengths``."""
    if points.ndim != 3 or points.shape[2] != features or 0 in points.shape:
        raise InputError("points", f"shape {tuple(points.shape)}", f"[B, n, {features}] with n of at least 1")
    if lengths is None:
        lengths = torch.full((len(points),), points.shape[1], device=points.device)
    elif lengths.shape != points.shape[:1] or bool(((lengths < 1) | (lengths > points.shape[1])).any()):
        raise InputError("lengths", lengths.tolist(), f"{len(points)} numbers from 1 to {points.shape[1]}")
    if not bool(torch.isfinite(points).all()):
        raise InputError("points", "NaN or infinity", "finite numbers")
    return points, lengths


def check_targets(targets: Tensor, valid: Tensor) -> None:
    """Raise InputError unless the targets [B, m] point into their own instances."""
    if targets.ndim != 2 or len(targets) != len(valid) or targets.shape[1] == 0:
        raise InputError("targets", f"shape {tuple(targets.shape)}", f"[{len(valid)}, m]")
    if bool((targets > valid.sum(1, keepdim=True) - 1).any()):
        raise InputError("targets", f"pointer {int(targets.max())}", "pointers from 1 to each instance's length")


def initialise(network: nn.Module, generator: torch.Generator | None) -> None:
    """Draw every parameter, without touching the global generator.

    Weights are uniform with variance 1 / fan-in, so that what comes out of a layer varies as much as what goes in;
    biases are 0. The paper's [-0.08, 0.08] for all hands on little of a point's two coordinates: a plain network with
    about that range is still at its first plateau after 300 steps (docs/benchmarks/pointer-networks.md).
    """
    generator = generator or torch.Generator().manual_seed(0)
    symbols = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".bias" in name:
                parameter.zero_()
                continue
            width = INIT_RANGE
            if parameter.ndim == 2 or name == "v":
                fan_in = 1 if id(parameter) in symbols else parameter.shape[-1]
                width = (3 / fan_in) ** 0.5
            parameter.uniform_(-width, width, generator=generator)
