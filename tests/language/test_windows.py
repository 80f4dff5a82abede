"""Windows and calibration sets: nothing lost but the tail, nothing invented, and what is wrong is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.language import Calibration, token_ids, token_windows

TEXTS = st.lists(st.text(min_size=0, max_size=30), min_size=1, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(TEXTS, st.integers(2, 12), st.sampled_from(["\n\n", " ", ""]))
def test_windows_are_the_joined_tokens_without_the_tail(
    byte_tokenizer: Any, texts: list[str], length: int, join: str
) -> None:
    ids = byte_tokenizer(join.join(texts), add_special_tokens=False)["input_ids"]
    if len(ids) < length:
        with pytest.raises(InputError, match="texts"):
            token_windows(byte_tokenizer, texts, length, join=join)
        return
    windows = token_windows(byte_tokenizer, texts, length, join=join)
    assert windows.dtype == torch.int64
    assert windows.shape == (len(ids) // length, length)
    assert windows.flatten().tolist() == ids[: windows.numel()]


def test_a_text_is_a_list_of_one(byte_tokenizer: Any) -> None:
    assert torch.equal(token_ids(byte_tokenizer, "some text"), token_ids(byte_tokenizer, ["some text"]))
    with pytest.raises(InputError, match="length: found 1"):
        token_windows(byte_tokenizer, "some text", 1)


def test_concat_draws_different_windows_of_the_text(byte_tokenizer: Any) -> None:
    texts = ["abcdefgh" * 4, "ijklmnop" * 5]
    all_windows = {tuple(w) for w in token_windows(byte_tokenizer, texts, 7).tolist()}
    drawn = Calibration.from_texts(byte_tokenizer, texts, 9, 7, seed=3)
    assert len(drawn) == 9
    assert {tuple(w) for w in drawn.input_ids.tolist()} <= all_windows
    assert drawn.tokens == 63
    everything = Calibration.from_texts(byte_tokenizer, texts, 10, 7, seed=3)
    assert sorted(everything.input_ids.tolist()) == sorted(token_windows(byte_tokenizer, texts, 7).tolist())


def test_pad_keeps_texts_apart(byte_tokenizer: Any) -> None:
    texts = ["ab", "  \n ", "cdefghij"]
    drawn = Calibration.from_texts(byte_tokenizer, texts, 2, 4, packing="pad")
    rows = {
        byte_tokenizer.decode(ids[mask == 1]) for ids, mask in zip(drawn.input_ids, drawn.attention_mask, strict=True)
    }
    assert rows == {"ab", "cdef"}
    assert drawn.attention_mask.sum(1).sort().values.tolist() == [2, 4]


def test_the_seed_decides(byte_tokenizer: Any) -> None:
    text = ["the quick brown fox jumps over the lazy dog " * 20]
    a, b, c = (Calibration.from_texts(byte_tokenizer, text, 5, 8, seed=s) for s in (1, 1, 2))
    assert a.fingerprint() == b.fingerprint() != c.fingerprint()


def test_the_fingerprint_is_of_the_tokens_and_not_of_what_lies_under_the_padding() -> None:
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    other = ids.clone()
    other[0, 2] = 99
    base = Calibration.from_tokens(ids, mask).fingerprint()
    assert Calibration.from_tokens(other, mask.bool()).fingerprint() == base
    assert Calibration.from_tokens(ids).fingerprint() != base
    assert Calibration.from_tokens(ids.reshape(3, 2)).fingerprint() != Calibration.from_tokens(ids).fingerprint()
    changed = ids.clone()
    changed[1, 0] = 8
    assert Calibration.from_tokens(changed, mask).fingerprint() != base


def test_batches_are_all_rows_in_order() -> None:
    data = Calibration.from_tokens(torch.arange(14).reshape(7, 2))
    batches = list(data.batches(3))
    assert [len(b["input_ids"]) for b in batches] == [3, 3, 1]
    assert torch.equal(torch.cat([b["input_ids"] for b in batches]), data.input_ids)
    assert data[4]["input_ids"].tolist() == [8, 9]
    with pytest.raises(InputError, match="batch_size"):
        list(data.batches(0))


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.zeros(0, 4, dtype=torch.int64), None, "input_ids: .*not empty"),
        (torch.zeros(4, dtype=torch.int64), None, r"input_ids: found torch.int64 of shape \(4,\)"),
        (torch.zeros(2, 3), None, "input_ids: found torch.float32"),
        (torch.full((2, 3), -1), None, "input_ids: found token id -1"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 2), "attention_mask: found shape"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.full((2, 3), 2), "attention_mask: found values other"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[1, 1, 1], [0, 0, 0]]), "row 1 of padding only"),
    ],
)
def test_bad_calibration(ids: torch.Tensor, mask: torch.Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Calibration.from_tokens(ids, mask)


def test_too_little_text_and_bad_numbers(byte_tokenizer: Any) -> None:
    with pytest.raises(InputError, match="n: found 5 sequences from 2 windows of 4 tokens; expected at most 2"):
        Calibration.from_texts(byte_tokenizer, ["abcdefghi"], 5, 4)
    with pytest.raises(InputError, match="n: found 2 sequences from 1 texts"):
        Calibration.from_texts(byte_tokenizer, ["abc", ""], 2, 4, packing="pad")
    with pytest.raises(InputError, match=r"^n:"):
        Calibration.from_texts(byte_tokenizer, ["abc"], 0, 4)
    with pytest.raises(InputError, match="packing"):
        Calibration.from_texts(byte_tokenizer, ["abc"], 1, 2, packing="zip")  # type: ignore[arg-type]
