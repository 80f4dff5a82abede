"""Pictures of a run: scores by round, trees, and what search at inference finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from paperworks.papers.spar.inference import Comparison
from paperworks.papers.spar.tree import Node, SearchResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "greedy": "#888888",
    "best-of-N": "#d1495b",
    "iterative refinement": "#edae49",
    "bfs": "#00798c",
    "dfs": "#30638e",
}


def draw_scores(names: Sequence[str], scores: Sequence[Sequence[float]], labels: Sequence[str]) -> Figure:
    """Lines of scores in percent by round; ``scores[line][round]``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for line, label in zip(scores, labels, strict=True):
        axes.plot(range(len(names)), [100 * value for value in line], marker="o", label=label)
    axes.set_xticks(range(len(names)), list(names))
    axes.set_ylabel("obeyed, % of test prompts or instructions")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


def draw_trees(results: Sequence[SearchResult], titles: Sequence[str]) -> Figure:
    """Search trees side by side. A node shows its value; the one returned has a thick border."""
    from matplotlib.figure import Figure

    columns = min(2, len(results))
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(7.6, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, axes in enumerate(grid.flat):
        axes.axis("off")
        if number < len(results):
            _draw_tree(axes, results[number])
            axes.set_title(titles[number], fontsize=8)
    return figure


def _draw_tree(axes: object, result: SearchResult) -> None:
    places = tree_places(result.tree)
    for node in result.tree:
        x, y = places[node.number]
        if node.parent is not None:
            above = places[node.parent]
            axes.plot([above[0], x], [above[1], y], color="#999999", linewidth=0.8, zorder=1)  # type: ignore[attr-defined]
    for node in result.tree:
        x, y = places[node.number]
        passed = node.value > result.gate
        best = node.number == result.best.number
        axes.scatter(  # type: ignore[attr-defined]
            [x],
            [y],
            s=260,
            color="#7fc8a9" if passed else ("#f4b6a6" if node.parent is not None else "#e56b6f"),
            edgecolors="black" if best else "#666666",
            linewidths=2.4 if best else 0.6,
            zorder=2,
        )
        axes.text(x, y, f"{node.value:.2g}", ha="center", va="center", fontsize=7, zorder=3)  # type: ignore[attr-defined]
    depth = max(node.depth for node in result.tree)
    width = max(x for x, _ in places.values())
    axes.set_xlim(-0.7, max(width, 1) + 0.7)  # type: ignore[attr-defined]
    axes.set_ylim(-depth - 0.6, 0.6)  # type: ignore[attr-defined]


def tree_places(tree: Sequence[Node]) -> dict[int, tuple[float, float]]:
    """(x, y) of every node: leaves side by side, a parent over the middle of its children."""
    children: dict[int, list[int]] = {node.number: [] for node in tree}
    for node in tree:
        if node.parent is not None:
            children[node.parent].append(node.number)
    places: dict[int, tuple[float, float]] = {}
    next_x = 0.0
    order = [(0, False)]
    while order:
        number, done = order.pop()
        below = children[number]
        if below and not done:
            order.append((number, True))
            order += [(child, False) for child in reversed(below)]
            continue
        if below:
            x = (places[below[0]][0] + places[below[-1]][0]) / 2
        else:
            x, next_x = next_x, next_x + 1
        places[number] = (x, -float(tree[number].depth))
    return places


def draw_inference(comparison: Comparison) -> Figure:
    """Share of prompts that are passed, by the number of generated answers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in comparison.attempts:
        curve = 100 * comparison.curve(name)
        axes.step(range(1, comparison.most + 1), curve, where="post", label=name, color=COLOURS.get(name))
    axes.set_xlabel("generated answers for each prompt, at most")
    axes.set_ylabel("prompts passed, %")
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure
