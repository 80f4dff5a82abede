"""Hypotheses without a language model: words that are more frequent in the top sentences than in the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from paperworks.errors import InputError
from paperworks.papers.ladder.hypotheses import Hypothesis

CONTENT = frozenset(
    [
        "amount",
        "bill",
        "bottom",
        "call",
        "computer",
        "con",
        "cry",
        "describe",
        "detail",
        "empty",
        "fill",
        "fire",
        "found",
        "front",
        "full",
        "interest",
        "mill",
        "move",
        "name",
        "part",
        "side",
        "sincere",
        "system",
        "thick",
        "thin",
        "top",
        "back",
    ]
)
"""Words of scikit-learn's list that may well be attributes."""
STOP = frozenset(ENGLISH_STOP_WORDS) - CONTENT | {"s", "t", "it's"}
TEMPLATES = (
    "a photo of a {class} with {attribute}",
    "a {class} and {attribute}",
    "{attribute} in a photo of a {class}",
    "there is {attribute}",
    "{attribute}",
)
MERGE_COSINE, MERGE_JACCARD = 0.85, 0.8
LEAST_Z, LEAST_COUNT = 1.0, 3
CANDIDATES = 200
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*", re.UNICODE)

Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """An n-gram of the sentences.

    Attributes
    ----------
    text : its words; top, rest : sentences that have it among the top ones and among the rest; z : the contrast.
    found_in : positions of the top sentences with it.
    """

    text: str
    top: int
    rest: int
    z: float
    found_in: frozenset[int] = field(repr=False)


class OfflineContrastBackend:
    """Words and n-grams that the top sentences have more often than the rest of the corpus. Nothing is random.

    1. Words and 2-3-grams that neither begin nor end with a stop word; none with a word of the class's name.
    2. ``z = (p1 - p0) / sqrt(p (1 - p) (1/K + 1/N))`` of the document frequencies, 0.5 added to each count; or the
       z-value of the log-odds ratio with an informative Dirichlet prior (Monroe et al. 2008). Kept are z >= 1 and 3
       sentences or more.
    3. In the order of z, what is close to an earlier one (cosine above 0.85, or Jaccard of the sentences above 0.8) is
       merged into it.
    4. Test sentences: the highest top sentences that have the attribute, or templates.

    Parameters
    ----------
    contrast : "z" or "log-odds".
    tests : "ranked" (sentences of the corpus) or "templates" (needs a text encoder).
    n_tests : test sentences of a hypothesis at most.
    keep : a filter of n-grams, such as one that asks a part-of-speech tagger for nouns and adjectives.
    encode : texts to vectors ``[n, q]``, for merging by cosine; ``SliceDiscovery`` gives its own.
    """

    def __init__(
        self,
        *,
        contrast: Literal["z", "log-odds"] = "z",
        tests: Literal["ranked", "templates"] = "ranked",
        n_tests: int = 5,
        keep: Callable[[str], bool] | None = None,
        encode: Encode | None = None,
    ) -> None:
        if contrast not in ("z", "log-odds"):
            raise InputError("contrast", repr(contrast), "z or log-odds")
        if tests not in ("ranked", "templates"):
            raise InputError("tests", repr(tests), "ranked or templates")
        if n_tests < 1:
            raise InputError("n_tests", n_tests, "1 or more")
        self.contrast, self.tests, self.n_tests, self.keep, self.encode = contrast, tests, n_tests, keep, encode

    @property
    def identity(self) -> str:
        """What decides the hypotheses, in words."""
        return f"offline contrast|{self.contrast}|{self.tests}|{self.n_tests}|{self.keep is not None}"

    def bind(self, encode: Encode) -> OfflineContrastBackend:
        """The same with a text encoder, unless it has one."""
        if self.encode is not None:
            return self
        return OfflineContrastBackend(
            contrast=self.contrast, tests=self.tests, n_tests=self.n_tests, keep=self.keep, encode=encode
        )

    def propose(self, class_name: str, sentences: Sequence[str], corpus: Sequence[str], n: int) -> list[Hypothesis]:
        """At most ``n`` hypotheses, the largest contrast first."""
        found = self.candidates(class_name, sentences, corpus)[:CANDIDATES]
        return [self._hypothesis(c, class_name, sentences) for c in self._merge(found)[:n]]

    def candidates(self, class_name: str, sentences: Sequence[str], corpus: Sequence[str]) -> list[Candidate]:
        """All n-grams that pass, the largest contrast first; of equal ones the longest, then by the alphabet."""
        top = list(dict.fromkeys(sentences))
        among = set(top)
        rest = [s for s in dict.fromkeys(corpus) if s not in among]
        if not rest:  # the whole corpus is in the list: its better half against the other
            half = max(len(top) // 2, 1)
            top, rest = top[:half], top[half:]
        avoided = {stem(w) for w in words(class_name)}
        in_top = _documents(top, avoided)
        wanted = {gram for gram, where in in_top.items() if len(where) >= LEAST_COUNT}
        if self.keep is not None:
            wanted = {gram for gram in wanted if self.keep(gram)}
        counts = dict.fromkeys(wanted, 0)
        for sentence in rest:
            for gram in ngrams(sentence, avoided) & wanted:
                counts[gram] += 1
        made = []
        all_top, all_rest = sum(len(in_top[g]) for g in wanted), sum(counts.values())
        for gram in wanted:
            k1, k0 = len(in_top[gram]), counts[gram]
            z = (
                two_proportion_z(k1, len(top), k0, len(rest))
                if self.contrast == "z"
                else log_odds_z(k1, all_top, k0, all_rest, k1 + k0, all_top + all_rest)
            )
            if z >= LEAST_Z:
                made.append(Candidate(gram, k1, k0, z, frozenset(in_top[gram])))
        return sorted(made, key=lambda c: (-round(c.z, 9), -c.text.count(" "), c.text))

    def _merge(self, found: list[Candidate]) -> list[Candidate]:
        vectors = None
        if self.encode is not None and found:
            vectors = np.asarray(self.encode([c.text for c in found]), np.float64)
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(norms > 0, norms, 1)
        kept: list[int] = []
        for number, candidate in enumerate(found):
            near = any(
                (vectors is not None and float(vectors[number] @ vectors[other]) > MERGE_COSINE)
                or _jaccard(candidate.found_in, found[other].found_in) > MERGE_JACCARD
                for other in kept
            )
            if not near:
                kept.append(number)
        return [found[i] for i in kept]

    def _hypothesis(self, candidate: Candidate, class_name: str, sentences: Sequence[str]) -> Hypothesis:
        if self.tests == "templates":
            if self.encode is None:
                raise InputError("tests", "'templates' without a text encoder", "an encoder, or tests='ranked'")
            tests = [t.replace("{class}", class_name).replace("{attribute}", candidate.text) for t in TEMPLATES]
        else:
            top = list(dict.fromkeys(sentences))
            tests = [top[i] for i in sorted(candidate.found_in)]
        statement = f"The classifier leans on {candidate.text!r} for the class {class_name!r}."
        return Hypothesis(candidate.text, statement, tuple(tests[: self.n_tests]))


def words(text: str) -> list[str]:
    """Words of a text in lower case; hyphens and apostrophes within a word stay."""
    return _WORD.findall(text.lower())


def stem(word: str) -> str:
    """A word without the endings of English plurals and inflections: what class names are recognised by."""
    word = word.replace("’", "'").removesuffix("'s")
    for ending, put in (("ies", "y"), ("ing", ""), ("ied", "y"), ("es", ""), ("ed", ""), ("s", ""), ("e", "")):
        if word.endswith("ss"):
            break
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending) + put
            break
    return word.removesuffix("e") if len(word) > 3 else word


def ngrams(sentence: str, avoided: Set[str] = frozenset()) -> set[str]:
    """Words, pairs and triples that neither begin nor end with a stop word and have no avoided stem."""
    tokens = words(sentence)
    bad = [stem(t) in avoided for t in tokens] if avoided else [False] * len(tokens)
    stop = [t in STOP or (len(t) == 1 and not t.isdigit()) for t in tokens]
    found = set()
    for size in (1, 2, 3):
        for start in range(len(tokens) - size + 1):
            end = start + size
            if not stop[start] and not stop[end - 1] and not any(bad[start:end]):
                found.add(" ".join(tokens[start:end]))
    return found


def two_proportion_z(k1: float, n1: float, k0: float, n0: float) -> float:
    """z of the difference of two proportions with a pooled variance, 0.5 added to every count."""
    p1, p0 = (k1 + 0.5) / (n1 + 1), (k0 + 0.5) / (n0 + 1)
    p = (k1 + k0 + 1) / (n1 + n0 + 2)
    return float((p1 - p0) / np.sqrt(p * (1 - p) * (1 / n1 + 1 / n0)))


def log_odds_z(k1: float, n1: float, k0: float, n0: float, prior: float, prior_total: float) -> float:
    """z of the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, eq. 16, 20, 22)."""
    total = max(prior_total, prior + 1)
    odds = [np.log((k + prior) / max(n + total - k - prior, 0.5)) for k, n in ((k1, n1), (k0, n0))]
    return float((odds[0] - odds[1]) / np.sqrt(1 / (k1 + prior) + 1 / (k0 + prior)))


def _documents(sentences: Sequence[str], avoided: set[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, sentence in enumerate(sentences):
        for gram in ngrams(sentence, avoided):
            found.setdefault(gram, []).append(number)
    return found


def _jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    return len(a & b) / len(a | b)
