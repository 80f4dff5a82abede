"""Size on disk and seconds of an installation, in a fresh virtual environment that is removed afterwards.

    python scripts/measure_install.py                       # the base
    python scripts/measure_install.py llm page              # with extras
    python scripts/measure_install.py --first torch==2.13.0 llm

Prints one line per installation. pip's cache is not used. The size of the environment without the package (Python's own
files and pip) is subtracted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def size(folder: Path) -> int:
    """Bytes on disk below a folder; links are not followed."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_symlink())


def measure(extras: list[str], first: list[str], source: Path) -> tuple[float, int, int]:
    """Wall-clock seconds of ``pip install``, bytes on disk, and installed packages."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        empty = size(Path(folder))
        pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"]
        target = str(source) + (f"[{','.join(extras)}]" if extras else "")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        began = time.monotonic()
        if first:
            subprocess.run([*pip, *first], check=True, env=environment)
        subprocess.run([*pip, "--constraint", source / "constraints.txt", target], check=True, env=environment)
        seconds = time.monotonic() - began
        packages = len(list(Path(folder).glob("lib/python*/site-packages/*.dist-info")))
        return seconds, size(Path(folder)) - empty, packages


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("extras", nargs="*", help="extras of pyproject.toml; none for the base")
    parser.add_argument("--first", nargs="*", default=[], help="packages to install before, such as a build of torch")
    parser.add_argument("--source", type=Path, default=ROOT, help="the checkout to install")
    given = parser.parse_args()
    seconds, taken, packages = measure(given.extras, given.first, given.source.resolve())
    name = f"paperworks[{','.join(given.extras)}]" if given.extras else "paperworks"
    print(f"{name}: {seconds:.0f} s, {taken / 2**20:,.0f} MiB, {packages} packages (Python {sys.version.split()[0]})")


if __name__ == "__main__":
    main()
