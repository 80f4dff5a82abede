"""First byte of the page under load: a real server process, readers in another process, on loopback.

    python benchmarks/page_load.py [--entries 1000] [--seconds 10] [--readers 1 4 16]

The feed holds the catalogue and imported papers. Each reader keeps one connection and asks for one page after another.
Printed per path and number of readers: requests per second, and the time to the first byte (median, p95, p99), in ms.
A reader's request waits for those of the others: with more readers than cores the time grows with their number.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np

PATHS = (
    "/",
    "/?period=week",
    "/papers/2401.15024",
    "/search?q=pruning+language+models",
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
                    arxiv=f"26{n // 10_000 + 10}.{n % 10_000:05d}", authors=(f"Author {n}", "Another"), published=day,
                    listed=day, tags=(f"tag-{n % 30}",), upvotes=n % 50, source="benchmark",
                ),
            )  # fmt: skip


async def read(port: int, path: str, readers: int, seconds: float) -> list[float]:
    """Times to the first byte of every request of all readers, in seconds."""
    end = time.perf_counter() + seconds
    times: list[float] = []
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: gzip\r\n\r\n".encode()

    async def one() -> None:
        source, sink = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            started = time.perf_counter()
            sink.write(request)
            head = await source.readuntil(b"\r\n\r\n")
            times.append(time.perf_counter() - started)
            assert head.startswith(b"HTTP/1.1 200"), head.split(b"\r\n")[0]
            lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            if b"content-length" in lines:
                await source.readexactly(int(lines[b"content-length"]))
            else:
                while size := int((await source.readline()).strip() or b"0", 16):
                    await source.readexactly(size + 2)
                await source.readline()
        sink.close()

    await asyncio.gather(*(one() for _ in range(readers)))
    return times


def readers_process(port: int, path: str, readers: int, seconds: float) -> list[float]:
    """Run the readers in a process of their own, so that they do not share the server's interpreter."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_read, (port, path, readers, seconds))


def _read(port: int, path: str, readers: int, seconds: float) -> list[float]:
    return asyncio.run(read(port, path, readers, seconds))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 4, 16])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        fill(Path(home), given.entries)
        code = f"from paperworks.cli import main; main(['page', '--port', '{port}', '--workers', '0'])"
        server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            time.sleep(60)  # it indexes what is new and loads recipes in the background
            rows = []
            for path in PATHS:
                readers_process(port, path, 1, 1.0)
                for readers in given.readers:
                    times = 1000 * np.array(readers_process(port, path, readers, given.seconds))
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
