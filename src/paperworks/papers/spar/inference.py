"""Search when answers are wanted, beside best-of-N and plain repair, at equal numbers of generated answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paperworks.errors import InputError
from paperworks.language.generation import GenerationSettings, Generator, SampleRequest, generate_samples
from paperworks.papers.spar.judges import Judge, ask, refuse_greedy
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.refiners import Refiner
from paperworks.papers.spar.search import Task, TreeSearchRefiner
from paperworks.parameters import check_seed

METHODS = ("greedy", "best-of-N", "iterative refinement", "bfs", "dfs")


@dataclass(frozen=True)
class Attempt:
    """What one method returned for one prompt.

    Attributes
    ----------
    response : its answer.
    passed : whether the judge passes it.
    generated : answers and repairs that were generated until it stopped.
    """

    response: str
    passed: bool
    generated: int


@dataclass(frozen=True)
class Comparison:
    """Every method on the same prompts.

    Attributes
    ----------
    prompts : those that were answered.
    attempts : by method, one for each prompt.
    most : generated answers for each prompt, at most.
    """

    prompts: tuple[InstructionPrompt, ...]
    attempts: Mapping[str, tuple[Attempt, ...]]
    most: int

    def curve(self, method: str) -> np.ndarray:
        """Share of prompts that are passed with 1, 2, ... generated answers, float64 ``[most]``."""
        needed = [one.generated if one.passed else np.inf for one in self.attempts[method]]
        return np.array([np.mean([n <= limit for n in needed]) for limit in range(1, self.most + 1)])


def best_of_n(
    prompts: Sequence[InstructionPrompt],
    actor: Generator,
    judge: Judge,
    settings: GenerationSettings,
    most: int,
) -> tuple[Attempt, ...]:
    """Samples until one passes, ``most`` for each prompt; of those that do not pass, the first of the highest value.

    It is best-of-N for every N up to ``most``: ``generated`` is the least N that passes.
    """
    best: dict[int, tuple[float, str]] = {}
    found: dict[int, Attempt] = {}
    for number in range(1 if settings.greedy else most):
        left = [i for i in range(len(prompts)) if i not in found]
        if not left:
            break
        requests = [SampleRequest(list(prompts[i].messages), settings, number) for i in left]
        texts = [text.strip() for text in generate_samples(actor, requests)]
        judged = ask(judge, [(prompts[i], text) for i, text in zip(left, texts, strict=True)])
        for i, text, one in zip(left, texts, judged, strict=True):
            value = -1.0 if one.value is None else one.value
            if i not in best or value > best[i][0]:
                best[i] = value, text
            if value > 0.5:
                found[i] = Attempt(text, True, number + 1)
    count = 1 if settings.greedy else most
    return tuple(found.get(i, Attempt(best[i][1], False, count)) for i in range(len(prompts)))


def compare_at_inference(
    prompts: Sequence[InstructionPrompt],
    actor: Generator,
    refiner: Refiner,
    judge: Judge,
    *,
    most: int = 15,
    search: TreeSearchRefiner | None = None,
    temperature: float = 0.9,
    top_p: float = 0.9,
    max_new_tokens: int = 2048,
    seed: int = 0,
) -> Comparison:
    """Answer prompts by greedy decoding, best-of-N, plain repair (one repair after the other), bfs and dfs.

    All but greedy decoding begin with the same first sample, which counts as a generated answer; none generates more
    than ``most`` answers. ``search`` gives the sizes of the trees.

    Raises InputError for no prompts, ``most`` below 1, and a temperature of 0.
    """
    check_seed("seed", seed)
    if not prompts:
        raise InputError("prompts", "none", "one or more")
    if most < 1:
        raise InputError("most", most, "1 or more")
    refuse_greedy(most, temperature, "temperature")
    settings = GenerationSettings(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    attempts = {
        "greedy": best_of_n(prompts, actor, judge, replace(settings, temperature=0.0), 1),
        "best-of-N": best_of_n(prompts, actor, judge, settings, most),
    }
    drafts = generate_samples(actor, [SampleRequest(list(p.messages), settings, 0) for p in prompts])
    base = replace(search or TreeSearchRefiner(refiner, judge, seed=seed), refiner=refiner, judge=judge)
    if most > 1:
        base = replace(base, budget=min(base.budget, most - 1))
        chain = replace(base, algorithm="bfs", branch=1, select=1, max_depth=most - 1)
        kinds = {"iterative refinement": chain}
        kinds |= {name: replace(base, algorithm=name) for name in ("bfs", "dfs")}
        for name, one in kinds.items():
            tasks = [Task(prompt, text.strip()) for prompt, text in zip(prompts, drafts, strict=True)]
            results = one.search_many(tasks)
            attempts[name] = tuple(Attempt(r.best_response, r.success, r.n_generated + 1) for r in results)
    return Comparison(tuple(prompts), attempts, most)
