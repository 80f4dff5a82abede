"""Many readers at once: none waits for a connection that another one holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx


def test_more_readers_than_threads(local_server: str) -> None:
    def read(number: int) -> int:
        path = ("/papers/2401.15024", "/", "/search?q=pruning")[number % 3]
        return httpx.get(local_server + path, timeout=25).status_code  # less than the pool's 30 seconds

    with ThreadPoolExecutor(60) as pool:
        assert set(pool.map(read, range(120))) == {200}
