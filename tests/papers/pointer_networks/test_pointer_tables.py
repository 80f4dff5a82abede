"""Tables of elements as strangers write them: coordinates by name, comments, decimal commas, text beside numbers."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.pointer_networks import read_elements

EXPECTED = [[1.5, 2.0], [3.0, -4.25], [0.5, 6.0]]


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("1.5,2\n3,-4.25\n0.5,6\n", False),
        ("x,y\n1.5,2\n3,-4.25\n0.5,6\n", False),
        ("# x y\n1.5 2\n3 -4.25\n0.5 6\n", False),
        ("# made by hand\n# in km\n1.5 2\n3 -4.25\n0.5 6\n", False),
        ("a title\nx,y\n1.5,2\n3,-4.25\n0.5,6\n", False),
        ("x;y\n1,5;2\n3;-4,25\n0,5;6\n", False),
        ("x\ty\n1.5\t2\n3\t-4.25\n0.5\t6\n", False),
        ("city,population,Lon,LAT\nA,100,1.5,2\nB,200,3,-4.25\nC,300,0.5,6\n", True),
        ("Y,X,id\n2,1.5,1\n-4.25,3,2\n6,0.5,3\n", True),
        ("city,east,north\nA,1.5,2\nB,3,-4.25\nC,0.5,6\n", True),
        ('"name, long",easting,northing\n"A, b",1.5,2\nB,3,-4.25\nC,0.5,6\n', True),
    ],
)
def test_coordinates_are_found(tmp_path, text, noted):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    found = read_elements(path)
    assert len(found.points) == 1
    assert found.points[0].tolist() == EXPECTED
    assert bool(found.notes) == noted
    assert not noted or "columns" in found.notes[0]


def test_columns_by_name_and_instances(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("u,v,w,instance\n1,2,3,a\n4,5,6,b\n7,8,9,a\n")
    found = read_elements(path, "tsp", ["W", "u"])
    assert [p.tolist() for p in found.points] == [[[3, 1], [9, 7]], [[6, 4]]]
    assert found.names == ["a", "b"]
    assert read_elements(path, "sequence").points[1].tolist() == [[4, 5, 6]]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("u,v,w,t\n1,2,3,a\n", {}, "columns: found 3 columns of numbers"),
        ("u,v\n1,2\n", {"columns": ["z"]}, "columns: found z; expected columns of mine.csv: u, v"),
        ("1,2\n", {"columns": ["x"]}, "no header"),
        ("x,y\n1,2\n3\n", {}, "line 3: found 1 cells; expected 2"),
        ("x,y\n1,2\n3,four\n", {}, "line 3, column y: found 'four'"),
        ("a,b\nc,d\n", {}, "no column of numbers"),
        ("x,y\n", {}, "no elements"),
        ("# only\n", {}, "empty file"),
        ("1,2\n3,nan\n", {}, "finite"),
    ],
)
def test_refusals(tmp_path, text, options, words):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_elements(path, "tsp", **options)


def test_what_numpy_writes_is_read(tmp_path):
    points = np.random.default_rng(0).random((5, 2))
    np.savetxt(tmp_path / "a.txt", points, header="x y", fmt="%.17g")
    assert np.array_equal(read_elements(tmp_path / "a.txt").points[0], points)
