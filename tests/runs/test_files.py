"""Files and folders appear whole, replace only what they may, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paperworks.errors import InputError
from paperworks.runs.files import (
    new_file,
    new_folder,
    partial_folder,
    replace_file,
    require_writable,
    write_bytes,
    write_text,
)


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replace_file(path) as aside:
        aside.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    write_bytes(path, "né".encode())
    assert path.read_text(encoding="utf-8") == "né"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_new_file_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(InputError, match=r"model: found .*something that exists"), new_file(path, "model") as aside:
        aside.write_text("mine")
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    with pytest.raises(InputError, match="nothing is overwritten"), new_file(path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with new_file(tmp_path / "b.txt") as aside:
        aside.write_text("b")
    assert (tmp_path / "b.txt").read_text() == "b"


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    with pytest.raises(RuntimeError), new_folder(target) as aside:
        (aside / "x").write_text("x")
        raise RuntimeError
    assert not target.exists()
    assert list(target.parent.iterdir()) == []
    with new_folder(target) as aside:
        (aside / "x").write_text("x")
        assert not target.exists()
    assert (target / "x").exists()


def test_a_new_folder_yields_to_one_that_came_first(tmp_path: Path) -> None:
    target = tmp_path / "b"
    with pytest.raises(InputError, match="nothing is overwritten"), new_folder(target) as aside:
        (aside / "x").write_text("mine")
        target.mkdir()
        (target / "x").write_text("theirs")
    assert (target / "x").read_text() == "theirs"


@pytest.mark.parametrize("name", ["b", "a[1].txt", "x" * 250])
def test_what_a_killed_process_left_is_removed(tmp_path: Path, dead: int, name: str) -> None:
    for left in (f".{name[:100]}.{dead}-abcd.partial", f".{name[:100]}.{dead}-ef01.partial"):
        (tmp_path / left).mkdir()
    living = tmp_path / f".{name[:100]}.{os.getpid()}-abcd.partial"
    living.mkdir()
    write_text(tmp_path / name, "text")
    assert {p.name for p in tmp_path.iterdir()} == {name, living.name}


def test_a_partial_folder_goes(tmp_path: Path) -> None:
    with partial_folder(tmp_path / "model") as aside:
        (aside / "part").write_text("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["new", "deep/er/new", "empty"])
def test_what_can_be_written_is_left_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    require_writable(tmp_path / name, "out")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("name", ["file/below", "x" * 300, "nul\0", "file", "full"])
def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(InputError, match="out: found"):
        require_writable(tmp_path / name, "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full"]


def test_a_read_only_folder_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        require_writable(tmp_path / "new", "out")
