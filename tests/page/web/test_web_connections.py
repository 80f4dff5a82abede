"""Connections that stand still are closed, and one address holds so many of them: against a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from paperworks.page.web import security
from paperworks.page.web.connections import ConnectionLimits, http_protocol

PER_ADDRESS = 5


@pytest.fixture(scope="module")
def address(local_app: FastAPI) -> Iterator[tuple[str, int]]:
    limits = ConnectionLimits(PER_ADDRESS, header_seconds=0.4, stalled_seconds=0.4)
    config = uvicorn.Config(
        local_app, host="127.0.0.1", port=0, log_level="error", lifespan="off", http=http_protocol(limits)
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield "127.0.0.1", server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(5)


def closed_after(client: socket.socket, most: float = 5) -> float:
    """Seconds until the server closes a connection on which it says nothing."""
    start = time.monotonic()
    client.settimeout(most)
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - start


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET /about HTTP/1.1\r\nHost: 127.0.0.1\r\nX-"])
def test_headers_that_do_not_end_are_not_waited_for(address: tuple[str, int], begun: bytes) -> None:
    with socket.create_connection(address) as client:
        client.sendall(begun)
        assert 0.2 < closed_after(client) < 3


def test_a_second_request_has_the_same_time(address: tuple[str, int]) -> None:
    whole = b"GET /static/none HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with socket.create_connection(address) as client:
        client.sendall(whole)
        assert b"404" in client.recv(65536)
        client.sendall(whole[:20])
        time.sleep(0.1)
        client.sendall(whole[20:30])  # a byte now and then does not help
        assert closed_after(client) < 3


def test_a_request_may_take_longer_than_its_headers(address: tuple[str, int], local_app: FastAPI) -> None:
    host, port = address
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=10) as client:
        for _ in range(3):
            assert client.get("/about").status_code == 200
            time.sleep(0.3)


def test_a_body_that_does_not_come_is_not_waited_for(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "FIRST_BODY_SECONDS", 0.3)
    head = "POST /log-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n\r\ncsrf="
    with socket.create_connection(address) as client:
        client.sendall(head.encode())
        client.settimeout(5)
        assert client.recv(65536).startswith(b"HTTP/1.1 408")


def test_an_address_holds_so_many_connections(address: tuple[str, int]) -> None:
    held = [socket.create_connection(address) for _ in range(3 * PER_ADDRESS)]
    try:
        time.sleep(0.2)
        open_now = 0
        for client in held:
            client.settimeout(0.01)
            try:
                open_now += client.recv(1) != b""
            except TimeoutError:
                open_now += 1
            except ConnectionResetError:
                pass
        assert open_now == PER_ADDRESS
    finally:
        for client in held:
            client.close()
    host, port = address
    until(lambda: _answers(f"http://{host}:{port}/about"))  # what was closed is free again


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_a_reader_who_takes_nothing_is_not_waited_for() -> None:
    async def long(scope, receive, send):  # type: ignore[no-untyped-def]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})

    limits = ConnectionLimits(0, stalled_seconds=0.3)
    config = uvicorn.Config(
        long, host="127.0.0.1", port=0, log_level="critical", lifespan="off", http=http_protocol(limits)
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    state = server.server_state
    with socket.create_connection(server.servers[0].sockets[0].getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: state.connections)
        until(lambda: not state.connections)
    server.should_exit = True
    server.force_exit = True
    thread.join(5)


def test_proxies_hold_any_number() -> None:
    limits = ConnectionLimits(1, exempt=("10.0.0.0/8", "::1"))
    assert [limits.take(a) for a in ("10.1.2.3", "10.1.2.3", "::1", "::1", "")] == [True] * 5
    assert [limits.take("192.0.2.1") for _ in range(3)] == [True, False, False]
    for _ in range(3):
        limits.release("192.0.2.1")
    limits.release("192.0.2.1")
    assert limits.take("192.0.2.1")
