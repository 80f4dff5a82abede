"""A session of an assistant with ``paperworks mcp``, printed call by call: find a paper, run it, read what it found.

    python scripts/mcp_session.py FOLDER --slug SLUG --option name=value ...

FOLDER is the only one that the server may read; options that name files are relative to it. The client is that of the
protocol's own Python SDK, on standard input and output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

CODE = "from paperworks.cli import main; main()"
WIDTH = 160


async def call(client: Client, name: str, arguments: dict[str, Any], shown: tuple[str, ...] = ()) -> Any:
    """Call a tool, and print the call and what of its result is ``shown`` (of every entry of a list)."""
    print(f"> {name} {json.dumps(arguments)}")
    result = await client.call_tool(name, arguments)
    if result.is_error:
        print(f"  error: {result.content[0].text}")
        return None
    found = result.structured_content.get("result", result.structured_content)
    for entry in found if isinstance(found, list) else [found]:
        text = json.dumps({key: entry[key] for key in shown} if shown else entry, ensure_ascii=False)
        print("  " + (text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"))
    return found


async def session(folder: Path, query: str, slug: str, options: dict[str, str]) -> None:
    """The whole session."""
    parameters = StdioServerParameters(
        command=sys.executable, args=["-c", CODE, "mcp", "--allow", str(folder)], env=dict(os.environ)
    )
    async with Client(parameters) as client:
        await call(client, "search_papers", {"query": query, "limit": 3}, ("slug", "purpose", "works"))
        await call(client, "show_paper", {"slug": slug}, ("title", "claims_held", "claims_total"))
        await call(client, "run_paper", {"slug": slug, "options": {next(iter(options), "data"): "/etc/passwd"}})
        run = (await call(client, "run_paper", {"slug": slug, "options": options}, ("run", "status")))["run"]
        status = "waiting"
        while status in ("waiting", "running"):
            told = await call(client, "wait_for_run", {"run": run, "seconds": 50}, ("status", "message"))
            status = told["status"] if told else "refused"
        await call(client, "get_report", {"run": run}, ("headline",))


def main() -> None:
    """Run the session."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--query", default="make a language model smaller")
    parser.add_argument("--slug", required=True)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    options = dict(option.split("=", 1) for option in given.option)
    anyio.run(session, given.folder, given.query, given.slug, options)


if __name__ == "__main__":
    main()
