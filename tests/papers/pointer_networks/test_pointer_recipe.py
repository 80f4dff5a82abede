"""The recipe on bundled and on users' files, the training command and the studies."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.pointer_networks import (
    NetworkConfig,
    PointerNetwork,
    SetToSequence,
    make_hull,
    make_tsp,
    read_official,
    read_tsplib,
    train,
    write_official,
)
from paperworks.papers.pointer_networks.recipe import CAPITALS, Config, run
from paperworks.papers.pointer_networks.studies import hulls
from paperworks.papers.pointer_networks.tours import tour_length
from paperworks.runs import build_config
from paperworks.runs.findings import Finding

QUICK = {"uniform": 0, "samples": 4, "beams": 2}


def go(tmp_path, **options):
    execution = runs.Run(tmp_path / "run", seed=options.get("seed", 0))
    return run(build_config(Config, options), execution), execution


def test_defaults_solve_real_coordinates(tmp_path):
    report, execution = go(tmp_path, uniform=4, samples=4)
    assert {f.path for f in report.files} == {p.name for p in execution.files.iterdir()}
    assert len(report.figures) == 3
    assert len(report.tables) == 6
    assert report.metrics["tsp_valid"] == 1
    assert report.metrics["tsp_best_ratio"] >= 1 - 1e-6
    tours = next(t for t in report.tables if t.title.startswith("Tours: length"))
    assert {"a1", "a2", "a3", "network", "network + 2-opt", "random"} <= set(tours.columns)
    for row in tours.rows[:-1]:
        assert min(row[2:]) == pytest.approx(row[2], rel=0.002)  # nothing beats the reference by more than LKH may miss
    (tmp_path / "saved").mkdir()
    report.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "report.html").stat().st_size > 10_000


def test_points_of_the_user_are_solved_for_all_three(tmp_path):
    points = 100 * np.random.default_rng(0).random((6, 2))
    np.savetxt(tmp_path / "mine.csv", points, delimiter=",", header="x,y", comments="", fmt="%.17g")
    report, execution = go(tmp_path, input=str(tmp_path / "mine.csv"), **QUICK)
    assert "hulls exact" in report.headline
    back = read_official(execution.files / "tsp.txt")
    assert np.array_equal(back[0][0], points)
    assert sorted(back[0][1]) == list(range(6))
    row = json.loads((execution.files / "tsp.jsonl").read_text())
    assert row["name"] == "mine"
    assert sorted(row["a2"]) == list(range(6))


def test_a_tsplib_file_gives_a_tour_file(tmp_path):
    report, execution = go(tmp_path, problem="tsp", input=str(CAPITALS), **QUICK)
    lines = (execution.files / "capitals31.tour").read_text().splitlines()
    cities = lines[lines.index("TOUR_SECTION") + 1 : -2]
    assert sorted(map(int, cities)) == list(range(1, 32))
    assert any(f.path == "capitals31.tour" for f in report.files)


@pytest.mark.parametrize(("problem", "make"), [("hull", make_hull), ("tsp", make_tsp)])
def test_training_on_official_files(tmp_path, problem, make):
    instances = make((5, 6), 40, seed=0)
    write_official(tmp_path / "train.txt", instances.inputs(), instances.solutions(), problem)
    report, execution = go(
        tmp_path, problem=problem, input=str(tmp_path / "train.txt"), train=True, steps=4, hidden=8, **QUICK
    )
    # A fifth is held out; a network of four steps may answer with nothing, which the reader of targets refuses.
    assert len((execution.files / f"{problem}.txt").read_text().splitlines()) == 8
    assert PointerNetwork.from_pretrained(execution.files / "network").config.hidden == 8
    assert any(f.title == "Training loss" for f in report.figures)
    again, _ = go(
        tmp_path / "2",
        problem=problem,
        input=str(tmp_path / "train.txt"),
        model=str(execution.files / "network"),
        **QUICK,
    )
    assert again.metrics


def test_an_own_problem_is_learned_and_used_again(tmp_path):
    rng = np.random.default_rng(1)
    lines = []
    for _ in range(60):
        e = rng.random((int(rng.integers(2, 5)), 3))
        lines.append(json.dumps({"elements": e.tolist(), "target": np.argsort(e[:, 0]).tolist()}))
    path = tmp_path / "sort.jsonl"
    path.write_text("\n".join(lines))
    options = {"problem": "sequence", "input": str(path), "constraint": "permutation"}
    report, execution = go(tmp_path, steps=5, hidden=8, **options)
    assert "held-out" in report.headline
    assert 0 <= report.metrics["sequence_positions"] <= 1
    model = SetToSequence.from_pretrained(execution.files / "network")
    assert sorted(model.predict([rng.random((7, 3))])[0]) == list(range(7))
    again, later = go(tmp_path / "2", model=str(execution.files / "network"), **options)
    assert len((later.files / "sequence.jsonl").read_text().splitlines()) == 60
    assert again.tables[0].rows


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"problem": "sequence"}, "input"),
        ({"problem": "all", "train": True}, "problem"),
        ({"problem": "tsp", "train": True}, "without targets"),
        ({"problem": "tsp", "train": True, "model": "x"}, "model"),
        ({"problem": "hull", "constraint": "permutation"}, "constraint"),
        ({"problem": "tsp", "model": "nowhere"}, r"config\.json"),
        ({"problem": "tsp", "input": "nowhere.csv"}, "no file"),
        ({"beams": 0}, "beams"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        go(tmp_path, **options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,0\n1,0\n0,1\n1,0\n", "rows 2 and 4"),
        ("0,0\n1,1\n2,2\n", "on one line"),
        ("0,0\n1,1\n", "at least 3"),
        ("0,0\n1,1\n2,nan\n", "line 3"),
        ("0,0,1\n1,1,1\n2,5,1\n", "3 columns"),
    ],
)
def test_points_that_cannot_be(tmp_path, text, words):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        go(tmp_path, problem="hull", input=str(tmp_path / "bad.csv"), **QUICK)


def test_a_file_with_targets_needs_its_problem(tmp_path):
    instances = make_hull(5, 3)
    write_official(tmp_path / "a.txt", instances.inputs(), instances.solutions(), "hull")
    with pytest.raises(InputError, match="for a file with targets"):
        go(tmp_path, input=str(tmp_path / "a.txt"), **QUICK)


def test_the_training_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "CARD_SIZES", {"hull": (5,)})
    out = tmp_path / "hull"
    assert train.main(["hull", "--out", str(out), "--steps", "2", "--pool", "600"]) == 0
    assert {p.name for p in out.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert "--steps 2 --pool 600" in (out / "README.md").read_text()
    assert train.main(["hull", "--out", str(out), "--steps", "2", "--pool", "600"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_a_training_starts_from_a_network(tmp_path):
    first, second, third = tmp_path / "small", tmp_path / "large", tmp_path / "larger"
    small = ["--steps", "1", "--pool", "60", "--batch-size", "4"]
    assert train.main(["tsp", "--out", str(first), "--sizes", "4", "5", *small]) == 0
    given = ["--sizes", "6", "6", "--label", "a1", "--learning-rate", "1e-9", "--start", str(first)]
    assert train.main(["tsp", "--out", str(second), *given, *small]) == 0
    one, two = PointerNetwork.from_pretrained(first), PointerNetwork.from_pretrained(second)
    assert torch.allclose(one.query.weight, two.query.weight, atol=1e-6)
    card = (second / "README.md").read_text()
    assert "--sizes 6 6 --label a1 --batch-size 4 --learning-rate 1e-09 --start DIR" in card
    assert "began with the weights of a network (DIR in the command) of 4 to 5 points with exact solutions" in card
    assert str(tmp_path) not in (second / "config.json").read_text()
    assert train.main(["tsp", "--out", str(third), *given[:3], "--start", str(second), *small]) == 0
    chain = (
        "of 6 to 6 points with a1 solutions, 1 steps. That one's training began with the weights of a network of 4 to 5"
    )
    assert chain in (third / "README.md").read_text()


def test_no_hull_is_no_number_in_the_headline(tmp_path):
    network = PointerNetwork(NetworkConfig(hidden=4))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    network.save_pretrained(tmp_path / "network")  # points nowhere: stops at once
    (tmp_path / "three.csv").write_text("x,y\n0,0\n1,0\n0,1\n")
    report, _ = go(
        tmp_path, problem="hull", input=str(tmp_path / "three.csv"), model=str(tmp_path / "network"), **QUICK
    )
    assert "0 of 1 hulls exact, no simple polygon" in report.headline


def test_exact_findings_hold(tmp_path):
    for number, one in enumerate((hulls.any_input_size, hulls.delaunay)):
        findings = one(runs.Run(tmp_path / str(number)), True)
        assert all(isinstance(f, Finding) for f in findings)
        assert [f for f in findings if f.kind == "exact"]
        assert all(f.holds for f in findings if f.kind == "exact")


def test_the_tour_written_is_the_shortest_and_says_whose_it_is(tmp_path):
    rng = np.random.default_rng(3)
    np.savetxt(tmp_path / "mine.csv", rng.random((30, 2)), delimiter=",", header="x,y", comments="")
    report, execution = go(tmp_path, problem="tsp", input=str(tmp_path / "mine.csv"), **QUICK)
    points, written = read_official(execution.files / "tsp.txt")[0]
    row = json.loads((execution.files / "tsp.jsonl").read_text())
    tours = [v for v in row.values() if isinstance(v, list) and sorted(v) == list(range(30))]
    lengths = [tour_length(points, tour) for tour in tours]
    assert tour_length(points, written) <= min(lengths) * (1 + 1e-12)
    assert tour_length(points, written) < tour_length(points, row["output"])
    assert row["best"] == written
    assert f"by {row['best_by']} (1)" in report.headline


def test_explicit_weights_are_what_tours_are_measured_by(tmp_path):
    lines = ["NAME: w", "TYPE: TSP", "DIMENSION: 6", "EDGE_WEIGHT_TYPE: EXPLICIT", "EDGE_WEIGHT_FORMAT: UPPER_ROW"]
    weights = np.random.default_rng(5).integers(1, 100, 15)
    (tmp_path / "w.tsp").write_text("\n".join([*lines, "EDGE_WEIGHT_SECTION", " ".join(map(str, weights)), "EOF"]))
    report, execution = go(tmp_path, problem="tsp", input=str(tmp_path / "w.tsp"), **QUICK)
    instance = read_tsplib(tmp_path / "w.tsp")
    best = min(instance.length((0, *rest)) for rest in itertools.permutations(range(1, 6)))
    assert f"length {best}" in (execution.files / "w.tour").read_text()
    tours = next(t for t in report.tables if t.title.startswith("Tours: length"))
    assert tours.rows[0][2] == best
    both, _ = go(tmp_path / "2", problem="all", input=str(tmp_path / "w.tsp"), **QUICK)
    assert [note.split(":")[0] for note in both.lead[:2]] == ["No hull", "No delaunay"]


@pytest.mark.parametrize("points", [np.ones((5, 2)), np.repeat([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]], 3, axis=0)])
def test_coincident_points_have_a_valid_tour(tmp_path, points):
    np.savetxt(tmp_path / "same.csv", points, delimiter=",")
    report, execution = go(tmp_path, input=str(tmp_path / "same.csv"), **QUICK)
    assert any(note.startswith("No hull: same.csv") for note in report.lead)
    _, written = read_official(execution.files / "tsp.txt")[0]
    assert sorted(written) == list(range(len(points)))
    distinct = np.unique(points, axis=0)
    assert tour_length(points, written) == pytest.approx(tour_length(distinct, list(range(len(distinct)))))


def test_permutations_are_decoded_where_all_targets_are_permutations(tmp_path):
    rng = np.random.default_rng(1)
    elements = [rng.random((int(rng.integers(2, 6)), 3)) for _ in range(30)]

    def file_of(name, targets):
        lines = [json.dumps({"elements": e.tolist(), "target": t}) for e, t in zip(elements, targets, strict=True)]
        (tmp_path / name).write_text("\n".join(lines))
        return str(tmp_path / name)

    sorting = file_of("sort.jsonl", [np.argsort(e[:, 0]).tolist() for e in elements])
    options = {"problem": "sequence", "steps": 2, "hidden": 8}
    report, execution = go(tmp_path / "1", input=sorting, **options)
    outputs = [json.loads(line)["output"] for line in (execution.files / "sequence.jsonl").read_text().splitlines()]
    assert all(sorted(output) == list(range(len(output))) and output for output in outputs)
    assert any("permutations" in note for note in report.lead)
    first = file_of("first.jsonl", [[int(e[:, 0].argmin())] for e in elements])
    other, _ = go(tmp_path / "2", input=first, **options)
    assert not any("permutations" in note for note in other.lead)
    again, _ = go(tmp_path / "3", input=sorting, model=str(execution.files / "network"), problem="sequence")
    assert "held-out" not in again.headline
