"""The paper's main baseline: 2:4 sparsity by SparseGPT (Frantar and Alistarh, arXiv 2301.00774), layer after layer.

Two of every four neighbouring weights of a row become zero; the weights to their right take over what was lost, by the
inverse of the layer's second moments. The matrices keep their shapes: only special kernels make such a model faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from paperworks.runs import Progress, no_progress

BLOCK = 128


def sparsify_2_4(weight: torch.Tensor, moments: torch.Tensor, damping: float = 0.01) -> torch.Tensor:
    """The weights with two of four set to zero and the rest adjusted (Algorithm 1 of the paper, n:m form).

    Parameters
    ----------
    weight : ``[out, in]``, ``in`` a multiple of 4.
    moments : ``[in, in]``, the sum of x x^T over the inputs x of the matrix.
    damping : share of the mean diagonal that is added to the diagonal.

    Returns
    -------
    float64 ``[out, in]``.
    """
    w = weight.double().clone()
    h = moments.double().clone()
    silent = h.diagonal() == 0
    h[silent, silent] = 1.0
    w[:, silent] = 0.0
    h += damping * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)
    # Upper factor of the inverse: row i holds what removing column i does to the columns after it.
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    keep = torch.ones_like(w)
    for start in range(0, w.shape[1], BLOCK):
        end = min(start + BLOCK, w.shape[1])
        errors = torch.zeros(w.shape[0], end - start, dtype=w.dtype)
        for i in range(start, end):
            if i % 4 == 0:
                saliency = (w[:, i : i + 4] / u.diagonal()[i : i + 4]) ** 2
                keep[:, i : i + 4].scatter_(1, saliency.argsort(1)[:, :2], 0.0)
            error = w[:, i] * (1 - keep[:, i]) / u[i, i]
            w[:, i:end] -= error[:, None] * u[i, i:end]
            errors[:, i - start] = error
        w[:, end:] -= errors @ u[start:end, end:]
    return w * keep


def sparsify_model(
    model: nn.Module,
    layers: Sequence[nn.Module],
    batches: Sequence[Mapping[str, torch.Tensor]],
    progress: Progress = no_progress,
) -> nn.Module:
    """Apply ``sparsify_2_4`` in place to every linear matrix of each layer, on inputs from the pruned prefix."""
    for layer in progress(layers, "SparseGPT 2:4", len(layers)):
        linears = {name: m for name, m in layer.named_modules() if isinstance(m, nn.Linear)}
        moments = {name: torch.zeros(m.in_features, m.in_features, dtype=torch.float64) for name, m in linears.items()}

        def collect(name: str, total: dict[str, torch.Tensor]):
            def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
                x = inputs[0].detach().flatten(0, -2).double()
                total[name] += x.T @ x

            return hook

        hooks = [m.register_forward_pre_hook(collect(name, moments)) for name, m in linears.items()]
        with torch.inference_mode():
            for batch in batches:
                model(**batch, use_cache=False)
        for handle in hooks:
            handle.remove()
        for name, linear in linears.items():
            linear.weight.data = sparsify_2_4(linear.weight.data, moments[name]).to(linear.weight.dtype)
    return model
