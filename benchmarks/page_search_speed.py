"""Search speed with many readers at once, beside a linear scan in Python over the same entries in the same run.

    python benchmarks/page_search_speed.py [--fast] [--base 60000] [--sizes 60000 1000000] [--readers 16] [--seconds 20]

Entries are Debian package descriptions in the page's own database and index (those of page_search_quality.py, which
encodes them); beyond the base they are copies with noise: a tenth of the words replaced by words of other packages, and
the vector moved by noise of a quarter of its length. Readers are threads that ask one query after the other without a
pause. Two streams of queries are measured: every query new (synopses of packages that are not indexed), and as people
ask (the k-th most popular of 2,000 queries is asked in proportion to 1/k; the page remembers recent queries' vectors).

The peer is the way of arxiv-sanity-lite, written by us: every entry's title and text are scanned in Python for the
query's words, and scores sorted.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import psutil
from page_search_quality import Description, draw, open_entries, read_descriptions
from sqlalchemy import insert, select, text

from paperworks.cli.live import show_progress
from paperworks.embedding import sentence_encoder
from paperworks.page.database import Database, Entry, EntryVector, open_database
from paperworks.page.search import SearchIndex, open_search
from paperworks.page.search.tables import search_entries
from paperworks.page.search.text import entry_text
from paperworks.runs.store import home

BASE = 60_000
NOISE = 0.25
WORDS_REPLACED = 0.1
PER_INSERT = 5_000
TARGET_MS = 50.0


def grow(database: Database, base: Database, descriptions: list[Description], size: int) -> None:
    """Fill a database with ``size`` noisy copies of the entries of another, indexed; goes on where it stopped."""
    with base.reading() as session:
        rows = session.execute(select(EntryVector.entry_id, EntryVector.vector).order_by(EntryVector.entry_id)).all()
    vectors = np.stack([np.frombuffer(r.vector, "<f4") for r in rows])
    words = " ".join(d.text for d in descriptions[:2_000]).split()
    open_search(database).close()  # makes the tables
    with database.reading() as session:
        done = session.execute(text("SELECT coalesce(max(entry_id), 0) FROM search_entries")).scalar_one()
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for start in show_progress(range(done, size, PER_INSERT), f"copying to {size:,}"):
        rng = np.random.default_rng(start)
        ids = range(start + 1, min(start + PER_INSERT, size) + 1)
        sources = [(i - 1) % len(descriptions) for i in ids]
        texts = {i: _noisy(descriptions[s], i, words, rng) for i, s in zip(ids, sources, strict=True)}
        noise = rng.standard_normal((len(sources), vectors.shape[1])).astype(np.float32)
        moved = vectors[sources] + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        with database.session() as session:
            session.execute(
                insert(Entry),
                [
                    {
                        "id": i,
                        "key": f"url:copy/{i}",
                        "title": t.title,
                        "abstract": t.abstract,
                        "listed": date(2026, 1, 1),
                    }
                    | {"created": moment, "updated": moment}
                    for i, t in texts.items()
                ],
            )
            session.execute(
                insert(EntryVector),
                [
                    {"entry_id": i, "model": "all-MiniLM-L6-v2", "text_hash": t.digest, "vector": v.tobytes()}
                    for (i, t), v in zip(texts.items(), moved, strict=True)
                ],
            )
            session.execute(
                text("INSERT INTO search_words(rowid, title, abstract, rest) VALUES (:id, :title, :abstract, :rest)"),
                [{"id": i, **t._asdict()} for i, t in texts.items()],
            )
            session.execute(insert(search_entries), [{"entry_id": i, "updated": moment, "version": 1} for i in texts])
            session.execute(text("UPDATE search_state SET version = 1"))


def _noisy(description: Description, number: int, words: Sequence[str], rng: np.random.Generator):
    own = description.text.split()
    for at in np.flatnonzero(rng.random(len(own)) < WORDS_REPLACED):
        own[at] = words[int(rng.integers(len(words)))]
    return entry_text(f"{description.package} {number}", " ".join(own), (), (), None)


class LinearScan:
    """The linear scan: counts of the query's words in every title (weight 20) and text (at most 3 each)."""

    def __init__(self, database: Database) -> None:
        with database.reading() as session:
            rows = session.execute(select(Entry.id, Entry.title, Entry.abstract)).all()
        self._entries = [(i, title.lower(), abstract.lower()) for i, title, abstract in rows]

    def search(self, query: str) -> list[int]:
        """The 20 best ids."""
        words = query.lower().split()
        scores = []
        for identity, title, abstract in self._entries:
            score = 0
            for word in words:
                score += 20 * (word in title) + min(3, abstract.count(word))
            if score:
                scores.append((score, identity))
        scores.sort(reverse=True)
        return [identity for _, identity in scores[:20]]


def ask(search: Callable[[str], object], streams: Sequence[Iterator[str]], seconds: float) -> dict[str, float]:
    """Latencies (ms) and searches per second of readers that ask without a pause, after a warm-up of a fifth."""
    latencies: list[list[float]] = [[] for _ in streams]
    begin = time.perf_counter() + seconds / 5
    end = begin + seconds
    errors: list[BaseException] = []

    def read(number: int) -> None:
        try:
            for query in streams[number]:
                started = time.perf_counter()
                if started > end:
                    return
                search(query)
                if started > begin:
                    latencies[number].append(1000 * (time.perf_counter() - started))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(streams))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    every = np.concatenate([np.array(own) for own in latencies])
    p50, p95, p99 = np.percentile(every, (50, 95, 99))
    return {
        "searches": len(every),
        "per second": round(len(every) / seconds, 1),
        "p50 ms": round(float(p50), 1),
        "p95 ms": round(float(p95), 1),
        "p99 ms": round(float(p99), 1),
    }


def new_queries(queries: Sequence[str], readers: int) -> list[Iterator[str]]:
    """Streams in which every query is new: the list's own, then with a number after it."""

    def stream(own: Sequence[str]) -> Iterator[str]:
        turn = 0
        while True:
            yield from (f"{q} {turn}" if turn else q for q in own)
            turn += 1

    return [stream(queries[i::readers]) for i in range(readers)]


def popular_queries(queries: Sequence[str], readers: int) -> list[Iterator[str]]:
    """Streams in which the k-th query is asked in proportion to 1/k."""
    weights = 1 / np.arange(1, len(queries) + 1)
    weights /= weights.sum()

    def stream(seed: int) -> Iterator[str]:
        rng = np.random.default_rng(seed)
        while True:
            yield from (queries[i] for i in rng.choice(len(queries), 1000, p=weights))

    return [stream(zlib.crc32(f"{i}".encode())) for i in range(readers)]


def measure(search: SearchIndex, queries: Sequence[str], readers: int, seconds: float) -> dict[str, dict]:
    """Both streams by hybrid, and the new queries by words and by meaning alone."""
    search.search("warm up")
    results = {}
    for name, mode, make in (
        ("hybrid, every query new", "hybrid", new_queries),
        ("hybrid, as people ask", "hybrid", popular_queries),
        ("words, every query new", "words", new_queries),
    ):
        chosen = queries[:2_000] if make is popular_queries else queries
        results[name] = ask(lambda q, mode=mode: search.search(q, limit=20, mode=mode), make(chosen, readers), seconds)
        print(f"  {name:28} {results[name]}", flush=True)
    return results


def main() -> None:
    """Print the figures of each size, their growth, and whether the target is met; write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="500 entries, 2 seconds")
    parser.add_argument("--sizes", type=int, nargs="+", default=[BASE])
    parser.add_argument("--base", type=int, default=BASE, help="descriptions that are encoded; sizes beyond are copies")
    parser.add_argument("--readers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    sizes, seconds, base_size = ([500], 2.0, 500) if options.fast else (options.sizes, options.seconds, options.base)
    packages = read_descriptions()
    descriptions = draw(packages, base_size)
    left = draw(packages, len(packages))[base_size : base_size + 4_000]
    queries = list(dict.fromkeys(d.synopsis for d in left))
    folder = home() / "benchmarks" / "search"
    base = open_entries(descriptions, folder)
    encoder = sentence_encoder(required=True)
    open_search(base).refresh(show_progress)
    figures: dict[str, dict] = {}
    for size in sizes:
        database = base
        if size != base_size:
            database = open_database(f"sqlite:///{folder / f'copies-{size}-of-{base_size}.sqlite'}")
            grow(database, base, descriptions, size)
        started = time.perf_counter()
        search = open_search(database, encoder)
        search.refresh()
        opened = time.perf_counter() - started
        memory = round(psutil.Process().memory_info().rss / 2**20)
        print(f"{size:,} entries, {options.readers} readers; opened in {opened:.1f} s; {memory:,} MiB", flush=True)
        figures[str(size)] = {"memory MiB": memory} | measure(search, queries, options.readers, seconds)
        scan = LinearScan(database)
        peer = ask(scan.search, new_queries(queries, options.readers), seconds)
        alone = ask(scan.search, new_queries(queries, 1), min(seconds, 10.0))
        print(f"  {'linear scan in Python':28} {peer}\n  {'linear scan, one reader':28} {alone}", flush=True)
        figures[str(size)] |= {"linear scan": peer, "linear scan, one reader": alone, "opened in s": round(opened, 1)}
        del search, scan
    hybrid = "hybrid, every query new"
    p95 = [figures[str(size)][hybrid]["p95 ms"] for size in sizes]
    print(
        f"p95 of {hybrid}: {p95[0]} ms; the target of {TARGET_MS:.0f} ms is {'' if p95[0] < TARGET_MS else 'not '}met"
    )
    if len(sizes) > 1:
        print(f"{sizes[-1] / sizes[0]:.1f} times the entries take {p95[-1] / p95[0]:.2f} times as long (p95)")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
