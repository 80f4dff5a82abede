"""JSON lines that grow while work goes on: what is in the file is done, also after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paperworks.errors import InputError


class Ledger:
    """A file of JSON lines with an ``id`` each. Lines are written through to the disk; a half-written last one goes.

    Raises InputError for a line before the last that is no such object: another file stands under the name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.decode("utf-8", "replace").split("\n")[:-1], 1):
            try:
                row = json.loads(line)
                self.rows[row["id"]] = row
            except (ValueError, KeyError, TypeError):
                raise InputError("out_dir", f"{path}, line {number}, which no run wrote", "a new folder") from None

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those of ``ids`` that are not in the file, in their order."""
        return [name for name in ids if name not in self.rows]

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows, which are on the disk when this returns."""
        new = [dict(row) for row in rows]
        with self.path.open("ab") as file:
            file.write("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in new).encode())
            file.flush()
            os.fsync(file.fileno())
        self.rows |= {row["id"]: row for row in new}
