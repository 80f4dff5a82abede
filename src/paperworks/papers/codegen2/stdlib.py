"""The standard library of this Python as source code: what the bundled model and the studies learn from."""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path

from paperworks.papers.codegen2.repository import CodeFile

LEAST_BYTES = 2048
OUT = frozenset({"site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data", "lib-dynload"})
TESTS = frozenset({"test", "tests", "idle_test"})
HELD_OUT_PACKAGE = "email"
"""The bundled model never saw this package: it is the repository of the recipe's defaults."""
HELD_OUT_SHARE = 20
"""One file in so many is held out, by the SHA-256 of its path."""


def stdlib_folder() -> Path:
    """Where the standard library's source files are."""
    return Path(sysconfig.get_path("stdlib"))


def stdlib_files(*, tests: bool = False, least: int = LEAST_BYTES) -> list[CodeFile]:
    """Source files of at least so many bytes, in the order of their paths; tables of encodings are left out.

    ``tests`` also reads the tests, where this installation has them.
    """
    root = stdlib_folder()
    found = []
    for path in sorted(root.rglob("*.py")):
        below = path.relative_to(root)
        parts = set(below.parts[:-1])
        if parts & OUT or (not tests and parts & TESTS) or below.name.startswith("_sysconfigdata"):
            continue
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # some tests are in other encodings, on purpose
        if len(text.encode()) >= least:
            found.append(CodeFile(below.as_posix(), "python", text.replace("\r\n", "\n")))
    return found


def held_out(file: CodeFile) -> bool:
    """Whether the bundled model was not trained on a file: all of ``email``, and a twentieth of the others."""
    if file.path.startswith(f"{HELD_OUT_PACKAGE}/"):
        return True
    return int(hashlib.sha256(file.path.encode()).hexdigest(), 16) % HELD_OUT_SHARE == 0
