"""Identities of subset fidelity: against least squares on the contributions, and against exhaustive search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks import runs
from paperworks.nn import build_network
from paperworks.papers.modhifi.fidelity import hifi_set, optimal_scales, reconstruction_error, subset_fidelity
from paperworks.papers.modhifi.layers import layer_at
from paperworks.papers.modhifi.moments import collect
from paperworks.papers.modhifi.scores import similarity_matrix
from paperworks.papers.modhifi.studies.arms import Arms
from paperworks.papers.modhifi.studies.networks import digits, synthetic, trained
from paperworks.papers.modhifi.theory import error_bound
from paperworks.runs import Finding, Run, largest, smallest


def _contributions(layer: nn.Conv2d, x: torch.Tensor, output: int) -> torch.Tensor:
    """A_ci of one output, from the layer run on one input channel at a time: [c_in, samples * places]."""
    n = x.shape[1] // layer.groups
    first = output * layer.groups // layer.out_channels * n
    rows = []
    for channel in range(first, first + n):
        alone = torch.zeros_like(x)
        alone[:, channel] = x[:, channel]
        rows.append(layer(alone)[:, output].flatten())
    return torch.stack(rows).detach()


@runs.study(
    claims=["subset-fidelity", "naive-is-optimal-when-uncorrelated"],
    title="Closed forms against least squares and exhaustive search, float64",
    minutes=0.1,
)
def fidelity(run: Run, fast: bool) -> Iterator[Finding]:
    """Convolutions with stride, padding and groups on random images; every subset of their inputs."""
    apart = gram = 0.0
    lowest, highest, fall, full = 1.0, 0.0, 0.0, 1.0
    compensated = -np.inf
    layers: list[dict[str, Any]] = [
        {},
        {"stride": 2},
        {"padding": 1, "groups": 2},
        {"stride": 2, "padding": 2, "dilation": 2},
    ]
    for seed in run.progress(range(1 if fast else 4), "convolutions"):
        for options in layers:
            generator = torch.Generator().manual_seed(seed)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                layer = nn.Conv2d(6, 4, 3, bias=False, **options).double()
            x = torch.randn(10, 6, 8, 8, generator=generator, dtype=torch.float64)
            x[:, 1] += x[:, 0]
            model = nn.Sequential(layer)
            read, moments = layer_at(model, "0"), collect(model, [x], ["0"])["0"].matrix()
            for output in (0, 3):
                a = _contributions(layer, x, output)
                q = similarity_matrix(read.matrix()[output], moments[read.group_of(output)], read.blocks())
                gram = largest((gram, float((q - a @ a.T / len(x)).abs().max() / q.abs().max())))
                y, n = a.sum(0).numpy(), len(a)
                values = {}
                for number in range(1, 2**n):
                    subset = [i for i in range(n) if number >> i & 1]
                    part = a[subset].numpy().T
                    solution, *_ = np.linalg.lstsq(part, y, rcond=None)
                    expected = 1 - float(((part @ solution - y) ** 2).sum() / (y**2).sum())
                    values[number] = subset_fidelity(q, subset)
                    apart = largest((apart, abs(values[number] - expected)))
                    scales = optimal_scales(q, subset)
                    ones = (scales != 0).double()
                    compensated = largest(
                        (compensated, reconstruction_error(q, scales) - reconstruction_error(q, ones))
                    )
                lowest, highest = smallest((lowest, *values.values())), largest((highest, *values.values()))
                full = smallest((full, values[2**n - 1]))
                for number, value in values.items():
                    for i in range(n):
                        if not number >> i & 1:
                            fall = largest((fall, value - values[number | 1 << i]))
    name = "subset-fidelity"
    yield Finding(name, "closed form less least squares on the contributions, every subset", "exact", apart, "<=", 1e-8)
    yield Finding(name, "similarities by Grams less those of the contributions, relative", "exact", gram, "<=", 1e-12)
    yield Finding(name, "least fidelity of a subset", "exact", lowest, ">=", 0)
    yield Finding(name, "largest fidelity of a subset", "exact", highest, "<=", 1, tolerance=1e-12)
    yield Finding(name, "fidelity of all inputs", "exact", full, "==", 1, tolerance=1e-9)
    yield Finding(name, "largest fall of fidelity when an input joins a subset", "exact", fall, "<=", 1e-9)
    yield Finding(
        name, "error with the best scales less that with scales of 1, worst subset", "exact", compensated, "<=", 1e-12
    )
    yield from _uncorrelated(1 if fast else 20)


def _uncorrelated(count: int) -> Iterator[Finding]:
    claim = "naive-is-optimal-when-uncorrelated"
    gap = share = 0.0
    beaten = 0
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        energy = torch.rand(8, generator=generator, dtype=torch.float64)
        a = torch.randn(8, 12, generator=generator, dtype=torch.float64)
        for k in range(1, 8):
            naive = hifi_set(torch.diag(energy), k)[1]
            best = hifi_set(torch.diag(energy), k, method="exact")[1]
            gap = largest((gap, abs(best - naive)))
            share = largest((share, abs(best - float(energy.sort().values[-k:].sum() / energy.sum()))))
        beaten += hifi_set(a @ a.T, 4, method="exact")[1] > hifi_set(a @ a.T, 4)[1] + 1e-6
    yield Finding(claim, "diagonal Q: exhaustive search less the best single ones", "exact", gap, "<=", 1e-12)
    yield Finding(claim, "diagonal Q: fidelity less the share of the energy", "exact", share, "<=", 1e-12)
    yield Finding(
        claim,
        "correlated Q: share of random cases in which exhaustive search finds a better four of eight",
        "exact",
        beaten / count,
        ">",
        0,
        detail="the best single contributions are not optimal in general",
    )


def _perceptron(*, norms: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, width in ((64, 32), (32, 16)):
            layers += [nn.Linear(before, width), *([nn.BatchNorm1d(width)] if norms else []), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(16, 10))


@runs.study(
    claims=["local-to-global-bound"],
    title="The bound on perceptrons and residual networks, trained and not",
    minutes=0.5,
)
def bounds(run: Run, fast: bool) -> Iterator[Finding]:
    """Half of the channels are masked and rescaled; both sides of the bound on images, in float64."""
    worst = 0.0
    said = []
    train, test = digits(0, fast)
    x, _ = synthetic(train, 0)
    for name in ("mlp", "mlp with norms", "residual", "residual, trained"):
        if name == "residual, trained":
            model = trained(run, "residual", 0, train, fast)
        elif name == "residual":
            model = build_network("small-cnn", image_size=8, widths=(8, 16), seed=1)
        else:
            model = _perceptron(norms=name != "mlp")
        wide = model.double().eval()
        arms = Arms(wide, x[:200].double())
        for compensation in ("none", "scalar"):
            kind: Any = compensation
            made = arms.masked(0.5, "energy", compensation=kind, statistics=False, restore_mean=False)
            found = error_bound(wide, made, test.tensors[0][:100].double())
            worst = largest((worst, found.output / found.bound))
        said.append(f"{name}: measured {found.measured_ratio:.3g}, constants up to {max(found.constants.values()):.3g}")
    yield Finding(
        "local-to-global-bound",
        "error of the output over its bound by the layers' errors, worst of 8 cases",
        "exact",
        worst,
        "<=",
        1,
        detail="; ".join(said),
    )
