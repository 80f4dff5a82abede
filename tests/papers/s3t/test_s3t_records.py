"""Records and receipts beside the manifest: what a deletion reads and writes, leftovers, edits, random indexes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.s3t import Folder, UnknownRecordError, verify_folder
from paperworks.papers.s3t.records import BLOCK, RecordIndex, write_index


def in_slice(folder: Folder, shard: int, slice_: int) -> list[str]:
    """Ids of the records of a slice."""
    manifest = folder.read()
    return [str(i) for i in range(48) if manifest.records[manifest.key(str(i))] == (shard, slice_)]


def test_the_time_of_a_deletion_does_not_grow_with_the_records(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion reads one block of the records and writes none."""
    folder = Folder(copied)
    small, wanted = folder.read(), in_slice(folder, 0, 1)[0]
    others = {hashlib.sha256(str(i).encode()).hexdigest()[:32]: (i % 2, i % 3) for i in range(5 * BLOCK)}
    folder.commit(small.model_copy(update={"records": dict(small.records.items()) | others}))
    folder.recover()
    (index,) = copied.glob("records-*.bin")
    written = index.stat().st_mtime_ns
    read: list[int] = []
    plain = RecordIndex._read
    monkeypatch.setattr(RecordIndex, "_read", lambda self, at, size: read.append(size) or plain(self, at, size))
    folder.delete([wanted])
    assert sum(read) <= BLOCK * 24 + 48 * 6
    assert index.stat().st_mtime_ns == written
    assert (copied / "manifest.json").stat().st_size < 20_000
    assert sorted(folder.read().records.items())[:3] == sorted((dict(small.records.items()) | others).items())[:3]
    with pytest.raises(UnknownRecordError):
        folder.delete(["no-such"])


def test_what_a_killed_process_left_of_a_receipt_counts_for_nothing(copied: Path) -> None:
    folder = Folder(copied)
    first, second = in_slice(folder, 0, 0)[:2]
    folder.delete([first])
    journal = copied / "receipts.jsonl"
    whole = journal.read_bytes()
    for rest in (whole, whole[: len(whole) // 2], b"\0" * 10):
        journal.write_bytes(whole + rest)
        found = verify_folder(folder, [first, second])
        assert found.ok
        assert found.deletions == 1
        assert found.erasing == ("receipts.jsonl",)
        assert folder.recover() == ["receipts.jsonl"]
        assert journal.read_bytes() == whole
    journal.write_bytes(whole + whole)
    assert folder.delete([second, first]).number == 2  # without a recovery before
    assert [receipt.number for receipt in folder.read().log] == [1, 2]
    assert verify_folder(folder).ok


def test_records_and_receipts_that_were_edited_or_lost_are_detected(copied: Path) -> None:
    folder = Folder(copied)
    folder.delete([in_slice(folder, 0, 0)[0]])
    (index,) = copied.glob("records-*.bin")
    for path, words in ((index, "records that are not"), (copied / "receipts.jsonl", "receipts that are not")):
        good = path.read_bytes()
        for bad in (good[:20] + bytes([good[20] ^ 1]) + good[21:], good[:-1], good[: len(good) // 2], b""):
            path.write_bytes(bad)
            assert any(words in problem for problem in verify_folder(folder).problems), (path.name, len(bad))
            with pytest.raises(InputError, match=words):
                folder.delete(list(map(str, range(48))))
        path.unlink()
        assert any("cannot be read" in problem for problem in verify_folder(folder).problems)
        path.write_bytes(good)
    assert verify_folder(folder).ok


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.binary(min_size=16, max_size=16).map(bytes.hex),
        st.tuples(st.integers(0, 2**31 - 1), st.integers(-1, 2**31 - 1)),
        max_size=60,
    ),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
)
def test_an_index_holds_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, records: dict[str, tuple[int, int]], other: str
) -> None:
    folder = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paperworks.papers.s3t.records.BLOCK", 7)  # several blocks
        index = RecordIndex(folder, write_index(folder, records))
        assert {key: index[key] for key in records} == records
        assert dict(index.items()) == records
        assert len(index) == len(records)
        assert list(index) == sorted(records)
        assert (other in index) == (other in records)
        for none in ("", "zz", other[:-2], other.upper() + "0"):
            assert none not in index
