"""Search quality on real text: which of words, meaning and both finds a package that someone has in mind.

    python benchmarks/page_search_quality.py [--fast] [--entries 60000] [--queries 1000]

Documents are the long descriptions of 60,000 Debian packages, in the page's own database and index. Nothing of the
queries is indexed; all are made by rule from real text, for packages drawn at random:

known item      the maintainer's one-line synopsis of the package, which is not among the documents
paraphrase      the synopsis with every common word replaced by the WordNet synonym that the most descriptions use;
                names (a capital letter or a digit in them) and words without a synonym stay
no shared word  the paraphrase without the words (stems) that the package's document has: nothing is left for BM25 to
                find the package by, which is as hard as a query can be

Recall@10 is the share of queries whose package is among the first ten, MRR the mean of 1/rank (0 beyond ten).
The 95 % interval of hybrid's lead over the better of the two is a paired bootstrap over queries.
The first run encodes 60,000 texts, a good half hour of one core; it can be stopped and run again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import Stemmer
from sqlalchemy import insert, select

from paperworks import inputs
from paperworks.embedding import sentence_encoder
from paperworks.errors import InputError
from paperworks.page.database import Database, Entry, open_database
from paperworks.page.search import SearchIndex, open_search
from paperworks.runs.live import show_progress
from paperworks.runs.store import home

DRAW = 3
"""Seed of the queries. The constants of the fusion were chosen on the queries of another seed (2)."""
MODES = ("words", "meaning", "hybrid")
KINDS = ("known item", "paraphrase", "no shared word")
STOPWORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "for",
        "from",
        "has",
        "have",
        "in",
        "into",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "this",
        "to",
        "using",
        "via",
        "was",
        "which",
        "will",
        "with",
        "you",
        "your",
        "not",
        "no",
        "other",
        "some",
        "any",
        "all",
        "more",
    ]
)


class Description(NamedTuple):
    """A package: its name, the maintainer's one-line synopsis, and the long description."""

    package: str
    synopsis: str
    text: str


def read_descriptions() -> list[Description]:
    """All packages of Debian's main that have a long description, by name; apt brings them, with its signatures."""
    folder = home() / "inputs" / "debian-descriptions"
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", "Acquire::Languages=en", "-o", f"Dir::State::lists={folder / 'lists'}"]
    options += ["-o", f"Dir::Cache={folder}"]
    try:
        if not any(Path(f).is_file() for f in _translations(options)):
            subprocess.run(["apt-get", "update", "-qq", *options], check=True, capture_output=True)
        texts = [
            subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", f], check=True, capture_output=True).stdout
            for f in _translations(options)
            if Path(f).is_file()
        ]
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError("descriptions", f"a failure of apt ({error})", "Debian's apt and a reachable mirror") from None
    found: dict[str, Description] = {}
    for text in texts:
        for record in text.decode("utf-8", "replace").split("\n\n"):
            parsed = _parse(record)
            if parsed is not None:
                found.setdefault(parsed.package, parsed)
    return [found[name] for name in sorted(found)]


def _translations(options: list[str]) -> list[str]:
    out = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(FILENAME)", *options], check=True, capture_output=True
    )
    return [f for f in out.stdout.decode().split("\n") if "_main_i18n_Translation-en" in f]


def _parse(record: str) -> Description | None:
    name = re.search(r"^Package: (\S+)$", record, re.M)
    body = re.search(r"^Description-en: (.*)\n((?: .*\n?)*)", record, re.M)
    if not name or not body:
        return None
    text = " ".join(line.strip() for line in body[2].split("\n") if line.strip() not in ("", "."))
    return Description(name[1], body[1].strip(), text) if text else None


def draw(descriptions: list[Description], count: int) -> list[Description]:
    """``count`` of the packages at random, always the same."""
    order = np.random.default_rng(0).permutation(len(descriptions))
    return [descriptions[i] for i in order[:count]]


def open_entries(descriptions: list[Description], folder: Path) -> Database:
    """A database with one entry per package, kept between runs: entry i + 1 is package i."""
    database = open_database(f"sqlite:///{folder / f'packages-{len(descriptions)}.sqlite'}")
    with database.session() as session:
        if session.get(Entry, len(descriptions)) is None:
            for start in range(0, len(descriptions), 1000):
                rows = [
                    {
                        "id": i + 1,
                        "key": f"url:package/{d.package}",
                        "title": d.package,
                        "abstract": d.text,
                        "listed": date(2026, 1, 1),
                    }
                    for i, d in enumerate(descriptions[start : start + 1000], start)
                ]
                session.execute(insert(Entry), rows)
    return database


def synonyms() -> dict[str, list[str]]:
    """Single words to their WordNet synonyms, the most frequent sense of each part of speech first."""
    folder = inputs.get("wordnet")
    heads: dict[str, list[str]] = {}
    for line in _wordnet_lines(folder):
        fields = line.split(" ")
        words = [w.lower() for w in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
        single = [re.sub(r"\([a-z]+\)$", "", w) for w in words if "_" not in w]
        for word in single:
            heads.setdefault(word, []).extend(w for w in single if w != word)
    return {word: list(dict.fromkeys(others)) for word, others in heads.items() if others}


def _wordnet_lines(folder: Path) -> list[str]:
    lines: list[str] = []
    for part in ("noun", "verb", "adj", "adv"):
        text = (folder / f"data.{part}").read_text(encoding="latin-1")
        lines += [line for line in text.split("\n") if line and not line.startswith("  ")]
    return lines


class Rewriter:
    """Makes queries out of a package's synopsis by the rules above."""

    def __init__(self, descriptions: list[Description]) -> None:
        self._stem: Callable[[str], str] = Stemmer.Stemmer("english").stemWord
        self._used: Counter[str] = Counter()
        for d in descriptions:
            self._used.update(set(re.findall(r"[a-z]+", d.text.lower())))
        self._synonyms = synonyms()

    def queries(self, package: Description) -> dict[str, str] | None:
        """The three queries; None for a synopsis of fewer than three content words, or without two of the last kind."""
        words = re.findall(r"[A-Za-z0-9+#]+", package.synopsis)
        own = {self._stem(w) for w in re.findall(r"[a-z0-9+#]+", f"{package.package} {package.text}".lower())}
        other = [self._synonym(w, first=i == 0).lower() for i, w in enumerate(words)]
        strange = [w for w in other if w in STOPWORDS or self._stem(w) not in own]
        if sum(w.lower() not in STOPWORDS for w in words) < 3 or sum(w not in STOPWORDS for w in strange) < 2:
            return None
        return dict(zip(KINDS, (package.synopsis, " ".join(other), " ".join(strange)), strict=True))

    def _synonym(self, word: str, first: bool) -> str:
        plain = word.lower()
        name = not plain.isalpha() or any(c.isupper() for c in (word[1:] if first else word))
        if name or plain in STOPWORDS:
            return word
        singular = plain[:-1] if plain.endswith("s") else plain
        candidates = self._synonyms.get(plain) or self._synonyms.get(singular) or []
        others = [c for c in candidates if self._stem(c) != self._stem(plain) and self._used[c]]
        return max(others, key=lambda c: (self._used[c], c), default=word)


def ranks(search: SearchIndex, wanted: list[tuple[int, str]], mode: str) -> np.ndarray:
    """The rank of the wanted entry for each query, 0 where it is not among the first ten."""
    found = []
    for entry, query in wanted:
        ids = [hit.entry_id for hit in search.search(query, limit=10, mode=mode)]  # type: ignore[arg-type]
        found.append(ids.index(entry) + 1 if entry in ids else 0)
    return np.array(found)


def lead(reciprocal: dict[str, np.ndarray]) -> tuple[float, float, float]:
    """Hybrid's lead in MRR over the better of the two others, with its 95 % interval."""
    other = max(("words", "meaning"), key=lambda m: reciprocal[m].mean())
    gain = reciprocal["hybrid"] - reciprocal[other]
    rng = np.random.default_rng(1)
    means = [gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(2000)]
    return float(gain.mean()), *(float(x) for x in np.quantile(means, (0.025, 0.975)))


def measure(search: SearchIndex, descriptions: list[Description], count: int) -> dict[str, dict]:
    """Recall@10 and MRR per kind of query and mode."""
    rewriter = Rewriter(descriptions)
    order = np.random.default_rng(DRAW).permutation(len(descriptions))
    chosen: list[tuple[int, dict[str, str]]] = []
    for i in order:
        texts = rewriter.queries(descriptions[i])
        if texts is not None:
            chosen.append((int(i) + 1, texts))
        if len(chosen) == count:
            break
    results: dict[str, dict] = {}
    for kind in KINDS:
        wanted = [(entry, texts[kind]) for entry, texts in chosen]
        found = {mode: ranks(search, wanted, mode) for mode in MODES}
        reciprocal = {m: np.divide(1.0, r, out=np.zeros(len(r)), where=r > 0) for m, r in found.items()}
        gain, low, high = lead(reciprocal)
        results[kind] = {
            "queries": len(wanted),
            "example": wanted[0][1],
            **{m: {"recall@10": float((found[m] > 0).mean()), "mrr": float(reciprocal[m].mean())} for m in MODES},
            "hybrid's lead in mrr": [gain, low, high],
        }
    return results


def nearest_found(search: SearchIndex, database: Database, queries: list[str], depth: int = 50) -> dict[str, float]:
    """The share of the ``depth`` entries nearest to a query, by all exact vectors, that the index gives.

    Of the exact vectors of the queries, and of those that searches use.
    """
    encoder = sentence_encoder(required=True)
    assert encoder is not None
    with database.reading() as session:
        ids = np.array(session.scalars(select(Entry.id).order_by(Entry.id)).all())
    vectors = search.vectors(ids.tolist())
    exact = encoder(queries)
    wanted = [set(ids[np.argpartition(-(vectors @ v), depth)[:depth]].tolist()) for v in exact]
    found = {}
    for name, asked in (("exact query vectors", exact), ("query vectors in eight bits", encoder.queries(queries))):
        with database.reading() as session:
            nearest = [search._vectors.search(session, v, depth, None)[0].tolist() for v in asked]
        found[name] = float(np.mean([len(w.intersection(n)) / depth for w, n in zip(wanted, nearest, strict=True)]))
    return found


def main() -> int:
    """Print a table; exit code 1 where hybrid is not best for known items and paraphrases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="500 packages, 50 queries")
    parser.add_argument("--entries", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    entries, count = (500, 50) if options.fast else (options.entries, options.queries)
    descriptions = draw(read_descriptions(), entries)
    folder = home() / "benchmarks" / "search"
    database = open_entries(descriptions, folder)
    search = open_search(database)
    started = time.perf_counter()
    indexed = search.refresh(show_progress)
    print(f"{len(descriptions):,} packages; {indexed:,} indexed in {time.perf_counter() - started:.0f} s")
    results = measure(search, descriptions, count)
    print(f"{'queries':14} {'':9} {'recall@10':>9} {'MRR':>6}")
    behind = []
    for kind, row in results.items():
        for mode in MODES:
            print(f"{kind:14} {mode:9} {row[mode]['recall@10']:9.3f} {row[mode]['mrr']:6.3f}")
        gain, low, high = row["hybrid's lead in mrr"]
        print(f"{'':14} hybrid's lead in MRR {gain:+.3f} (95 % {low:+.3f} to {high:+.3f}); e.g. {row['example']!r}")
        if any(row["hybrid"][f] < max(row[m][f] for m in MODES) for f in ("recall@10", "mrr")):
            behind.append(kind)
    asked = [d.synopsis for d in draw(read_descriptions(), 10**9)[-count:]]
    nearest = nearest_found(search, database, asked)
    print("of the 50 nearest entries the index finds " + ", ".join(f"{v:.4f} ({k})" for k, v in nearest.items()))
    print(f"hybrid is best for {', '.join(k for k in KINDS if k not in behind) or 'none'}")
    if KINDS[-1] in behind:
        print(
            f"not for {KINDS[-1]!r}: there the words' ranking knows nothing by construction, and the fusion gives it "
            "half of the first places; no ranking finds these packages with any use"
        )
    if options.json:
        options.json.write_text(
            json.dumps({"entries": len(descriptions), "results": results, "nearest found": nearest}, indent=1)
        )
    return 1 if set(behind) - {KINDS[-1]} else 0


if __name__ == "__main__":
    sys.exit(main())
