"""``paperworks mcp``: the server for assistants."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from paperworks.errors import InputError

TOKEN = "PAPERWORKS_MCP_TOKEN"


def mcp(
    *,
    allow: Annotated[list[Path] | None, Parameter(negative="")] = None,
    http: int | None = None,
    jobs: int = 1,
    time_limit: str = "1h",
    memory_limit: str | None = None,
    disk_limit: str | None = None,
) -> None:
    """Serve the papers to an assistant by the Model Context Protocol, on standard input and output.

    Parameters
    ----------
    allow
        a folder that the assistant may read files from and save results to; may be given more than once
    http
        serve on this port of this machine (streamable HTTP) instead; the token is printed
    jobs
        how many runs are executed at a time
    time_limit
        end each run after this time (90s, 10m, 2h)
    memory_limit
        end a run above this memory (500MiB, 8GiB)
    disk_limit
        end a run whose files take more than this
    """
    from paperworks.cli.options import parse_bytes, parse_seconds
    from paperworks.mcp_server import AllowedFolders, Jobs, build_server, serve_http, serve_stdio
    from paperworks.runs import ChildEngine, Store

    if http is not None and not 1 <= http <= 65535:
        raise InputError("http", http, "a port from 1 to 65535")
    engine = ChildEngine(
        parse_seconds(time_limit),
        parse_bytes(memory_limit) if memory_limit else None,
        parse_bytes(disk_limit) if disk_limit else None,
    )
    running = Jobs(Store(), engine, jobs)
    server = build_server(running, AllowedFolders(allow or ()))
    try:
        if http is None:
            serve_stdio(server)
        else:
            import secrets

            token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
            print(f"http://127.0.0.1:{http}/mcp, header 'Authorization: Bearer {token}'", file=sys.stderr, flush=True)
            serve_http(server, http, token)
    finally:
        running.close()
