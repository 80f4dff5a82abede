"""Search speed with many readers at once, beside a linear scan in Python over the same entries in the same run.

    python benchmarks/page_search_speed.py [--fast] [--base 60000] [--sizes 60000 1000000] [--readers 16] [--seconds 20]

Entries are Debian package descriptions in the page's own database and index (those of page_search_quality.py, which
encodes them); beyond the base they are copies with noise: a tenth of the words replaced by words of other packages, and
the vector moved by noise of a quarter of its length. Readers are threads that ask one query after the other without a
pause, in as many processes as a public page's server has on this machine (--processes, one per core). Two streams of
queries are measured: every query new (synopses of packages that are not indexed), and as people ask (the k-th most
popular of 2,000 queries is asked in proportion to 1/k; the page remembers recent queries' vectors).

The peer is the way of arxiv-sanity-lite, written by us: every entry's title and text are scanned in Python for the
query's words, and scores sorted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from page_search_quality import Description, draw, open_entries, read_descriptions
from sqlalchemy import insert, select, text

from paperworks.embedding import sentence_encoder
from paperworks.page.database import Database, Entry, EntryVector, open_database
from paperworks.page.search import open_search
from paperworks.page.search.tables import search_entries
from paperworks.page.search.text import entry_text
from paperworks.runs.live import show_progress
from paperworks.runs.store import home

BASE = 60_000
NOISE = 0.25
WORDS_REPLACED = 0.1
PER_INSERT = 5_000
TARGET_MS = 50.0
HYBRID = "hybrid, every query new"


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
    return entry_text(f"{description.package} {number}", "", " ".join(own), (), (), None)


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


def ask(search: Callable[[str], object], streams: Sequence[Iterator[str]], begin: float, end: float) -> list[float]:
    """Latencies (ms) of threads that ask without a pause until ``end``; those of searches begun after ``begin``."""
    latencies: list[list[float]] = [[] for _ in streams]
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
    return [x for own in latencies for x in own]


class Task(NamedTuple):
    """A measurement: of what, with which queries, by how many readers, for how long."""

    name: str
    mode: str
    make: Callable[[Sequence[str], int, int], list[Iterator[str]]]
    queries: Sequence[str]
    readers: int
    seconds: float
    first: int = 0


def read_process(number: int, processes: int, url: str, pipe: Any) -> None:
    """One of the processes that search: measures its share of the readers of every task that it is sent."""
    database = open_database(url)
    started = time.perf_counter()
    held: Any = open_search(database, sentence_encoder(required=True))
    opened = time.perf_counter() - started
    held.search("warm up")
    pipe.send((opened, psutil.Process().memory_info().rss / 2**20))
    while (received := pipe.recv()) is not None:
        task, begin = received
        if task.mode == "scan":
            if not isinstance(held, LinearScan):
                del held
                held = LinearScan(database)
            pipe.send(None)
            begin = pipe.recv()
            search: Callable[[str], object] = held.search
        else:
            search = partial(held.search, limit=20, mode=task.mode)
        streams = task.make(task.queries, task.readers, task.first)[number::processes]
        pipe.send(ask(search, streams, begin, begin + task.seconds))
    database.close()


class Readers:
    """Processes that search a database."""

    def __init__(self, url: str, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for number in range(processes):
            own, other = context.Pipe()
            process = context.Process(target=read_process, args=(number, processes, url, other), daemon=True)
            process.start()
            self._pipes.append(own)
            self._processes.append(process)
        opened = [pipe.recv() for pipe in self._pipes]
        self.opened = max(seconds for seconds, _ in opened)
        self.memory = max(memory for _, memory in opened)

    def measure(self, task: Task) -> dict[str, float]:
        """Latencies (ms) and searches per second of a task, after a warm-up of a fifth; no latencies of no search."""
        for pipe in self._pipes:
            pipe.send((task, time.perf_counter() + task.seconds / 5))
        if task.mode == "scan":
            for pipe in self._pipes:
                pipe.recv()
            for pipe in self._pipes:
                pipe.send(time.perf_counter() + task.seconds / 5)
        every = np.concatenate([np.array(pipe.recv()) for pipe in self._pipes])
        if not len(every):
            print(f"  {task.name:34} no search that began after the warm-up was done in {task.seconds:g} s", flush=True)
            return {"searches": 0}
        p50, p95, p99 = np.percentile(every, (50, 95, 99))
        figures = {
            "searches": len(every),
            "per second": round(len(every) / task.seconds, 1),
            "p50 ms": round(float(p50), 1),
            "p95 ms": round(float(p95), 1),
            "p99 ms": round(float(p99), 1),
        }
        print(f"  {task.name:34} {figures}", flush=True)
        return figures

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()


def new_queries(queries: Sequence[str], readers: int, first: int) -> list[Iterator[str]]:
    """Streams in which every query is new: the list's own (if ``first`` is 0), then with a number after it."""

    def stream(own: Sequence[str]) -> Iterator[str]:
        turn = first
        while True:
            yield from (f"{q} {turn}" if turn else q for q in own)
            turn += 1

    return [stream(queries[i::readers]) for i in range(readers)]


def popular_queries(queries: Sequence[str], readers: int, first: int) -> list[Iterator[str]]:
    """Streams in which the k-th query is asked in proportion to 1/k."""
    weights = 1 / np.arange(1, len(queries) + 1)
    weights /= weights.sum()

    def stream(seed: int) -> Iterator[str]:
        rng = np.random.default_rng(seed)
        while True:
            yield from (queries[i] for i in rng.choice(len(queries), 1000, p=weights))

    return [stream(zlib.crc32(f"{first + i}".encode())) for i in range(readers)]


def tasks(queries: Sequence[str], readers: int, seconds: float) -> list[Task]:
    """What is measured of each size."""
    popular = queries[:2_000]
    return [
        Task(HYBRID, "hybrid", new_queries, queries, readers, seconds),
        Task("hybrid, every query new, one reader", "hybrid", new_queries, queries, 1, seconds / 2, 50),
        Task("hybrid, as people ask", "hybrid", popular_queries, popular, readers, seconds),
        Task("words, every query new", "words", new_queries, queries, readers, seconds / 2),
        Task("linear scan in Python", "scan", new_queries, queries, readers, seconds),
        Task("linear scan, one reader", "scan", new_queries, queries, 1, seconds / 2),
    ]


def main() -> None:
    """Print the figures of each size, their growth, and whether the target is met; write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="500 entries, 2 seconds")
    parser.add_argument("--sizes", type=int, nargs="+", default=[BASE])
    parser.add_argument("--base", type=int, default=BASE, help="descriptions that are encoded; sizes beyond are copies")
    parser.add_argument("--readers", type=int, default=16)
    parser.add_argument("--processes", type=int, default=psutil.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    sizes, seconds, base_size = ([500], 2.0, 500) if options.fast else (options.sizes, options.seconds, options.base)
    packages = read_descriptions()
    descriptions = draw(packages, base_size)
    left = draw(packages, len(packages))[base_size : base_size + 4_000]
    queries = list(dict.fromkeys(d.synopsis for d in left))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (psutil.cpu_count() or 1) // options.processes)))
    folder = home() / "benchmarks" / "search"
    base = open_entries(descriptions, folder)
    sentence_encoder(required=True)
    open_search(base).refresh(show_progress)
    figures: dict[str, dict] = {}
    for size in sizes:
        database = base
        if size != base_size:
            database = open_database(f"sqlite:///{folder / f'copies-{size}-of-{base_size}.sqlite'}")
            grow(database, base, descriptions, size)
        open_search(database).refresh()  # keeps what the processes open
        url = str(database.engine.url)
        database.close()
        readers = Readers(url, options.processes)
        print(
            f"{size:,} entries, {options.readers} readers in {options.processes} processes, each opened in "
            f"{readers.opened:.1f} s, {readers.memory:,.0f} MiB",
            flush=True,
        )
        figures[str(size)] = {"opened in s": round(readers.opened, 1), "memory MiB": round(readers.memory)}
        figures[str(size)] |= {t.name: readers.measure(t) for t in tasks(queries, options.readers, seconds)}
        readers.close()
    p95 = [figures[str(size)][HYBRID]["p95 ms"] for size in sizes]
    print(
        f"p95 of {HYBRID}: {p95[0]} ms; the target of {TARGET_MS:.0f} ms is {'' if p95[0] < TARGET_MS else 'not '}met"
    )
    if len(sizes) > 1:
        print(f"{sizes[-1] / sizes[0]:.1f} times the entries take {p95[-1] / p95[0]:.2f} times as long (p95)")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
