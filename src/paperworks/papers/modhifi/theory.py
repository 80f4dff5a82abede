"""The paper's bound: the error of a network's output is at most a constant times the errors of its layers.

With Y the output of layer l and Y' that of the edited layer on the same input, E||Y - Y'||^2 = sum over c of v'Q_c v
with v = 1 - m. Everything behind the layer stretches it by at most C_l, so that for edits of several layers

    sqrt(E||N(X) - N'(X)||^2) <= sum over l of C_l sqrt(E||Y_l - Y'_l||^2),      C_l of the edited network.

The algorithm never uses the constants; they say what it rests on, and how loose they are.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.modhifi.layers import layer_at

GELU_SLOPE, SILU_SLOPE = 1.13, 1.1
"""Largest slopes: 1.1290 of GELU, 1.0999 of SiLU."""
_SLOPES: dict[Any, float] = {
    functional.relu: 1.0,
    torch.relu: 1.0,
    torch.tanh: 1.0,
    torch.sigmoid: 0.25,
    functional.gelu: GELU_SLOPE,
    functional.silu: SILU_SLOPE,
    torch.flatten: 1.0,
    "relu": 1.0,
    "tanh": 1.0,
    "flatten": 1.0,
    "view": 1.0,
    "reshape": 1.0,
    "mean": 1.0,
    "contiguous": 1.0,
}
"""Functions and methods that stretch distances by at most so much; a mean over n places by 1 / sqrt(n), at most 1."""
_MODULE_SLOPES: dict[type[nn.Module], float] = {
    nn.ReLU: 1.0,
    nn.Tanh: 1.0,
    nn.Sigmoid: 0.25,
    nn.GELU: GELU_SLOPE,
    nn.SiLU: SILU_SLOPE,
    nn.Identity: 1.0,
    nn.Flatten: 1.0,
    nn.Dropout: 1.0,
}


def spectral_bound(module: nn.Module) -> float:
    """At least the spectral norm of a linear layer (exact) or of a convolution with zero padding.

    Of a convolution: the norm of its matrix times the root of how many kernel positions see one input value.
    """
    if isinstance(module, nn.Linear):
        return float(torch.linalg.matrix_norm(module.weight.detach().double(), 2))
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
        # position k sees input k d + o s: of the k, every (s / gcd(s, d))-th sees the same one
        axes = zip(module.kernel_size, module.stride, module.dilation, strict=True)
        seen = math.prod(math.ceil(k * math.gcd(s, d) / s) for k, s, d in axes)
        grouped = module.weight.detach().double().flatten(1).view(module.groups, -1, module.weight[0].numel())
        return math.sqrt(seen) * float(torch.linalg.matrix_norm(grouped, 2).max())
    raise InputError("module", type(module).__name__, "a Linear, or a Conv2d with zero padding")


def layer_norm_bound(gain: torch.Tensor, least: float) -> float:
    """||gamma||_inf / r: a LayerNorm where the standard deviation of what it reads is at least r = ``least``.

    x / ||x|| stretches distances by at most 1 / r where both points have a norm of at least r.
    """
    if not least > 0:
        raise InputError("least", least, "a standard deviation above 0")
    return float(gain.detach().abs().max()) / least


def stretch_of(module: nn.Module) -> float:
    """By how much a module in evaluation mode stretches distances at most.

    Raises InputError for one without a known bound (attention, LayerNorm on inputs of any norm).
    """
    for kind, slope in _MODULE_SLOPES.items():
        if type(module) is kind:
            return slope
    if isinstance(module, nn.AdaptiveAvgPool2d):  # a mean stretches nothing, but a small map is repeated
        sides = module.output_size if isinstance(module.output_size, tuple) else (module.output_size,) * 2
        return math.sqrt(math.prod(side for side in sides if side is not None))
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.running_var is not None:
        deviation = (module.running_var.double() + module.eps).sqrt()
        gain = module.weight.detach().double() if module.affine else torch.ones_like(deviation)
        return float((gain.abs() / deviation).max())
    return spectral_bound(module)


def tail_constant(model: nn.Module, path: str) -> float:
    """C_l: by how much everything behind the layer at ``path`` stretches a change of its output, at most.

    Follows the graph of the network (``torch.fx``): products along a path, sums where paths meet, so that residual
    connections count. Raises InputError for a network that fx cannot trace, or an operation without a known bound.
    """
    layer_at(model, path)
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:
        raise InputError("model", f"{type(error).__name__} in tracing", "a network that torch.fx traces") from error
    calls = sum(node.op == "call_module" and node.target == path for node in graph.nodes)
    if calls > 1:
        raise InputError("path", f"{path}, which is called {calls} times", "a layer that the network calls once")
    found: dict[fx.Node, float] = {}
    seen = False
    for node in graph.nodes:
        if node.op == "call_module" and node.target == path:
            found[node], seen = 1.0, True
            continue
        parts = [found.get(arg, 0.0) for arg in tree_leaves((node.args, node.kwargs)) if isinstance(arg, fx.Node)]
        if node.op == "output":
            return sum(parts) if seen else _not_called(path)
        if not any(parts):
            found[node] = 0.0
        elif node.op == "call_module":
            found[node] = stretch_of(model.get_submodule(str(node.target))) * sum(parts)
        elif node.target in (operator.add, operator.iadd, torch.add, torch.cat, "add", "add_") and (
            "alpha" not in node.kwargs
        ):
            found[node] = sum(parts)
        elif node.target in _SLOPES:
            found[node] = _SLOPES[node.target] * sum(parts)
        else:
            raise InputError("model", f"operation {node.target}", "operations with a known bound: sums, activations")
    return _not_called(path)


def _not_called(path: str) -> float:
    raise InputError("path", path, "a layer that the network calls")


@dataclass(frozen=True)
class ErrorBound:
    """The bound on some samples.

    Attributes
    ----------
    output : sqrt(E||N(X) - N'(X)||^2).
    layers : sqrt(E||Y_l - Y'_l||^2) of every edited layer, on what it reads in the dense network.
    constants : C_l of every edited layer, in the edited network.
    """

    output: float
    layers: dict[str, float]
    constants: dict[str, float]

    @property
    def bound(self) -> float:
        """sum over l of C_l sqrt(E||Y_l - Y'_l||^2)."""
        return sum(self.constants[path] * error for path, error in self.layers.items())

    @property
    def measured_ratio(self) -> float:
        """Error of the output over the sum of those of the layers: what the constants bound."""
        return self.output / max(sum(self.layers.values()), 1e-300)


def error_bound(
    dense: nn.Module, edited: nn.Module, x: torch.Tensor, constants: Mapping[str, float] | None = None
) -> ErrorBound:
    """Measure both sides of the bound for a network of which only linear layers or convolutions were edited.

    Parameters
    ----------
    x : samples.
    constants : C_l by layer, for networks that ``tail_constant`` does not follow.

    Raises
    ------
    InputError : networks that do not differ, or that differ elsewhere.
    """
    ours, theirs = dict(dense.named_parameters()), dict(edited.named_parameters())
    paths: list[str] = []
    for name, value in theirs.items():
        if not torch.equal(value, ours[name]):
            path = name.rpartition(".")[0]
            layer_at(edited, path)
            paths += [] if path in paths else [path]
    if not paths:
        raise InputError("edited", "the weights of the dense network", "a network of which some layers were edited")
    errors = dict.fromkeys(paths, 0.0)
    handles = []

    def note(path: str) -> Any:
        module = layer_at(edited, path).module

        def hook(_module: nn.Module, args: tuple[Any, ...], out: torch.Tensor) -> None:
            errors[path] += float((out - module(args[0])).double().square().sum()) / len(x)

        return hook

    with evaluation_mode(dense, edited), torch.no_grad():
        for path in paths:
            handles.append(layer_at(dense, path).module.register_forward_hook(note(path)))
        try:
            wanted = dense(x)
        finally:
            for handle in handles:
                handle.remove()
        apart = float((wanted - edited(x)).double().square().sum()) / len(x)
    tails = {path: tail_constant(edited, path) if constants is None else constants[path] for path in paths}
    return ErrorBound(math.sqrt(apart), {p: math.sqrt(e) for p, e in errors.items()}, tails)


def least_deviation(x: torch.Tensor) -> float:
    """The least standard deviation over the last axis: r, as a LayerNorm reads ``x``."""
    return float(x.detach().double().std(-1, correction=0).min())


def attention_bound(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor, heads: int, tokens: int, norm: float
) -> float:
    """By how much self-attention with biases stretches distances at most, of ``tokens`` tokens of at most ``norm``.

    For one head with A = Wq'Wk / sqrt(d), on tokens (x, 1) of norm at most R: each row of the softmax changes by at
    most R ||A|| (||dx_i|| + max_j ||dx_j||) in the 1-norm, and ||softmax||_2 <= sqrt(T), so that

        L <= ||Wo Wv|| (sqrt(T) + R^2 ||A|| (1 + sqrt(T))),    summed over heads.

    Parameters
    ----------
    query, key, value : float64 ``[width, width + 1]``, the bias as the last column.
    out : float64 ``[width, width]``.
    """
    size = len(query) // heads
    radius = math.sqrt(norm**2 + 1)
    total = 0.0
    for h in range(heads):
        rows = slice(h * size, (h + 1) * size)
        scores = float(torch.linalg.matrix_norm(query[rows].T @ key[rows], 2)) / math.sqrt(size)
        values = float(torch.linalg.matrix_norm(out[:, rows] @ value[rows], 2))
        total += values * (math.sqrt(tokens) + radius**2 * scores * (1 + math.sqrt(tokens)))
    return total


def bert_tail_constant(model: nn.Module, layer: int, deviations: Mapping[str, float], tokens: int) -> float:
    """C_l of a BERT encoder for the output of ``encoder.layer.<l>.output.dense``, up to the last hidden states.

    Parameters
    ----------
    deviations : the least standard deviation that each LayerNorm reads, by path: in the dense network, in the edited
        one, and in those between the two, of which only the last layers are edited.
    tokens : of the longest sequence.
    """
    config: Any = model.config
    constant = 1.0
    blocks: Any = model.get_submodule("encoder.layer")
    for number in range(layer, len(blocks)):
        block = blocks[number]
        prefix = f"encoder.layer.{number}"
        if number > layer:
            before: Any = blocks[number - 1].output.LayerNorm
            norm = float(before.weight.detach().abs().max()) * math.sqrt(config.hidden_size)
            norm += float(before.bias.detach().norm())
            at = block.attention
            joined = [
                torch.cat([m.weight.detach().double(), m.bias.detach().double()[:, None]], 1)
                for m in (at.self.query, at.self.key, at.self.value)
            ]
            out = at.output.dense.weight.detach().double()
            query, key, value = joined
            stretch = attention_bound(query, key, value, out, config.num_attention_heads, tokens, norm)
            constant *= 1 + stretch
            constant *= layer_norm_bound(at.output.LayerNorm.weight, deviations[f"{prefix}.attention.output.LayerNorm"])
            inner = spectral_bound(block.intermediate.dense) * GELU_SLOPE * spectral_bound(block.output.dense)
            constant *= 1 + inner
        constant *= layer_norm_bound(block.output.LayerNorm.weight, deviations[f"{prefix}.output.LayerNorm"])
    return constant
