"""Arrays of the user: whole, or refused before memory is taken."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from paperworks.inputs.kinds import whole_array


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4),
        np.zeros((0, 3)),
        np.float64(2.5),
        np.asfortranarray(np.eye(3, dtype=">f4")),
        np.array(["a", "bc"]),
    ],
)
def test_arrays_come_back(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    found = whole_array(tmp_path / "a.npy")
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    (tmp_path / "a.npy").unlink()
    found += found  # a copy in memory, not a map of the file


def test_what_promises_more_than_it_has_takes_no_memory(tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    (tmp_path / "a.npy").write_bytes(head.getvalue() + bytes(80))
    with pytest.raises(ValueError, match="greater than file size"):
        whole_array(tmp_path / "a.npy")


def test_archives_and_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.eye(2))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="an archive of arrays"):
        whole_array(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(ValueError):
        whole_array(tmp_path / "b.npy")
