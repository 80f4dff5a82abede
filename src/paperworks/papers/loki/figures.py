"""Pictures of a label space with what is observed and what can be reached, and of what predictions cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paperworks.papers.loki.evaluation import Score
from paperworks.papers.loki.graphs import TreeSpace
from paperworks.papers.loki.spaces import EmbeddingSpace, GridSpace, LabelSpace

MANY = 400
"""Above this number of labels a picture shows a sample of them."""
COLOURS = {"observed": "#1f6f8b", "reachable": "#f2a541", "not reachable": "#b9b9b9"}


def layout(space: LabelSpace, chosen: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Places of the chosen labels, float ``[n, 2]``, and the edges between them (trees)."""
    if isinstance(space, TreeSpace) and space.whole and len(chosen) == len(space):
        return _tree_layout(space)
    if isinstance(space, GridSpace) and len(space.shape) == 2:
        return space.coordinates[chosen][:, ::-1].astype(float), []
    if isinstance(space, EmbeddingSpace):
        points = space.points[chosen] - space.points[chosen].mean(axis=0)
        left, size, _ = np.linalg.svd(points, full_matrices=False)
        flat = left[:, :2] * size[:2]
        return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))), []
    squared = space.squared(chosen, chosen)  # classical scaling
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    flat = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0))
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))), []


def _tree_layout(space: TreeSpace) -> tuple[np.ndarray, list[tuple[int, int]]]:
    n = space.n_nodes
    children: list[list[int]] = [[] for _ in range(n)]
    for node in range(1, n):
        children[space.parent[node]].append(node)
    if max((len(c) for c in children), default=0) <= 1:  # a path
        places = np.column_stack([space.depth, np.zeros(n)])
    else:
        across = np.zeros(n)
        stack, seen, column = [0], np.zeros(n, dtype=bool), 0
        while stack:  # children before their parent
            node = stack[-1]
            if children[node] and not seen[node]:
                seen[node] = True
                stack.extend(reversed(children[node]))
                continue
            stack.pop()
            if children[node]:
                across[node] = np.mean(across[children[node]])
            else:
                across[node] = column
                column += 1
        places = np.column_stack([across, -space.depth])
    label = space.label_of_node
    out = np.empty((n, 2))
    out[label] = places
    return out, [(int(label[node]), int(label[space.parent[node]])) for node in range(1, n)]


def draw_space(space: LabelSpace, observed: np.ndarray, reached: np.ndarray | None) -> Figure:
    """The labels, by whether they are observed, reachable or neither."""
    chosen = np.arange(len(space))
    if len(space) > MANY:
        rest = np.setdiff1d(chosen, observed)
        keep = rest[:: max(1, len(rest) // max(1, MANY - min(len(observed), MANY)))]
        chosen = np.union1d(observed[:MANY], keep)
    places, edges = layout(space, chosen)
    flat = bool(np.ptp(places[:, 1]) == 0)
    figure = Figure(figsize=(7.5, 1.6 if flat else 4.5), layout="constrained")
    axes = figure.subplots()
    for a, b in edges:
        axes.plot(*places[[a, b]].T, color="#c8c8c8", linewidth=0.8, zorder=1)
    state = np.full(len(chosen), 2)
    if reached is not None:
        state[np.isin(chosen, reached)] = 1
    state[np.isin(chosen, observed)] = 0
    names = ["observed", "reachable" if reached is not None else "not observed", "not reachable"]
    if reached is None:
        names = ["observed", "", "not observed"]
    for k, name in enumerate(names):
        at = np.flatnonzero(state == k)
        if len(at):
            colour = list(COLOURS.values())[k]
            x, y = places[at].T
            axes.scatter(x, y, s=42 if k == 0 else 22, color=colour, label=f"{name} ({len(at)})", zorder=2)
    if len(chosen) <= 40:
        for place, label in zip(places, chosen, strict=True):
            text = str(space.labels[label])
            axes.annotate(text, place, xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7)
    axes.set_axis_off()
    axes.margins(0.06, 0.35 if flat else 0.08)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_scores(scores: Sequence[Score]) -> Figure:
    """Mean squared distance of every rule, least first."""
    ordered = sorted(scores, key=lambda s: s.squared, reverse=True)
    figure = Figure(figsize=(7, 0.5 + 0.42 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    colours = [COLOURS["observed"] if s.name == "Loki" else "#9aa5ab" for s in ordered]
    bars = axes.barh([s.name for s in ordered], [s.squared for s in ordered], color=colours)
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.set_xlabel("mean squared distance between truth and prediction")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_predictions(space: LabelSpace, truth: np.ndarray, predicted: dict[str, np.ndarray]) -> Figure:
    """How often each label is true and predicted (spaces of at most 60 labels)."""
    figure = Figure(figsize=(7.5, 1.5 + 1.3 * len(predicted)), layout="constrained")
    rows = figure.subplots(len(predicted) + 1, 1, sharex=True)
    for axes, (name, labels) in zip(rows, {"truth": truth, **predicted}.items(), strict=True):
        axes.bar(range(len(space)), np.bincount(labels, minlength=len(space)), color=COLOURS["observed"])
        axes.set_ylabel(name)
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xticks(range(len(space)), [str(x) for x in space.labels], rotation=90 if len(space) > 25 else 0)
    return figure
