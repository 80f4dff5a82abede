"""Tiny networks, each with one thing that an analysis of structure can get wrong, and their example inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def conv(a: int, b: int, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(a, b, k, padding=k // 2, **options)


class Mlp(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3))


class Residual(nn.Module):
    """A projected skip, batch norms, and a head behind pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv(3, 8), nn.BatchNorm2d(8)
        self.a, self.b, self.skip = conv(8, 12), conv(12, 16), conv(8, 16, 1)
        self.c, self.head = conv(16, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.b(torch.relu(self.a(x))) + self.skip(x)
        x = x + self.c(torch.relu(x))
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """Concatenations of concatenations, and of a tensor with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 6), conv(9, 5), conv(14, 7)
        self.d, self.head = conv(14, 4), nn.Linear(4 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([x, torch.relu(self.a(x))], 1)
        x = torch.cat([x, torch.relu(self.b(x))], 1)
        y = self.c(x)
        y = self.d(torch.cat([y, y], 1))
        return self.head(torch.flatten(y, 1))


class Chunked(nn.Module):
    """Two halves, one through a bottleneck, all three concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 12, 1), conv(6, 6), conv(18, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.a(x).chunk(2, 1)
        return self.c(torch.cat([left, right, self.b(right)], 1)).mean((2, 3))[:, :, None].sum(2)


class Separable(nn.Module):
    """Depthwise with a multiplier, grouped, and a convolution to one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.deep, self.b = conv(3, 8, 1), conv(8, 16, groups=8), conv(16, 12, 1)
        self.grouped, self.one, self.back = conv(12, 24, groups=4), conv(24, 1), conv(1, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.b(torch.relu(self.deep(self.a(x)))))
        x = self.back(self.one(torch.relu(self.grouped(x))))
        return self.head(x.amax((2, 3)))


class UNet(nn.Module):
    """Transposed convolutions (one grouped), a skip, interpolation, pixel shuffle and unshuffle, group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.down = conv(3, 8), nn.Conv2d(8, 12, 2, 2)
        self.norm = nn.GroupNorm(3, 12)
        self.up, self.up2 = nn.ConvTranspose2d(12, 8, 2, 2), nn.ConvTranspose2d(8, 8, 1, groups=4)
        self.b, self.out = conv(16, 8), conv(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = functional.silu(self.a(x))
        x = torch.relu(self.norm(self.down(skip)))
        x = self.up2(self.up(x)) + functional.interpolate(functional.max_pool2d(skip, 2), scale_factor=2)
        x = self.b(torch.cat([x, skip], 1))
        return self.out(functional.pixel_shuffle(x, 2))


class Gated(nn.Module):
    """Squeeze and excitation, PReLU, a gated linear unit and an instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.norm = conv(3, 8), nn.PReLU(8), nn.InstanceNorm2d(8, affine=True)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.wide, self.head = nn.Linear(8, 20), nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.a(x)))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(functional.adaptive_avg_pool2d(x, 1).flatten(1)))))
        x = x * gate[:, :, None, None]
        return self.head(functional.glu(self.wide(x.mean((2, 3))), -1))


class Attention(nn.Module):
    """One fused matrix for queries, keys and values, cut up by a reshape, as in timm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        weights = ((q * self.head_dim**-0.5) @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))


class Vit(nn.Module):
    """Class token, position table, fused attention, layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 20, 4, 4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 20)), nn.Parameter(torch.randn(1, 5, 20))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(20), nn.LayerNorm(20), nn.LayerNorm(20)
        self.attention, self.up, self.down = Attention(20, 4), nn.Linear(20, 28), nn.Linear(28, 20)
        self.head = nn.Linear(20, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        x = x + self.attention(self.norm1(x))
        x = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x)[:, 0])


class Grouped(nn.Module):
    """Grouped-query attention by sdpa with rotation, an RMS norm, and a head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 24), nn.Linear(24, 11, bias=False)
        self.head.weight = self.table.weight
        self.norm = nn.RMSNorm(24)
        self.q, self.k, self.v, self.o = nn.Linear(24, 24), nn.Linear(24, 12), nn.Linear(24, 12), nn.Linear(24, 24)
        self.gate, self.up, self.down = nn.Linear(24, 18), nn.Linear(24, 18), nn.Linear(18, 24)
        self.register_buffer("frequency", torch.tensor([1.0, 0.3, 0.1]), persistent=False)

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        angle = torch.arange(x.shape[-2])[:, None] * self.frequency
        angle = torch.cat([angle, angle], -1)
        half = x.shape[-1] // 2
        return x * angle.cos() + torch.cat([-x[..., half:], x[..., :half]], -1) * angle.sin()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        y = self.norm(x)
        q, k, v = (m(y).unflatten(-1, (-1, 6)).transpose(1, 2) for m in (self.q, self.k, self.v))
        y = functional.scaled_dot_product_attention(
            self.turn(q), self.turn(k), v, is_causal=True, enable_gqa=True, scale=0.4
        )
        x = x + self.o(y.transpose(1, 2).flatten(2))
        return self.head(x + self.down(functional.silu(self.gate(x)) * self.up(x)))


class Shared(nn.Module):
    """One module called twice, a weight used as a function's argument, einsum, and weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 10), nn.utils.parametrizations.weight_norm(nn.Linear(10, 8))
        self.twice = nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.randn(7, 8))
        self.other = nn.Parameter(torch.randn(7, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.b(torch.relu(self.a(x))))
        x = self.twice(torch.relu(self.twice(x)))
        return torch.einsum("bi,io->bo", functional.relu(functional.linear(x, self.weight)), self.other)


class Stacked(nn.Module):
    """Heads and experts with an axis of their own in the weights, multiplied by einsum and matmul; no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Parameter(torch.randn(6, 3, 4)), nn.Parameter(torch.randn(6, 3, 4))
        self.v, self.o = nn.Parameter(torch.randn(6, 3, 5)), nn.Parameter(torch.randn(3, 5, 6))
        self.up, self.down = nn.Parameter(torch.randn(2, 6, 7)), nn.Parameter(torch.randn(2, 7, 6))
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (torch.einsum("btd,dhe->bhte", x, w) for w in (self.q, self.k, self.v))
        weights = torch.einsum("bhte,bhse->bhts", q, k).softmax(-1)
        x = x + torch.einsum("bhts,bhse,hed->btd", weights, v, self.o)
        return self.head(((x[:, None] @ self.up).relu() @ self.down).sum(1))


class Mixer(nn.Module):
    """Token mixing: linear layers over the axis of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.tokens1, self.tokens2 = nn.Linear(5, 8), nn.Linear(6, 9), nn.Linear(9, 6)
        self.norm, self.channels1, self.channels2 = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x)
        x = x + self.tokens2(functional.gelu(self.tokens1(self.norm(x).transpose(1, 2)))).transpose(1, 2)
        x = x + self.channels2(functional.gelu(self.channels1(x)))
        return self.head(x.mean(1))


class TwoEnds(nn.Module):
    """Two inputs and two outputs, one of them inside a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 9), nn.Linear(3, 9), nn.Linear(9, 5)
        self.d, self.e = nn.Linear(9, 7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
        z = torch.relu(self.a(x) + self.b(y))
        return {"first": self.c(z), "more": (self.e(torch.relu(self.d(z))),)}


class Shuffled(nn.Module):
    """Channel shuffle between grouped convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 12, 1), conv(12, 12, groups=3), conv(12, 12, groups=3)
        self.head = nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.b(self.a(x)))
        b, c, h, w = x.shape
        x = x.view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.head(self.c(x).mean((2, 3)))


class Fixed(nn.Module):
    """Sizes as numbers in the code: a cut must be refused, also where the numbers happen to fit."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.free, self.c = nn.Linear(4, 12), nn.Linear(12, 6), nn.Linear(6, 10), nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(torch.relu(self.a(x)).view(len(x), 12))
        return self.c(torch.relu(self.free(x)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.lstm, self.out = nn.Linear(4, 6), nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.out(self.lstm(self.into(x))[0])))


IMAGE, ROWS = torch.Size([2, 3, 8, 8]), torch.Size([3, 5])
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "mlp": (Mlp, lambda: torch.randn(3, 5)),
    "residual": (Residual, lambda: torch.randn(2, 3, 8, 8)),
    "dense": (Dense, lambda: torch.randn(2, 3, 4, 4)),
    "chunked": (Chunked, lambda: torch.randn(2, 3, 4, 4)),
    "separable": (Separable, lambda: torch.randn(2, 3, 6, 6)),
    "unet": (UNet, lambda: torch.randn(2, 3, 8, 8)),
    "gated": (Gated, lambda: torch.randn(2, 3, 6, 6)),
    "vit": (Vit, lambda: torch.randn(2, 3, 8, 8)),
    "grouped": (Grouped, lambda: torch.randint(11, (2, 5))),
    "shared": (Shared, lambda: torch.randn(3, 6)),
    "stacked": (Stacked, lambda: torch.randn(2, 5, 6)),
    "mixer": (Mixer, lambda: torch.randn(2, 6, 5)),
    "two ends": (TwoEnds, lambda: (torch.randn(3, 4), torch.randn(3, 3))),
    "shuffled": (Shuffled, lambda: torch.randn(2, 3, 6, 6)),
    "fixed": (Fixed, lambda: torch.randn(3, 4)),
    "recurrent": (Recurrent, lambda: torch.randn(2, 3, 4)),
}


def network(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Any]:
    """A network with random norms and statistics, in evaluation mode, and its inputs."""
    torch.manual_seed(0)
    build, inputs = NETWORKS[name]
    model = build().to(dtype).eval()
    with torch.no_grad():
        for path, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "running_var" in path:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1 and tensor.is_floating_point() and "frequency" not in path:
                tensor.normal_(0.5)
    made = inputs()
    tensors = made if isinstance(made, tuple) else (made,)
    return model, tuple(t.to(dtype) if t.is_floating_point() else t for t in tensors)
