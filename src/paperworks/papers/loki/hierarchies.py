"""Label spaces from what is known about the labels' names: WordNet, and embeddings of the names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.loki.graphs import GraphSpace, TreeSpace, from_edges
from paperworks.papers.loki.spaces import EmbeddingSpace

if TYPE_CHECKING:
    from paperworks.inputs.wordnet import WordNet


def from_text_encoder(names: Sequence[str], encode: Callable[[Sequence[str]], Any]) -> EmbeddingSpace:
    """Labels as the embeddings of their names, scaled to length 1 (cosine distance).

    ``encode`` turns texts into vectors ``[n, m]``.
    """
    if not names:
        raise InputError("names", "no names", "at least one label name")
    return EmbeddingSpace(np.asarray(encode(list(names)), dtype=np.float64), list(names), distance="cosine")


def from_wordnet(
    wordnet: WordNet,
    names: Sequence[str] | Mapping[str, str],
    *,
    graph: bool = False,
    inner: bool = False,
) -> TreeSpace | GraphSpace:
    """Labels as nouns of WordNet; the distance counts steps along hypernym pointers.

    Parameters
    ----------
    wordnet : the database (``paperworks data get wordnet``).
    names : label names, or name -> synset id. A name without an id is taken as its most frequent noun; names that are
        not there are listed in the error, none is changed to make it fit.
    graph : WordNet is no tree: some synsets have several hypernyms. True counts the shortest path over all pointers;
        otherwise each synset keeps its first hypernym, which makes a tree.
    inner : also have the synsets above the names as labels (their ids, or names among ``names``).

    Returns
    -------
    a space whose labels are the names, in their order, followed by inner synsets if asked for.
    """
    wanted = dict(names) if isinstance(names, Mapping) else {}
    unmatched = []
    for name in names if not isinstance(names, Mapping) else ():
        found = wordnet.synsets(name.replace("_", " "), "n") or wordnet.synsets(name, "n")
        if found:
            wanted[name] = found[0].id
        else:
            unmatched.append(name)
    if unmatched:
        raise InputError(
            "names",
            f"{len(unmatched)} that WordNet does not have as nouns: {', '.join(unmatched[:10])}",
            "nouns of WordNet, or a mapping from each name to a synset id",
        )
    if not wanted:
        raise InputError("names", "no names", "at least one label name")
    by_id: dict[str, str] = {}
    for name, synset in wanted.items():
        if synset in by_id:
            raise InputError(
                "names", f"{by_id[synset]!r} and {name!r}, which are one synset ({synset})", "one label each"
            )
        by_id[synset] = name
    edges, stack, seen = [], list(by_id), set()
    while stack:
        synset = stack.pop()
        if synset in seen:
            continue
        seen.add(synset)
        above = wordnet.hypernyms(synset)
        for parent in above if graph else above[:1]:
            edges.append((synset, parent.id))
            stack.append(parent.id)
    space = from_edges(_pruned(edges, set(by_id)) if not graph else edges)
    order = list(by_id)
    if inner:
        order += [str(x) for x in space.labels if x not in by_id]
    node = space.node[space.index(order)]
    labels = [by_id.get(x, x) for x in order]
    if isinstance(space, TreeSpace):
        return TreeSpace(space.parent, space.length, labels, node)
    return GraphSpace(space.adjacency, labels, node)


def _pruned(edges: list[tuple[str, str]], names: set[str]) -> list[tuple[str, str]]:
    """The edges without the chain above the lowest synset that is above all names."""
    children: dict[str, int] = {}
    for _, parent in edges:
        children[parent] = children.get(parent, 0) + 1
    parent_of = dict(edges)
    tops = {parent for _, parent in edges} - set(parent_of)
    if len(tops) != 1:
        return edges
    top = tops.pop()
    below = {parent: child for child, parent in edges}
    while children.get(top) == 1 and top not in names and len(edges) > 1:
        child = below[top]
        edges = [e for e in edges if e != (child, top)]
        top = child
    return edges
