"""Search beside best-of-N at equal numbers of generated responses, where the closed values are known.

    python benchmarks/spar_search.py [--trials 2000] [--seed 0]

Six constraints, each met by a draft with probability 0.5; a repair meets a violated one with probability 0.4 and breaks
a met one with probability 0.05; the judge passes what meets all. Best-of-N takes the best of N independent drafts, as
pipelines such as distilabel do. Searches begin with a draft that counts as generated. Both sides see the same first
drafts; ratios are of the success of breadth-first search and of best-of-N in this run.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from paperworks.papers.spar import Task, TreeSearchRefiner
from paperworks.papers.spar.studies.bits import BITS, DRAFT, BitJudge, BitRefiner, prompts

BUDGETS = (2, 4, 8, 16, 22)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    drafts = (rng.random((given.trials, max(BUDGETS), BITS)) < DRAFT).astype(int)
    texts = ["".join(map(str, rows[0])) for rows in drafts]
    tasks = [Task(prompt, text) for prompt, text in zip(prompts(given.trials), texts, strict=True)]
    base = TreeSearchRefiner(BitRefiner(given.seed), BitJudge())
    print("generated  best-of-N  closed  breadth-first  depth-first  one by one  ratio")
    for budget in BUDGETS:
        sampled = (drafts[:, :budget].sum(2) == BITS).any(1).mean()
        closed = 1 - (1 - DRAFT**BITS) ** budget
        repairs = budget - 1
        kinds = (
            replace(base, budget=repairs),
            replace(base, budget=repairs, algorithm="dfs"),
            replace(base, budget=repairs, branch=1, select=1, max_depth=repairs),
        )
        wide, deep, chain = (np.mean([one.success for one in kind.search_many(tasks)]) for kind in kinds)
        shares = f"{sampled:9.3f}  {closed:6.3f}  {wide:13.3f}  {deep:11.3f}  {chain:10.3f}"
        print(f"{budget:9d}  {shares}  {wide / sampled:5.1f}")


if __name__ == "__main__":
    main()
