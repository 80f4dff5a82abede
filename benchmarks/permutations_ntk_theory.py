"""Exact moments of trained networks: our closed form beside dense algebra, scikit-learn and google/neural-tangents.

    python benchmarks/permutations_ntk_theory.py [--bits 10] [--neural-tangents PYTHON]

Every method gives mean and variance at all 2^k - 1 inputs from the k unit vectors; times are the best of three, and
differences are from our closed form. ``--neural-tangents`` is the interpreter of an environment with
``neural-tangents==0.6.5 jax==0.4.30 jaxlib==0.4.30 tf2jax==0.3.6 numpy<2`` (newer JAX no longer loads it).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel, StationaryKernelMixin

from paperworks.papers.permutations_ntk import (
    NTKRegressor,
    all_inputs,
    nngp_kernel,
    output_moments,
    permutation_matrix,
    trained_moments,
)
from paperworks.papers.permutations_ntk.kernels import unit_rows

NEURAL_TANGENTS = """
import json, sys, time
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np, neural_tangents as nt
from neural_tangents import stax
k, kernel = int(sys.argv[1]), sys.argv[2]
numbers = np.arange(1, 2 ** k)
rows = ((numbers[:, None] >> np.arange(k)) & 1).astype(float)
rows = jnp.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
_, _, kernel_fn = stax.serial(stax.Dense(64, W_std=1.0, b_std=None), stax.Relu(), stax.Dense(k, W_std=1.0, b_std=None))
def answer():
    predict = nt.predict.gradient_descent_mse_ensemble(kernel_fn, jnp.eye(k), jnp.eye(k), diag_reg=0.0)
    out = predict(x_test=rows, get=kernel, compute_cov=True)
    return np.asarray(out.mean), np.asarray(jnp.diag(out.covariance))
times = []
for _ in range(3):
    start = time.perf_counter()
    mean, variance = answer()
    times.append(time.perf_counter() - start)
print(json.dumps({"seconds": min(times), "mean": mean.tolist(), "variance": variance.tolist()}))
"""


class ArcCosine(StationaryKernelMixin, Kernel):
    """The last-layer kernel for scikit-learn's Gaussian processes."""

    def __init__(self) -> None:
        pass

    def __call__(self, X: np.ndarray, Y: np.ndarray | None = None, eval_gradient: bool = False) -> np.ndarray:
        return nngp_kernel(X, Y)

    def diag(self, X: np.ndarray) -> np.ndarray:
        return (X**2).sum(axis=1) / (2 * X.shape[1])


Answer = tuple[np.ndarray, np.ndarray]


def best_of_three(function: Callable[[], Answer]) -> tuple[float, Answer]:
    """The shortest of three runs, and its answer."""
    times, found = [], None
    for _ in range(3):
        start = time.perf_counter()
        found = function()
        times.append(time.perf_counter() - start)
    assert found is not None
    return min(times), found


def neural_tangents(python: str, k: int, kernel: str) -> tuple[float, Answer]:
    """The same in another interpreter, timed there without its start."""
    done = subprocess.run([python, "-c", NEURAL_TANGENTS, str(k), kernel], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found["seconds"], (np.array(found["mean"]), np.array(found["variance"]))


def main() -> None:
    """Print one table per kernel."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bits", type=int, default=10)
    parser.add_argument("--neural-tangents", default="")
    options = parser.parse_args()
    k = options.bits
    rows, identity = all_inputs(k), np.arange(k)
    unit, targets = unit_rows(rows), permutation_matrix(identity).T

    def dense(kernel: str) -> Answer:
        mean, covariance = trained_moments(np.eye(k), targets, unit, kernel=kernel)  # type: ignore[arg-type]
        return mean, np.diag(covariance)

    def regressor(kernel: str) -> Answer:
        mean, std = NTKRegressor(kernel).fit(np.eye(k), targets).predict(rows, return_std=True)  # type: ignore[arg-type]
        return mean, std**2

    def gaussian_process() -> Answer:
        peer = GaussianProcessRegressor(ArcCosine(), alpha=1e-14, optimizer=None).fit(np.eye(k), targets)
        mean, std = peer.predict(unit, return_std=True)
        return mean, std[:, 0] ** 2

    for kernel in ("ntk", "nngp"):
        base_time, (mean, std) = best_of_three(lambda kernel=kernel: output_moments(identity, rows, kernel=kernel))
        variance = std[:, 0] ** 2
        found = {
            "NTKRegressor": best_of_three(lambda kernel=kernel: regressor(kernel)),
            "dense algebra, all covariances": best_of_three(lambda kernel=kernel: dense(kernel)),
        }
        if kernel == "nngp":
            found["scikit-learn GaussianProcessRegressor"] = best_of_three(gaussian_process)
        if options.neural_tangents:
            found["neural-tangents"] = neural_tangents(options.neural_tangents, k, kernel)
        print(f"\n{kernel}, k = {k}, {len(rows):,} inputs")
        print(f"{'method':<40}{'seconds':>10}{'ratio':>9}{'mean diff':>12}{'variance diff':>15}")
        print(f"{'closed form':<40}{base_time:>10.4f}{1:>9.1f}{0:>12.1e}{0:>15.1e}")
        for name, (seconds, (m, v)) in found.items():
            differences = f"{np.abs(m - mean).max():>12.1e}{np.abs(v - variance).max():>15.1e}"
            print(f"{name:<40}{seconds:>10.4f}{seconds / base_time:>9.1f}{differences}")


if __name__ == "__main__":
    main()
