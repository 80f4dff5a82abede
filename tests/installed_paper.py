"""A small paper that another package brings."""

from __future__ import annotations

from pathlib import Path

PAPER = """
slug = "tiny-paper"
title = "A tiny paper"
arxiv = "0001.00001"
date = "2020-01-02"
authors = 2
tags = ["testing"]
purpose = "Counts things, for the tests of what surrounds a paper"
summary = "It counts. Then it stops."
repository = ""

[[claims]]
id = "counts"
statement = "It counts to n"
value = "n"

[[claims]]
id = "fast"
statement = "It is fast"

[[claims]]
id = "huge"
statement = "It counts to a trillion"
reason = "a trillion does not fit here"
"""

RECIPE = '''
"""Count."""
from __future__ import annotations
import time
from pathlib import Path
from typing import Literal
from pydantic import Field, model_validator
from paperworks import runs


# Drawn already: to import matplotlib would take most of the time of a run.
LINE = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40"><path d="M0 40 L60 0" stroke="black"/></svg>
"""


class Config(runs.Config):
    n: int = Field(5, ge=1, le=1000, description="items to count")
    pause: float = Field(0.0, ge=0, lt=10, description="seconds per item")
    mode: Literal["count", "fail", "bad", "hog", "wrong"] = Field("count", description="what to do")
    names: tuple[str, ...] = Field(("a", "b"), description="names of the items")
    sizes: list[int] | None = Field(None, description="sizes of the items")
    loud: bool = Field(False, description="say it")
    where: Path | None = Field(None, description="a folder")

    @model_validator(mode="after")
    def _check(self):
        if self.n == 13:
            raise ValueError("n other than 13 when counting")
        return self


def run(config, run):
    """Count things."""
    if config.mode == "fail":
        raise RuntimeError("it broke")
    if config.mode == "bad":
        from paperworks.errors import InputError
        raise InputError("where", "nothing", "something")
    if config.mode == "wrong":
        return {"headline": "not a report"}
    if config.mode == "hog":
        hog = []
        while True:
            hog.append(bytearray(10_000_000))
            time.sleep(0.005)
    fresh = 0
    for i in run.progress(range(config.n), "counting"):
        mark = run.state / f"{i}.done"
        if not mark.exists():
            time.sleep(config.pause)
            fresh += 1
            mark.write_text(str(run.rng("count").integers(1000)))
    if config.where is not None and config.where.is_file():
        (run.files / "where.txt").write_text(config.where.read_text())
    (run.files / "big.bin").write_bytes(b"x" * 200_000)
    (run.files / "count.txt").write_text(str(config.n))
    return runs.Report(
        f"Counted {config.n} things", {"things": config.n, "fresh": fresh},
        [runs.Table("Counts", ["name", "size, bytes", "ok"], [["a", 2048, True], ["b", None, False]], "a note")],
        [runs.Figure("A line", None, "It rises", LINE)], [runs.ReportFile("count.txt", "the count")], ["remember this"],
    )
'''

STUDY = """
from __future__ import annotations
import os
from paperworks import runs


@runs.study(claims=["counts"], title="Counting", minutes=0.1)
def counting(run, fast):
    path = os.environ.get("TINY_LOG")
    if path:
        with open(path, "a") as out:
            out.write("counting\\n")
    yield runs.Finding("counts", "It counts to 5", "exact", 5, "==", 5, unit="things")


@runs.study(claims=["fast"], title="Speed")
def speed(run, fast):
    if os.environ.get("TINY_BREAK"):
        raise RuntimeError("no clock")
    return [runs.Finding("fast", "It beats the snail", "empirical", 3.0, "<", 2.0, baseline=2.0, baseline_name="snail")]
"""


def write_paper(root: Path, *, name: str = "tiny_paper", toml: str = PAPER) -> Path:
    """An installed distribution below ``root`` whose entry point adds the paper."""
    package = root / name
    package.mkdir(parents=True)
    for file, text in {
        "paper.toml": toml,
        "__init__.py": '"""Tiny."""\nANSWER = 42\n',
        "recipe.py": RECIPE,
        "study.py": STUDY,
    }.items():
        (package / file).write_text(text)
    info = root / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[paperworks.papers]\ntiny = {name}\n")
    return package
