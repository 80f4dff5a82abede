"""``python -m paperworks.runs.child ROOT RUN [OPTIONS]``: execute one run of a store. Engines start this.

``OPTIONS`` (JSON) stands in for options of the run, where files have other places than they were given by.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from paperworks.errors import PaperworksError
from paperworks.runs.engine import execute_here
from paperworks.runs.processes import end_with_parent
from paperworks.runs.store import Store


def main(root: str, run_id: str, options: str = "{}") -> int:
    """Execute the run; its error, if it ends with one, is in the store."""
    end_with_parent()
    try:
        execute_here(Store(Path(root)), run_id, places=json.loads(options))
    except PaperworksError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
