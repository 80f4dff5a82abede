"""The tools and resources of the server. What a tool returns is JSON; errors are the library's own sentences."""

from __future__ import annotations

import functools
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

import paperworks
from paperworks import catalog
from paperworks.errors import InputError, PaperworksError
from paperworks.mcp_server.folders import AllowedFolders, checked_options
from paperworks.mcp_server.jobs import Jobs, describe
from paperworks.runs import Config, Recipe, build_config, load_recipe
from paperworks.runs.config import command_line_only, names_file

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

F = TypeVar("F", bound=Callable[..., Any])

INSTRUCTIONS = """\
Paperworks runs the methods of machine-learning papers on the user's own files.
1. search_papers finds a paper by what the user wants; show_paper tells its claims and what was measured here.
2. paper_options gives the options of a run as a JSON schema. Options marked as files take a path in an allowed folder
   or a bundled name; without them a run uses bundled input.
3. run_paper starts a run and returns its id at once. wait_for_run follows it; cancel_run stops it; resume_run goes on.
4. get_report returns the headline, metrics, tables and notes; get_figure an SVG drawing; read_file a file that the run
   made; save_results copies all of them into a new folder of the user.
"""
MOST_ROWS, MOST_CHARACTERS, MOST_WAIT_SECONDS, LOOK_SECONDS = 50, 50_000, 50.0, 0.5


def build_server(jobs: Jobs, folders: AllowedFolders) -> MCPServer:
    """The server with its tools and resources; it executes runs through ``jobs`` and reads paths in ``folders``."""
    server = MCPServer("paperworks", version=paperworks.__version__, instructions=INSTRUCTIONS, log_level="ERROR")
    tools = Tools(jobs, folders)
    for function in (
        tools.search_papers,
        tools.list_papers,
        tools.show_paper,
        tools.paper_options,
        tools.run_paper,
        tools.run_status,
        tools.list_runs,
        tools.cancel_run,
        tools.resume_run,
        tools.get_report,
        tools.get_figure,
        tools.read_file,
        tools.save_results,
    ):
        server.tool()(_with_errors(function))
    server.tool()(_wait_tool(jobs))

    @server.resource("paperworks://papers/{slug}", mime_type="text/markdown")
    def summary(slug: str) -> str:
        """A paper in our words, with its claims and what was measured."""
        return paper_markdown(catalog.find(slug))

    @server.resource("paperworks://runs/{run}/report.json", mime_type="application/json")
    def report(run: str) -> str:
        """The whole report of a finished run."""
        return (_finished(jobs, run) / "report.json").read_text(encoding="utf-8")

    @server.resource("paperworks://runs/{run}/report.html", mime_type="text/html")
    def page(run: str) -> str:
        """The report of a finished run as one self-contained page."""
        return (_finished(jobs, run) / "report.html").read_text(encoding="utf-8")

    return server


class Tools:
    """The tools; each method's docstring is what the assistant reads."""

    def __init__(self, jobs: Jobs, folders: AllowedFolders) -> None:
        self._jobs, self._folders = jobs, folders

    def search_papers(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        """Find papers by what they are for, best first, such as "make a language model smaller"."""
        found, _ = catalog.search(query, limit=limit)
        return [paper.to_dict() | {"score": round(score, 4)} for paper, score in found]

    def list_papers(self, tag: str = "", works_only: bool = True) -> list[dict[str, Any]]:
        """List the papers, by default those that work here; a tag chooses among them."""
        return [p.to_dict() for p in catalog.papers(tag=tag or None, works=True if works_only else None)]

    def show_paper(self, slug: str) -> dict[str, Any]:
        """A paper: its summary, every claim with the verdict of our measurements, and the findings behind it."""
        paper = catalog.find(slug)
        verdicts = paper.verdicts()
        claims = [asdict(claim) | {"verdict": verdicts[claim.id]} for claim in paper.claims]
        return paper.to_dict() | {"summary": paper.summary, "claims": claims, "findings": paper.findings}

    def paper_options(self, slug: str) -> dict[str, Any]:
        """The options of a paper's run as a JSON schema, with defaults; files are marked with their bundled names."""
        return options_schema(_recipe(slug).config)

    def run_paper(self, slug: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start a run of a paper and return its id at once. Options are those of paper_options; all have defaults."""
        paper = catalog.find(slug)
        recipe = _recipe(slug)
        paper.require_extra()
        config = build_config(recipe.config, checked_options(recipe.config, options or {}, self._folders))
        return self._jobs.status(self._jobs.start(recipe.slug, recipe.module, config))

    def run_status(self, run: str) -> dict[str, Any]:
        """A run's status (waiting, running, finished, cancelled, failed, interrupted) and what it says now."""
        return self._jobs.status(run)

    def list_runs(self, paper: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """The runs on this machine, newest first."""
        records = self._jobs.store.records(catalog.find(paper).slug if paper else None)
        return [describe(record) for record in records[: max(1, limit)]]

    def cancel_run(self, run: str) -> str:
        """Stop a run at its next check. It can be resumed from its checkpoints."""
        return f"{self._jobs.cancel(run)} was asked to stop"

    def resume_run(self, run: str) -> dict[str, Any]:
        """Go on with a run that was cancelled, failed or interrupted."""
        return self._jobs.status(self._jobs.resume(run))

    def get_report(self, run: str, max_rows: int = 20) -> dict[str, Any]:
        """The report of a finished run: headline, metrics, tables (their first rows), notes, figures and files."""
        report = json.loads((_finished(self._jobs, run) / "report.json").read_text(encoding="utf-8"))
        rows = min(max(1, max_rows), MOST_ROWS)
        for table in report["tables"]:
            left_out = len(table["rows"]) - rows
            if left_out > 0:
                table["rows"] = table["rows"][:rows]
                table["note"] = f"{table['note']} ({left_out} more rows in report.json)".strip()
        return cast(dict[str, Any], report)

    def get_figure(self, run: str, figure: int = 1) -> str:
        """A figure of a finished run as SVG text; figures are numbered from 1, as in get_report."""
        drawings = sorted((_finished(self._jobs, run) / "figures").glob("*.svg"))
        if not 1 <= figure <= len(drawings):
            expected = f"a number from 1 to {len(drawings)}" if drawings else "a run with figures; this one has none"
            raise InputError("figure", figure, expected)
        return drawings[figure - 1].read_text(encoding="utf-8")

    def read_file(self, run: str, path: str, offset: int = 0) -> dict[str, Any]:
        """Text of a file that a finished run made, from a character on; a binary file's size and place only."""
        files = (_finished(self._jobs, run) / "files").resolve()
        chosen = (files / path).resolve()
        if not chosen.is_relative_to(files) or not chosen.exists():
            names = sorted(str(p.relative_to(files)) for p in files.rglob("*") if p.is_file())[:20]
            raise InputError("path", repr(path), f"a file of the run: {', '.join(names) or 'it made none'}")
        if chosen.is_dir():
            entries = sorted(p.name + ("/" if p.is_dir() else "") for p in chosen.iterdir())
            return {"path": str(chosen), "entries": entries}
        found: dict[str, Any] = {"path": str(chosen), "bytes": chosen.stat().st_size}
        try:
            with chosen.open(encoding="utf-8") as text:
                text.read(offset)
                found["text"] = text.read(MOST_CHARACTERS)
                found["more"] = bool(text.read(1))
        except UnicodeDecodeError:
            found["note"] = "a binary file; save_results copies it to a folder of the user"
        return found

    def save_results(self, run: str, folder: str) -> str:
        """Copy the files and the report of a finished run into a new folder below the allowed ones."""
        _finished(self._jobs, run)
        target = self._folders.new("folder", folder)
        self._jobs.store.publish(self._jobs.store.find(run).id, target)
        return str(target)


def options_schema(config: type[Config]) -> dict[str, Any]:
    """JSON schema of a recipe's options, without those for the command line only. Files carry ``bundled`` names."""
    schema = config.model_json_schema()
    for name, info in config.model_fields.items():
        if command_line_only(info):
            schema["properties"].pop(name, None)
            continue
        file = names_file(info)
        if file is not None:
            schema["properties"][name] |= {"file": True, "bundled": list(file.bundled)}
    return schema


def paper_markdown(paper: catalog.Paper) -> str:
    """A paper's summary and claims as Markdown."""
    verdicts = paper.verdicts()
    lines = [f"# {paper.title}", "", f"arXiv {paper.arxiv}, {paper.date}", "", paper.summary, "", "## Claims", ""]
    lines += [f"- {claim.statement} In the paper: {claim.value}. Here: {verdicts[claim.id]}." for claim in paper.claims]
    return "\n".join(lines) + "\n"


def _recipe(slug: str) -> Recipe:
    paper = catalog.find_with_recipe(slug)
    return load_recipe(paper.slug, f"{paper.module}.recipe")


def _finished(jobs: Jobs, run: str) -> Path:
    record = jobs.store.find(run)
    if record.status != "finished":
        raise InputError("run", f"{record.id}, which is {record.status}", "a finished run")
    return record.folder


def _wait_tool(jobs: Jobs) -> Callable[..., Any]:
    async def wait_for_run(run: str, context: Context, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until a run ends, at most so many seconds (up to 50), and return its status. Reports progress."""
        end = time.monotonic() + min(max(0.0, seconds), MOST_WAIT_SECONDS)
        said = ""
        while True:
            status = await anyio.to_thread.run_sync(_told, jobs, run)
            if status["status"] not in ("running", "waiting") or time.monotonic() >= end:
                return status
            if status["message"] != said:
                said = status["message"]
                await context.report_progress(status["seconds"] or 0.0, message=said)
            await anyio.sleep(LOOK_SECONDS)

    return wait_for_run


def _told(jobs: Jobs, run: str) -> dict[str, Any]:
    try:
        return jobs.status(run)
    except PaperworksError as error:
        raise ToolError(str(error)) from None


def _with_errors(function: F) -> F:
    """Errors that a user can act on reach the assistant as the sentences that they are."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except PaperworksError as error:
            raise ToolError(str(error)) from None

    return cast(F, call)


def serve_stdio(server: MCPServer) -> None:
    """Serve one client on standard input and output, until it goes."""
    server.run("stdio")


def serve_http(server: MCPServer, port: int, token: str) -> None:
    """Serve clients on this machine by streamable HTTP at ``http://127.0.0.1:PORT/mcp``, until interrupted.

    Every request needs the header ``Authorization: Bearer TOKEN``. Requests of other host names are refused.
    """
    import uvicorn

    uvicorn.run(http_app(server, token), host="127.0.0.1", port=port, log_level="warning", access_log=False)


def http_app(server: MCPServer, token: str) -> ASGIApp:
    """The ASGI application of ``serve_http``."""
    app = server.streamable_http_app(host="127.0.0.1")
    expected = f"Bearer {token}".encode()

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, expected):
                headers = [(b"www-authenticate", b"Bearer")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                await send({"type": "http.response.body", "body": b"the token of this server is needed\n"})
                return
        await app(scope, receive, send)

    return guarded
