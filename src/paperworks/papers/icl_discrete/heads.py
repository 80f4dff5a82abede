"""What attention heads do: do they look at the label of the nearest neighbour, or at the last copy of a point?"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.icl_discrete.modeling import InContextModel
from paperworks.papers.icl_discrete.networks import CausalAttention
from paperworks.parameters import check_seed

THRESHOLD = 0.5
"""From this score on a head counts as one of the kind."""

SEGMENT, SEGMENTS = 12, 4
"""Points of a prompt that is repeated, and how often, for the prefix score."""


def attention_weights(model: InContextModel, xs: np.ndarray, ys: np.ndarray) -> list[np.ndarray]:
    """Attention of every layer, float64 ``[B, heads, T, T]`` with T = 2m - 1 tokens (point j is token 2j, its label
    2j + 1). Raises InputError for models without attention."""
    x, y = (torch.from_numpy(np.ascontiguousarray(a)).to(model.device) for a in (xs, ys))
    mixers = [module for module in model.modules() if isinstance(module, CausalAttention)]
    if mixers:
        for mixer in mixers:
            mixer.keep = True
        try:
            with evaluation_mode(model), torch.no_grad():
                model(x, y)
            return [cast(torch.Tensor, mixer.weights).double().cpu().numpy() for mixer in mixers]
        finally:
            for mixer in mixers:
                mixer.keep, mixer.weights = False, None
    if model.config.architecture not in ("gpt2", "language-model"):
        raise InputError("model", f"a {model.config.architecture}, without attention", "a model with attention")
    inner = cast(Any, model.network).model
    before = inner.config._attn_implementation
    inner.set_attn_implementation("eager")  # the fused kernels do not hand out weights
    try:
        with evaluation_mode(model), torch.no_grad():
            states = model.read_in(model.tokens(x.to(model.dtype), y.to(model.dtype)))
            found = inner(inputs_embeds=states, use_cache=False, output_attentions=True).attentions
    finally:
        inner.set_attn_implementation(before)
    if not found or found[0] is None:
        raise InputError("model", "a language model that does not give its attention", "one with attention")
    return [layer.double().cpu().numpy() for layer in found]


def head_scores(
    model: InContextModel,
    kind: Literal["nn", "prefix"] = "nn",
    *,
    prompts: int = 100,
    n_points: int = 80,
    start: int = 41,
    neighbours: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """How much each head is a nearest-neighbour or a prefix (induction) head, float64 ``[layers, heads]`` in [0, 1].

    - "nn": the attention from each point x_j, j >= start (from 0), to the labels of its ``neighbours`` nearest earlier
      points, averaged over points and prompts of the nearest-neighbour task with ``start`` random labels.
    - "prefix": a prompt of 12 points is repeated 4 times; the attention from each point to the labels of the same point
      in all earlier copies, averaged.

    A head counts as one of the kind from a score of 0.5 on.
    """
    check_seed("seed", seed)
    rng = np.random.default_rng(seed)
    n_dims, limit = model.config.n_dims, model.config.max_points
    if neighbours < 1:
        raise InputError("neighbours", neighbours, "1 or more")
    if prompts < 1:
        raise InputError("prompts", prompts, "1 or more")
    if kind == "nn":
        if not neighbours <= start < n_points <= limit:
            raise InputError(
                "n_points, start", f"{n_points}, {start}", f"{neighbours} <= start < n_points <= {limit} (the model's)"
            )
        xs, ys = _nearest_prompts(prompts, n_points, n_dims, start, rng)
        wanted = nearest_earlier(xs, neighbours)
        queries = range(start, n_points)
    elif kind == "prefix":
        if limit < SEGMENT * SEGMENTS:
            raise InputError("model", f"at most {limit} points", f"a model for {SEGMENT * SEGMENTS} points")
        xs = np.tile(_bits(prompts, SEGMENT, n_dims, rng), (1, SEGMENTS, 1))
        ys = np.tile(np.where(rng.random((prompts, SEGMENT)) < 0.5, 1, -1).astype(np.int8), (1, SEGMENTS))
        position = np.arange(SEGMENT * SEGMENTS)
        copies = (position[:, None] - position[None, :]) % SEGMENT == 0
        wanted = np.broadcast_to(copies & (position[None, :] < position[:, None]), (prompts, *copies.shape))
        queries = range(SEGMENT, SEGMENT * SEGMENTS)
    else:
        raise InputError("kind", repr(kind), "nn or prefix")
    scores = []
    for weights in attention_weights(model, xs, ys):
        to_labels = weights[:, :, ::2, 1::2]  # from points to labels; the last point's label is no token
        hits = (to_labels * wanted[:, None, :, : to_labels.shape[3]])[:, :, list(queries)]
        scores.append(hits.sum(3).mean((0, 2)))
    return np.stack(scores)


def nearest_earlier(xs: np.ndarray, neighbours: int) -> np.ndarray:
    """Which earlier points are the nearest, bool ``[B, m, m]`` (row: the query); ties go to the earliest."""
    points = xs.shape[1]
    wide = xs.astype(np.float32)
    order = -np.matmul(wide, wide.transpose(0, 2, 1)).astype(np.int64) * points + np.arange(points)
    order[:, np.triu(np.ones((points, points), bool))] = np.iinfo(np.int64).max
    ranks = order.argsort(2, kind="stable").argsort(2, kind="stable")
    return (ranks < neighbours) & np.tril(np.ones((points, points), bool), -1)


def _bits(batch: int, points: int, n_dims: int, rng: np.random.Generator) -> np.ndarray:
    return (rng.integers(2, size=(batch, points, n_dims)) * 2 - 1).astype(np.int8)


def _nearest_prompts(
    batch: int, points: int, n_dims: int, start: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    from paperworks.papers.icl_discrete.tasks import BooleanTask

    prompts = BooleanTask("nearest_neighbours", n_dims, start=start).sample(batch, points, rng)
    return prompts.xs, prompts.ys
