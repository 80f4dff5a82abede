"""Questions from files: the forms of their keys, tokens of the endings, lines that are wrong; scores by batches."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from paperworks.errors import InputError
from paperworks.language.choice import ending_scores, question_scores
from paperworks.language.choice_files import read_questions

GOOD = {"question": "Is ice", "choices": ["cold", "härter"], "answer": 1}


def write(folder: Path, *records: Any) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records), encoding="utf-8")
    return path


@pytest.mark.parametrize("answer", [1, "1", "B", "b", "härter"])
def test_forms_of_the_answer(tmp_path: Path, byte_tokenizer: Any, answer: Any) -> None:
    records = [GOOD | {"answer": answer}, {"context": "Is ice", "endings": GOOD["choices"], "label": answer}]
    first, second = read_questions(write(tmp_path, records[0], "", records[1]), byte_tokenizer)
    assert first == second
    assert first.answer == 1
    assert first.lengths == (4, 7)
    assert byte_tokenizer.decode(first.context) == "Is ice"
    assert [byte_tokenizer.decode(e) for e in first.endings] == [" cold", " härter"]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{", "not JSON"),
        ("[]", "list"),
        ({"question": "a", "answer": 0}, "no choices"),
        (GOOD | {"context": "twice"}, "context and question"),
        (GOOD | {"question": "  "}, "a context that is"),
        (GOOD | {"choices": ["one"]}, "two texts or more"),
        (GOOD | {"choices": ["one", ""]}, "two texts or more"),
        (GOOD | {"answer": 2}, "answer 2"),
        (GOOD | {"answer": True}, "answer True"),
        (GOOD | {"answer": "Z"}, "0 to 1"),
        (GOOD | {"question": "x" * 40}, "at most 30"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, byte_tokenizer: Any, record: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        read_questions(write(tmp_path, GOOD, record), byte_tokenizer, 30)
    assert error.value.field == "choices"
    assert "line 2" in str(error.value)


def test_bad_files(tmp_path: Path, byte_tokenizer: Any) -> None:
    with pytest.raises(InputError, match="nothing there"):
        read_questions(tmp_path / "none.jsonl", byte_tokenizer)
    with pytest.raises(InputError, match="without a question"):
        read_questions(write(tmp_path, ""), byte_tokenizer)


def test_damaged_gzip_data_are_told(tmp_path: Path, byte_tokenizer: Any) -> None:
    whole = gzip.compress(json.dumps(GOOD).encode() * 50)
    (tmp_path / "questions.jsonl.gz").write_bytes(whole[:40] + bytes(20) + whole[60:])
    with pytest.raises(InputError, match="which cannot be read"):
        read_questions(tmp_path / "questions.jsonl.gz", byte_tokenizer)


def test_batches_change_no_score(tmp_path: Path, byte_tokenizer: Any, small_model: Any) -> None:
    records = [GOOD, GOOD | {"question": "A much longer question, is it"}, GOOD | {"choices": ["a", "bb", "cccc"]}]
    questions = read_questions(write(tmp_path, *records), byte_tokenizer)
    found = question_scores(small_model, questions, batch_size=3)
    for question, scores in zip(questions, found, strict=True):
        torch.testing.assert_close(scores, ending_scores(small_model, question), atol=1e-5, rtol=1e-5)
