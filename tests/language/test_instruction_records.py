"""Instruction data in the usual formats, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.language.generation import InstructionRecord, read_instructions, write_instructions

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho"},
]
ROWS = {
    "messages": {"messages": CHAT},
    "sharegpt": {
        "system": "Be brief.",
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}],
    },
    "alpaca": {"instruction": "Hi", "input": "", "output": "Ho", "system": "Be brief."},
    "completion": {"prompt": "Hi", "completion": "Ho", "system": "Be brief."},
    "response": {"prompt": "Hi", "response": "Ho", "system": "Be brief."},
    "chats": {"prompt": CHAT[:2], "completion": CHAT[2:]},
}


@pytest.mark.parametrize("kind", list(ROWS))
@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_formats_are_one_record(kind: str, suffix: str, tmp_path: Path) -> None:
    path, rows = tmp_path / f"a.{suffix}", [ROWS[kind] | {"score": 3}, ROWS[kind] | {"score": 4}]
    if suffix == "jsonl":
        path.write_text("\n".join(json.dumps(r) for r in rows) + "\n\n")
    elif suffix == "json":
        path.write_text(json.dumps(rows))
    else:
        pd.DataFrame(rows).to_parquet(path)
    found = read_instructions(path)
    assert [list(r.messages) for r in found] == [CHAT, CHAT]
    assert [r.id for r in found] == ["0", "1"]
    assert [dict(r.extra) for r in found] == [{"score": 3}, {"score": 4}]
    assert found[0].response == "Ho"
    assert list(found[0].prompt) == CHAT[:2]
    assert found[0].instruction == "Hi"


def test_csv_inputs_and_prompts_without_an_answer(tmp_path: Path) -> None:
    rows = [{"id": "x", "instruction": "Add", "input": "1, 2", "output": "3"}]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    record = read_instructions(tmp_path / "a.csv")[0]
    assert record.id == "x"
    assert record.instruction == "Add\n\n1, 2"
    (tmp_path / "b.jsonl").write_text('{"prompt": "Say\\u2028it"}\n')
    record = read_instructions(tmp_path / "b.jsonl")[0]
    assert record.response is None
    assert record.prompt[0]["content"] == "Say\u2028it"


@given(
    st.lists(st.tuples(st.text(), st.text(), st.booleans()), min_size=1, max_size=5),
    st.sampled_from(["messages", "alpaca"]),
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, turns, form: str) -> None:
    records = [
        InstructionRecord(
            str(i),
            tuple(
                [{"role": "system", "content": f"s{a}"}] * system
                + [{"role": "user", "content": a}, {"role": "assistant", "content": b}]
            ),
            {"k": i},
        )
        for i, (a, b, system) in enumerate(turns)
    ]
    path = tmp_path_factory.mktemp("records") / "a.jsonl"
    write_instructions(records, path, form)
    assert read_instructions(path) == records


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "without a row"),
        ("{", "line 1: not JSON"),
        ('{"prompt": "a", "completion": "b"}\n3', "row 1: int"),
        ('{"question": "a"}', "row 0: question"),
        ('{"messages": [{"role": "poet", "content": "a"}]}', "row 0: .*poet"),
        ('{"messages": [{"role": "user", "content": 3}]}', "row 0"),
    ],
)
def test_bad_rows_are_named(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(InputError, match=match):
        read_instructions(tmp_path / "a.jsonl")


def test_bad_files_are_named(tmp_path: Path) -> None:
    for name in ("nowhere.jsonl", "a.txt"):
        (tmp_path / "a.txt").write_text("a")
        with pytest.raises(InputError, match="instructions"):
            read_instructions(tmp_path / name)
    record = InstructionRecord("0", ({"role": "user", "content": "a"},))
    (tmp_path / "b.jsonl").write_text("")
    for path, form, field in (
        ("b.jsonl", "messages", "path"),
        ("c.jsonl", "alpaca", "format"),
        ("c.jsonl", "x", "format"),
    ):
        with pytest.raises(InputError) as caught:
            write_instructions([record], tmp_path / path, form)  # type: ignore[arg-type]
        assert caught.value.field == field
