"""What a model takes and refuses: words in all their forms, numbers of numpy, seeds, damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.music_word2vec import MusicWord2Vec, SliceEncoder, substitute_words, word_name

SMALL = {"vector_size": 8, "negatives": 4}


def test_a_damaged_model_file_is_refused(tmp_path: Path) -> None:
    MusicWord2Vec(vector_size=8, steps=40).fit([["C", "G", "F"]]).save(tmp_path / "model.npz")
    whole = (tmp_path / "model.npz").read_bytes()
    middle = len(whole) // 3
    for damaged in (b"", whole[: len(whole) // 2], whole[:middle] + bytes(99) + whole[middle + 99 :]):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(InputError, match="a file written by"):
            MusicWord2Vec.load(tmp_path / "damaged")
    with np.load(tmp_path / "model.npz") as stored:
        arrays = dict(stored) | {"counts": np.ones(3)}
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(InputError, match="other lengths"):
        MusicWord2Vec.load(tmp_path / "other.npz")


def test_words_may_be_numpy_codes_chord_names_and_sets(tmp_path: Path) -> None:
    plain = MusicWord2Vec(**SMALL | {"steps": 30}).fit([[145, 2180, 545, 145]])  # type: ignore[arg-type]
    for words in (np.array([145, 2180, 545, 145]), ["C", "G", "F", "C"], [{0, 4, 7}, 2180, "F", (0, 4, 7)]):
        found = MusicWord2Vec(**SMALL | {"steps": 30}).fit([words])  # type: ignore[arg-type]
        assert found.vocab_.words == plain.vocab_.words
        np.testing.assert_array_equal(found.vectors_, plain.vectors_)
        np.testing.assert_array_equal(found.transform([words])[0], plain.transform([[145, 2180, 545, 145]])[0])
    found.save(tmp_path / "model.npz")
    assert word_name(np.int64(145)) == "C"  # type: ignore[arg-type]
    assert substitute_words(plain, np.array([145, 2180]), 1).words == substitute_words(plain, ["C", "G"], 1).words


@pytest.mark.parametrize(
    ("sequences", "found"),
    [
        ([[145, -5]], "-5"),
        ([[145, 99999]], "99999"),
        ([[145, float("inf")]], "inf"),
        ([["C", "Hm"]], "Hm"),
        ([["1-2-3-4-5-6-7-8-x", "1-2-3-4-5-6-7-8-9"]], "8-x"),
        ([[145, {"a"}]], "pitch classes"),
        ([145, 2180], "one list per piece"),
        (["C", "G"], "one list per piece"),
        (np.array([145, 2180]), "one list per piece"),
        ("C", "one list per piece"),
        (None, "one list per piece"),
    ],
)
def test_what_is_no_word_is_not_learned_from(sequences: Any, found: str) -> None:
    with pytest.raises(InputError, match=found):
        MusicWord2Vec(**SMALL).fit(sequences)  # type: ignore[arg-type]


def test_parameters_may_be_numpy_numbers(tmp_path: Path) -> None:
    plain = {"vector_size": 8, "window": 2, "negatives": 4, "steps": 40, "lr": 0.5, "random_state": 3}
    numpy = {k: np.float32(v) if k == "lr" else np.int32(v) for k, v in plain.items()}
    a, b = (MusicWord2Vec(**o).fit([[145, 2180, 545, 145]]) for o in (plain, numpy))  # type: ignore[arg-type]
    np.testing.assert_array_equal(a.vectors_, b.vectors_)
    b.save(tmp_path / "model.npz")
    assert MusicWord2Vec.load(tmp_path / "model.npz").get_params() == a.get_params()
    rows = [(0, 1, 60), (1, 1, 62)]
    assert SliceEncoder(beat=np.float32(0.5)).transform([rows]) == [[1, 1, 4, 4]]  # type: ignore[arg-type]


def test_no_seed_draws_one(tmp_path: Path) -> None:
    options = {"vector_size": 8, "negatives": 4, "steps": 40}
    a, b = (MusicWord2Vec(**options, random_state=None).fit([["C", "G", "F"]]) for _ in range(2))  # type: ignore[arg-type]
    assert not np.array_equal(a.vectors_, b.vectors_)
    again = MusicWord2Vec(**options, random_state=a.seed_).fit([["C", "G", "F"]])  # type: ignore[arg-type]
    np.testing.assert_array_equal(a.vectors_, again.vectors_)


def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"PK\x03\x04 cut")
    found = MusicWord2Vec(vector_size=8, steps=40).fit([["C", "G", "F"]], checkpoint=tmp_path / "c")
    np.testing.assert_array_equal(
        found.vectors_, MusicWord2Vec(vector_size=8, steps=40).fit([["C", "G", "F"]]).vectors_
    )
