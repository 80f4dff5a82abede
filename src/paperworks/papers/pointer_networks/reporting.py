"""What a run shows: solutions beside exact ones and heuristics, and the paper's figures beside ours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paperworks import runs
from paperworks.papers.pointer_networks.figures import draw_solutions, loss_curve
from paperworks.papers.pointer_networks.problems import PROBLEMS, Pointing
from paperworks.papers.pointer_networks.published import DELAUNAY, HULL, MEMORY_NOTE, TSP_LENGTHS
from paperworks.papers.pointer_networks.tours import Cities, is_tour, tour_length

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
    cities: list[Points | Cities] = field(default_factory=list)
    reference_kinds: list[str] = field(default_factory=list)
    held_out: bool = True

    def measured(self) -> list[Any]:
        """The instances with the distances that tours are measured by: given ones, or those of the points."""
        return [*(self.cities or self.points)]

    def metrics(self) -> dict[str, float]:
        """The problem's metrics of the network's outputs against the references."""
        if self.references is None:
            return {}
        problem = PROBLEMS.get(self.problem, Pointing())
        return problem.metrics(self.measured(), self.outputs, self.references)

    def best(self, row: int, *, by_network: bool = False) -> tuple[list[int], str]:
        """The shortest valid tour and the method that found it; among equally short ones, the network's.

        ``by_network``: only of the methods that the network took part in. Empty where none is valid.
        """
        found = {"network": self.outputs[row], **{method: tours[row] for method, tours in self.others.items()}}
        if by_network:
            found = {method: tour for method, tour in found.items() if method.startswith(("network", "best"))}
        elif self.references is not None:
            found[self.reference_kinds[row] if self.reference_kinds else self.reference_name] = self.references[row]
        city = self.measured()[row]
        lengths = {method: tour_length(city, tour) for method, tour in found.items() if is_tour(tour, len(city))}
        if not lengths:
            return [], "none"
        shortest = min(lengths.values())
        method = next(method for method, length in lengths.items() if length <= shortest * (1 + 1e-12))
        return found[method], method

    def json_lines(self) -> str:
        """One object per instance: name, the output, the reference, and the outputs of the other methods."""
        lines = []
        for i, name in enumerate(self.names):
            row: dict[str, Any] = {"name": name, "output": self.outputs[i]}
            if self.references is not None:
                row[self.reference_name] = self.references[i]
            row |= {method: found[i] for method, found in self.others.items()}
            if self.problem == "tsp":
                row["best"], row["best_by"] = self.best(i)
            lines.append(json.dumps(row))
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Uniform:
    """The network's metrics on ``count`` uniform instances per number of points."""

    problem: str
    count: int
    metrics: dict[int, dict[str, float]]


def build_report(
    solved: Sequence[Solved],
    uniform: Sequence[Uniform],
    files: list[runs.ReportFile],
    notes: list[str],
    losses: list[float],
) -> runs.Report:
    """Headline, tables, drawings."""
    tables = [_table(s) for s in solved] + [_uniform_table(u) for u in uniform]
    figures = [
        runs.Figure(
            f"{TITLES[s.problem]} of the network",
            draw_solutions(
                s.problem,
                s.names[:SHOWN_DRAWINGS],
                s.points[:SHOWN_DRAWINGS],
                s.outputs[:SHOWN_DRAWINGS],
                s.references[:SHOWN_DRAWINGS] if s.references else [None] * min(SHOWN_DRAWINGS, len(s.points)),
            ),
            f"Blue: the network's; grey: {s.reference_name}. The first {min(SHOWN_DRAWINGS, len(s.points))} instances.",
        )
        for s in solved
        if s.problem != "sequence"
    ]
    if losses:
        figures.append(runs.Figure("Training loss", loss_curve(losses), "Cross-entropy per output, stops included."))
    metrics: dict[str, float] = {}
    for s in solved:
        metrics |= {f"{s.problem}_{name}": value for name, value in s.metrics().items()}
        if s.problem == "tsp" and s.references is not None:
            cities = s.measured()
            tours = [s.best(row, by_network=True)[0] for row in range(len(cities))]
            if all(tours):
                best = [tour_length(city, tour) for city, tour in zip(cities, tours, strict=True)]
                reference = [tour_length(city, tour) for city, tour in zip(cities, s.references, strict=True)]
                metrics["tsp_best_ratio"] = float(np.mean(np.array(best) / np.maximum(reference, 1e-300)))
    for u in uniform:
        for n, found in u.metrics.items():
            metrics |= {f"{u.problem}_{n}_{name}": value for name, value in found.items()}
    return runs.Report(_headline(solved), metrics, tables, figures, files, lead=notes, labels=_labels(metrics))


def _labels(metrics: dict[str, float]) -> dict[str, str]:
    """Names for people of the figures to show first."""
    names = {
        "hull_accuracy": "hulls that are exact, share",
        "hull_area": "area of the hulls covered",
        "delaunay_accuracy": "triangulations that are exact, share",
        "delaunay_coverage": "triangles found, share",
        "tsp_valid": "the network's tours that are valid, share",
        "tsp_ratio": "the network's tours, times the reference's length",
        "tsp_best_ratio": "its best tours with draws and 2-opt, times the reference's",
        "sequence_accuracy": "outputs that are right, share",
        "sequence_positions": "positions that are right, share",
    }
    return {name: words for name, words in names.items() if name in metrics}


def _headline(solved: Sequence[Solved]) -> str:
    parts = []
    for s in solved:
        found, count = s.metrics(), len(s.points)
        if not found:
            parts.append(f"{count} outputs were written")
        elif s.problem == "tsp":
            improved = s.others.get("network + 2-opt", s.outputs)
            after = PROBLEMS["tsp"].metrics(s.measured(), improved, s.references or [])["ratio"]
            by = Counter(s.best(row)[1] for row in range(count))
            parts.append(
                f"{found['valid']:.0%} of the network's {count} tours valid, {found['ratio'] - 1:.1%} longer than "
                f"{_reference_words(s.reference_name)} ({after - 1:.1%} after 2-opt); "
                "the tours written are the shortest found, by "
                + ", ".join(f"{method} ({number})" for method, number in by.most_common())
            )
        elif s.problem == "hull":
            area = "no simple polygon" if np.isnan(found["area"]) else f"{found['area']:.1%} of the area"
            if 0 < found["simple"] < 1:
                area += f" (of the {found['simple']:.0%} that are simple polygons)"
            parts.append(f"{round(found['accuracy'] * count)} of {count} hulls exact, {area}")
        elif s.problem == "delaunay":
            parts.append(
                f"{round(found['accuracy'] * count)} of {count} triangulations exact, "
                f"{found['coverage']:.0%} of the triangles"
            )
        else:
            what = "held-out outputs" if s.held_out else "outputs (the network may have been trained on them)"
            parts.append(f"{found['accuracy']:.1%} of {count} {what} right, {found['positions']:.1%} of positions")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _reference_words(name: str) -> str:
    return " or ".join("the optimum" if kind == "optimum" else f"the tour of {kind}" for kind in name.split(" or "))


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
    cities = s.measured()
    rows: list[list[Any]] = []
    for i in range(min(SHOWN_ROWS, len(s.points))):
        lengths = [_length(cities[i], found[i]) for found in methods.values()]
        rows.append([s.names[i], len(s.points[i]), *lengths])
    gaps: list[Any] = ["mean ratio to it", None]
    for found in methods.values():
        ratios = [
            tour_length(p, t) / max(tour_length(p, r), 1e-300)
            for p, t, r in zip(cities, found, references, strict=True)
            if is_tour(t, len(p)) and tour_length(p, r) > 0
        ]
        gaps.append(float(np.mean(ratios)) if ratios else None)
    return runs.Table(
        "Tours: length by method",
        ["instance", "n", *methods],
        [*rows, gaps],
        "In the unit of the input. An empty cell: no valid tour. a1: greedy edges; a2: nearest neighbour with 2-opt "
        "from every start; a3: Christofides with 2-opt.",
    )


def _length(city: Points | Cities, tour: list[int]) -> float | None:
    return tour_length(city, tour) if is_tour(tour, len(city)) else None


def _uniform_table(u: Uniform) -> runs.Table:
    title = f"{TITLES[u.problem]}: {u.count} uniform instances per size, beside the paper"
    rows: list[list[Any]] = []
    if u.problem == "tsp":
        for n, found in u.metrics.items():
            paper = TSP_LENGTHS.get(n)
            theirs = [paper.network, *paper[:4]] if paper else [None] * 5
            rows.append([n, found["length"], found["optimal"], found["ratio"], found["valid"], *theirs])
        columns = [
            "n",
            "network",
            "optimum",
            "ratio",
            "valid",
            "paper: Ptr-Net",
            "paper: optimum",
            "paper: A1",
            "paper: A2",
            "paper: A3",
        ]
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
