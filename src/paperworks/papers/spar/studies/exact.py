"""What holds exactly: sizes of trees, the loss at the reference, the margin's sign."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from paperworks import runs
from paperworks.papers.spar.judges import Item, Judgement
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.refiners import FunctionRefiner
from paperworks.papers.spar.search import TreeSearchRefiner
from paperworks.runs import Finding


class _Never:
    """Passes nothing."""

    def judge(self, items: Sequence[Item]) -> list[Judgement]:
        """A vote of no for each."""
        return [Judgement("no", 0.0, (0,)) for _ in items]


@runs.study(claims=["search-size"], title="how many repairs a search judges when nothing passes", minutes=0.1)
def sizes(run: runs.Run, fast: bool) -> Iterator[Finding]:
    prompt = InstructionPrompt("1", ({"role": "user", "content": "x"},))
    refiner = FunctionRefiner(lambda _p, response, _c, seed: f"{response} {seed}")
    for algorithm, count in (("bfs", 15), ("dfs", 21)):
        search = TreeSearchRefiner(refiner, _Never(), algorithm)  # type: ignore[arg-type]
        found = search.search(prompt, "root", "no")
        yield Finding(
            "search-size",
            f"{algorithm}, 3 branches, 2 kept, depth 3: repairs that are judged when none passes.",
            "exact",
            found.n_judged,
            "==",
            count,
            unit="repairs",
        )


@runs.study(
    claims=["preference-loss"], title="the preference loss at its reference, and with sides swapped", minutes=0.1
)
def loss(run: runs.Run, fast: bool) -> Iterator[Finding]:
    import torch

    from paperworks.papers.spar.loss import preference_loss

    generator = run.torch_rng("values")
    values = -30 * torch.rand(4, 1000, generator=generator, dtype=torch.float64)
    tokens = torch.randint(1, 40, (1000,), generator=generator)
    same = preference_loss(values[0], values[1], values[0], values[1], tokens, beta=0.1, sft_weight=0.1)
    expected = math.log(2) - 0.1 * values[0] / tokens
    yield Finding(
        "preference-loss",
        "Policy equal to the reference, 1000 pairs: largest distance of the loss from ln 2 plus 0.1 times the mean "
        "negative log-likelihood.",
        "exact",
        float((same.loss - expected).abs().max()),
        "<=",
        1e-6,
        unit="nats",
    )
    there = preference_loss(values[0], values[1], values[2], values[3], tokens, beta=0.1, sft_weight=0.0)
    back = preference_loss(values[1], values[0], values[3], values[2], tokens, beta=0.1, sft_weight=0.0)
    yield Finding(
        "preference-loss",
        "Chosen and rejected swapped, 1000 pairs: largest sum of both margins.",
        "exact",
        float((there.margin + back.margin).abs().max()),
        "<=",
        1e-9,
        unit="nats",
    )
