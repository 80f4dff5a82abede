"""A Model Context Protocol server: assistants search the papers, run them on allowed files, and read the reports.

    assistant ──stdio or HTTP──> server ──> jobs ──ChildEngine──> the store of runs
                                    └─> folders: which paths of this machine a run may read or write

``paperworks mcp`` starts it. Every tool's options come from the paper's ``Config``: nothing is written twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.mcp_server.folders import AllowedFolders
    from paperworks.mcp_server.jobs import Jobs
    from paperworks.mcp_server.server import build_server, serve_http, serve_stdio
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = ["AllowedFolders", "Jobs", "build_server", "serve_http", "serve_stdio"]
