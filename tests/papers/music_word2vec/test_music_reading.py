"""Scores in: MIDI byte by byte, MusicXML, kern, ABC, streams; bad files; folders and their cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from music_files import BAD, TUNE, XML, midi, note, off, on, rows, save

from paperworks.errors import InputError
from paperworks.papers.music_word2vec import SliceEncoder, encode_pitches, load_chorales, read_score, read_scores
from paperworks.papers.music_word2vec.midi_files import beat_length
from paperworks.papers.music_word2vec.reading import piece_from_stream, score_files

music21 = pytest.importorskip("music21")


def test_notes_of_a_midi_file(tmp_path: Path) -> None:
    signs = [(0, b"\xff\x58\x04\x06\x03\x18\x08"), (0, b"\xff\x59\x02\xfd\x00")]
    drums = [(0, on(36, 9)), (480, off(36, 9))]
    piece = read_score(save(tmp_path, "a.mid", midi(signs, TUNE, drums)))
    assert rows(piece) == [[0, 1, 60], [0, 2, 64], [1, 1, 67]]
    assert piece.fifths == -3
    assert [b.length for b in piece.beats] == [1.5]
    assert len(read_score(save(tmp_path, "b.mid", midi(TUNE, drums)), drop_percussion=False)) == 4
    assert SliceEncoder().transform(tmp_path / "a.mid") == [[encode_pitches([0, 4]), encode_pitches([4, 7])]]


def test_broken_tempo_maps_do_no_harm_where_ticks_are_beats(tmp_path: Path) -> None:
    tempi = [(0, b"\xff\x51\x03\x00\x00\x00"), (10, b"\xff\x51\x03\xff\xff\xff")]
    assert rows(read_score(save(tmp_path, "a.mid", midi(tempi, TUNE))))[0] == [0, 1, 60]
    smpte = 0xE728  # 25 frames of 40 ticks: 1,000 ticks a second
    with pytest.raises(InputError, match=r"b\.mid: found a tempo of inf"):
        read_score(save(tmp_path, "b.mid", midi(tempi, TUNE, division=smpte)))
    half = [(0, b"\xff\x51\x03\x07\xa1\x20"), (500, b"\xff\x51\x03\x0f\x42\x40")]  # 120, then 60 a minute
    long = [(0, on(60)), (1500, off(60))]
    assert rows(read_score(save(tmp_path, "c.mid", midi(half, long, division=smpte)))) == [[0, 2, 60]]


def test_notes_that_overlap_or_never_end(tmp_path: Path) -> None:
    track = [(0, on(60)), (240, on(60)), (240, off(60)), (480, off(60)), (0, on(62)), (480, off(61))]
    piece = read_score(save(tmp_path, "a.mid", midi(track)))
    assert rows(piece) == [[0, 1, 60], [0.5, 1.5, 60], [2, 1, 62]]
    assert "never switched off" in piece.notes[0]


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    data, found = BAD[name]
    with pytest.raises(InputError, match=found) as caught:
        read_score(save(tmp_path, name, data))
    assert caught.value.field == name


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=60), cut=st.integers(0, 70))
def test_any_bytes_give_notes_or_an_error(data: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.mid"
    path.write_bytes(midi(TUNE)[:cut] + data)
    try:
        found: Any = read_score(path)
    except InputError as error:
        found = error.field
    assert found == "any.mid" or len(found) > 0


def test_musicxml_with_ties_grace_notes_and_a_transposing_instrument(tmp_path: Path) -> None:
    notes = note("D", 2, tie="start") + note("D", 1, tie="stop") + note("E", 0, grace=True) + note("F", 3)
    written = XML.format(instrument="", attributes="", notes=notes)
    piece = read_score(save(tmp_path, "a.musicxml", written))
    assert rows(piece) == [[0, 1.5, 62], [1.5, 0, 64], [1.5, 1.5, 65]]
    assert piece.fifths == -3
    assert SliceEncoder(beat="signature").transform([piece]) == [[4, encode_pitches([4, 5])]]
    down = "<transpose><chromatic>-2</chromatic></transpose>"
    clarinet = XML.format(instrument="", attributes=down, notes=notes)
    assert read_score(save(tmp_path, "b.musicxml", clarinet)).pitch.tolist() == [60, 62, 63]


def test_unpitched_notes_are_percussion(tmp_path: Path) -> None:
    place = "<display-step>C</display-step><display-octave>5</display-octave>"
    hit = f"<note><unpitched>{place}</unpitched><duration>6</duration></note>"
    with pytest.raises(InputError, match=r"percussion only \(1 notes\)"):
        read_score(save(tmp_path, "a.musicxml", XML.format(instrument="", attributes="", notes=hit)))


def test_kern_abc_and_streams(tmp_path: Path) -> None:
    kern = "**kern\t**kern\n*M3/4\t*M3/4\n=1\t=1\n4C\t4e\n4D\t8f\n.\t8g\n4E\t4g\n==\t==\n*-\t*-\n"
    first = read_score(save(tmp_path, "a.krn", kern))
    assert SliceEncoder().transform([first]) == [[17, encode_pitches([2, 5, 7]), encode_pitches([4, 7])]]
    second = read_score(save(tmp_path, "a.abc", "X:1\nL:1/4\nM:4/4\nK:G\n[GBd] [DFA] |\n"))
    assert SliceEncoder().transform([second]) == [[encode_pitches([7, 11, 2]), encode_pitches([2, 6, 9])]]
    stream = music21.converter.parse("tinynotation: 4/4 c4 d8 e8 r4 trip{f8 g8 a8}")
    words = [1, encode_pitches([2, 4]), 0, encode_pitches([5, 7, 9])]
    assert SliceEncoder().transform([stream]) == [words]
    stream.insert(0, music21.harmony.ChordSymbol("Cm"))  # a symbol does not sound
    assert SliceEncoder().transform([piece_from_stream(stream)]) == [words]


ADDITIVE = "<beats>{beats}</beats><beat-type>8</beat-type>"


@pytest.mark.parametrize("beats", ["3+2", "2+2+3"])
def test_additive_meters_are_read(beats: str, tmp_path: Path) -> None:
    notes = "".join(note(step, 1) for step in "CDEFG")
    written = XML.format(instrument="", attributes="", notes=notes)
    written = written.replace(ADDITIVE.format(beats=6), ADDITIVE.format(beats=beats))
    assert beats in written
    path = save(tmp_path, "a.musicxml", written)
    piece = read_scores([path]).pieces[0]
    assert [b.length for b in piece.beats] == [0.5]
    assert SliceEncoder(beat="signature").transform([piece]) == [[1, 4, 16, 32, 128]]


def test_a_score_that_music21_trips_over_does_not_stop_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paperworks.papers.music_word2vec import reading

    def trip(path: Path, **options: Any) -> Any:
        if path.name == "b.mid":
            raise AttributeError("no such element")
        return read_score(path, **options)

    monkeypatch.setattr(reading, "read_score", trip)
    files = [save(tmp_path, name, midi(TUNE)) for name in ("a.mid", "b.mid")]
    scores = read_scores(files)
    assert [p.name for p in scores.pieces] == ["a.mid"]
    assert scores.skipped == [("b.mid", "a score that cannot be read (AttributeError: no such element)")]


def test_beats_are_the_same_in_midi_and_in_notation() -> None:
    for denominator in (2, 4, 8, 16, 32):
        for numerator in range(1, 20):
            signature = music21.meter.TimeSignature(f"{numerator}/{denominator}")
            assert beat_length(numerator, denominator) == signature.beatDuration.quarterLength, signature


def test_a_damaged_entry_of_the_cache_is_read_again(tmp_path: Path) -> None:
    path, cache = save(tmp_path, "a.mid", midi(TUNE)), tmp_path / "cache"
    first = read_scores([path], cache=cache).pieces[0]
    entry = next(cache.iterdir())
    whole = entry.read_bytes()
    middle = whole.index(b"about.npy") + 40
    for damaged in (b"", whole[:60], b"PK" + whole[2:-30], whole[:middle] + bytes(9) + whole[middle + 9 :]):
        entry.write_bytes(damaged)
        assert rows(read_scores([path], cache=cache).pieces[0]) == rows(first)


def test_repeats_are_played_on_request(tmp_path: Path) -> None:
    sign = '<barline location="right"><repeat direction="backward"/></barline>'
    notes = note("C", 2) + note("D", 2) + note("E", 2) + sign
    path = save(tmp_path, "a.musicxml", XML.format(instrument="", attributes="", notes=notes))
    assert SliceEncoder().transform([path]) == [[1, 4, 16]]
    assert SliceEncoder(expand_repeats=True).transform([path]) == [[1, 4, 16, 1, 4, 16]]
    plain = save(tmp_path, "a.abc", "X:1\nL:1/4\nK:G\n[GBd] [DFA]\n")
    assert len(SliceEncoder(expand_repeats=True).transform([plain])[0]) == 2


def test_the_corpus_is_what_is_bundled() -> None:
    piece = {p.name: p for p in load_chorales()}["bwv66.6"]
    parsed = piece_from_stream(music21.corpus.parse("bach/bwv66.6"))
    np.testing.assert_allclose(piece.onset, parsed.onset, atol=1e-4)
    np.testing.assert_array_equal(piece.pitch, parsed.pitch)
    np.testing.assert_allclose(piece.duration, parsed.duration, atol=1e-4)


def test_a_folder_is_read_once_and_bad_files_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paperworks.papers.music_word2vec import reading

    folder, cache = tmp_path / "scores", tmp_path / "cache"
    (folder / "more").mkdir(parents=True)
    save(folder, "b.mid", midi(TUNE))
    save(folder / "more", "a.abc", "X:1\nL:1/4\nK:G\n[GBd] [DFA] |\n")
    save(folder, "c.mid", b"broken")
    save(folder, "readme.txt", "no score")
    files = score_files(folder)
    assert [f.name for f in files] == ["b.mid", "c.mid", "a.abc"]
    first = read_scores(files, cache=cache)
    assert [p.name for p in first.pieces] == ["b.mid", "a.abc"]
    assert first.skipped[0][0] == "c.mid"
    monkeypatch.setattr(reading, "read_score", None)  # nothing is parsed again
    again = read_scores(files, cache=cache)
    assert [rows(p) for p in again.pieces] == [rows(p) for p in first.pieces]
    assert again.skipped == first.skipped
    with pytest.raises(InputError, match=r"no file that can be read \(c.mid"):
        read_scores([folder / "c.mid"], cache=cache)
    with pytest.raises(InputError, match="a folder without scores"):
        score_files(cache)
    with pytest.raises(InputError, match=r"scores: found .*nowhere"):
        score_files(tmp_path / "nowhere")
