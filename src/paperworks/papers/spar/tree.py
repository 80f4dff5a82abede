"""The tree of a search: responses, their values, and which repairs which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Node:
    """A response in a search.

    Attributes
    ----------
    number : its place in the tree, in the order of making; the root is 0.
    parent : the number of the node that it repairs; None for the root.
    depth : repairs between it and the root.
    response, critique : the text and what the judge said of it.
    value : share of yes votes; 0 for the root.
    votes : of the judge: 1, 0, -1.
    reply : the refiner's reply that it was taken from; empty for the root.
    """

    number: int
    parent: int | None
    depth: int
    response: str
    critique: str
    value: float
    votes: tuple[int, ...] = ()
    reply: str = ""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    best : the node that it returns.
    success : whether the best value is above the gate.
    n_generated : repairs that were made.
    n_judged : responses that were judged; repairs of the same text are judged once.
    tree : all nodes, by number.
    gate : a value above it passes.
    """

    best: Node
    success: bool
    n_generated: int
    n_judged: int
    tree: tuple[Node, ...]
    gate: float = 0.5

    @property
    def best_response(self) -> str:
        """The text of the best node."""
        return self.best.response

    @property
    def value(self) -> float:
        """The value of the best node."""
        return self.best.value

    @property
    def root(self) -> Node:
        """The response that was repaired."""
        return self.tree[0]

    @property
    def parent_of_best(self) -> Node | None:
        """The node that the best one repairs; None where the best is the root."""
        return None if self.best.parent is None else self.tree[self.best.parent]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return {
            "success": self.success,
            "best": self.best.number,
            "value": self.best.value,
            "n_generated": self.n_generated,
            "n_judged": self.n_judged,
            "gate": self.gate,
            "nodes": [asdict(node) | {"votes": list(node.votes)} for node in self.tree],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchResult:
        """Read back ``to_dict``."""
        nodes = tuple(Node(**{**node, "votes": tuple(node["votes"])}) for node in data["nodes"])
        return cls(
            nodes[data["best"]], data["success"], data["n_generated"], data["n_judged"], nodes, data.get("gate", 0.5)
        )
