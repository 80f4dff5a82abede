"""Every paper's recipe, stopped at every step and taken up again, ends like one that was never stopped.

A paper is held to it by ``tests/papers/<its folder>/tiny.py``: ``options(folder)`` gives one or more sets of options
that take about a second together; it may make its inputs in ``folder``. The seed is the largest: libraries take less.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from paperworks import catalog
from paperworks.runs import Cancelled, Figure, Report, Run, build_config, load_recipe

pytestmark = pytest.mark.usefixtures("one_round_of_speed")

HERE = [p for p in catalog.papers() if p.has_recipe and p.module.startswith("paperworks.papers.")]
MOST_STOPS = 10
"""A recipe of more steps is stopped at the first ones, the last ones, and some between."""
TIMING = re.compile(
    r"second|time|speed|memory|peak|of it before|bytes|latency|\bms\b|throughput|per s\b|faster|slower|/s\b",
    re.IGNORECASE,
)
SEAL = "digest"
"""A digest of values that stand beside it, times among them: the others are compared one by one."""
DURATION = re.compile(r"\d[\d.,]*( ?(ms|s|min|h|seconds|MiB|GiB|times|x)\b|%? (faster|slower))")


def tiny_options(paper: catalog.Paper, folder: Path) -> list[dict[str, Any]]:
    return tiny_module(paper).options(folder)


def tiny_module(paper: catalog.Paper) -> Any:
    path = Path(__file__).parent / "papers" / paper.folder.name / "tiny.py"
    if not path.is_file():
        pytest.fail(
            f"write tests/papers/{paper.folder.name}/tiny.py with options(folder) -> list of small sets of options"
        )
    spec = importlib.util.spec_from_file_location(f"tiny_{paper.folder.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stopped(Run):
    """A run that is asked to stop at its ``at``-th check; it counts them."""

    checks, at = 0, -1

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.at:
            raise Cancelled
        super().check()


def content(report: Report, files: Path) -> dict[str, Any]:
    """A report and its files without what is measured by the clock or depends on the machine's memory."""
    data = report.to_dict()
    for name in ("usage", "origin"):
        data.pop(name)
    data["metrics"] = {name: value for name, value in data["metrics"].items() if not TIMING.search(name)}
    for table in data["tables"]:
        timed = [bool(TIMING.search(c)) or bool(TIMING.search(table["title"])) for c in table["columns"]]
        table["rows"] = [
            [None if t or TIMING.search(str(row[0])) else cell for cell, t in zip(row, timed, strict=True)]
            for row in table["rows"]
        ]
    text = DURATION.sub("·", json.dumps(data))
    figures = {
        name: drawing(figure)
        for name, figure in zip(report.figure_names(), report.figures, strict=True)
        if not TIMING.search(figure.title + figure.caption)
    }
    return {"report": json.loads(text), "figures": figures, "files": dict(file_contents(files))}


def drawing(figure: Figure) -> str:
    """A figure as SVG. ``to_svg`` draws it thrice, for a layout, a border and letters that are not compared here."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    assert figure.figure is not None
    figure.figure.set_layout_engine("none")
    with matplotlib.rc_context({"svg.hashsalt": "paperworks", "svg.fonttype": "none"}):
        FigureCanvasSVG(figure.figure).print_svg(out, metadata={"Date": None})
    return out.getvalue()


def file_contents(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name, data = str(path.relative_to(folder)), path.read_bytes()
            if path.suffix == ".json":
                yield name, untimed(json.loads(data), str(folder))
            elif path.suffix in (".jsonl", ".csv", ".txt", ".md", ".svg", ".html"):
                text = DURATION.sub("·", data.decode())
                yield name, re.sub(r'("[^"]*(second|time|speed|memory)[^"]*": )[\d.eE+-]+', r"\1·", text)
            elif path.suffix == ".safetensors":  # its header lists metadata in no fixed order
                with safe_open(path, framework="np") as stored:
                    yield (
                        name,
                        {
                            "metadata": stored.metadata(),
                            "tensors": {key: stored.get_tensor(key).tobytes() for key in stored.keys()},  # noqa: SIM118
                        },
                    )
            else:
                yield name, data


def untimed(value: Any, folder: str) -> Any:
    """JSON without timings and without the run's own folder; names that were a set are sorted."""
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if name != SEAL and not TIMING.search(name)}
        return {name: untimed(inner, folder) for name, inner in kept.items()}
    if isinstance(value, list):
        inner = [untimed(item, folder) for item in value]
        return sorted(inner) if inner and all(isinstance(item, str) for item in inner) else inner
    return DURATION.sub("·", value.replace(folder, "")) if isinstance(value, str) else value


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """Where two contents differ, in words."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in {**expected, **found}:
            yield from differences(expected.get(name), found.get(name), f"{where}/{name}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (a, b) in enumerate(zip(expected, found, strict=True)):
            yield from differences(a, b, f"{where}/{number}")
    elif expected != found:
        yield f"{where}: {str(found)[:80]!r} in place of {str(expected)[:80]!r}"


def stops(checks: int) -> list[int]:
    if checks <= MOST_STOPS:
        return list(range(1, checks + 1))
    step = -(-checks // (MOST_STOPS // 2))
    return sorted({*range(1, 4), *range(3, checks - 2, step), *range(checks - 2, checks + 1)})


@pytest.mark.over_budget("runs a recipe from its start as often as it has steps")
@pytest.mark.parametrize("paper", HERE, ids=[p.slug for p in HERE])
def test_stopped_at_every_step_it_ends_like_one_that_was_not(
    paper: catalog.Paper, tmp_path: Path, every_item_reported: None
) -> None:
    recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
    for number, options in enumerate(tiny_options(paper, tmp_path)):
        config = build_config(recipe.config, {"device": "cpu", "seed": 2**63 - 1} | options)
        whole = Stopped(tmp_path / f"whole-{number}" / "run", seed=config.seed)
        expected = content(recipe.function(config, whole), whole.files)
        folder = tmp_path / f"stopped-{number}" / "run"
        # One run: its first attempt is stopped at its first check, the next at its second, and so on, until one gets
        # to the end. Each goes on from what the ones before have left.
        ended = False
        for at in stops(whole.checks):
            run = Stopped(folder, seed=config.seed, resumed=at > 1)
            run.at = at
            try:
                recipe.function(config, run)
            except Cancelled:
                continue
            ended = True
            break
        # The last attempt ended, or was killed before its report was written: the next finds every file in its place.
        for _ in range(1 if ended else 2):
            run = Stopped(folder, seed=config.seed, resumed=True)
            report = recipe.function(config, run)
        assert list(differences(expected, content(report, run.files))) == []
