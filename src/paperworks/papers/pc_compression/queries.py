"""Questions to a hidden Chow-Liu tree: drawing rows, filling gaps, and conditionals, for many rows at a time."""

from __future__ import annotations

import numpy as np

from paperworks.papers.pc_compression.em import Parameters
from paperworks.papers.pc_compression.passes import Layout
from paperworks.papers.pc_compression.structure import Tree

Rows = list[np.ndarray]


def upward(layout: Layout, parameters: Parameters, codes: np.ndarray) -> tuple[Rows, Rows]:
    """Likelihoods of what is seen below each inner node, by its own state and by its parent's: [N, K] each.

    Rows are scaled so that the largest own likelihood is 1. ``codes`` holds C where a value is missing.
    """
    inner, slot, starts, children = layout
    values: Rows = []
    messages: Rows = []
    for j, v in enumerate(inner):
        g = parameters.inputs[v, codes[:, v]].copy()
        for c in children[starts[j] : starts[j + 1]]:
            g *= parameters.inputs[c, codes[:, c]] if slot[c] < 0 else messages[slot[c]]
            top = g.max(1, keepdims=True)
            g /= np.where(top > 0, top, 1)
        values.append(g)
        messages.append(g @ parameters.transitions[j].T)
    return values, messages


def complete(layout: Layout, parameters: Parameters, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``codes`` [N, D] with every missing value (C) drawn from the model given the others, from the root down."""
    inner, slot, starts, children = layout
    values, _ = upward(layout, parameters, codes)
    result = codes.copy()
    states = np.empty((len(inner), len(codes)), dtype=np.int64)
    states[-1] = _draw(parameters.prior[None] * values[-1], rng)
    for j in range(len(inner) - 1, -1, -1):
        below = children[starts[j] : starts[j + 1]]
        for v in (inner[j], *below[slot[below] < 0]):
            gaps = np.flatnonzero(codes[:, v] == parameters.inputs.shape[1] - 1)
            if len(gaps):
                result[gaps, v] = _draw(parameters.inputs[v, :-1].T[states[j][gaps]], rng)
        for s in slot[below[slot[below] >= 0]]:
            states[s] = _draw(parameters.transitions[s][states[j]] * values[s], rng)
    return result


def conditional(tree: Tree, layout: Layout, parameters: Parameters, codes: np.ndarray, variable: int) -> np.ndarray:
    """P(x_variable = a | the values seen), float64 [N, C]; the variable itself must be missing in ``codes``."""
    values, messages = upward(layout, parameters, codes)
    holder = variable if layout.slot[variable] >= 0 else int(tree.parents[variable])
    path = [holder]
    while path[-1] != tree.root:
        path.append(int(tree.parents[path[-1]]))
    belief = parameters.prior[None] * values[-1]
    for v in path[-2::-1]:
        s = layout.slot[v]
        share = np.divide(belief, messages[s], out=np.zeros_like(belief), where=messages[s] > 0)
        belief = (share @ parameters.transitions[s]) * values[s]
        belief /= belief.sum(1, keepdims=True)
    found = belief @ parameters.inputs[variable, :-1].T
    return found / found.sum(1, keepdims=True)


def _draw(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index per row, with probability proportional to the weights."""
    left = np.cumsum(weights, 1)
    place = rng.random(len(weights)) * left[:, -1]
    return np.minimum((left <= place[:, None]).sum(1), weights.shape[1] - 1)
