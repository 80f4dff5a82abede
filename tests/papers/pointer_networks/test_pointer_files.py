"""Files in and out: every format reads back, and bad lines are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.pointer_networks import (
    make_delaunay,
    make_hull,
    make_tsp,
    read_elements,
    read_official,
    read_tsplib,
    verify_labels,
    write_official,
)
from paperworks.papers.pointer_networks.recipe import CAPITALS
from paperworks.papers.pointer_networks.tsplib import tsplib_tour_text


@pytest.mark.parametrize(("problem", "make"), [("hull", make_hull), ("tsp", make_tsp), ("delaunay", make_delaunay)])
def test_official_format_reads_back(tmp_path, problem, make):
    instances = make((4, 7), 20, seed=1)
    path = tmp_path / "data.txt"
    write_official(path, instances.inputs(), instances.solutions(), problem)
    line = path.read_text().splitlines()[0].split(" output ")
    indices = list(map(int, line[1].split()))
    assert [i - 1 for i in indices[: len(instances.solution(0))]] == instances.solution(0)
    assert (indices[-1] == indices[0] and len(indices) == len(instances.solution(0)) + 1) == (problem != "delaunay")
    back = read_official(path, problem)
    assert back.solutions() == instances.solutions()
    assert all(np.array_equal(a, b) for a, b in zip(back.inputs(), instances.inputs(), strict=True))
    assert len(read_official(path, problem, limit=3)) == 3
    assert verify_labels(back, problem) == []
    with pytest.raises(InputError, match="nothing is overwritten"):
        write_official(path, instances.inputs(), instances.solutions(), problem)


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e-9, 1e9)), min_size=3, max_size=6), st.data())
@settings(max_examples=40, deadline=None)
def test_any_numbers_read_back(tmp_path_factory, points, data):
    tour = data.draw(st.permutations(range(len(points))))
    path = tmp_path_factory.mktemp("official") / "x.txt"
    write_official(path, [np.array(points)], [tour])
    back = read_official(path)
    assert np.array_equal(back[0][0], np.array(points))
    assert back[0][1] == tour


def test_labels_that_are_not_exact_are_found(tmp_path):
    instances = make_tsp(6, 8, seed=2)
    tours = instances.solutions()
    tours[3] = [0, *np.random.default_rng(0).permutation(range(1, 6)).tolist()]
    write_official(tmp_path / "a.txt", instances.inputs(), tours)
    assert verify_labels(read_official(tmp_path / "a.txt"), "tsp") == [3]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0.1 0.2 0.3 output 1 2", "line 2: found 3 coordinates"),
        ("0.1 0.2 x 0.4 output 1 2 1", "'x'"),
        ("0.1 0.2 nan 0.4 output 1 2 1", "nan"),
        ("0.1 0.2 0.3 0.4 output 1 3 1", "index '3'"),
        ("0.1 0.2 0.3 0.4 output 0 1 0", "index '0'"),
        ("0.1 0.2 0.3 0.4 output", "nothing after"),
        ("0.1 0.2 0.3 0.4 output 1 1", "tour of all 2"),
        ("0.1 0.2 0.3 0.4", "a solution on every line"),
    ],
)
def test_bad_lines_of_the_official_format_are_named(tmp_path, line, words):
    path = tmp_path / "bad.txt"
    path.write_text("0.1 0.2 0.3 0.4 output 1 2 1\n" + line + "\n")
    with pytest.raises(InputError, match=words) as error:
        read_official(path)
    assert error.value.field == "bad.txt, line 2"


def test_official_files_that_are_empty(tmp_path):
    (tmp_path / "no.txt").write_text("\n")
    with pytest.raises(InputError, match="no instances"):
        read_official(tmp_path / "no.txt")


def test_the_bundled_tsplib_file():
    capitals = read_tsplib(CAPITALS)
    assert (capitals.name, capitals.points.shape) == ("capitals31", (31, 2))
    steps = np.sqrt(((capitals.points - np.roll(capitals.points, -1, axis=0)) ** 2).sum(-1))
    assert capitals.length(range(31)) == np.floor(steps + 0.5).sum()
    text = tsplib_tour_text("s", [5, 6, 7], [2, 0, 1], "by hand").splitlines()
    assert text == [
        "NAME : s.tour",
        "COMMENT : by hand",
        "TYPE : TOUR",
        "DIMENSION : 3",
        "TOUR_SECTION",
        "7",
        "5",
        "6",
        "-1",
        "EOF",
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("EUC_2D", "GEOM", "EUC_2D"),
        ("TYPE : TSP", "TYPE : ATSP", "TYPE"),
        ("DIMENSION : 31", "DIMENSION : 30", "30, its DIMENSION"),
        ("\n2 ", "\n1 ", "line 9: found node 1 again"),
        ("\n2 ", "\n2 x", "line 9"),
        ("NODE_COORD_SECTION", "DISPLAY", "NODE_COORD_SECTION"),
    ],
)
def test_bad_tsplib_files_are_named(tmp_path, old, new, words):
    path = tmp_path / "bad.tsp"
    path.write_text(CAPITALS.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=words):
        read_tsplib(path)


def test_tables_arrays_and_json_lines(tmp_path):
    points = np.random.default_rng(0).random((6, 2))
    np.save(tmp_path / "one.npy", points)
    np.save(tmp_path / "many.npy", np.stack([points, points + 1]))
    np.savetxt(tmp_path / "plain.csv", points, delimiter=",", fmt="%.17g")
    np.savetxt(tmp_path / "plain.txt", points, fmt="%.17g")
    (tmp_path / "named.csv").write_text("x,y\n" + (tmp_path / "plain.csv").read_text())
    (tmp_path / "tabs.tsv").write_text("lon\tlat\n" + "\n".join(f"{x!r}\t{y!r}" for x, y in points.tolist()))
    for name in ("one.npy", "plain.csv", "plain.txt", "named.csv", "tabs.tsv"):
        found = read_elements(tmp_path / name)
        assert np.array_equal(found.points[0], points), name
        assert found.targets is None
    assert len(read_elements(tmp_path / "many.npy").points) == 2
    rows = [{"elements": [[1, 2, 3], [4, 5, 6]], "target": [1, 0, 1]}, {"elements": [[7, 8, 9]], "target": [0]}]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = read_elements(tmp_path / "own.jsonl")
    assert [p.shape for p in own.points] == [(2, 3), (1, 3)]
    assert own.targets == [[1, 0, 1], [0]]
    (tmp_path / "own.csv").write_text("instance,weight,position\na,3,1\na,1,\na,2,0\nb,5,0\n")
    own = read_elements(tmp_path / "own.csv")
    assert own.names == ["a", "b"]
    assert own.targets == [[2, 0], [0]]
    assert [p.tolist() for p in own.points] == [[[3], [1], [2]], [[5]]]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "1,2\n3\n", "line 2: found 1 cells"),
        ("a.csv", "1,2\n3,x\n", "line 2: found 'x'"),
        ("a.csv", "1,2\n3,inf\n", "line 2: found inf"),
        ("a.csv", "", "empty"),
        ("a.csv", "x,y\n", "no elements"),
        ("a.csv", "x,position\n1,0\n2,2\n", "position"),
        ("a.jsonl", '{"elements": [[1, 2]]}\n{"elements": 3}', "line 2"),
        ("a.jsonl", '{"elements": [[1, 2]]}\nnot json', "line 2"),
        ("a.jsonl", '{"points": [[1, 2]]}', "elements"),
        ("a.jsonl", '{"elements": [[1, 2]], "target": [1]}', "from 0 to 0"),
        ("a.jsonl", '{"elements": [[1, 2]], "target": [0]}\n{"elements": [[1, 2]]}', "no target"),
        ("a.npy", "junk", "no array"),
        ("a.xlsx", "junk", "ends in"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_elements(tmp_path / name)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_elements(tmp_path / "nothing.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no text"):
        read_elements(tmp_path / "bytes.csv")
