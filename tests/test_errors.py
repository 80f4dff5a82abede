"""Messages: what other libraries say is passed on in plain words, without unsafe advice."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (repr(np.str_("p")), "'p'"),
        (f"classes {[np.int64(3), np.str_('a')]}", "classes [3, 'a']"),
        (
            "x.npy (This file contains pickled (object) data. If you trust the file you can load it unsafely using the "
            "`allow_pickle=` keyword argument or `pickle.load()`.)",
            "x.npy (This file contains pickled (object) data.)",
        ),
        (
            "Weights only load failed. Set weights_only to False to go on. Check the file.",
            "Weights only load failed. Check the file.",
        ),
        ("column 'PAR1\\x00\\x00\\x15'", "column 'PAR1(bytes)'"),
        ("'\\x00garbage'", "'(bytes)garbage'"),
        ("a\nb\x00", "a b\ufffd"),
    ],
)
def test_messages_are_plain(found: str, words: str) -> None:
    error = InputError("file", found, "something else")
    assert error.found == words
    assert str(error) == f"file: found {words}; expected something else"


def test_a_field_that_names_a_strange_file_is_printable() -> None:
    assert str(InputError("line\nbreak.csv, line 2", "3 cells", "2")).startswith("line break.csv, line 2: found")
