"""Search over repairs of a response, breadth first or depth first (section 2.3 of the paper).

A search is a coroutine that asks for repairs and judgements. Many searches go on in step, so that a model answers the
requests of all of them in one batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.language.generation import Generator as TextGenerator
from paperworks.papers.spar.judges import Item, Judgement, VoteJudge, ask
from paperworks.papers.spar.prompts import InstructionPrompt, as_prompt
from paperworks.papers.spar.refiners import RefineRequest, Repair, as_refiner
from paperworks.papers.spar.tree import Node, SearchResult
from paperworks.parameters import check_seed

Ask = tuple[Literal["refine", "judge"], list[Any]]
Steps = Generator[Ask, list[Any], None]


@dataclass(frozen=True)
class Task:
    """One search: a prompt, the response to repair, and its critique (None: the judge is asked first)."""

    prompt: InstructionPrompt
    response: str
    critique: str | None = None


@dataclass(frozen=True)
class TreeSearchRefiner:
    """Repairs a response by search until the judge passes one.

    Attributes
    ----------
    refiner : what repairs: a ``Refiner``, a generator, or a function of prompt, response, critique and seed.
    judge : what judges: a ``Judge``, or a generator, which votes.
    algorithm : "bfs" expands a level at a time and looks for a passing repair after each; "dfs" a node at a time.
    branch : repairs of each node.
    select : nodes of a level (bfs) or children of a node (dfs) that are expanded next.
    max_depth : repairs in a row.
    budget : repairs that are judged, at most.
    gate : a value above it passes.
    select_method : "greedy" takes the highest values; "sample" draws without repeats, in proportion to the values.
    seed : of the draws of "sample".
    """

    refiner: Any
    judge: Any
    algorithm: Literal["bfs", "dfs"] = "bfs"
    branch: int = 3
    select: int = 2
    max_depth: int = 3
    budget: int = 1000
    gate: float = 0.5
    select_method: Literal["greedy", "sample"] = "greedy"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        checks = (
            ("algorithm", self.algorithm in ("bfs", "dfs"), "bfs or dfs"),
            ("select_method", self.select_method in ("greedy", "sample"), "greedy or sample"),
            *((name, getattr(self, name) >= 1, "1 or more") for name in ("branch", "select", "max_depth", "budget")),
            ("gate", 0 <= self.gate < 1, "a share from 0 to below 1"),
        )
        for name, right, expected in checks:
            if not right:
                raise InputError(name, repr(getattr(self, name)), expected)
        object.__setattr__(self, "refiner", as_refiner(self.refiner, seed=self.seed))
        if isinstance(self.judge, TextGenerator):
            object.__setattr__(self, "judge", VoteJudge(self.judge, seed=self.seed))

    def search(self, prompt: InstructionPrompt | str, response: str, critique: str | None = None) -> SearchResult:
        """Repair one response to a prompt (or to a text as prompt).

        Without a critique the response is judged first, and returned where it passes.

        Raises
        ------
        InputError : a response that is no text.
        """
        return self.search_many([Task(as_prompt(prompt), response, critique)])[0]

    def search_many(self, tasks: Sequence[Task]) -> list[SearchResult]:
        """Repair many responses; the same results as one after the other, in fewer and larger batches."""
        searches = [_Search(self, task, number) for number, task in enumerate(tasks)]
        asked: dict[int, Ask] = {}
        for number, one in enumerate(searches):
            _advance(asked, number, one.steps, None)
        while asked:
            kind = "refine" if any(ask[0] == "refine" for ask in asked.values()) else "judge"
            chosen = [number for number, ask in asked.items() if ask[0] == kind]
            wanted = [request for number in chosen for request in asked[number][1]]
            answers: Sequence[Any] = self.refiner.refine(wanted) if kind == "refine" else ask(self.judge, wanted)
            start = 0
            for number in chosen:
                end = start + len(asked[number][1])
                _advance(asked, number, searches[number].steps, list(answers[start:end]))
                start = end
        return [one.result() for one in searches]


def _advance(asked: dict[int, Ask], number: int, steps: Steps, answers: list[Any] | None) -> None:
    """Give a search its answers, and note what it asks for next; one that has ended is taken out."""
    try:
        asked[number] = next(steps) if answers is None else steps.send(answers)
    except StopIteration:
        asked.pop(number, None)


class _Search:
    """One search under way."""

    def __init__(self, options: TreeSearchRefiner, task: Task, number: int) -> None:
        if not isinstance(task.response, str):
            raise InputError(f"response, number {number}", type(task.response).__name__, "a text")
        self.options, self.task = options, task
        self.nodes: list[Node] = []
        self.judged: dict[str, Judgement] = {}
        self.used = self.generated = 0
        key = f"{task.prompt.id}\0{task.response}".encode("utf-8", "surrogatepass")
        self.rng = np.random.default_rng([options.seed, zlib.crc32(key)])
        self.steps = self._steps()

    def _steps(self) -> Steps:
        critique, value = self.task.critique, 0.0
        votes: tuple[int, ...] = ()
        if critique is None:
            first = (yield from self._judge([self.task.response]))[0]
            critique, votes = first.critique, first.votes
            if first.value is not None and first.value > self.options.gate:
                value = first.value
        self.nodes.append(Node(0, None, 0, self.task.response, critique, value, votes))
        if value <= self.options.gate:
            yield from self._bfs() if self.options.algorithm == "bfs" else self._dfs(self.nodes[0])

    def _bfs(self) -> Steps:
        options, frontier = self.options, [self.nodes[0]]
        for _depth in range(options.max_depth):
            level = yield from self._expand(frontier)
            if not level or self._passes(level) or self.used == options.budget:
                return
            frontier = self._select(level)

    def _dfs(self, node: Node) -> Generator[Ask, list[Any], bool]:
        """Returns whether the search is over."""
        if node.depth == self.options.max_depth:
            return False
        children = yield from self._expand([node])
        if children and (self._passes(children) or self.used == self.options.budget):
            return True
        for child in self._select(children):
            if (yield from self._dfs(child)):
                return True
        return False

    def _passes(self, nodes: Sequence[Node]) -> bool:
        return max(node.value for node in nodes) > self.options.gate

    def _expand(self, frontier: Sequence[Node]) -> Generator[Ask, list[Any], list[Node]]:
        """The children of some nodes, in order, as many as the budget allows.

        No more repairs are asked for at once than can still be used: what is asked for is what one by one would be.
        """
        open_slots = [(node, k) for node in frontier for k in range(self.options.branch)]
        children: list[Node] = []
        while open_slots and self.used < self.options.budget:
            room = self.options.budget - self.used
            slots, open_slots = open_slots[:room], open_slots[room:]
            requests = [
                RefineRequest(self.task.prompt, node.response, node.critique, node.number * self.options.branch + k)
                for node, k in slots
            ]
            repairs: list[Repair | None] = yield "refine", requests
            made = [(node, one) for (node, _), one in zip(slots, repairs, strict=True) if one is not None]
            self.generated += len(made)
            judgements = yield from self._judge([one.response for _, one in made])
            for (node, one), judgement in zip(made, judgements, strict=True):
                if judgement.value is None:
                    continue
                child = Node(
                    len(self.nodes),
                    node.number,
                    node.depth + 1,
                    one.response,
                    judgement.critique,
                    judgement.value,
                    judgement.votes,
                    one.reply,
                )
                self.nodes.append(child)
                children.append(child)
                self.used += 1
        return children

    def _judge(self, responses: Sequence[str]) -> Generator[Ask, list[Any], list[Judgement]]:
        """Judgements; of each text once in a search."""
        new = [text for text in dict.fromkeys(responses) if text not in self.judged]
        if new:
            items: list[Item] = [(self.task.prompt, text) for text in new]
            found: list[Judgement] = yield "judge", items
            self.judged |= dict(zip(new, found, strict=True))
        return [self.judged[text] for text in responses]

    def _select(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes to expand next, the highest value first (the sort is stable)."""
        ranked = sorted(nodes, key=lambda node: -node.value)
        count = min(self.options.select, self.options.branch, len(ranked))
        if self.options.select_method == "greedy" or not ranked:
            return ranked[:count]
        values = np.array([node.value for node in ranked])
        # nodes of value 0 are drawn only where the others do not suffice, each with the same probability
        positive = np.flatnonzero(values > 0)
        first = min(count, len(positive))
        chosen: list[int] = []
        if first:
            weights = values[positive] / values[positive].sum()
            chosen = self.rng.choice(positive, first, replace=False, p=weights).tolist()
        if first < count:
            chosen += self.rng.choice(np.flatnonzero(values == 0), count - first, replace=False).tolist()
        return [ranked[i] for i in sorted(chosen)]

    def result(self) -> SearchResult:
        """The node of the highest value: of equals the last, but the root only where nothing is above it.

        Where a level (bfs) or a node's children (dfs) passed, the first of the highest value among them is returned.
        """
        best = self.nodes[0]
        gate = self.options.gate
        for node in self.nodes[1:]:
            higher = node.value > best.value
            if higher or (node.value == best.value and best.number > 0 and node.value <= gate):
                best = node
        return SearchResult(best, best.value > gate, self.generated, len(self.judged), tuple(self.nodes), gate)
