"""Scores of captions in Python: CIDEr-D, token F1, METEOR with exact words and stems, BLEU-4, ROUGE-L."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from paperworks.papers.sieve_swap.words import stem, tokens

Scorer = Callable[[Sequence[str], Sequence[Sequence[str]]], Sequence[float]]
"""``scorer(captions, references of each) -> a score of each``; all of one video at once."""

NONSENSE = "xqzv"
"""Stands in for the reference of a caption that no reference overlaps: no caption has this word."""


# -- token F1 --------------------------------------------------------------------------------------------------------


def token_f1(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """F1 of the words that a caption shares with its best reference (as multisets), in [0, 1]."""
    return [
        max((_f1(tokens(c), tokens(r)) for r in refs), default=0.0)
        for c, refs in zip(captions, references, strict=True)
    ]


def _f1(a: list[str], b: list[str]) -> float:
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b)) if a and b else 0.0


# -- CIDEr-D (Vedantam, Zitnick, Parikh, CVPR 2015) ------------------------------------------------------------------


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each caption: TF-IDF cosines of 1- to 4-grams, clipped, with a penalty of length, times 10.

    Document frequencies are those of the references given: evaluation tools of dense captioning give the pairs of one
    video at a time, and so does ``evaluate``. With one pair the logarithm of the number of documents is 0, and so is
    the score.
    """
    grams = [_ngrams(caption) for caption in captions]
    reference_grams = [[_ngrams(r) for r in refs] for refs in references]
    frequency: Counter[tuple[str, ...]] = Counter()
    for refs in reference_grams:
        frequency.update({gram for one in refs for gram in one})
    documents = math.log(len(references)) if references else 0.0

    def vector(counts: Counter[tuple[str, ...]]) -> tuple[list[dict[tuple[str, ...], float]], list[float], int]:
        parts: list[dict[tuple[str, ...], float]] = [{} for _ in range(4)]
        for gram, count in counts.items():
            parts[len(gram) - 1][gram] = count * (documents - math.log(max(1, frequency[gram])))
        norms = [math.sqrt(sum(v * v for v in part.values())) for part in parts]
        return parts, norms, sum(count for gram, count in counts.items() if len(gram) == 2)

    out = []
    for own, refs in zip(grams, reference_grams, strict=True):
        mine = vector(own)
        total = np.zeros(4)
        for one in refs:
            total += _cider_similarity(mine, vector(one))
        out.append(float(total.mean()) / max(1, len(refs)) * 10)
    return out


def _cider_similarity(
    a: tuple[list[dict[tuple[str, ...], float]], list[float], int],
    b: tuple[list[dict[tuple[str, ...], float]], list[float], int],
) -> np.ndarray:
    values = np.zeros(4)
    penalty = math.exp(-((a[2] - b[2]) ** 2) / (2 * 6.0**2))
    for n in range(4):
        product = sum(min(value, b[0][n].get(gram, 0.0)) * b[0][n].get(gram, 0.0) for gram, value in a[0][n].items())
        if a[1][n] and b[1][n]:
            product /= a[1][n] * b[1][n]
        values[n] = product * penalty
    return values


def _ngrams(text: str, longest: int = 4) -> Counter[tuple[str, ...]]:
    words = tokens(text)
    return Counter(tuple(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1))


# -- METEOR, exact and stem modules only (Banerjee and Lavie 2005) ---------------------------------------------------


def meteor_es(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """METEOR of 2005 with its exact and its stem module, without synonyms; the best reference counts, in [0, 1].

    F = 10 P R / (R + 9 P), times 1 - 0.5 (chunks / matches)^3. It is not the METEOR 1.5 of published tables, which has
    synonyms, paraphrases and other weights: ``meteor`` runs that where Java is installed.
    """
    return [
        max((_meteor(tokens(c), tokens(r)) for r in refs), default=0.0)
        for c, refs in zip(captions, references, strict=True)
    ]


def _meteor(caption: list[str], reference: list[str]) -> float:
    pairs = _alignment(caption, reference)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(caption), len(pairs) / len(reference)
    mean = 10 * precision * recall / (recall + 9 * precision)
    chunks = 1 + sum(b != (a[0] + 1, a[1] + 1) for a, b in pairwise(pairs))
    return mean * (1 - 0.5 * (chunks / len(pairs)) ** 3)


def _alignment(caption: list[str], reference: list[str]) -> list[tuple[int, int]]:
    """Pairs of places: equal words first, then equal stems; each word once. A word prefers the place that goes on."""
    free_a, free_b = list(range(len(caption))), set(range(len(reference)))
    pairs: dict[int, int] = {}
    for key in (str, stem):
        places: dict[str, list[int]] = {}
        for j in sorted(free_b):
            places.setdefault(key(reference[j]), []).append(j)
        for i in list(free_a):
            options = [j for j in places.get(key(caption[i]), ()) if j in free_b]
            if not options:
                continue
            after = pairs.get(i - 1, -2) + 1
            j = after if after in options else min(options, key=lambda j: abs(j - i))
            pairs[i] = j
            free_b.discard(j)
            free_a.remove(i)
    return sorted(pairs.items())


# -- BLEU-4 and ROUGE-L -----------------------------------------------------------------------------------------------


def bleu4(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-4 of each caption against the closest reference length, without smoothing, in [0, 1]."""
    out = []
    for caption, refs in zip(captions, references, strict=True):
        own = _ngrams(caption)
        most: Counter[tuple[str, ...]] = Counter()
        for reference in refs:
            most |= _ngrams(reference)
        length = len(tokens(caption))
        logs = []
        for n in range(1, 5):
            total = max(length - n + 1, 0)
            hits = sum(min(count, most[gram]) for gram, count in own.items() if len(gram) == n)
            logs.append(math.log(hits / total) if hits else -math.inf)
        near = min((abs(len(tokens(r)) - length), len(tokens(r))) for r in refs)[1] if refs else 0
        brevity = 1.0 if length >= near else math.exp(1 - near / max(length, 1))
        out.append(brevity * math.exp(sum(logs) / 4) if min(logs) > -math.inf else 0.0)
    return out


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]], beta: float = 1.2) -> list[float]:
    """ROUGE-L: F of the longest common subsequence with beta 1.2; best precision and recall over the references."""
    out = []
    for caption, refs in zip(captions, references, strict=True):
        own = tokens(caption)
        pairs = [(_common(own, tokens(r)), len(tokens(r))) for r in refs]
        precision = max((c / len(own) for c, _ in pairs if own), default=0.0)
        recall = max((c / n for c, n in pairs if n), default=0.0)
        both = precision > 0 and recall > 0
        out.append((1 + beta**2) * precision * recall / (recall + beta**2 * precision) if both else 0.0)
    return out


def _common(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """METEOR 1.5 by the Java program that pycocoevalcap brings.

    Raises
    ------
    InputError : pycocoevalcap or Java is not installed.
    """
    import importlib.util
    import shutil

    from paperworks.errors import InputError

    if importlib.util.find_spec("pycocoevalcap") is None or shutil.which("java") is None:
        raise InputError("meteor", "no pycocoevalcap or no java", "both installed, or meteor_es")
    from pycocoevalcap.meteor.meteor import Meteor  # type: ignore[import-untyped]

    if not captions:
        return []
    clean = [" ".join(tokens(c)) for c in captions]
    known = {i: [" ".join(tokens(r)) for r in refs] for i, refs in enumerate(references)}
    scores = Meteor().compute_score(known, {i: [c] for i, c in enumerate(clean)})[1]
    return [float(score) for score in scores]


SCORERS: dict[str, Scorer] = {
    "cider": cider_d,
    "meteor_es": meteor_es,
    "meteor": meteor,
    "token_f1": token_f1,
    "bleu4": bleu4,
    "rouge_l": rouge_l,
}
"""Scorers by name."""
