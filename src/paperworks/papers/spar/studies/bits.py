"""Search on a task whose closed values are known: six constraints, each met or not; and votes that err.

A response is six digits; 1 is a constraint that is met. Drafts meet each with probability 0.5. A repair meets each
violated one with probability 0.4 and breaks each met one with probability 0.05. The judge passes a response that meets
all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from paperworks import runs
from paperworks.language.generation import CallableGenerator, GenerationSettings
from paperworks.metrics import mean_interval, wilson_interval
from paperworks.papers.spar.judges import Item, Judgement, VoteJudge
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.refiners import RefineRequest, Repair, request_seed
from paperworks.papers.spar.search import Task, TreeSearchRefiner
from paperworks.papers.spar.tree import SearchResult
from paperworks.runs import Finding

BITS, REPAIR, HARM, DRAFT = 6, 0.4, 0.05, 0.5
BUDGET = 15
VOTE_ERROR = 0.2
MAJORITY_ERROR = sum([10 * VOTE_ERROR**3 * (1 - VOTE_ERROR) ** 2, 5 * VOTE_ERROR**4 * (1 - VOTE_ERROR), VOTE_ERROR**5])
"""Binomial: three or more of five votes err. 0.05792."""


@dataclass(frozen=True)
class BitRefiner:
    """Flips digits at random."""

    seed: int

    def refine(self, requests: Sequence[RefineRequest]) -> list[Repair | None]:
        """A repair for every request."""
        found: list[Repair | None] = []
        for request in requests:
            draws = np.random.default_rng([self.seed, request_seed(0, request)]).random(BITS)
            flips = [draw < (HARM if bit == "1" else REPAIR) for bit, draw in zip(request.response, draws, strict=True)]
            text = "".join(
                str(int(bit != "1") if flip else bit) for bit, flip in zip(request.response, flips, strict=True)
            )
            found.append(Repair(text, text))
        return found


class BitJudge:
    """Passes what meets all six, without error."""

    def judge(self, items: Sequence[Item]) -> list[Judgement]:
        """One vote each."""
        return [Judgement("", float("0" not in text), (int("0" not in text),)) for _, text in items]


def noisy_judge(seed: int, votes: int = 5) -> VoteJudge:
    """A judge whose every vote errs with probability 0.2, through the text of its judgements."""

    def answer(prompt: object, settings: GenerationSettings) -> str:
        response = str(prompt[0]["content"]).rsplit("# Answer\n", 1)[1]  # type: ignore[index]
        right = ("0" not in response) != (np.random.default_rng(settings.seed).random() < VOTE_ERROR)
        return f"Final Judgement: {'Yes' if right else 'No'}"

    return VoteJudge(CallableGenerator(answer, "noisy"), votes=votes, max_new_tokens=8, seed=seed)


def prompts(count: int) -> list[InstructionPrompt]:
    """Prompts with nothing but a number."""
    return [
        InstructionPrompt(str(i), ({"role": "user", "content": f"Meet the constraints {i}."},)) for i in range(count)
    ]


def failing_drafts(count: int, rng: np.random.Generator) -> list[str]:
    """Drafts that do not meet all constraints."""
    found: list[str] = []
    while len(found) < count:
        text = "".join(map(str, (rng.random(BITS) < DRAFT).astype(int)))
        if "0" in text:
            found.append(text)
    return found


def searched(search: TreeSearchRefiner, drafts: Sequence[str]) -> list[SearchResult]:
    """One search for each draft."""
    tasks = [Task(p, text, "") for p, text in zip(prompts(len(drafts)), drafts, strict=True)]
    return search.search_many(tasks)


def best_of(count: int, trials: int, rng: np.random.Generator) -> np.ndarray:
    """Whether one of ``count`` drafts meets all constraints, bool ``[trials]``."""
    met = (rng.random((trials, count, BITS)) < DRAFT).sum(2) == BITS
    return np.asarray(met.sum(1) > 0)


@runs.study(
    claims=["tree-search-beats-sampling", "judge-improves", "self-judging-bias"],
    title="search against best-of-N where the closed values are known",
    minutes=1,
)
def efficiency(run: runs.Run, fast: bool) -> Iterator[Finding]:
    trials = 200 if fast else 2000
    drafts = failing_drafts(trials, run.rng("drafts"))
    closed = 1 - (1 - DRAFT**BITS) ** BUDGET
    sampled = best_of(BUDGET, trials, run.rng("samples"))
    base = TreeSearchRefiner(BitRefiner(run.seed), BitJudge(), budget=BUDGET, seed=run.seed)
    kinds = {
        "breadth-first": base,
        # of its own draws: with 15 repairs and values of 0 both expand the same nodes
        "depth-first": TreeSearchRefiner(BitRefiner(run.seed + 1), base.judge, "dfs", budget=BUDGET),
        "one repair after the other": TreeSearchRefiner(
            base.refiner, base.judge, branch=1, select=1, max_depth=BUDGET, budget=BUDGET
        ),
    }
    shares = {}
    for name in run.progress(list(kinds), "searches"):
        shares[name] = np.array([one.success for one in searched(kinds[name], drafts)], dtype=float)
    detail = ", ".join(f"{name} {values.mean():.3f}" for name, values in shares.items())
    detail = (
        f"{trials} failing drafts, 15 repairs at most; best of 15 drafts: closed value {closed:.4f}, measured "
        f"{sampled.mean():.4f}; counting the draft, best of 16: {1 - (1 - DRAFT**BITS) ** (BUDGET + 1):.4f}; {detail}. "
        "Depth alone does best here, because a repair rarely breaks what is met and the judge passes all or nothing. "
        "At 15 repairs, of which none passes, both searches expand the same five responses"
    )
    for name in ("breadth-first", "depth-first"):
        error = float(np.sqrt(shares[name].var() / trials + sampled.var() / trials))
        yield Finding(
            "tree-search-beats-sampling",
            f"Six constraints: success of {name} search less that of best-of-15 at the same number of generated "
            "responses; the bound is three standard errors.",
            "empirical",
            mean_interval(shares[name] - sampled, unit="trials"),
            ">=",
            3 * error,
            baseline=closed,
            baseline_name="best of 15, closed value",
            detail=detail,
        )
        line = "one repair after the other"
        yield Finding(
            "tree-search-beats-sampling",
            f"Six constraints: success of {name} search less that of {line}, at most {BUDGET} repairs each.",
            "empirical",
            mean_interval(shares[name] - shares[line], unit="trials"),
            ">",
            0.0,
            baseline=float(shares[line].mean()),
            baseline_name=line,
            detail="the paper's baselines include repair without branching",
        )
    yield from _votes(run, trials)


def _votes(run: runs.Run, trials: int) -> Iterator[Finding]:
    """Errors of single votes and of majorities, and what a judge thinks of the repairs that it chose."""
    drafts = failing_drafts(trials, run.rng("judged"))
    items = list(zip(prompts(trials), drafts, strict=True))
    judged = noisy_judge(run.seed).judge(items)
    errors = sum(one.label == 1 for one in judged)
    single = sum(one.votes[0] == 1 for one in judged)
    deviation = 3 * float(np.sqrt(MAJORITY_ERROR * (1 - MAJORITY_ERROR) / trials))
    yield Finding(
        "judge-improves",
        "Votes that err with probability 0.2: distance of a majority of five's error from the binomial value 0.0579; "
        "the bound is three standard errors.",
        "empirical",
        abs(errors / trials - MAJORITY_ERROR),
        "<=",
        deviation,
        test=f"three standard errors of {trials} judgements",
        detail=f"{trials} failing responses, judged through the texts of judgements; measured {errors / trials:.4f}",
    )
    yield Finding(
        "judge-improves",
        "Votes that err with probability 0.2: error of a majority of five.",
        "empirical",
        wilson_interval(errors, trials),
        "<",
        VOTE_ERROR,
        baseline=single / trials,
        baseline_name="error of a single vote (0.2 by construction, which is the bound)",
    )
    search = TreeSearchRefiner(BitRefiner(run.seed), noisy_judge(run.seed + 1), budget=BUDGET)
    found = [one for one in searched(search, drafts) if one.success]
    right = np.array(["0" not in one.best_response for one in found], dtype=float)
    yield Finding(
        "self-judging-bias",
        "Repairs that a judge of five noisy votes passed: all passed by that judge, less the share that is right.",
        "empirical",
        mean_interval(1 - right, unit="repairs"),
        ">",
        MAJORITY_ERROR,
        baseline=MAJORITY_ERROR,
        baseline_name="error of the same judge on responses that it did not choose among",
        detail=f"{len(found)} of {trials} searches passed; {right.mean():.3f} of them are right",
    )
