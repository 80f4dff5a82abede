"""The bundled model tuned and pruned on dictionary entries; what several studies need is fitted once."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from paperworks import runs
from paperworks.language import bundled_text, load_model, perplexity, token_windows
from paperworks.papers.atp.data import dictionary_text
from paperworks.papers.atp.estimator import ATP
from paperworks.papers.atp.report import ATPReport
from paperworks.papers.atp.settings import SPACES, Search, TrainerArgs, search_rate
from paperworks.structure import KeepPlan, exact_fill, magnitude_scores, random_scores, solve_ratio, units_of
from paperworks.structure.budgets import uniform_plan

STEPS, SEEDS, LENGTH, BATCH, RATE = 300, (0, 1, 2), 64, 12, 2e-3
TITLE = f"{len(SEEDS)} seeds, {STEPS} updates of {BATCH} x {LENGTH} tokens on dictionary entries"


class Bench:
    """The bundled model, its domain, and the fits on them; each fit is made once."""

    def __init__(self, run: runs.Run, fast: bool) -> None:
        self.run, self.steps = run, 2 if fast else STEPS
        self.seeds = SEEDS[:2] if fast else SEEDS
        _, tokenizer = load_model(None, "float32", "cpu")
        parts = [token_windows(tokenizer, [dictionary_text(bundled_text(name))], LENGTH) for name in ("train", "test")]
        self.train, self.test = parts[0], parts[1][: 8 if fast else 256]
        self.done: dict[Any, tuple[ATPReport, float]] = {}

    def pruned(self, seed: int, ratio: float = 0.4, masks: str = "search", **more: Any) -> tuple[ATPReport, float]:
        """A fit's report, and the held-out perplexity of the cut model.

        ``masks``: of a "search", of one made "before" the tuning, or one-shot ones ("all" units, by L2 "magnitude",
        "random"). All are tuned for the same number of steps.
        """
        key = (seed, ratio, masks, tuple(sorted(more.items())))
        if key not in self.done:
            model, _ = load_model(None, "float32", "cpu")
            before = masks == "before"
            control = max(1, self.steps // 2)
            args = TrainerArgs(
                steps=self.steps + control * before,
                control_steps=control,
                batch_size=BATCH,
                learning_rate=RATE,
                tune_while_searching=not before,
            )
            method = ATP(
                ratio,
                generator=Search(learning_rate=search_rate(control)),
                trainer_args=args,
                seed=seed,
                device="cpu",
                **more,
            )
            plan = None if masks in ("search", "before") else self.plan(model, method, masks, seed)
            # a study that is taken up again goes on within the fit in which it was stopped
            folder = self.run.state / "-".join(
                str(part).replace(" ", "") for part in (seed, ratio, masks, *more.items())
            )
            method.fit(model, self.train, plan=plan, checkpoint_dir=folder, progress=self.run.progress)
            self.done[key] = (method.report_, perplexity(method.model_, self.test, batch_size=16))
        return self.done[key]

    def perplexities(self, masks: str = "search", ratio: float = 0.4, **more: Any) -> list[float]:
        """By seed."""
        return [self.pruned(seed, ratio, masks, **more)[1] for seed in self.seeds]

    @staticmethod
    def plan(model: Any, method: ATP, masks: str, seed: int) -> KeepPlan:
        """One-shot masks inside the same budget."""
        units = units_of(model, SPACES["layer_uniform"])
        if masks == "all":
            return KeepPlan.of(units, {key: range(u.n_units) for key, u in units.items()})
        generator = torch.Generator().manual_seed(seed)
        if masks == "magnitude":
            # The same share of every set: sums of squares of different kinds of units cannot be ranked together.
            scores = magnitude_scores(model, units)
            return solve_ratio(model, lambda share: uniform_plan(units, scores, share), method.budget(model))[1]
        costs = method.size_of(model).unit_costs()  # with the cost in the score the order is that of the noise
        scores = {key: score * costs[key] for key, score in random_scores(units, generator).items()}
        return exact_fill(model, units, scores, method.budget(model))


@cache
def _bench_of(fast: bool) -> dict[str, Bench]:
    return {}


def bench(run: runs.Run, fast: bool) -> Bench:
    """The bench that the studies of one reproduction share."""
    kept = _bench_of(fast)
    if "bench" not in kept:
        kept["bench"] = Bench(run, fast)
    kept["bench"].run = run
    return kept["bench"]
