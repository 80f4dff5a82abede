"""Slices: the codes of the specification, times of triplets and grace notes, the official end, 88 keys, meters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from paperworks.errors import InputError
from paperworks.papers.music_word2vec import (
    MusicWord2Vec,
    SliceEncoder,
    chord_word,
    encode_pitches,
    estimate_key,
    load_chorales,
    piece_from_array,
    pitch_classes,
    transpose_word,
    word_name,
)
from paperworks.papers.music_word2vec.chords import fifths_distance
from paperworks.papers.music_word2vec.notes import BeatChange
from paperworks.papers.music_word2vec.slices import transpose_words
from paperworks.papers.music_word2vec.study import CODES

NOTES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 24), st.integers(0, 127)), min_size=1, max_size=25)


@pytest.mark.parametrize("name", CODES)
def test_codes_of_the_released_code(name: str) -> None:
    assert chord_word(name) == CODES[name]
    assert word_name(CODES[name]) == {"Gb": "F#"}.get(name, name)


def words_by_hand(rows: list[tuple[int, int, int]], parts: int) -> list[int]:
    """Brute force on whole parts of a beat: a slice has every note that sounds in it, or begins in it."""
    end = max(on + length for on, length, _ in rows)
    slices = max(-(-end // parts), max(on for on, _, _ in rows) // parts + 1)
    words = []
    for i in range(slices):
        here = [p for on, length, p in rows if (on < (i + 1) * parts and on + length > i * parts) or on // parts == i]
        words.append(encode_pitches(here))
    while words and words[0] == 0:
        words.pop(0)
    while words and words[-1] == 0:
        words.pop()
    return words


@settings(max_examples=60, deadline=None)
@given(rows=NOTES, parts=st.sampled_from([1, 3, 4, 7]))
def test_slices_are_those_of_brute_force(rows: list[tuple[int, int, int]], parts: int) -> None:
    piece = piece_from_array([(on / parts, length / parts, p) for on, length, p in rows])
    assert SliceEncoder().encode(piece)[0] == words_by_hand(rows, parts)


@settings(max_examples=40, deadline=None)
@given(rows=NOTES, semitones=st.integers(-24, 24), end=st.sampled_from(["exclusive", "official"]))
def test_transposing_rotates_the_bits(rows: list[tuple[int, int, int]], semitones: int, end: str) -> None:
    encoder = SliceEncoder(end=end)  # type: ignore[arg-type]
    piece = piece_from_array([(on / 4, length / 4, p) for on, length, p in rows])
    moved = piece.transposed(semitones)
    assert moved.pitch.min() >= 0
    assert moved.pitch.max() <= 127
    assert encoder.encode(moved)[0] == [transpose_word(w, semitones) for w in encoder.encode(piece)[0]]


def test_triplets_end_on_the_beat_and_grace_notes_stay() -> None:
    third = 1 / 3
    piece = piece_from_array([(0, third, 60), (third, third, 62), (third + third, third, 64), (1, 0, 65), (1, 1, 67)])
    assert SliceEncoder().transform([piece]) == [[encode_pitches([0, 2, 4]), encode_pitches([5, 7])]]


def test_the_official_end_repeats_a_note_in_the_next_slice() -> None:
    rows = [(0, 1, 60), (1, 1, 62)]
    assert SliceEncoder().transform([rows]) == [[1, 4]]
    assert SliceEncoder(end="official").transform([rows]) == [[1, 5, 4]]
    # floor(max end / b) + 1 slices
    assert SliceEncoder(end="official").transform([[(0, 0.5, 60), (0, 2.5, 64)]]) == [[17, 16, 16]]


def test_the_official_end_adds_one_slice_and_no_silence() -> None:
    rows = [(0, 1, 60), (1, 1, 62)]
    assert SliceEncoder(end="official", trim=False).transform([rows]) == [[1, 5, 4]]
    assert SliceEncoder(end="official", trim=False).transform([[(1, 1.4996, 60)]]) == [[0, 1, 1]]
    assert SliceEncoder(end="official", trim=False, beat=0.5).transform([[(0, 1.2, 60)]]) == [[1, 1, 1]]
    piece = piece_from_array([(0, 3, 60)], beats=(BeatChange(0.0, 1.5, 0.0), BeatChange(30.0, 1.0, 30.0)))
    assert SliceEncoder(end="official", trim=False, beat="signature").transform([piece]) == [[1, 1, 1]]
    assert SliceEncoder(trim=False, beat="signature").transform([piece]) == [[1, 1]]


@pytest.mark.parametrize("beat", [1.0, 3.0, "signature"])
def test_a_last_grace_note_on_the_beat_has_a_slice_of_its_own(beat: float) -> None:
    step = 3.0 if beat == "signature" else float(beat)
    meter = (BeatChange(0.0, 3.0, 0.0),)
    piece = piece_from_array([(0, step, 60), (step, 0, 62)], beats=meter)
    assert SliceEncoder(beat=beat).encode(piece)[0] == [1, 4]
    assert SliceEncoder(beat=beat).encode(piece_from_array([(0, 0, 60)], beats=meter))[0] == [1]


def test_rests_are_words_inside_and_trimmed_outside() -> None:
    encoder = SliceEncoder()
    assert encoder.transform([[(2, 1, 60), (5, 1, 64)]]) == [[1, 0, 0, 16]]
    assert encoder.offsets_[0].tolist() == [2, 3, 4, 5]
    assert SliceEncoder(trim=False).transform([[(2, 1, 60)]]) == [[0, 0, 1]]
    assert SliceEncoder(beat=0.5).transform([[(0, 1, 60), (0.5, 0.5, 61)]]) == [[1, 3]]


def test_words_of_88_keys() -> None:
    found = SliceEncoder(representation="88").transform([[(0, 1, 21), (0, 1, 60), (0, 1, 64), (0, 1, 108), (1, 1, 20)]])
    assert found == [["512-0-0-0-17-0-0-0-1"]]  # pitch 20 is below the keyboard


def test_beats_of_the_meter_with_an_upbeat() -> None:
    beats = (BeatChange(0.0, 1.5, 0.5), BeatChange(6.5, 1.0, 6.5))
    rows = [(0, 0.5, 60), (0.5, 1.5, 62), (2.0, 1.5, 64), (3.5, 3.0, 65), (6.5, 1, 67), (7.5, 1, 69)]
    encoder = SliceEncoder(beat="signature")
    words = encoder.transform([piece_from_array(rows, beats=beats)])[0]
    assert [pitch_classes(int(w)) for w in words] == [[0], [2], [4], [5], [5], [7], [9]]
    assert encoder.offsets_[0].tolist() == [-1.0, 0.5, 2.0, 3.5, 5.0, 6.5, 7.5]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], "no notes"),
        ([(0, 1, 128)], "pitch 128"),
        ([(0, 1, -1)], "pitch -1"),
        ([(-1, 1, 60)], "a negative onset"),
        ([(0, -1, 60)], "a negative duration"),
        ([(float("nan"), 1, 60)], "not finite"),
        ([(0, 1, 60.5)], "between two keys"),
        ([(0, 1)], "shape"),
        ([(1e9, 1, 60)], "a note that ends at quarter"),
        ([("a", 1, 60)], "no numbers"),
    ],
)
def test_bad_notes_are_refused(rows: list[object], found: str) -> None:
    with pytest.raises(InputError, match=found):
        SliceEncoder().transform([rows])


@pytest.mark.parametrize(
    "options", [{"beat": 0}, {"beat": float("nan")}, {"beat": "bar"}, {"end": "x"}, {"representation": "8"}]
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        SliceEncoder(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["H", "Cmaj13", "", 4096, -1, 1.5, [12]])
def test_words_that_are_none(word: object) -> None:
    from paperworks.papers.music_word2vec.chords import as_word

    with pytest.raises(InputError):
        as_word(word)


def test_circle_of_fifths_and_keys() -> None:
    assert [fifths_distance(0, pc) for pc in range(12)] == [0, 5, 2, 3, 4, 1, 6, 1, 4, 3, 2, 5]
    scale = [145, 545, 2180, 145, 529, 548, 2180, 145]
    assert estimate_key(scale) == "C"
    assert estimate_key(transpose_words(scale, 3)) == "Eb"
    assert estimate_key([529, 548, 2320, 529]) == "Am"  # G sharp


def test_the_bundled_works() -> None:
    pieces = load_chorales()
    by_name = {piece.name: piece for piece in pieces}
    assert len(pieces) == len(by_name) == 400
    words = SliceEncoder().transform(pieces)
    assert 20_000 < sum(map(len, words)) < 25_000
    first = SliceEncoder().encode(by_name["bwv66.6"])[0]
    assert word_name(first[0]) == "C#-E-G#-B" or estimate_key(first) in ("F#m", "A")
    assert np.bincount(by_name["bwv66.6"].part).size == 4


def test_the_encoder_is_a_transformer_of_scikit_learn() -> None:
    notes = np.array([[0, 1, 60], [0.5, 1, 64], [1, 1, 67], [2.5, 1, 62]])
    encoder = SliceEncoder(beat=0.5, trim=False)
    again = clone(encoder)
    assert again.get_params() == encoder.get_params()
    assert again.fit_transform([notes]) == encoder.transform([notes])
    assert clone(encoder).set_params(beat=1.0).transform([notes]) == SliceEncoder(trim=False).transform([notes])
    with pytest.raises(InputError, match="beat"):
        again.set_params(beat=0).transform([notes])
    model = MusicWord2Vec(vector_size=4, vocab_size=5, steps=1)
    assert make_pipeline(clone(encoder), model).fit([notes]).transform([notes])[0].shape == (7, 4)
