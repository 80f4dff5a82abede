"""What a run shows: solutions beside exact ones and heuristics, and the paper's figures beside ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paperworks import runs
from paperworks.papers.pointer_networks.figures import draw_solutions, loss_curve
from paperworks.papers.pointer_networks.problems import PROBLEMS, Pointing
from paperworks.papers.pointer_networks.published import DELAUNAY, HULL, MEMORY_NOTE, TSP_LENGTHS
from paperworks.papers.pointer_networks.tours import is_tour, tour_length

Points = NDArray[np.float64]
SHOWN_ROWS, SHOWN_DRAWINGS = 30, 6
TITLES = {"hull": "Convex hulls", "delaunay": "Delaunay triangulations", "tsp": "Tours", "sequence": "Outputs"}


@dataclass
class Solved:
    """Instances of one problem with the network's outputs, the references, and the other methods' outputs by name."""

    problem: str
    names: list[str]
    points: list[Points]
    outputs: list[list[int]]
    references: list[list[int]] | None = None
    reference_name: str = ""
    others: dict[str, list[list[int]]] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """The problem's metrics of the network's outputs against the references."""
        if self.references is None:
            return {}
        problem = PROBLEMS.get(self.problem, Pointing())
        return problem.metrics(self.points, self.outputs, self.references)

    def best(self, row: int) -> tuple[list[int], str]:
        """The shortest tour that the network took part in, and how it was found."""
        mine = {"network": self.outputs} | {k: v for k, v in self.others.items() if k.startswith(("network", "best"))}
        valid = {k: v[row] for k, v in mine.items() if is_tour(v[row], len(self.points[row]))}
        name = min(valid, key=lambda k: tour_length(self.points[row], valid[k]))
        return valid[name], name

    def json_lines(self) -> str:
        """One object per instance: name, the output, the reference, and the outputs of the other methods."""
        lines = []
        for i, name in enumerate(self.names):
            row: dict[str, Any] = {"name": name, "output": self.outputs[i]}
            if self.references is not None:
                row[self.reference_name] = self.references[i]
            row |= {method: found[i] for method, found in self.others.items()}
            lines.append(json.dumps(row))
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Uniform:
    """The network's metrics on ``count`` uniform instances per number of points."""

    problem: str
    count: int
    metrics: dict[int, dict[str, float]]


def build_report(
    solved: Sequence[Solved], uniform: Sequence[Uniform], files: list[runs.ReportFile], notes: list[str],
    losses: list[float],
) -> runs.Report:  # fmt: skip
    """Headline, tables, drawings."""
    tables = [_table(s) for s in solved] + [_uniform_table(u) for u in uniform]
    figures = [
        runs.Figure(
            f"{TITLES[s.problem]} of the network",
            draw_solutions(
                s.problem, s.names[:SHOWN_DRAWINGS], s.points[:SHOWN_DRAWINGS], s.outputs[:SHOWN_DRAWINGS],
                s.references[:SHOWN_DRAWINGS] if s.references else [None] * min(SHOWN_DRAWINGS, len(s.points)),
            ),
            f"Blue: the network's; grey: {s.reference_name}. The first {min(SHOWN_DRAWINGS, len(s.points))} instances.",
        )
        for s in solved
        if s.problem != "sequence"
    ]  # fmt: skip
    if losses:
        figures.append(runs.Figure("Training loss", loss_curve(losses), "Cross-entropy per output, stops included."))
    metrics: dict[str, float] = {}
    for s in solved:
        metrics |= {f"{s.problem}_{name}": value for name, value in s.metrics().items()}
        if s.problem == "tsp" and s.references is not None:
            best = [tour_length(s.points[i], s.best(i)[0]) for i in range(len(s.points)) if _any_tour(s, i)]
            if len(best) == len(s.points):
                reference = [tour_length(p, r) for p, r in zip(s.points, s.references, strict=True)]
                metrics["tsp_best_ratio"] = float(np.mean(np.array(best) / np.maximum(reference, 1e-300)))
    for u in uniform:
        for n, found in u.metrics.items():
            metrics |= {f"{u.problem}_{n}_{name}": value for name, value in found.items()}
    return runs.Report(_headline(solved), metrics, tables, figures, files, notes)


def _any_tour(s: Solved, row: int) -> bool:
    return any(is_tour(found[row], len(s.points[row])) for found in [s.outputs, *s.others.values()])


def _headline(solved: Sequence[Solved]) -> str:
    parts = []
    for s in solved:
        found, count = s.metrics(), len(s.points)
        if not found:
            parts.append(f"{count} outputs were written")
        elif s.problem == "tsp":
            improved = s.others.get("network + 2-opt", s.outputs)
            after = PROBLEMS["tsp"].metrics(s.points, improved, s.references or [])["ratio"]
            parts.append(
                f"{found['valid']:.0%} of {count} tours valid, {found['ratio'] - 1:.1%} longer than the "
                f"{s.reference_name} ({after - 1:.1%} after 2-opt)"
            )
        elif s.problem == "hull":
            parts.append(f"{round(found['accuracy'] * count)} of {count} hulls exact, {found['area']:.1%} of the area")
        elif s.problem == "delaunay":
            parts.append(
                f"{round(found['accuracy'] * count)} of {count} triangulations exact, "
                f"{found['coverage']:.0%} of the triangles"
            )
        else:
            parts.append(
                f"{found['accuracy']:.1%} of {count} held-out outputs right, {found['positions']:.1%} of positions"
            )
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _table(s: Solved) -> runs.Table:
    if s.problem == "tsp":
        return _tour_table(s)
    shown = range(min(SHOWN_ROWS, len(s.points)))
    problem = PROBLEMS.get(s.problem, Pointing())
    rows: list[list[Any]] = []
    names: list[str] = []
    for i in shown:
        row: list[Any] = [s.names[i], len(s.points[i]), _text(s.outputs[i])]
        if s.references is not None:
            found = problem.metrics([s.points[i]], [s.outputs[i]], [s.references[i]])
            names = list(found)
            row += [_text(s.references[i]), *found.values()]
        rows.append(row)
    if s.references is not None and len(s.points) > 1:
        rows.append([f"mean of {len(s.points)}", None, "", "", *s.metrics().values()])
    columns = ["instance", "n", "network", *([s.reference_name, *names] if s.references is not None else [])]
    hidden = f" The first {SHOWN_ROWS} are shown." if len(s.points) > SHOWN_ROWS else ""
    return runs.Table(TITLES[s.problem], columns, rows, "Indices from 0." + hidden)


def _text(output: list[int]) -> str:
    return " ".join(map(str, output[:24])) + (" ..." if len(output) > 24 else "")


def _tour_table(s: Solved) -> runs.Table:
    references = s.references or []
    methods = {s.reference_name: references, "network": s.outputs, **s.others}
    rows: list[list[Any]] = []
    for i in range(min(SHOWN_ROWS, len(s.points))):
        lengths = [_length(s.points[i], found[i]) for found in methods.values()]
        rows.append([s.names[i], len(s.points[i]), *lengths])
    gaps: list[Any] = ["mean ratio to it", None]
    for found in methods.values():
        ratios = [
            tour_length(p, t) / max(tour_length(p, r), 1e-300)
            for p, t, r in zip(s.points, found, references, strict=True)
            if is_tour(t, len(p)) and tour_length(p, r) > 0
        ]
        gaps.append(float(np.mean(ratios)) if ratios else None)
    return runs.Table(
        "Tours: length by method", ["instance", "n", *methods], [*rows, gaps],
        "In the unit of the input. An empty cell: no valid tour. a1: greedy edges; a2: nearest neighbour with 2-opt "
        "from every start; a3: Christofides with 2-opt.",
    )  # fmt: skip


def _length(points: Points, tour: list[int]) -> float | None:
    return tour_length(points, tour) if is_tour(tour, len(points)) else None


def _uniform_table(u: Uniform) -> runs.Table:
    title = f"{TITLES[u.problem]}: {u.count} uniform instances per size, beside the paper"
    rows: list[list[Any]] = []
    if u.problem == "tsp":
        for n, found in u.metrics.items():
            paper = TSP_LENGTHS.get(n)
            theirs = [paper.network, *paper[:4]] if paper else [None] * 5
            rows.append([n, found["length"], found["optimal"], found["ratio"], found["valid"], *theirs])
        columns = ["n", "network", "optimum", "ratio", "valid", "paper: Ptr-Net", "paper: optimum", "paper: A1",
                   "paper: A2", "paper: A3"]  # fmt: skip
        return runs.Table(title, columns, rows, "The paper's A1, A2, A3 at 5 and 10 are from memory.")
    published, second = (HULL, "area") if u.problem == "hull" else (DELAUNAY, "coverage")
    for n, found in u.metrics.items():
        known = published.get(n, (None, None))
        rows.append([n, found["accuracy"], found[second], found.get("simple"), *known])
    columns = ["n", "accuracy", second, "simple polygons", "paper: accuracy", f"paper: {second}"]
    if u.problem == "delaunay":
        rows, columns = [r[:3] + r[4:] for r in rows], columns[:3] + columns[4:]
        return runs.Table(title, columns, rows, "The paper trained a network per size; the bundled one on 5 points.")
    return runs.Table(
        title, columns, rows, f"The paper's was trained on 5 to 50 points, the bundled one on 5 to 10. {MEMORY_NOTE}"
    )
