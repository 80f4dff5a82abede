"""MusicWord2Vec beside gensim's Word2Vec on the same pairs: seconds, and what the vectors hold of harmony.

    python benchmarks/music_word2vec_gensim.py [--seeds 5]

Writes docs/benchmarks/music-word2vec.md. Both get the same ids of the bundled works of Bach, all pairs within four
slices (gensim: no subsampling, no shrinking of windows), equally many epochs, dimensions and noise words, and a rate
that falls to zero. Timings are of the whole fit and alternate. About two minutes.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from gensim.models import Word2Vec

from paperworks.metrics import Interval, mean_interval
from paperworks.papers.music_word2vec import MusicWord2Vec, SliceEncoder, fifths_correlation, load_chorales
from paperworks.papers.music_word2vec.baselines import shuffle_within
from paperworks.papers.music_word2vec.skipgram import Parameters, Text
from paperworks.papers.music_word2vec.tonal import chord_distances
from paperworks.papers.music_word2vec.vocabulary import Vocabulary
from paperworks.runs.files import write_text

OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks" / "music-word2vec.md"
WINDOW, VOCABULARY, EPOCHS = 4, 500, 30
Words = list[list[int]]


class Corpus:
    """The texts as words and as gensim's tokens, and how many pairs an epoch has."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.vocabulary = Vocabulary.from_sequences(words, VOCABULARY)
        ids = self.vocabulary.encode(words)
        self.tokens = [[str(i) for i in row] for row in ids]
        text = Text.join(ids)
        self.centres, self.pairs = len(text.centres), text.pair_count(WINDOW)

    def ours(
        self, seed: int, *, size: int, negatives: int, epochs: int, workers: int = 1, **more: Any
    ) -> MusicWord2Vec:
        """As many steps as the epochs have batches of 16 centres."""
        return MusicWord2Vec(
            vector_size=size,
            window=WINDOW,
            vocab_size=VOCABULARY,
            negatives=negatives,
            workers=workers,
            steps=round(epochs * self.centres / 16),
            random_state=seed,
            **more,
        ).fit(self.words)

    def gensim(self, seed: int, *, size: int, negatives: int, epochs: int, workers: int = 1) -> Word2Vec:
        """Skip-gram on the same pairs."""
        return Word2Vec(
            self.tokens,
            vector_size=size,
            window=WINDOW,
            min_count=1,
            sg=1,
            negative=negatives,
            epochs=epochs,
            sample=0,
            shrink_windows=False,
            workers=workers,
            seed=seed,
        )

    def as_model(self, peer: Word2Vec) -> MusicWord2Vec:
        """gensim's vectors in our model, so that one code measures both."""
        found = MusicWord2Vec(vocab_size=VOCABULARY)
        rows = np.stack([peer.wv[str(i)] for i in range(len(self.vocabulary))])
        found.vocab_, found.parameters_ = self.vocabulary, Parameters(rows, rows, np.zeros(len(rows), np.float32))
        found._normalise()
        return found


SAMPLED: dict[str, Any] = {"loss": "ns", "lr": 1.6, "decay": True}


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a call gives, its processor seconds (of all threads) and its seconds on the clock."""
    clock, began = time.perf_counter(), time.process_time()
    found = call()
    return found, time.process_time() - began, time.perf_counter() - clock


def harmony(model: MusicWord2Vec) -> tuple[float, float, int]:
    """Correlation with fifths, distance outside minus inside the key, tonics nearer to their own chords."""
    table = chord_distances(model)
    gap = float((table["outside"] - table["inside"]).mean())
    return fifths_correlation(model), gap, int((table["inside"] < table["outside"]).sum())


def both(corpus: Corpus, seeds: int, **options: Any) -> dict[str, list[tuple[float, float, Any]]]:
    """Processor and clock seconds and harmony of each seed, in turn."""
    found: dict[str, list[tuple[float, float, Any]]] = {"ours": [], "gensim": []}
    for seed in range(seeds):
        model, cpu, clock = timed(lambda s=seed: corpus.ours(s, **SAMPLED, **options))
        found["ours"].append((cpu, clock, harmony(model)))
        peer, cpu, clock = timed(lambda s=seed: corpus.gensim(s, **options))
        found["gensim"].append((cpu, clock, harmony(corpus.as_model(peer))))
    return found


def show(interval: Interval) -> str:
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def speed_rows(corpus: Corpus, found: dict[str, Any], epochs: int, what: str) -> list[str]:
    pairs = corpus.pairs * epochs
    middle = {name: [float(np.median([row[i] for row in rows])) for i in (0, 1)] for name, rows in found.items()}
    ratios = [p[1] / o[1] for o, p in zip(found["ours"], found["gensim"], strict=True)]
    return [
        f"| {what} | {name} | {cpu:.2f} | {clock:.2f} | {1e6 * cpu / pairs:.3f} "
        f"| {f'{min(ratios):.1f} to {max(ratios):.1f}' if name == 'ours' else ''} |"
        for name, (cpu, clock) in middle.items()
    ]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    words: Words = SliceEncoder().transform(load_chorales())  # type: ignore[assignment]
    corpus = Corpus(words)
    corpus.ours(0, size=64, negatives=10, epochs=1, **SAMPLED)  # compiled
    small = {"size": 64, "negatives": 10}
    one = both(corpus, seeds, epochs=EPOCHS, **small)
    two = both(corpus, 3, epochs=EPOCHS, workers=2, **small)
    large = both(corpus, 2, epochs=3, size=256, negatives=64)
    default = [harmony(MusicWord2Vec(random_state=s).fit(words))[0] for s in range(min(seeds, 3))]
    shuffled = [Corpus(shuffle_within(words, np.random.default_rng([s, 5]))) for s in range(3)]
    apart = [harmony(c.as_model(c.gensim(s, epochs=EPOCHS, **small)))[0] for s, c in enumerate(shuffled)]
    lines = [
        "# MusicWord2Vec beside gensim",
        "",
        f"`python benchmarks/music_word2vec_gensim.py --seeds {seeds}`, {platform.machine()}, gensim "
        f"{version('gensim')}, numba {version('numba')}.",
        "",
        f"{len(words)} works of Bach, {sum(map(len, words)):,} slices, {corpus.pairs:,} pairs an epoch. Negative "
        "sampling on both sides. Seconds are medians of the whole fit, texts included; fits alternate. "
        "The processor seconds of one thread are the fair figure where the machine does other work too.",
        "",
        "| setting | | processor s | clock s | µs a pair | gensim / ours, clock |",
        "| --- | --- | --- | --- | --- | --- |",
        *speed_rows(corpus, one, EPOCHS, f"64 dimensions, 10 noise words, {EPOCHS} epochs, one thread"),
        *speed_rows(corpus, two, EPOCHS, "the same, two threads"),
        *speed_rows(corpus, large, 3, "256 dimensions, 64 noise words, 3 epochs, one thread"),
        "",
        "Why: a batch shares its noise words, so that scores are products of matrices, and the scores of a centre are",
        "computed once for all of its contexts. gensim draws noise words for each pair.",
        "",
        f"What the vectors hold of harmony after {EPOCHS} epochs, {seeds} seeds (95 %):",
        "",
        "| | Spearman with fifths | distance outside minus inside the key | tonics nearer to their own, of 12 |",
        "| --- | --- | --- | --- |",
    ]
    for name, rows in one.items():
        values = np.array([row[2] for row in rows])
        lines.append(
            f"| {name} | {show(mean_interval(values[:, 0]))} | {show(mean_interval(values[:, 1]))} "
            f"| {values[:, 2].mean():.1f} |"
        )
    difference = np.array([o[2][0] - p[2][0] for o, p in zip(one["ours"], one["gensim"], strict=True)])
    lines += [
        "",
        f"Spearman, ours minus gensim: {show(mean_interval(difference))}. With noise-contrastive estimation and all "
        f"defaults (256 dimensions, 100,000 steps): {', '.join(f'{r:.3f}' for r in default)}.",
        f"gensim with the slices of each piece shuffled: {', '.join(f'{r:.3f}' for r in apart)}; in order: "
        f"{', '.join(f'{row[2][0]:.3f}' for row in one['gensim'][:3])}.",
    ]
    write_text(OUTPUT, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
