"""``python -m paperworks.page.sandbox.child ROOT RUN SETTINGS``: take on limits, then execute one run of a store."""

from __future__ import annotations

import json
import os
import resource
import sys

from paperworks.page.sandbox import landlock
from paperworks.runs import child


def main(root: str, run_id: str, settings: str) -> int:
    """Execute the run; nothing of it runs before all limits hold."""
    given = json.loads(settings)
    limits = given["limits"]
    os.umask(0o077)
    os.nice(5)  # the page's readers come first
    for name, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
    ):
        _, hard = resource.getrlimit(name)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (allowed, allowed))
    if "landlock" in given:
        landlock.confine(**given["landlock"])
    return child.main(root, run_id)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
