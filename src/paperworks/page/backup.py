"""One file with everything the page holds, made while it runs, and put back into an empty place.

backup.tar.gz: manifest.json (what, SHA-256 of each file), database (page.sqlite or page.pgdump), secret-key,
               uploads/..., runs/... (finished ones)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from sqlalchemy import URL, make_url

from paperworks.errors import InputError, PaperworksError
from paperworks.page.settings import Settings
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_file, require_free
from paperworks.runs.store import Store

FORMAT = 1


def backup(
    settings: Settings, file: Path, store: Store | None = None, progress: Progress = no_progress
) -> dict[str, int]:
    """Write a backup to ``file``; returns how many files of each kind it holds.

    The database is copied in one consistent state while others write. Raises InputError if ``file`` exists.
    """
    store = store or Store()
    with new_file(file, "file") as aside, tempfile.TemporaryDirectory(dir=file.parent) as work:
        aside.touch(0o600)  # it holds password hashes and the signing key
        members = [_copy_database(settings, Path(work))]
        members += _plain_files(settings, store)
        digests: dict[str, str] = {}
        manifest = {"format": FORMAT, "made": datetime.now(UTC).isoformat(timespec="seconds"), "files": digests}
        with tarfile.open(aside, "w:gz") as archive:
            for name, path in progress(members, "backup"):
                try:
                    digests[name] = _sha256(path)
                    archive.add(path, name, recursive=False)
                except FileNotFoundError:
                    digests.pop(name, None)
            described = Path(work) / "manifest.json"
            described.write_text(json.dumps(manifest), encoding="utf-8")
            archive.add(described, "manifest.json")
    kinds = ("database", "uploads", "runs")
    return {kind: sum(PurePosixPath(n).parts[0] == kind for n in digests) for kind in kinds}


def restore(settings: Settings, file: Path, store: Store | None = None) -> None:
    """Put a backup back: into a page's folder without data, and (for its runs) a store without runs of the same name.

    Everything is read and checked before anything is put into place. Raises InputError for a file that is no backup or
    is damaged, and where data exist already.
    """
    store = store or Store()
    require_free(settings.folder, "folder")
    settings.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.folder.parent, prefix=".restore-") as work:
        root = Path(work)
        manifest = _unpack(file, root)
        runs = sorted({PurePosixPath(n).parts[1] for n in manifest if n.startswith("runs/")})
        taken = [run for run in runs if (store.runs / run).exists()]
        if taken:
            raise InputError("runs", f"{taken[0]}, which exists in {store.runs}", "a store without the backup's runs")
        page = root / "page"
        page.mkdir()
        for name in ("secret-key", "uploads"):
            if (root / name).exists():
                os.rename(root / name, page / name)
        _put_database(settings, root / "database", page)
        store.runs.mkdir(parents=True, exist_ok=True)
        for run in runs:
            shutil.move(str(root / "runs" / run), store.runs / run)
        if settings.folder.exists():
            settings.folder.rmdir()
        os.rename(page, settings.folder)
    store.rebuild_index()


def _copy_database(settings: Settings, work: Path) -> tuple[str, Path]:
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        source = Path(url.database or "")
        if not source.exists():
            raise InputError(
                "database", f"{source}, which does not exist", "the database of a page that was started once"
            )
        copy = work / "page.sqlite"
        with closing(sqlite3.connect(source, timeout=30)) as live, closing(sqlite3.connect(copy)) as target:
            live.backup(target)
        return "database/page.sqlite", copy
    copy = work / "page.pgdump"
    _postgres("pg_dump", url, "--format=custom", "--no-owner", "--file", str(copy))
    return "database/page.pgdump", copy


def _put_database(settings: Settings, saved: Path, page: Path) -> None:
    url = make_url(settings.database_url)
    kept = next(saved.iterdir())
    if url.get_backend_name() == "sqlite":
        if kept.suffix != ".sqlite":
            raise InputError("database", settings.database_url, "a PostgreSQL URL, as the backup's database was")
        target = Path(url.database or "")
        inside = target.absolute().is_relative_to(settings.folder.absolute())
        if not inside and target.exists():
            raise InputError("database", f"{target}, which exists", "a place without a database")
        place = page / target.absolute().relative_to(settings.folder.absolute()) if inside else target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(str(kept), place)
        return
    if kept.suffix != ".pgdump":
        raise InputError("database", "a PostgreSQL URL", "an SQLite database, as the backup's was")
    into = ["--dbname", url.database or "", "--no-owner", "--exit-on-error", "--single-transaction"]
    _postgres("pg_restore", url, *into, str(kept))


def _postgres(program: str, url: URL, *arguments: str) -> None:
    if shutil.which(program) is None:
        raise InputError("database", f"no {program} on this machine", "PostgreSQL's client programs")
    values = {
        "PGHOST": url.query.get("host") or url.host,  # a socket's folder stands in the query
        "PGPORT": url.port,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": url.query.get("sslmode"),
    }
    environment = os.environ | {k: str(v) for k, v in values.items() if v is not None}
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise PaperworksError(f"{program} ended with code {done.returncode}: {last[0]}")


def _plain_files(settings: Settings, store: Store) -> list[tuple[str, Path]]:
    found = []
    key = settings.folder / "secret-key"
    if key.exists():
        found.append(("secret-key", key))
    for kind, folder in (("uploads", settings.folder / "uploads"), ("runs", store.runs)):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and ".partial" not in path.name:
                found.append((f"{kind}/{path.relative_to(folder).as_posix()}", path))
    return found


def _unpack(file: Path, root: Path) -> list[str]:
    try:
        with tarfile.open(file, "r:gz") as archive:
            archive.extractall(root, filter="data")
        manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("file", f"{file}", "a backup that 'paperworks page backup' made") from None
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise InputError("file", f"{file}: {error}", "a whole backup that 'paperworks page backup' made") from None
    if manifest.get("format") != FORMAT:
        raise InputError("file", f"format {manifest.get('format')}", f"format {FORMAT}")
    for name, digest in manifest["files"].items():
        path = root / name
        if not path.is_file() or _sha256(path) != digest:
            raise InputError("file", f"{file}: {name} is missing or damaged", "a whole backup")
    return list(manifest["files"])


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
