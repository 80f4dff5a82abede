"""``python -m paperworks.runs.child ROOT RUN [PARENT]``: execute one run of a store. ``ChildEngine`` starts this."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from paperworks.errors import PaperworksError
from paperworks.runs.engine import LocalEngine
from paperworks.runs.store import Store

PARENT_SECONDS = 0.5


def main(root: str, run_id: str, parent: str | None = None) -> int:
    if parent is not None:
        threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    try:
        LocalEngine().execute(Store(Path(root)), run_id)
    except PaperworksError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _end_with(parent: int) -> None:
    """End this process and what it started once its parent is gone, so that nobody works on a run without limits."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os.killpg(0, signal.SIGKILL)  # the engine made this process the leader of a group of its own


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
