"""Layers whose output is a sum of contributions of their inputs: linear layers and convolutions, in one form.

Each is read as a matrix [c_out, d]: row c holds the kernels of output c, one input after the other, and d is the number
of inputs of one group of the layer times the positions of a kernel. What the layer reads is brought to the same form:
rows of d numbers, one for each place where the kernel is applied.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError, nearest

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def is_readable(module: nn.Module) -> bool:
    """Whether contributions of a module can be measured: Linear, Conv1d, Conv2d, and the Conv1D of transformers."""
    return isinstance(module, (nn.Linear, *_CONVOLUTIONS)) or _transposed(module)


def _transposed(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


class ReadLayer:
    """A layer with its weights as a matrix, and its input as rows.

    Attributes
    ----------
    path, module : the layer and where it stands in the model.
    groups : of a grouped convolution, else 1.
    kernel : positions of a kernel (9 for 3x3), 1 for linear layers.
    inputs : components of one output: input channels of a group.
    axis : the axis of the weight along which the inputs lie.
    convolution : whether it is one.
    """

    def __init__(self, path: str, module: nn.Module) -> None:
        if not is_readable(module):
            expected = "a Linear, Conv1d, Conv2d, or Conv1D of transformers"
            raise InputError("layer", f"{path}, a {type(module).__name__}", expected)
        weight: Any = module.weight
        if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
            raise InputError("layer", f"{path} with weights of type {getattr(weight, 'dtype', type(weight))}", "floats")
        self.path, self.module = path, module
        self.groups = int(getattr(module, "groups", 1))
        self.axis = 0 if _transposed(module) else 1
        self.inputs = int(weight.shape[self.axis])
        self.kernel = int(weight[0, 0].numel()) if weight.ndim > 2 else 1
        self.convolution = isinstance(module, _CONVOLUTIONS)

    @property
    def outputs(self) -> int:
        return int(self._weight.shape[1 - self.axis])

    @property
    def _weight(self) -> torch.Tensor:
        weight: Any = self.module.weight
        return weight

    @property
    def bias(self) -> torch.Tensor | None:
        bias: Any = self.module.bias
        return bias

    def matrix(self) -> torch.Tensor:
        """The weights, float64 [c_out, d] on the CPU."""
        weight = self._weight.detach().double().cpu()
        return (weight.T if self.axis == 0 else weight.flatten(1)).contiguous()

    @torch.no_grad()
    def write(self, matrix: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """Put weights [c_out, d] (and a bias [c_out]) into the layer."""
        weight = self._weight
        weight.copy_(matrix.T if self.axis == 0 else matrix.reshape(weight.shape))
        if bias is not None and self.bias is not None:
            self.bias.copy_(bias)

    def group_of(self, output: int) -> int:
        """The group of an output channel."""
        return output * self.groups // self.outputs

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """What the kernels see, [n, groups, L, d]: n samples with L places each (linear layers: every row is one)."""
        if not self.convolution:
            return x.reshape(-1, 1, 1, x.shape[-1])
        module: Any = self.module
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = functional.pad(x, module._reversed_padding_repeated_twice, mode=mode)
        size, stride, dilation = module.kernel_size, module.stride, module.dilation
        if isinstance(module, nn.Conv1d):
            x, size, stride, dilation = x.unsqueeze(2), (1, *size), (1, *stride), (1, *dilation)
        patches = functional.unfold(x, size, dilation=dilation, stride=stride)
        return patches.view(len(x), self.groups, -1, patches.shape[-1]).transpose(2, 3)

    def columns(self, positions: torch.Tensor) -> torch.Tensor:
        """Columns of the matrix for positions [n, m] along the input axis: [n, m * kernel]."""
        each = positions[..., None] * self.kernel + torch.arange(self.kernel)
        return each.reshape(len(positions), -1)

    def blocks(self) -> torch.Tensor:
        """Columns of every input channel on its own: int64 [inputs, kernel]."""
        return self.columns(torch.arange(self.inputs)[:, None])


def layer_at(model: nn.Module, path: str) -> ReadLayer:
    """The layer of a model by its path. Raises InputError where there is none that can be read."""
    modules = dict(model.named_modules())
    if path not in modules:
        known = [name for name, module in modules.items() if is_readable(module)]
        raise InputError("layer", repr(path), f"one of {', '.join(known[:8])}, ...{nearest(path, known)}")
    return ReadLayer(path, modules[path])


def readable_layers(model: nn.Module) -> list[str]:
    """Paths of all layers with contributions of more than one input, in the order of the model."""
    paths = []
    for path, module in model.named_modules():
        if is_readable(module) and ReadLayer(path, module).inputs > 1:
            paths.append(path)
    if not paths:
        raise InputError("model", type(model).__name__, "a model with linear layers or convolutions")
    return paths
