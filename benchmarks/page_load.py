"""First byte of the page under load: a real server process, readers in another process, on loopback.

    python benchmarks/page_load.py [--entries 1000] [--seconds 10] [--readers 1 4 16] [--workers 2]
    python benchmarks/page_load.py --packages 60000 [...]

The feed holds the catalogue and imported papers, or the Debian package descriptions of page_search_quality.py (which
encodes them first). Each reader keeps one connection and asks for one page after another. Searches are one query again
and again; and queries of which every one is new (synopses of packages), or popular as they are among people (the k-th
of 2,000 in proportion to 1/k).
Printed per path and number of readers: requests per second, and the time to the first byte (median, p95, p99), in ms.
A reader's request waits for those of the others: with more readers than cores the time grows with their number.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from urllib.parse import quote_plus

import numpy as np

PATHS = (
    "/",
    "/?period=week",
    "/papers/2401.15024",
    "/search?q=pruning+language+models",
    "/search?q={new}",
    "/search?q={popular}",
    "/feed.atom",
    "/api/daily_papers",
)


def fill(home: Path, entries: int) -> None:
    """Put papers into the page's database that its server will open."""
    os.environ["PAPERWORKS_HOME"] = str(home)
    from paperworks.page.database import open_database
    from paperworks.page.feed import IncomingPaper, seed_catalogue, upsert
    from paperworks.page.settings import load_settings

    database = open_database(load_settings().database_url)
    seed_catalogue(database)
    with database.session() as session:
        for n in range(entries):
            day = date(2026, 1, 1) - timedelta(days=n // 20)
            upsert(
                session,
                IncomingPaper(
                    title=f"Paper {n} on a subject of its own",
                    abstract=f"What paper {n} says of subject {n % 97}. " * 15,
                    arxiv=f"26{n // 10_000 + 10}.{n % 10_000:05d}",
                    authors=(f"Author {n}", "Another"),
                    published=day,
                    listed=day,
                    tags=(f"tag-{n % 30}",),
                    upvotes=n % 50,
                    source="benchmark",
                ),
            )


def fill_packages(home: Path, number: int) -> None:
    """Put the indexed package descriptions there: a copy of the database and of what its search keeps."""
    from page_search_quality import draw, open_entries, read_descriptions

    from paperworks.page.database import Entry, open_database
    from paperworks.page.search import open_search
    from paperworks.page.settings import load_settings
    from paperworks.runs.store import home as own_home

    kept = own_home() / "benchmarks" / "search"
    database = open_entries(draw(read_descriptions(), number), kept)
    open_search(database).refresh()
    os.environ["PAPERWORKS_HOME"] = str(home)
    target = Path(load_settings().database_url.removeprefix("sqlite:///"))
    target.parent.mkdir(parents=True)
    with (
        closing(sqlite3.connect(kept / f"packages-{number}.sqlite")) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
    opened = open_database(load_settings().database_url)
    with opened.engine.begin() as connection:
        for index in Entry.__table__.indexes:  # the copy may be older than they are
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index.name}")
            index.create(connection)
        connection.exec_driver_sql("UPDATE entries SET listed = date('2026-01-01', '-' || (id / 20) || ' days')")
    opened.close()
    shutil.copytree(kept / f"packages-{number}.sqlite.search", f"{target}.search")
    database.close()


def queries() -> list[str]:
    """Synopses of packages: what somebody may look for."""
    from page_search_quality import draw, read_descriptions

    packages = read_descriptions()
    return list(dict.fromkeys(d.synopsis for d in draw(packages, len(packages))[-5000:]))


async def read(port: int, path: str, readers: int, seconds: float, asked: list[str]) -> list[float]:
    """Times to the first byte of every request of all readers, in seconds."""
    end = time.perf_counter() + seconds
    times: list[float] = []
    weights = [1 / k for k in range(1, min(len(asked), 2000) + 1)]
    popular = random.Random(0).choices(asked[: len(weights)], weights=weights, k=100_000)
    # Queries that are new go on where the last measurement ended, and get a number when the list begins anew.
    fresh = (f"{q} {turn}" if turn else q for turn in count(int(time.time()) % 100_000) for q in asked)
    chosen = iter(popular) if "{popular}" in path else fresh

    def request() -> bytes:
        filled = path
        if "{" in path:
            filled = path.partition("{")[0] + quote_plus(next(chosen))
        return f"GET {filled} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: gzip\r\n\r\n".encode()

    async def one() -> None:
        source, sink = await asyncio.open_connection("127.0.0.1", port)
        own: list[float] = []
        while time.perf_counter() < end or not own:  # at least one, however long a connection took
            sent = request()
            started = time.perf_counter()
            sink.write(sent)
            head = await source.readuntil(b"\r\n\r\n")
            own.append(time.perf_counter() - started)
            assert head.startswith(b"HTTP/1.1 200"), head.split(b"\r\n")[0]
            lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            if b"content-length" in lines:
                await source.readexactly(int(lines[b"content-length"]))
            else:
                while size := int((await source.readline()).strip() or b"0", 16):
                    await source.readexactly(size + 2)
                await source.readline()
        times.extend(own)
        sink.close()

    await asyncio.gather(*(one() for _ in range(readers)))
    return times


def readers_process(port: int, path: str, readers: int, seconds: float, asked: list[str]) -> list[float]:
    """Run the readers in a process of their own, so that they do not share the server's interpreter."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_read, (port, path, readers, seconds, asked))


def _read(port: int, path: str, readers: int, seconds: float, asked: list[str]) -> list[float]:
    return asyncio.run(read(port, path, readers, seconds, asked))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1000)
    parser.add_argument("--packages", type=int, help="so many package descriptions instead")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--workers", type=int, default=2, help="web server processes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        asked = queries() if given.packages else [f"subject {n} of paper {n * 7}" for n in range(5000)]
        if given.packages:
            fill_packages(Path(home), given.packages)
        else:
            fill(Path(home), given.entries)
        code = "from paperworks.cli import main; main(["
        code += f"'page', '--port', '{port}', '--run-workers', '0', '--workers', '{given.workers}'])"
        server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            time.sleep(60)  # it indexes what is new and loads recipes in the background
            rows = []
            for path in PATHS:
                readers_process(port, path, 2 * given.workers, 2.0, asked)
                for readers in given.readers:
                    times = 1000 * np.array(readers_process(port, path, readers, given.seconds, asked))
                    middle, late, last = np.percentile(times, [50, 95, 99])
                    rows.append([path, readers, len(times) / given.seconds, middle, late, last])
                    print(
                        f"{path:42s} {readers:3d} readers  {len(times) / given.seconds:7.1f}/s  first byte, ms: "
                        f"median {middle:6.1f}  p95 {late:6.1f}  p99 {last:6.1f}",
                        flush=True,
                    )
            print(json.dumps(rows))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
