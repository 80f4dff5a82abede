"""The server as an assistant meets it: through the SDK's own client, with a small paper that another package brings."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

pytest.importorskip("mcp")

from mcp import Client
from mcp.server import MCPServer

from paperworks import catalog
from paperworks.errors import InputError
from paperworks.mcp_server import AllowedFolders, Jobs, build_server
from paperworks.mcp_server.folders import checked_options
from paperworks.mcp_server.server import options_schema
from paperworks.runs import LocalEngine, Store
from paperworks.runs.recipe import load_recipe


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    found = Jobs(Store(tmp_path / "home"), LocalEngine())
    yield found
    found.close()


@pytest.fixture
def server(jobs: Jobs, tmp_path: Path) -> MCPServer:
    (tmp_path / "allowed").mkdir()
    return build_server(jobs, AllowedFolders([tmp_path / "allowed"]))


def calls(server: Any, *wanted: tuple[str, dict[str, Any]]) -> list[Any]:
    """What the tools return, one after the other, in one session; an error as the text that the client gets."""

    async def session() -> list[Any]:
        found = []
        async with Client(server) as client:
            for name, arguments in wanted:
                result = await client.call_tool(name, arguments)
                text = result.content[0].text if result.content else ""
                if result.is_error:
                    found.append(text)
                else:
                    content = result.structured_content
                    found.append(content.get("result", content) if content else json.loads(text))
        return found

    return anyio.run(session)


def started(server: MCPServer, **options: Any) -> str:
    (status,) = calls(server, ("run_paper", {"slug": "tiny-paper", "options": options}))
    assert isinstance(status, dict), status
    return str(status["run"])


def ended(server: MCPServer, run: str) -> dict[str, Any]:
    (status,) = calls(server, ("wait_for_run", {"run": run, "seconds": 20}))
    return status


def test_a_paper_is_found_run_and_read(server: MCPServer, tiny_paper: Any, tmp_path: Path) -> None:
    found, shown, options = calls(
        server,
        ("search_papers", {"query": "counts things"}),
        ("show_paper", {"slug": "tiny-paper"}),
        ("paper_options", {"slug": "tiny-paper"}),
    )
    assert found[0]["slug"] == "tiny-paper"
    assert [claim["id"] for claim in shown["claims"]] == ["counts", "fast", "huge"]
    assert options["properties"]["n"]["maximum"] == 1000
    assert options["properties"]["where"] | {"file": True, "bundled": []} == options["properties"]["where"]

    run = started(server, n=7)
    assert ended(server, run)["status"] == "finished"
    report, listed, saved = calls(
        server,
        ("get_report", {"run": run}),
        ("list_runs", {"paper": "tiny-paper"}),
        ("save_results", {"run": run, "folder": "taken"}),
    )
    assert "7" in report["headline"]
    assert [record["run"] for record in listed] == [run]
    assert Path(saved) == tmp_path / "allowed/taken"
    assert json.loads((Path(saved) / "report.json").read_text()) == report
    (again,) = calls(server, ("save_results", {"run": run, "folder": "taken"}))
    assert "which exists" in again


def test_files_and_figures_of_a_run_are_read_and_nothing_beside_them(server: MCPServer, tiny_paper: Any) -> None:
    run = started(server)
    ended(server, run)
    report, outside, figure = calls(
        server,
        ("get_report", {"run": run}),
        ("read_file", {"run": run, "path": "../run.json"}),
        ("get_figure", {"run": run, "figure": 99}),
    )
    assert "a file of the run" in outside
    assert "99" in figure
    for file in report["files"]:
        (content,) = calls(server, ("read_file", {"run": run, "path": file["path"]}))
        assert {"text", "entries", "note"} & set(content)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "at least 1"),
        ({"banana": 1}, "banana"),
        ({"where": "/etc/passwd"}, "outside"),
        ({"where": "../home"}, "outside"),
        ({"where": "absent"}, "does not exist"),
        ({"names": ["../../x"]}, "not a path"),
        ({"where": "a\x00b"}, "null character"),
    ],
)
def test_bad_options_start_nothing(
    server: MCPServer, jobs: Jobs, tiny_paper: Any, options: dict[str, Any], said: str
) -> None:
    (error,) = calls(server, ("run_paper", {"slug": "tiny-paper", "options": options}))
    assert isinstance(error, str)
    assert said in error
    assert jobs.store.records() == []


def test_unknown_names_are_answered_in_words(server: MCPServer, tiny_paper: Any) -> None:
    paper, run, waiting, empty = calls(
        server,
        ("show_paper", {"slug": "no-such-paper"}),
        ("run_status", {"run": "no-such-run"}),
        ("wait_for_run", {"run": "no-such-run"}),
        ("search_papers", {"query": " "}),
    )
    for error in (paper, run, waiting, empty):
        assert isinstance(error, str)
        assert "expected" in error
        assert "Traceback" not in error


def test_a_run_is_cancelled_and_resumed(server: MCPServer, jobs: Jobs, tiny_paper: Any) -> None:
    run = started(server, n=200, pause=0.05)
    queued = started(server, n=3)
    while jobs.status(run)["status"] != "running":
        time.sleep(0.02)
    assert jobs.status(queued)["status"] == "waiting"
    (report,) = calls(server, ("get_report", {"run": run}))
    assert "which is running" in report
    calls(server, ("cancel_run", {"run": queued}), ("cancel_run", {"run": run}))
    assert ended(server, run)["status"] == "cancelled"
    assert [record.id for record in jobs.store.records()] == [run]  # the other never began
    (resumed,) = calls(server, ("resume_run", {"run": run}))
    assert resumed["run"] == run
    (twice,) = calls(server, ("resume_run", {"run": run}))
    assert isinstance(twice, str)
    jobs.cancel(run)


def test_what_a_run_refuses_and_what_breaks_it_is_told(server: MCPServer, tiny_paper: Any) -> None:
    (refused,) = calls(server, ("run_paper", {"slug": "tiny-paper", "options": {"mode": "bad"}}))
    if isinstance(refused, dict):  # the run was not that fast
        refused = ended(server, refused["run"])
    assert isinstance(refused, str)
    assert "where: found nothing" in refused
    failed = ended(server, started(server, mode="fail"))
    assert failed["status"] == "failed"
    assert "it broke" in failed["message"]


def test_resources(server: MCPServer, tiny_paper: Any) -> None:
    run = started(server)
    ended(server, run)

    async def read() -> list[str]:
        async with Client(server) as client:
            uris = ["paperworks://papers/tiny-paper", f"paperworks://runs/{run}/report.html"]
            return [(await client.read_resource(uri)).contents[0].text for uri in uris]

    summary, page = anyio.run(read)
    assert summary.startswith("# A tiny paper")
    assert page.lower().startswith("<!doctype html>")


def test_allowed_folders(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "allowed-not"
    for folder in (allowed / "data", other):
        folder.mkdir(parents=True)
        (folder / "x.csv").write_text("1")
    folders = AllowedFolders([allowed])
    assert folders.existing("data", "data/x.csv") == (allowed / "data/x.csv").resolve()
    assert folders.existing("data", str(allowed / "data")) == (allowed / "data").resolve()
    (allowed / "near").symlink_to("data")
    assert folders.existing("data", "near") == (allowed / "data").resolve()
    (allowed / "link").symlink_to(other)
    (allowed / "data/inner").symlink_to(other / "x.csv")
    for path in (str(other / "x.csv"), "../allowed-not/x.csv", "link/x.csv", "link", "data", "~", "/"):
        with pytest.raises(InputError, match="outside"):
            folders.existing("data", path)
    for path in ("new/../../elsewhere", str(other / "new"), "link/new"):
        with pytest.raises(InputError, match="outside"):
            folders.new("folder", path)
    assert folders.new("folder", "new") == (allowed / "new").resolve()
    with pytest.raises(InputError, match="--allow FOLDER"):
        AllowedFolders().existing("data", "x.csv")
    with pytest.raises(InputError, match="an existing folder"):
        AllowedFolders([tmp_path / "absent"])


@pytest.mark.parametrize("paper", [p for p in catalog.papers() if p.has_recipe], ids=lambda p: p.slug)
def test_no_option_of_any_paper_passes_a_path_that_is_not_allowed(paper: catalog.Paper, tmp_path: Path) -> None:
    config = load_recipe(paper.slug, f"{paper.module}.recipe").config
    folders = AllowedFolders([tmp_path])
    for name in config.model_fields:
        for value in ("/etc/passwd", ["/etc/passwd"], "https://example.org/x"):
            with pytest.raises(InputError) as refused:
                checked_options(config, {name: value}, folders)
            assert refused.value.field == name
    json.dumps(options_schema(config))  # an assistant reads it as JSON


COMMAND = "from paperworks.cli import main; main()"


@pytest.mark.over_budget("starts a client and a server")
@pytest.mark.skipif(catalog.checkout() is None, reason="not a checkout")
def test_the_session_of_the_documentation_goes_as_it_is_shown(tiny_paper: Any, tmp_path: Path) -> None:
    """Its script starts ``paperworks mcp`` on standard input and output, as an assistant does."""
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    script = Path(__file__).parents[2] / "scripts" / "mcp_session.py"
    given = [str(tmp_path), "--slug", "tiny-paper", "--query", "counts things", "--option", "where=rows.csv"]
    done = subprocess.run([sys.executable, str(script), *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[0] == '> search_papers {"query": "counts things", "limit": 3}'
    assert json.loads(told[1])["slug"] == "tiny-paper"
    asked = [line.split()[1] for line in told if line.startswith(">")]
    assert list(dict.fromkeys(asked)) == ["search_papers", "show_paper", "run_paper", "wait_for_run", "get_report"]
    assert [line for line in told if "found '/etc/passwd', which is outside" in line]
    assert json.loads(told[-1]) == {"headline": "Counted 5 things"}


def test_http_needs_the_token(server: MCPServer) -> None:
    from paperworks.mcp_server.server import http_app

    async def statuses() -> list[int]:
        transport = httpx.ASGITransport(app=http_app(server, "secret"))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            given: list[dict[str, str]] = [{}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}]
            return [(await client.post("/mcp", headers=headers, json={})).status_code for headers in given]

    assert anyio.run(statuses) == [401, 401, 401]


def test_two_clients_over_http_share_the_runs(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PAPERWORKS_HOME": str(tmp_path / "home"), "PAPERWORKS_MCP_TOKEN": "secret"}
    child = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "mcp", "--http", str(port)], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stderr is not None
        assert "Bearer secret" in child.stderr.readline()
        listed = anyio.run(_list_from_two, f"http://127.0.0.1:{port}/mcp")
        assert listed[0] == listed[1]
    finally:
        child.terminate()
        child.wait(20)


async def _list_from_two(url: str) -> list[list[str]]:
    from mcp.client.streamable_http import streamable_http_client

    found: list[list[str]] = []

    async def one() -> None:
        http = httpx.AsyncClient(headers={"authorization": "Bearer secret"}, timeout=20)
        async with http, Client(streamable_http_client(url, http_client=http)) as client:
            result = await client.call_tool("list_papers", {})
            found.append([paper["slug"] for paper in result.structured_content["result"]])

    for _ in range(100):  # until it listens
        try:
            async with httpx.AsyncClient() as probe:
                await probe.get(url)
            break
        except httpx.ConnectError:
            await anyio.sleep(0.1)
    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
    return found
