"""Two-layer ReLU networks of finite width, many at a time: parametrisations, kernels at initialisation, training.

    f(x) = c2 W2 relu(c1 W1 x + b1) + b2

``ntk`` parametrisation: weights N(0, 1), c1 = sigma_w / sqrt(d), c2 = sigma_w / sqrt(m), no biases; both layers move
equally. ``standard``: c1 = c2 = 1 and the scale is in the weights' variance (1 / fan in), as in the official code; the
last layer's gradient is then about m times the first one's, so that nearly all that is learned is the last layer.

Members of an ensemble are stacked along a leading dimension, and each is a function of (seed, its index) alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk.kernels import relu_expectations
from paperworks.papers.permutations_ntk.theory import Kernel, Parametrization, TrainedLayers, require_whole

TOLERANCE = 1e-5
"""Training ends when the root mean square of the residuals on the training rows is below this."""


@dataclass(frozen=True)
class NetworkSpec:
    """What the members have in common.

    Parameters
    ----------
    inputs, outputs : numbers of input and output units (both k for permutations).
    width : hidden units m.
    parametrization : ``ntk`` or ``standard``.
    bias : trained biases that start at 0 (``standard`` only: the theory of ``ntk`` has none).
    sigma_w : standard deviation of the weights, before the scale of the parametrisation.
    trained_layers : ``all``, or ``last`` to leave the first layer as it was drawn.
    """

    inputs: int
    outputs: int
    width: int = 4096
    parametrization: Parametrization = "ntk"
    bias: bool = False
    sigma_w: float = 1.0
    trained_layers: TrainedLayers = "all"

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "width"):
            require_whole(name, getattr(self, name))
        if self.parametrization not in ("ntk", "standard"):
            raise InputError("parametrization", repr(self.parametrization), "'ntk' or 'standard'")
        if self.trained_layers not in ("all", "last"):
            raise InputError("trained_layers", repr(self.trained_layers), "'all' or 'last'")
        if self.bias and self.parametrization == "ntk":
            raise InputError("bias", "True with the ntk parametrisation", "False, or the standard parametrisation")
        if not 0 < self.sigma_w < math.inf:
            raise InputError("sigma_w", self.sigma_w, "a number above 0")

    @property
    def kernel(self) -> Kernel:
        """The kernel whose theory these networks follow as the width grows."""
        return "ntk" if self.parametrization == "ntk" and self.trained_layers == "all" else "nngp"

    @property
    def scales(self) -> tuple[float, float]:
        """(c1, c2): what multiplies the two layers' products."""
        if self.parametrization == "standard":
            return 1.0, 1.0
        return self.sigma_w / math.sqrt(self.inputs), self.sigma_w / math.sqrt(self.width)

    @property
    def deviations(self) -> tuple[float, float]:
        """Standard deviations of the two layers' weights at initialisation."""
        if self.parametrization == "ntk":
            return 1.0, 1.0
        return self.sigma_w / math.sqrt(self.inputs), self.sigma_w / math.sqrt(self.width)

    @property
    def member_bytes(self) -> int:
        """Bytes of one member's weights in float32."""
        biases = (self.width + self.outputs) if self.bias else 0
        return 4 * (self.width * (self.inputs + self.outputs) + biases)

    def tangent_kernel(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The expected tangent kernel at initialisation, at this width, between rows (num, inputs)."""
        products, steps, inner = relu_expectations(rows)
        scale = self.sigma_w**4 / self.inputs
        last, first = products * scale, inner * steps * scale
        if self.parametrization == "standard":
            # Without the factors c1 and c2 the layers' shares grow by m / sigma_w^2 and by d / sigma_w^2.
            last, first = last * self.width / self.sigma_w**2, first * self.inputs / self.sigma_w**2
        out = last if self.trained_layers == "last" else last + first
        if self.bias:
            out = out + 1.0 + (steps * self.sigma_w**2 if self.trained_layers == "all" else 0.0)
        return out


@dataclass
class Members:
    """The stacked weights of B members.

    ``hidden`` (B, inputs, m), ``output`` (B, outputs, m); ``hidden_bias`` (B, 1, m) and ``output_bias`` (B, 1, outputs)
    or None.
    """

    spec: NetworkSpec
    hidden: Tensor
    output: Tensor
    hidden_bias: Tensor | None = None
    output_bias: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that there are, by name."""
        found = {name: getattr(self, name) for name in ("hidden", "output", "hidden_bias", "output_bias")}
        return {name: value for name, value in found.items() if value is not None}

    def take(self, index: Tensor | slice) -> Members:
        """Some of the members."""
        return Members(self.spec, **{name: value[index] for name, value in self.tensors().items()})

    def put(self, index: Tensor, members: Members) -> None:
        """Put the weights of ``members`` at these places."""
        for name, value in members.tensors().items():
            getattr(self, name)[index] = value

    @torch.no_grad()
    def outputs(self, rows: Tensor) -> Tensor:
        """Outputs (B, num, outputs) for inputs (num, inputs)."""
        chunk = max(1, 2**24 // (len(self) * self.spec.width))
        parts = [self._forward(rows[i : i + chunk])[1] for i in range(0, len(rows), chunk)]
        return torch.cat(parts, dim=1) if parts else rows.new_zeros(len(self), 0, self.spec.outputs)

    def _forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        c1, c2 = self.spec.scales
        z = torch.matmul(rows * c1, self.hidden)
        if self.hidden_bias is not None:
            z += self.hidden_bias
        h = z.relu_()
        f = torch.matmul(h, self.output.transpose(1, 2)) * c2
        if self.output_bias is not None:
            f += self.output_bias
        return h, f

    def descend(self, rows: Tensor, targets: Tensor, learning_rate: float, steps: int) -> Tensor:
        """Full-batch gradient descent on half the sum of squares, in place; returns the residuals before the last step.

        The gradients are written out: for the few rows of a training set they are three small products per member,
        and automatic differentiation would spend most of its time elsewhere.
        """
        c1, c2 = self.spec.scales
        residual = torch.empty(0)
        with torch.no_grad():
            for _ in range(steps):
                h, f = self._forward(rows)
                residual = f.sub_(targets)
                back = torch.matmul(residual, self.output) if self.spec.trained_layers == "all" else None
                self.output.baddbmm_(residual.transpose(1, 2), h, alpha=-learning_rate * c2)
                if self.output_bias is not None:
                    self.output_bias.sub_(residual.sum(1, keepdim=True), alpha=learning_rate)
                if back is None:
                    continue
                back.mul_(h.sign())  # the derivative of relu: h is never negative
                if self.hidden_bias is not None:
                    self.hidden_bias.sub_(back.sum(1, keepdim=True), alpha=learning_rate * c2)
                self.hidden.sub_(torch.matmul(rows.T * (learning_rate * c1 * c2), back))
        return residual

    def residuals(self, rows: Tensor, targets: Tensor) -> Tensor:
        """Root mean square of the residuals of every member, (B,)."""
        return (self.outputs(rows) - targets).square().mean(dim=(1, 2)).sqrt()


def draw_members(
    spec: NetworkSpec, seed: int, indices: range, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Members:
    """Untrained members with these indices. A member depends on (seed, index) only, whatever it is drawn with."""
    first, second = spec.deviations
    hidden = torch.empty(len(indices), spec.inputs, spec.width, dtype=dtype)
    output = torch.empty(len(indices), spec.outputs, spec.width, dtype=dtype)
    for place, index in enumerate(indices):
        state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state) & (2**63 - 1))
        hidden[place].normal_(0, first, generator=generator)
        output[place].normal_(0, second, generator=generator)
    members = Members(spec, hidden.to(device), output.to(device))
    if spec.bias:
        members.hidden_bias = torch.zeros(len(indices), 1, spec.width, dtype=dtype, device=device)
        members.output_bias = torch.zeros(len(indices), 1, spec.outputs, dtype=dtype, device=device)
    return members


@dataclass(frozen=True)
class Descent:
    """How members are trained: a learning rate and a number of steps that suit the kernel of the training rows.

    ``block`` is how many steps are taken between looks at the residual; None for a fixed number of ``steps``.
    """

    learning_rate: float
    steps: int
    block: int | None
    tolerance: float = TOLERANCE

    @classmethod
    def plan(
        cls,
        spec: NetworkSpec,
        rows: NDArray[np.float64],
        *,
        learning_rate: float | None = None,
        steps: int | None = None,
        tolerance: float = TOLERANCE,
    ) -> Descent:
        """The rate 1 / (largest eigenvalue), and the steps after which the slowest direction is within ``tolerance``.

        Raises InputError for a rate at which descent diverges and for a kernel that is singular on the rows.
        """
        values = np.linalg.eigvalsh(spec.tangent_kernel(rows))
        largest, smallest = float(values[-1]), float(values[0])
        rate = 1 / largest if learning_rate is None else learning_rate
        if not 0 < rate * largest < 2:
            raise InputError("learning_rate", rate, f"above 0 and below {2 / largest:.6g} (2 / largest eigenvalue)")
        if steps is not None:
            return cls(rate, require_whole("steps", steps), None, tolerance)
        if not 0 < tolerance < 1:
            raise InputError("tolerance", tolerance, "above 0 and below 1")
        if smallest <= 1e-9 * largest:
            raise InputError("X", "training rows with a singular kernel", "rows of distinct directions")
        shrink = max(abs(1 - rate * smallest), abs(1 - rate * largest))
        needed = math.ceil(math.log(tolerance) / math.log(max(shrink, 0.1)))
        return cls(rate, needed, max(4, needed // 4), tolerance)

    def run(self, members: Members, rows: Tensor, targets: Tensor) -> Tensor:
        """Train in place; returns each member's root mean square residual, (B,).

        A member goes on until it is within the tolerance, whatever the others do. Raises InputError when one is not
        after 40 times the planned steps.
        """
        members.descend(rows, targets, self.learning_rate, self.steps)
        residuals = members.residuals(rows, targets)
        if self.block is None:
            return residuals
        for _ in range(160):
            left = torch.nonzero(~(residuals <= self.tolerance)).flatten()
            if not left.numel():
                return residuals
            if not bool(torch.isfinite(residuals).all()):
                raise InputError("learning_rate", f"{self.learning_rate:.6g}, which diverges", "a smaller one")
            some = members.take(left)
            some.descend(rows, targets, self.learning_rate, self.block)
            members.put(left, some)
            residuals[left] = some.residuals(rows, targets)
        worst = float(residuals.max())
        raise InputError(
            "tolerance", f"{self.tolerance:g}, not reached (residual {worst:.2g})", "a larger one, or float64"
        )


class NTKMLP(nn.Module):
    """One network as a torch module, for the user's own training loop.

    ``k`` inputs and outputs, ``m`` hidden units; parametrisation and biases as in ``NetworkSpec``. The parameters are
    drawn from ``generator`` (a fresh one with seed 0 if None).
    """

    def __init__(
        self,
        k: int,
        m: int,
        parametrization: Parametrization = "ntk",
        bias: bool = False,
        *,
        sigma_w: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.spec = NetworkSpec(k, k, m, parametrization, bias, sigma_w)
        draw = torch.Generator().manual_seed(0) if generator is None else generator
        first, second = self.spec.deviations
        self.hidden = nn.Parameter(torch.randn(m, k, generator=draw) * first)
        self.output = nn.Parameter(torch.randn(k, m, generator=draw) * second)
        self.hidden_bias = nn.Parameter(torch.zeros(m)) if bias else None
        self.output_bias = nn.Parameter(torch.zeros(k)) if bias else None

    @classmethod
    def of_member(cls, members: Members, place: int) -> NTKMLP:
        """The network of one member of a stack (with as many outputs as inputs)."""
        spec = members.spec
        module = cls(spec.inputs, spec.width, spec.parametrization, spec.bias, sigma_w=spec.sigma_w)
        with torch.no_grad():
            module.hidden.copy_(members.hidden[place].T)
            module.output.copy_(members.output[place])
            if module.hidden_bias is not None and module.output_bias is not None:
                assert members.hidden_bias is not None
                assert members.output_bias is not None
                module.hidden_bias.copy_(members.hidden_bias[place, 0])
                module.output_bias.copy_(members.output_bias[place, 0])
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., k) for inputs (..., k)."""
        c1, c2 = self.spec.scales
        hidden = torch.relu(nn.functional.linear(x, self.hidden * c1, self.hidden_bias))
        return nn.functional.linear(hidden, self.output * c2, self.output_bias)
