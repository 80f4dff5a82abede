"""DPO by this package's loop beside TRL's ``DPOTrainer``: the same model, pairs and steps, one after the other.

    python benchmarks/spar_trl.py [--pairs 64] [--repeats 3]

The bundled model and pairs of glosses, as the default run of the paper makes them. Seconds are those of the whole call
(loading, tokens, reference, training, saving) without imports; the ratio is of the medians of this run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from paperworks.papers.spar import RuleEditor, RuleJudge, Task, TreeSearchRefiner, make_prompts, train_dpo
from paperworks.papers.spar.examples import PLAIN_TEMPLATE
from paperworks.papers.spar.pairs import preference_row
from paperworks.papers.spar.training import TuneOptions
from paperworks.papers.spar.words import INSTRUCTIONS, glosses, word_seeds
from paperworks.training import TrainSettings


def pairs(count: int) -> list[dict]:
    """Repaired and failed glosses."""
    prompts = make_prompts(word_seeds(3 * count), instructions=INSTRUCTIONS)
    known = {word: gloss for word, _, gloss in glosses()}
    search = TreeSearchRefiner(RuleEditor(), RuleJudge())
    found = search.search_many([Task(p, known[p.id]) for p in prompts])
    rows = [
        preference_row(p, one.best_response, one.root.response)
        for p, one in zip(prompts, found, strict=True)
        if one.success and one.best.number
    ]
    return rows[:count]


def main() -> None:
    import trl  # noqa: F401 - imported here so that it is in no time

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    rows = pairs(given.pairs)
    settings = TrainSettings(epochs=1, batch_size=4, learning_rate=1e-5, device="cpu")
    options = TuneOptions(settings=settings, chat_template=PLAIN_TEMPLATE)
    seconds: dict[str, list[float]] = {"own": [], "trl": []}
    for number in range(given.repeats):
        for name in seconds:
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                done = train_dpo(
                    None,
                    rows,
                    Path(folder) / str(number),
                    options=options,
                    trainer=name,
                    device="cpu",  # type: ignore[arg-type]
                )
                seconds[name].append(time.perf_counter() - started)
                print(f"{name}: {seconds[name][-1]:.1f} s, {len(done.losses)} steps, first loss {done.losses[0]:.4f}")
    own, theirs = (float(np.median(values)) for values in seconds.values())
    print(f"{len(rows)} pairs: own {own:.1f} s, TRL {theirs:.1f} s, ratio {theirs / own:.2f}")


if __name__ == "__main__":
    main()
