"""Texts of folders and files, and what is no file of texts."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from paperworks.errors import InputError
from paperworks.inputs import texts
from paperworks.inputs.texts import read_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, words in (("ham/deep/b.txt", "Hello\r\n"), ("spam/a.txt", "Buy"), ("not in a class.txt", "no")):
        path = tmp_path / "mails" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(words.encode())
    (tmp_path / "mails" / "ham" / "c.txt").write_bytes(b"caf\xe9")  # latin-1
    return tmp_path / "mails"


def test_a_folder_has_a_class_for_each_folder(folder: Path) -> None:
    frame = read_texts(str(folder))
    assert frame["id"].tolist() == ["ham/c.txt", "ham/deep/b.txt", "spam/a.txt"]
    assert frame["label"].tolist() == ["ham", "ham", "spam"]
    assert [text.strip() for text in frame["text"]] == ["caf\ufffd", "Hello", "Buy"]


def test_a_bundled_set_is_found_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ham").rename(folder / "easy-ham-1")
    (folder / "spam").rename(folder / "spam-2")
    monkeypatch.setattr(texts, "path_of_input", lambda name: folder)
    assert read_texts(texts.BUNDLED[0])["label"].tolist() == ["ham", "ham", "spam"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_a_file_has_the_columns_it_has(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    words = ["one\u2028line", "", "NA"]
    frame = pd.DataFrame({"text": words, "stars": ["1", "2", "3"]})
    if suffix == ".jsonl":
        rows = [json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records")]
        path.write_text("\n\n".join(rows) + "\n", encoding="utf-8")
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    found = read_texts(str(path))
    assert found["text"].tolist() == words
    assert found["stars"].tolist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"text": ', r"t\.jsonl \("),
        ("t.csv", "text\n", "without rows"),
        ("t.csv", "", r"t\.csv \("),
        ("t.parquet", "text", r"t\.parquet \("),
        ("t.docx", "text", "or a folder of .txt files"),
        ("empty/t.txt", "text", "a folder per class"),
    ],
)
def test_what_is_no_file_of_texts_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_texts(str(path.parent if path.suffix == ".txt" else path), "corpus")
    assert caught.value.field == "corpus"


def test_a_missing_source_is_named() -> None:
    with pytest.raises(InputError, match=r"data: found nowhere\.csv, which does not exist; expected .*spam-assassin"):
        read_texts("nowhere.csv")
