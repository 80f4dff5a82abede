"""An input that a function of a package makes: once, whole, and again after damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from paperworks import inputs
from paperworks.errors import InputError
from paperworks.inputs.scans import PhantomSettings, phantom_cases, read_case, read_cases, write_phantom
from paperworks.inputs.sources import SOURCES, Source
from paperworks.runs import Progress


def write(folder: Path, progress: Progress) -> None:
    settings = PhantomSettings(size=16, slices=20)
    write_phantom(folder, progress(phantom_cases(2, 0, settings), "writing", 2))


def test_it_is_made_once_and_again_after_damage(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("toy-scans", "Toys", "none", "2 scans", "generated", f"{__name__}:write", "1", extra="medical")
    monkeypatch.setitem(SOURCES, "toy-scans", source)
    with pytest.raises(InputError, match="paperworks data get toy-scans"):
        inputs.path("toy-scans")
    folder = inputs.get("toy-scans")
    before = (folder / "cases.csv").stat().st_mtime_ns
    assert inputs.get("toy-scans") == folder
    assert (folder / "cases.csv").stat().st_mtime_ns == before
    row = read_cases(folder)[1]
    assert read_case(pet=row["pet"], mask=row["mask"]).mask is not None
    (folder / "case-001/pet.nii.gz").write_bytes(b"cut")
    assert not source.available
    inputs.get("toy-scans")
    assert source.available


def test_the_phantom_is_listed() -> None:
    module, _, function = SOURCES["petct-phantom"].package.partition(":")
    assert (module, function) == ("paperworks.inputs.scans.phantom_files", "write_default_phantom")
