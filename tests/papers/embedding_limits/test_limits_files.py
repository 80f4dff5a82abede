"""Files that cannot be read, and first lines that may be headers."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from paperworks.errors import InputError
from paperworks.papers.embedding_limits import load_beir, read_qrels, read_words


def test_files_that_cannot_be_read_are_refused_in_words(tmp_path: Path) -> None:
    latin = "caf\u00e9\n".encode("latin-1")
    whole = gzip.compress(b"q,a\nq,b\n" * 400)
    damaged = whole[:12] + bytes([whole[12] ^ 0xFF]) + whole[13:]
    for name, content in (("latin.txt", latin), ("cut.txt.gz", whole[:-12]), ("bad.txt.gz", damaged), ("no.gz", b"x")):
        (tmp_path / name).write_bytes(content)
        for read in (read_words, read_qrels):
            with pytest.raises(InputError, match=name):
                read(tmp_path / name)
    for name, content in (("latin.jsonl", latin), ("deep.jsonl", b"[" * 100_000), ("cut.jsonl.gz", whole[:-12])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_qrels(tmp_path / name)
    home = tmp_path / "home"
    (home / "qrels").mkdir(parents=True)
    (home / "qrels" / "test.tsv").write_text("q\td\t1\n")
    (home / "queries.jsonl").write_text('{"_id": "q", "text": "y"}\n')
    (home / "corpus.jsonl").write_bytes(b'{"_id": "d", "text": "' + latin.strip() + b'"}\n')
    with pytest.raises(InputError, match=r"corpus\.jsonl"):
        load_beir(home)


def test_a_header_of_other_names_is_a_pair_with_a_note(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("user,item\nu1,i1\nu2,i2\n")
    assert read_qrels(file).query_ids == ("u1", "u2")
    file.write_text("reader,book\nu1,i1\nu2,i2\n")
    found = read_qrels(file)
    assert found.query_ids == ("reader", "u1", "u2")
    assert any("reader,book" in note for note in found.notes)
    for text in ("anna,paris\nbob,rome\n", "u1,i1\nu2,i2\n", "query_id,doc_id\nanna,paris\nu2,i2\n"):
        file.write_text(text)
        assert read_qrels(file).notes == ()
