"""The sequence models of the paper, each a map from embeddings ``[B, T, d]`` to states ``[B, T, d]``.

All are causal: the state of a token depends on that token and those before it only.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError


class FeedForward(nn.Sequential):
    """Linear(d, 4d), GELU, Linear(4d, d)."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class Block(nn.Module):
    """Pre-normalised residual block: a mixer over time, then a feed-forward network."""

    def __init__(self, width: int, mixer: nn.Module) -> None:
        super().__init__()
        self.norm_mixer, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer, self.feed = mixer, FeedForward(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mixer(self.norm_mixer(x))
        return x + self.feed(self.norm_feed(x))


class Stack(nn.Module):
    """Blocks between a read-in scale, learned positions (if any) and a final layer norm."""

    def __init__(self, width: int, mixers: list[nn.Module], positions: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.blocks = nn.ModuleList([Block(width, mixer) for mixer in mixers])
        self.norm = nn.LayerNorm(width)
        self.positions: nn.Parameter | None = None
        if positions:
            self.positions = nn.Parameter(torch.empty(positions, width).uniform_(-0.1, 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.scale
        if self.positions is not None:
            x = x + self.positions[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class CausalAttention(nn.Module):
    """Softmax attention with fused projections. ``keep`` makes it store its weights ``[B, heads, T, T]``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.keep = False
        self.weights: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = split_heads(self.qkv(x), 3, self.heads)
        if self.keep:
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
            self.weights = scores.masked_fill(future, -torch.inf).softmax(-1)
            mixed = self.weights @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Retention(nn.Module):
    """Retention (Sun et al. 2023) as the paper runs it: no rotary positions, no group norm, no scaling.

    Head h decays by ``1 - 2^(-5-h)`` per token; the output is gated by SiLU.
    """

    decay: torch.Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkvg, self.out = nn.Linear(width, 4 * width), nn.Linear(width, width)
        for linear in (self.qkvg, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.qkvg(x)
        width = x.shape[-1]
        q, k, v = split_heads(parts[..., : 3 * width], 3, self.heads)
        time = torch.arange(x.shape[1], device=x.device)
        lag = time[:, None] - time[None, :]
        # float64 powers of a number this near to one, then the model's own type
        gamma = 1 - 2.0 ** (-5 - torch.arange(self.heads, device=x.device, dtype=torch.float64))
        decay = torch.where(lag >= 0, gamma[:, None, None] ** lag.clamp(min=0), 0.0).to(x.dtype)
        mixed = (q @ k.transpose(-1, -2) * decay) @ v
        return self.out(mixed.transpose(1, 2).flatten(2) * functional.silu(parts[..., 3 * width :]))


class HyenaFilter(nn.Module):
    """The implicit filters of Hyena (Poli et al. 2023): a sine network over time, under decaying windows."""

    features: torch.Tensor
    window: torch.Tensor

    def __init__(self, width: int, orders: int, length: int, hidden: int = 64, bands: int = 4) -> None:
        super().__init__()
        self.orders, self.width = orders, width
        # by numpy, and stored with the weights: transformers makes modules without memory before it loads them
        t = np.linspace(0, 1, length)[:, None]
        angle = 2 * math.pi * np.arange(length)[:, None] / length * np.linspace(1e-4, bands - 1, bands)[None, :]
        features = np.concatenate([t, np.cos(angle), -np.sin(angle)], 1)
        deltas = np.linspace(math.log(0.01) / 1.5, math.log(0.01) / 0.3, width)
        self.register_buffer("features", torch.from_numpy(features).float())
        self.register_buffer("window", torch.from_numpy(np.exp(-t * np.abs(deltas))).float())
        sizes = [2 * bands + 1, hidden, hidden, hidden, hidden]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in itertools.pairwise(sizes)])
        self.frequency = nn.Parameter(torch.ones(hidden))
        self.last = nn.Linear(hidden, width * orders, bias=False)

    def forward(self, length: int) -> torch.Tensor:
        """Filters ``[orders, width, length]``."""
        h = self.features[:length]
        for layer in self.layers:
            h = torch.sin(self.frequency * layer(h))
        filters = self.last(h).unflatten(1, (self.orders, self.width)) * self.window[:length, None, :]
        return filters.permute(1, 2, 0)


class HyenaOperator(nn.Module):
    """Hyena of order 3: products with gates between two long convolutions."""

    def __init__(self, width: int, length: int, order: int = 3) -> None:
        super().__init__()
        self.order = order
        self.projections, self.out = nn.Linear(width, (order + 1) * width), nn.Linear(width, width)
        channels = (order + 1) * width
        self.short = nn.Conv1d(channels, channels, 3, groups=channels, padding=2)
        self.filter = HyenaFilter(width, order - 1, length)
        self.bias = nn.Parameter(torch.randn(order - 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        mixed = self.short(self.projections(x).transpose(1, 2))[..., :length]
        *gates, v = mixed.chunk(self.order + 1, dim=1)
        filters = self.filter(length)
        for i, gate in enumerate(gates[1:]):
            v = v * gate
            v = causal_convolution(v, filters[i]) + v * self.bias[i][:, None]
        return self.out((v * gates[0]).transpose(1, 2))


class DiagonalStateSpace(nn.Module):
    """DSS with the softmax kernel (Gupta et al. 2022): 64 complex modes, shared by the channels.

    The softmax runs over ``length`` positions, the most the model is made for, not over those of the prompt, so that
    an output never depends on how many points follow.
    """

    def __init__(self, width: int, length: int, modes: int = 64) -> None:
        super().__init__()
        self.length = length
        eigenvalues = torch.from_numpy(hippo_skew_eigenvalues(modes))
        self.real = nn.Parameter(torch.full((modes,), -0.5))
        self.imaginary = nn.Parameter(eigenvalues.float())
        span = math.log(1e-1) - math.log(1e-3)
        self.log_step = nn.Parameter(math.log(1e-3) + span * torch.rand(width, 1).expand(width, 2).clone())
        self.weight = nn.Parameter(torch.randn(width, modes, 2) / math.sqrt(2))
        self.skip = nn.Parameter(torch.randn(width))
        self.out = nn.Linear(width, width)

    def kernel(self, length: int) -> torch.Tensor:
        """Convolution kernels ``[width, length]``."""
        step = self.log_step.exp()
        real, imaginary = step[:, :1] * self.real, step[:, 1:] * self.imaginary
        rate = torch.complex(real, imaginary)  # [width, modes]
        # a growing mode is read from its far end: its largest term is then 1
        shift = torch.where(real > 0, rate * (self.length - 1), torch.zeros_like(rate))
        time = torch.arange(length, device=rate.device)
        powers = torch.exp(rate[..., None] * time - shift[..., None])
        toward = torch.where(real > 0, -rate, rate)
        total = _safe_divide(torch.expm1(toward * self.length), torch.expm1(toward))
        scale = torch.view_as_complex(self.weight) * _safe_reciprocal(total * torch.complex(self.real, self.imaginary))
        return torch.einsum("hn,hnl->hl", scale, powers).real

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = x.transpose(1, 2)
        y = causal_convolution(u, self.kernel(x.shape[1])) + u * self.skip[:, None]
        return self.out(functional.gelu(y).transpose(1, 2))


class Recurrent(nn.Module):
    """LSTM or GRU, with the zero initial state."""

    def __init__(self, kind: str, width: int, layers: int) -> None:
        super().__init__()
        self.cells = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](width, width, layers, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cells(x)[0]


class Pretrained(nn.Module):
    """A model of transformers, fed with embeddings."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(inputs_embeds=x, use_cache=False).last_hidden_state


ARCHITECTURES = ("transformer", "gpt2", "lstm", "gru", "retnet", "hyena", "dss", "mamba", "language-model")
"""Names of the architectures. ``gpt2`` is the authors' "san", ``transformer`` their "mysan"."""


def build(config: Any) -> nn.Module:
    """The network of an ``InContextConfig``."""
    kind, width, heads, tokens = config.architecture, config.width, config.heads, 2 * config.max_points
    if kind in ("transformer", "gpt2", "retnet") and width % heads:
        raise InputError("heads", heads, f"a divisor of the width {width}")
    if kind in ("lstm", "gru"):
        return Recurrent(kind, width, config.layers)
    if kind == "gpt2":
        return Pretrained(_gpt2(width, config.layers, heads, tokens))
    if kind == "mamba":
        return Pretrained(_mamba(width, config.layers))
    if kind == "language-model":
        return Pretrained(_language_model(config.backbone))
    makers: dict[str, tuple[Any, bool]] = {  # mixer, learned positions
        "transformer": (lambda: CausalAttention(width, heads), True),
        "retnet": (lambda: Retention(width, heads), False),
        "hyena": (lambda: HyenaOperator(width, tokens), True),
        "dss": (lambda: DiagonalStateSpace(width, tokens), False),
    }
    make, positions = makers[kind]
    mixers = [make() for _ in range(config.layers)]
    return Stack(width, mixers, tokens if positions else 0, config.read_in_scale)


def authors_scale(architecture: str, width: int) -> float:
    """The factor of the tokens' embeddings in the authors' code."""
    return math.sqrt(width) if architecture in ("transformer", "retnet") else 1.0


def _gpt2(width: int, layers: int, heads: int, tokens: int) -> nn.Module:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(
        vocab_size=1,
        n_positions=tokens,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        use_cache=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2Model(config)


def _mamba(width: int, layers: int) -> nn.Module:
    from transformers import MambaConfig, MambaModel

    config = MambaConfig(vocab_size=1, hidden_size=width, num_hidden_layers=layers, use_cache=False, pad_token_id=None)
    return MambaModel(config)


def backbone_width(backbone: dict[str, Any]) -> int:
    """Size of the embeddings that a pretrained model reads and of the states that it gives."""
    config = _backbone_config(backbone)
    # GPT-2 stores it by another name; OPT's may be smaller than the states inside
    return int(getattr(config, "word_embed_proj_dim", config.hidden_size))


def _language_model(backbone: dict[str, Any]) -> nn.Module:
    from transformers import AutoModel

    return AutoModel.from_config(_backbone_config(backbone), dtype=torch.float32)


def _backbone_config(backbone: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    options = {name: value for name, value in backbone.items() if name != "model_type"}
    return AutoConfig.for_model(backbone["model_type"], **options)


def split_heads(x: torch.Tensor, parts: int, heads: int) -> tuple[torch.Tensor, ...]:
    """``[B, T, parts * d]`` to ``parts`` tensors ``[B, heads, T, d / heads]``."""
    batch, time, _ = x.shape
    return x.reshape(batch, time, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def causal_convolution(u: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """``y[t] = sum over s <= t of kernel[s] u[t - s]``; u ``[B, d, T]``, kernel ``[d, T]``, by FFT without wrapping."""
    length = u.shape[-1]
    size = 2 * length
    spectrum = torch.fft.rfft(u.float(), n=size) * torch.fft.rfft(kernel.float(), n=size)
    return torch.fft.irfft(spectrum, n=size)[..., :length].to(u.dtype)


def hippo_skew_eigenvalues(modes: int) -> np.ndarray:
    """Positive imaginary parts of the eigenvalues of the normal part of HiPPO-LegS of size ``2 modes``, ascending."""
    n = np.arange(2 * modes)
    outer = np.sqrt((2 * n[:, None] + 1) * (2 * n[None, :] + 1)) / 2
    skew = np.triu(outer, 1) - np.tril(outer, -1)
    values = np.linalg.eigvalsh(1j * skew)
    return np.sort(values[values > 0])


def _safe_reciprocal(x: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    return x.conj() / (x.real.square() + x.imag.square() + eps)


def _safe_divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a * _safe_reciprocal(b, 1e-12)
