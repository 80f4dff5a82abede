"""What a result is measured on: a part of the user's own text that the method does not see, named in the headline."""

from __future__ import annotations

from pathlib import Path

import pytest

from paperworks.errors import InputError
from paperworks.language import bundled_model_path, bundled_text, load_tokenizer
from paperworks.pruning import quality_said, size_said, text_parts


def test_the_end_of_the_users_text_is_held_out(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("a" * 900 + "b" * 100)
    parts = text_parts(file, None)
    assert ("".join(parts.texts), "".join(parts.held_out)) == ("a" * 900, "b" * 100)
    assert parts.measured_on == "the last tenth of notes.txt"


def test_a_text_of_its_own_is_taken_whole(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.txt"
    text.write_text("a" * 10)
    other.write_text("b" * 10)
    parts = text_parts(text, other)
    assert (parts.texts, parts.held_out, parts.measured_on) == (["a" * 10], ["b" * 10], "other.txt")
    assert text_parts(None, other).texts == [bundled_text("train")]


def test_bundled_text_is_said_to_be_that() -> None:
    parts = text_parts(None, None)
    assert parts.held_out == [bundled_text("test")]
    assert parts.measured_on == "bundled English"


def test_too_short_a_text_is_refused_before_any_work(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("word " * 100)
    tokenizer = load_tokenizer(bundled_model_path())
    text_parts(file, None).check(tokenizer, 4)
    with pytest.raises(InputError, match=r"^text: .*in the last tenth of notes\.txt; expected at least 64"):
        text_parts(file, None).check(tokenizer, 64)
    with pytest.raises(InputError, match=r"^evaluation: "):
        text_parts(None, file).check(tokenizer, 500)


def test_what_got_worse_or_larger_is_said_in_words() -> None:
    assert size_said(1000, 750) == "25.0% of the parameters are gone"
    assert size_said(1000, 1117) == "The model has 11.7% more parameters than the dense one"
    assert quality_said(10, 12, "notes.txt") == "perplexity on notes.txt is 12.00, worse than the dense model's 10.00"
    assert quality_said(10, 9, "notes.txt") == "perplexity on notes.txt is 9.00, better than the dense model's 10.00"
    assert "the same as" in quality_said(10, 10, "notes.txt")
