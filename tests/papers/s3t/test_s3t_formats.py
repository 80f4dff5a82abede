"""Formats of the manifest: every field is sealed, older ones are read, checked, and written anew by a deletion."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from paperworks.errors import InputError
from paperworks.papers.s3t import Folder, verify_folder
from paperworks.papers.s3t.formats import FORMAT, seal
from paperworks.papers.s3t.receipts import JOURNAL


def write(folder: Path, content: dict[str, Any], key: bytes | None = None, *, sealed: bool = True) -> None:
    """Put a manifest in place, with the digest that its format has."""
    if sealed:
        content = {name: value for name, value in content.items() if name != "digest"}
        content["digest"] = seal(content, key)
    (folder / "manifest.json").write_text(json.dumps(content))


def older(folder: Path, number: int, key: bytes | None = None) -> None:
    """Write a folder as an earlier version did."""
    manifest = Folder(folder, key).read()
    content = json.loads((folder / "manifest.json").read_text()) | {"format": number}
    if number == 1:
        del content["journal"]
        content["records"] = dict(manifest.records.items())
        content["deleted"] = manifest.deleted
        content["log"] = [receipt.model_dump(mode="json") for receipt in manifest.log]
        for file in (folder / JOURNAL, *folder.glob("records-*.bin")):
            file.unlink(missing_ok=True)
    write(folder, content, key)


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    if isinstance(value, list):
        return [*value, *value[:1]] if value else [0]
    return {**value, "more": 1}


def test_every_field_of_the_manifest_is_sealed(copied: Path) -> None:
    content = json.loads((copied / "manifest.json").read_text())
    assert content["format"] == FORMAT == 3
    assert "created_time" in content
    assert "stored_format" not in content
    for name, value in content.items():
        for edited in (content | {name: changed(value)}, {n: v for n, v in content.items() if n != name}):
            write(copied, edited, sealed=False)
            found = verify_folder(Folder(copied))
            assert not found.ok, name
            assert found.format == 0
    write(copied, content)
    assert verify_folder(Folder(copied)).format == 3


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("key", [None, b"secret"])
def test_an_older_folder_is_read_and_the_next_deletion_writes_it_anew(
    copied: Path, number: int, key: bytes | None
) -> None:
    folder = Folder(copied, key)
    folder.commit(Folder(copied).read())
    first = folder.delete(["0"])
    was = folder.read()
    records = dict(was.records.items())
    older(copied, number, key)
    old = json.loads((copied / "manifest.json").read_text())
    found = verify_folder(folder, ["0", "1"])
    assert found.ok, found.problems
    assert (found.format, found.deletions, found.erasing) == (number, 1, ())
    assert found.records["0"] == "deleted"
    assert folder.recover() == []
    now = folder.read()
    assert dict(now.records.items()) == records
    assert (now.deleted, now.log, now.sequences) == (was.deleted, was.log, was.sequences)
    assert json.loads((copied / "manifest.json").read_text()) == old  # reading changes nothing

    second = folder.delete(["1", "0"])
    assert (second.number, second.previous, len(second.repeated)) == (2, first.digest, 1)
    content = json.loads((copied / "manifest.json").read_text())
    assert (content["format"], content["created_time"]) == (3, old["created_time"])
    after = verify_folder(folder, ["0", "1"])
    assert after.ok, after.problems
    assert (after.format, after.deletions, after.erasing) == (3, 2, ())
    assert len(list(copied.glob("records-*.bin"))) == 1
    write(copied, content | {"created_time": "2001-01-01T00:00:00+00:00"}, sealed=False)
    assert any("was edited" in problem for problem in verify_folder(folder).problems)


def test_a_killed_migration_leaves_the_old_format(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(copied)
    folder.delete(["0"])
    older(copied, 1)

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("paperworks.papers.s3t.store.write_text", killed)  # records and receipts are on the disk
    with pytest.raises(KeyboardInterrupt):
        folder.delete(["1"])
    monkeypatch.undo()
    found = verify_folder(folder, ["0", "1"])
    assert found.ok
    assert (found.format, found.deletions) == (1, 1)
    assert folder.delete(["1"]).number == 2
    folder.recover()
    assert (verify_folder(folder).format, verify_folder(folder).erasing) == (3, ())


def test_edits_of_older_manifests_and_unknown_formats_are_refused(copied: Path) -> None:
    folder = Folder(copied)
    folder.delete(["0"])
    for unknown in (0, 4, "3", 3.0, True, None):
        write(copied, json.loads((copied / "manifest.json").read_text()) | {"format": unknown})
        with pytest.raises(InputError, match=r"manifest\.json: format: found .*; expected 1 to 3"):
            folder.read()
    write(copied, json.loads((copied / "manifest.json").read_text()) | {"format": 3})
    older(copied, 1)
    good = json.loads((copied / "manifest.json").read_text())
    for name in ("records", "log", "deleted", "seed"):
        write(copied, good | {name: changed(good[name])}, sealed=False)
        assert any("was edited" in problem for problem in verify_folder(folder).problems), name
    for name, wrong in (("records", {"a": [0]}), ("records", None), ("log", [{}]), ("deleted", {}), ("log", [])):
        edited = copy.deepcopy(good) | {name: wrong}
        write(copied, edited)  # by somebody who computes the digest too
        assert verify_folder(folder).problems, name
    write(copied, good)
    assert verify_folder(folder).ok


def test_nobody_without_the_key_can_pass_a_manifest_off_as_an_older_one(copied: Path) -> None:
    folder = Folder(copied, b"secret")
    folder.commit(Folder(copied).read())
    content = json.loads((copied / "manifest.json").read_text())
    edited = content | {"format": 2, "created_time": "2001-01-01T00:00:00+00:00"}
    write(copied, edited, sealed=False)
    assert not verify_folder(folder).ok
    write(copied, edited, None)
    assert not verify_folder(folder).ok
