"""Hulls, triangulations and tours of the user's points by the bundled networks, or pointing learned from examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.pointer_networks import reporting
from paperworks.papers.pointer_networks.config import Config
from paperworks.papers.pointer_networks.estimators import ESTIMATORS, SetToSequence, shortest_tour
from paperworks.papers.pointer_networks.files import (
    Elements,
    official_text,
    read_elements,
)
from paperworks.papers.pointer_networks.generators import make_delaunay, make_hull, make_tsp
from paperworks.papers.pointer_networks.heuristics import random_tour, reference_tour
from paperworks.papers.pointer_networks.problems import PROBLEMS
from paperworks.papers.pointer_networks.reporting import Solved, Uniform
from paperworks.papers.pointer_networks.scaling import to_unit_square
from paperworks.papers.pointer_networks.solving import TOUR_METHODS
from paperworks.papers.pointer_networks.tours import Cities, counter_clockwise, two_opt
from paperworks.papers.pointer_networks.tsplib import TSPLIB, read_tsplib, tsplib_tour_text
from paperworks.runs.files import write_text

Points = NDArray[np.float64]
DATA = Path(__file__).parent / "data"
CAPITALS = DATA / "capitals31.tsp"


def run(config: Config, run: runs.Run) -> runs.Report:
    """Solve hulls, triangulations and tours by pointing, beside exact solutions and heuristics."""
    if config.problem == "sequence":
        return _run_sequence(config, run)
    names = list(PROBLEMS) if config.problem == "all" else [config.problem]
    solved, uniform, files = [], [], []
    losses: list[float] = []
    notes: list[str] = []
    for name in names:
        run.step(f"{name}: reading the instances")
        elements = _read(config, name)
        try:
            _check(config, name, elements)
        except InputError as error:
            if config.problem != "all" or name == "tsp":
                raise
            notes.append(f"No {name}: {error}.")
            continue
        notes += [note for note in elements.notes if note not in notes]
        estimator, elements, losses = _network(config, run, name, elements, notes)
        result = _solve(config, run, name, estimator, elements, notes)
        solved.append(result)
        files += _write(run, result, elements.tsplib)
        if config.uniform:
            uniform.append(_measure_uniform(config, run, name, estimator))
    if losses:
        files.append(runs.ReportFile("network", "the trained network: config.json and model.safetensors"))
    return reporting.build_report(solved, uniform, files, notes, losses)


def _options(config: Config) -> dict[str, Any]:
    constraint: Any = None if config.constraint == "none" else config.constraint
    options = {"beams": config.beams, "seed": config.seed, "device": config.device}
    return options | ({} if constraint == "default" else {"constraint": constraint})


def _read(config: Config, problem: str) -> Elements:
    if config.input is None:
        return bundled_instances(problem)
    if config.problem == "all" and config.input.suffix.lower() in (".txt", ".jsonl", ".csv", ".tsv"):
        found = read_elements(config.input, "unknown", config.columns)
        if found.targets is not None:
            raise InputError("problem", "all, for a file with targets", "hull, delaunay, tsp or sequence")
        return found
    return read_elements(config.input, problem, config.columns)


def _check(config: Config, problem: str, elements: Elements) -> None:
    """Raise InputError for an instance that the problem has no solution for."""
    source = "the bundled instances" if config.input is None else config.input.name
    if problem != "tsp" and elements.tsplib is not None and not elements.tsplib.in_plane:
        raise InputError("problem", f"{problem} of {source}, which has distances only", "tsp")
    for name, points in zip(elements.names, elements.points, strict=True):
        PROBLEMS[problem].check(points, f"{source}, {name}")


def bundled_instances(problem: str) -> Elements:
    """Real coordinates: European capitals (kilometres), and the first two principal components of wines."""
    from sklearn.datasets import load_wine
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    capitals: TSPLIB = read_tsplib(CAPITALS)
    wines = PCA(2, svd_solver="full").fit_transform(StandardScaler().fit_transform(load_wine().data))
    order = np.random.default_rng(0).permutation(len(wines))
    sizes = {"hull": (5, 10, 20, 31), "tsp": (5, 10, 20, 31), "delaunay": (5,)}[problem]
    points = [capitals.points[:n] for n in sizes]
    names = [f"{n} capitals" for n in sizes]
    for n in {"hull": (10, 20), "tsp": (10, 20), "delaunay": (5,)}[problem]:
        points.append(wines[order[:n]])
        names.append(f"{n} wines")
    if problem == "delaunay":
        points += [capitals.points[i : i + 5] for i in (5, 10, 15, 20)]
        names += [f"capitals {i + 1} to {i + 5}" for i in (5, 10, 15, 20)]
    return Elements(points, names)


def _network(
    config: Config, run: runs.Run, problem: str, elements: Elements, notes: list[str]
) -> tuple[SetToSequence, Elements, list[float]]:
    """The network to use and the instances to use it on: those it was not trained on."""
    kind = ESTIMATORS[problem]
    if not config.train:
        options = _options(config)
        estimator = kind.bundled(**options) if config.model is None else kind.from_pretrained(config.model, **options)
        estimator.rescale = "always"
        return estimator, elements, []
    estimator = kind(hidden=config.hidden, steps=config.steps, **_options(config))
    estimator.rescale = "always"
    elements = Elements([to_unit_square(p) for p in elements.points], elements.names, elements.targets)
    targets = _targets(config, elements)
    if problem == "tsp":
        targets = [counter_clockwise(p, np.array(t)).tolist() for p, t in zip(elements.points, targets, strict=True)]
    train, test = _split(config, run, len(elements.points))
    run.step(f"training on {len(train)} instances")
    estimator.fit(
        [elements.points[i] for i in train],
        [targets[i] for i in train],
        checkpoint_dir=run.state / "training",
        progress=run.progress,
    )
    estimator.save_pretrained(run.output("network"))
    notes.append(
        f"Trained for {config.steps} steps on {len(train)} instances; the {len(test)} held-out ones are shown."
    )
    held = Elements([elements.points[i] for i in test], [elements.names[i] for i in test], [targets[i] for i in test])
    return estimator, held, estimator.losses_


def _targets(config: Config, elements: Elements) -> list[list[int]]:
    if elements.targets is None:
        raise InputError(
            "input", f"{config.input or 'the bundled points'}, without targets", "instances with targets to train on"
        )
    return elements.targets


def _split(config: Config, run: runs.Run, count: int) -> tuple[list[int], list[int]]:
    held = max(1, round(config.held_out * count))
    if count - held < 1:
        raise InputError("input", f"{count} instances", "at least 2: some to train on, some held out")
    order = run.rng("split").permutation(count)
    return sorted(order[held:].tolist()), sorted(order[:held].tolist())


def _solve(
    config: Config, run: runs.Run, problem: str, estimator: SetToSequence, elements: Elements, notes: list[str]
) -> Solved:
    points = elements.points
    outputs = estimator.predict(points, progress=run.progress)
    result = Solved(problem, list(elements.names), points, outputs)
    if problem != "tsp":
        result.references = [PROBLEMS[problem].solve(p) for p in points]
        result.reference_name = "exact"
        return result
    cities: list[Points | Cities] = [*points] if elements.tsplib is None else [elements.tsplib.cities]
    result.cities = cities
    found = [reference_tour(c) for c in run.progress(cities, "reference tours")]
    result.references = [tour.tolist() for tour, _ in found]
    result.reference_kinds = [name for _, name in found]
    kinds = sorted({name for _, name in found})
    result.reference_name = " or ".join(kinds)
    if len(kinds) > 1:
        notes.append(f"Reference tours: the optimum up to 12 points, above that the best at hand ({kinds[0]}).")
    rng = run.rng("random tours")
    result.others["random"] = [random_tour(c, rng).tolist() for c in cities]
    for method in ("nearest", "a1", "a2", "a3"):
        result.others[method] = [TOUR_METHODS[method](c).tolist() for c in run.progress(cities, method)]
    whole = [
        o if len(set(o)) == len(p) == len(o) else list(range(len(p))) for o, p in zip(outputs, points, strict=True)
    ]
    result.others["network + 2-opt"] = [two_opt(c, o).tolist() for c, o in zip(cities, whole, strict=True)]
    if config.samples:
        name = f"best of {config.samples} draws"
        draws = estimator.decode(points, samples=config.samples, progress=run.progress)
        drawn = [shortest_tour(c, d) for c, d in zip(cities, draws, strict=True)]
        result.others[name] = drawn
        if all(len(set(o)) == len(p) == len(o) for o, p in zip(drawn, points, strict=True)):
            result.others[f"{name} + 2-opt"] = [two_opt(c, o).tolist() for c, o in zip(cities, drawn, strict=True)]
    return result


def _measure_uniform(config: Config, run: runs.Run, problem: str, estimator: SetToSequence) -> Uniform:
    """The network's metrics on uniform instances of the paper's sizes."""
    make: Any = {"hull": make_hull, "delaunay": make_delaunay, "tsp": make_tsp}[problem]
    sizes = {"hull": (5, 10, 20, 50), "delaunay": (5, 10), "tsp": (5, 10, 12)}[problem]
    found = {}
    for n in sizes:
        run.step(f"{problem}: {config.uniform} uniform instances of {n} points")
        instances = make(n, config.uniform, run.rng(f"uniform {problem} {n}"))
        points, solutions = instances.inputs(), instances.solutions()
        outputs = estimator.predict(points, progress=run.progress)
        found[n] = PROBLEMS[problem].metrics(points, outputs, solutions)
        if problem == "tsp":
            found[n]["optimal"] = PROBLEMS[problem].metrics(points, solutions, solutions)["length"]
    return Uniform(problem, config.uniform, found)


def _write(run: runs.Run, solved: Solved, tsplib: TSPLIB | None) -> list[runs.ReportFile]:
    problem = solved.problem
    outputs, whose = solved.outputs, "the network's solutions"
    if problem == "tsp":
        outputs, whose = [solved.best(row)[0] for row in range(len(solved.points))], "the shortest tours of all methods"
    write_text(run.files / f"{problem}.txt", official_text(solved.points, outputs, problem))
    files = [runs.ReportFile(f"{problem}.txt", f"{whose} in the paper's format (indices from 1)")]
    write_text(run.files / f"{problem}.jsonl", solved.json_lines())
    files.append(runs.ReportFile(f"{problem}.jsonl", "the solutions of all methods by name, indices from 0"))
    if tsplib is not None and problem == "tsp":
        best, method = solved.best(0)
        text = tsplib_tour_text(tsplib.name, tsplib.nodes, best, f"{method}, length {tsplib.length(best)}")
        write_text(run.files / f"{tsplib.name}.tour", text)
        files.append(runs.ReportFile(f"{tsplib.name}.tour", f"TSPLIB tour by {method}"))
    return files


def _run_sequence(config: Config, run: runs.Run) -> runs.Report:
    """The user's own problem: learn from targets and show held-out instances, or apply a saved network."""
    assert config.input is not None
    run.step(f"reading {config.input}")
    elements = read_elements(config.input, "sequence", config.columns)
    notes = list(elements.notes)
    losses: list[float] = []
    if config.model is not None:
        estimator = SetToSequence.from_pretrained(config.model, **_options(config))
        rows = list(range(len(elements.points)))
    else:
        targets = _targets(config, elements)
        train, rows = _split(config, run, len(elements.points))
        estimator = SetToSequence(hidden=config.hidden, steps=config.steps, **_options(config))
        run.step(f"training on {len(train)} instances")
        estimator.fit(
            [elements.points[i] for i in train],
            [targets[i] for i in train],
            checkpoint_dir=run.state / "training",
            progress=run.progress,
        )
        if config.constraint == "default" and estimator.constraint == "permutation":
            notes.append("All targets of the training are permutations: outputs are decoded as permutations.")
        losses = estimator.losses_
        estimator.save_pretrained(run.output("network"))
    solved = Solved(
        "sequence",
        [elements.names[i] for i in rows],
        [elements.points[i] for i in rows],
        estimator.predict([elements.points[i] for i in rows], progress=run.progress),
        held_out=config.model is None,
    )
    if elements.targets is not None:
        solved.references, solved.reference_name = [elements.targets[i] for i in rows], "target"
    write_text(run.files / "sequence.jsonl", solved.json_lines())
    files = [runs.ReportFile("sequence.jsonl", "the network's outputs, indices from 0")]
    if losses:
        files.append(runs.ReportFile("network", "the trained network: config.json and model.safetensors"))
    return reporting.build_report([solved], [], files, notes, losses)
