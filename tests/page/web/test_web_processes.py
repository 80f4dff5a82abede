"""Several web server processes on one port, the workers of runs beside them, and what they do when one of them dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from paperworks.cli import run_command
from paperworks.errors import InputError
from paperworks.page import server
from paperworks.page.settings import Settings, load_settings
from paperworks.runs.processes import PARENT

CODE = "from paperworks.cli import main; main()"


def until(condition: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)


def children(process: subprocess.Popen[str], kind: str) -> list[psutil.Process]:
    """The processes of a kind: web, or runs."""
    found = []
    for child in psutil.Process(process.pid).children():
        try:
            words = child.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "paperworks.page.server" in words and kind in words:
            found.append(child)
    return found


def listening(port: int) -> set[int]:
    """Ids of the processes that listen on a port."""
    found = psutil.net_connections("tcp")
    return {c.pid for c in found if c.status == psutil.CONN_LISTEN and c.laddr.port == port and c.pid}


@pytest.fixture
def running(home: Path, without_encoder: None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", CODE, "page", "--port", str(port), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert str(port) in process.stdout.readline()
    yield process, port
    if process.poll() is None:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.over_budget("starts five interpreters of the page, as its command does")
def test_two_web_servers_and_one_of_everything_else(running: tuple[subprocess.Popen[str], int]) -> None:
    process, port = running
    address = f"http://127.0.0.1:{port}/about"
    until(lambda: len(listening(port)) == 2)
    web = {c.pid for c in children(process, "web")}
    assert listening(port) == web
    assert process.pid not in web
    assert len(children(process, "runs")) == 1
    # Another page cannot take the port, although these share it.
    with pytest.raises(InputError, match="port"):
        server.serve(Settings(port=port))
    victim = sorted(web)[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(victim))  # its socket is closed then; connections in its queue are lost with it
    for _ in range(20):  # the other one goes on
        with httpx.Client(timeout=20) as client:
            assert client.get(address).status_code == 200
    until(lambda: len(listening(port)) == 2)
    assert victim not in listening(port)
    assert len(children(process, "runs")) == 1
    left = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in left))
    assert not listening(port)


def test_the_clock_is_the_servers_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a worker of runs nor a web server looks at it."""
    started: list[str] = []
    real = server.threading.Thread

    class Recorded(real):  # type: ignore[misc, valid-type]
        def start(self) -> None:
            started.append(getattr(self._target, "__name__", ""))

    monkeypatch.setattr(server.threading, "Thread", Recorded)
    monkeypatch.setenv(PARENT, "1")
    monkeypatch.setattr(server.os, "_exit", lambda code: None)
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    server.work(Settings())
    assert started == ["_watch_parent", "run_forever"]
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    monkeypatch.setattr(server, "_listening", lambda settings: None)
    server.answer(Settings(), first=False)
    assert "_clock" not in started


SECRET = "a secret of a test, long enough to be one"
PUBLIC = {"public": True, "secret_key": SECRET, "allowed_hosts": ("papers.example",)}


def test_a_public_page_that_cannot_send_mail_does_not_start(home: Path) -> None:
    with pytest.raises(InputError, match=r"smtp_url.*PAPERWORKS_PAGE_SMTP_URL.*--no-mail"):
        server.serve(load_settings(**PUBLIC))
    with pytest.raises(InputError, match="MAIL_FROM"):
        server.serve(load_settings(**PUBLIC, smtp_url="smtp://127.0.0.1"))
    assert not (home / "page" / "page.sqlite").exists()  # it says so before it makes anything
    server.check_mail(load_settings(**PUBLIC, no_mail=True))
    server.check_mail(load_settings(**PUBLIC, smtp_url="smtp://127.0.0.1", mail_from="a@example.org"))
    server.check_mail(load_settings())  # on one's own machine nobody signs up


def test_the_command_says_so(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PAPERWORKS_PAGE_SECRET_KEY", SECRET)
    assert run_command(["page", "--public", "--allowed-host", "papers.example", "--port", "0"]) == 2
    assert "--no-mail" in capsys.readouterr().err


def test_how_many_processes(home: Path) -> None:
    assert load_settings().web_processes == 1
    assert load_settings(workers=3).web_processes == 3
    assert 1 <= load_settings(**PUBLIC).web_processes <= 4
    for bad in (0, 65):
        with pytest.raises(InputError, match="workers"):
            load_settings(workers=bad)
