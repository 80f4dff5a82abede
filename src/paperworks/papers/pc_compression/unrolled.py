"""A hidden Chow-Liu tree as an explicit circuit."""

from __future__ import annotations

from paperworks.papers.pc_compression import tree_coder
from paperworks.papers.pc_compression.circuit import Circuit, CircuitBuilder
from paperworks.papers.pc_compression.passes import Layout
from paperworks.papers.pc_compression.structure import Tree


def unrolled(tree: Tree, layout: Layout, walk: tree_coder.Walk) -> Circuit:
    """Sum, product and input units of the distribution that ``walk`` codes by; a row of K units for each variable."""
    variables, categories, k = walk.inputs.shape
    builder = CircuitBuilder(variables, categories)
    inputs = [builder.inputs(v, walk.inputs[v].T) for v in range(variables)]
    above: dict[int, list[int]] = {}
    parts = tree_coder.parts_of(tree)
    for j, v in enumerate(layout.inner.tolist()):
        rows = [inputs[p] if p == v or layout.slot[p] < 0 else above[p] for p in parts[v]]
        products = [builder.multiply(*(row[i] for row in rows)) if len(rows) > 1 else rows[0][i] for i in range(k)]
        if v == tree.root:
            return builder.build(builder.summate(products, walk.prior))
        above[v] = [builder.summate(products, walk.down[j, i]) for i in range(k)]
    raise AssertionError("a tree has a root")
