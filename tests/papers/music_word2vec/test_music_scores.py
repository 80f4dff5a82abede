"""Variations as scores; the recipe on files of all formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from music_files import BAD, TUNE, XML, midi, note, off, on, rows, save

from paperworks.errors import InputError
from paperworks.papers.music_word2vec import (
    MusicWord2Vec,
    SliceEncoder,
    encode_pitches,
    load_chorales,
    read_score,
    substitute,
    write_score,
)
from paperworks.papers.music_word2vec.reading import piece_from_stream
from paperworks.papers.music_word2vec.variation import spelling
from paperworks.runs import Run, build_config, load_recipe

music21 = pytest.importorskip("music21")


# -- variations --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> MusicWord2Vec:
    words = SliceEncoder().transform(load_chorales()[:150])
    return MusicWord2Vec(vector_size=16, negatives=8, steps=3000, vocab_size=200).fit(words)


def bar_lengths(score: Any) -> list[list[float]]:
    return [[bar.duration.quarterLength for bar in part.getElementsByClass("Measure")] for part in score.parts]


def test_a_variation_keeps_rhythm_and_register(model: MusicWord2Vec, tmp_path: Path) -> None:
    original = piece_from_stream(music21.corpus.parse("bach/bwv253"))
    varied = substitute("bwv253", model, 5, choice="random", seed=3)
    now = piece_from_stream(varied.score)
    order = np.lexsort((now.part, now.onset)), np.lexsort((original.part, original.onset))
    np.testing.assert_array_equal(now.onset[order[0]], original.onset[order[1]])
    np.testing.assert_array_equal(now.duration[order[0]], original.duration[order[1]])
    moved = now.pitch[order[0]] - original.pitch[order[1]]
    assert np.abs(moved).max() <= 6
    assert (moved != 0).mean() > 0.2
    for i, word in enumerate(varied.substitution.words):  # notes that begin on the beat are of the substitute
        begin = varied.offsets[i]
        inside = (now.onset >= begin) & (now.onset < begin + 1)
        assert encode_pitches(now.pitch[inside]) & ~word == 0
    for name in ("a.mid", "a.musicxml"):
        write_score(varied.score, tmp_path / name)
        back = read_score(tmp_path / name)
        assert SliceEncoder().encode(back)[0] == varied.after
        assert sorted(back.pitch.tolist()) == sorted(now.pitch.tolist())
    with pytest.raises(InputError, match="something that exists"):
        write_score(varied.score, tmp_path / "a.mid")
    with pytest.raises(InputError, match="ends in"):
        write_score(varied.score, tmp_path / "a.pdf")
    bars = [bar_lengths(music21.converter.parse(tmp_path / "a.musicxml", forceSource=True))]
    assert bars == [bar_lengths(music21.corpus.parse("bach/bwv253"))]
    write_score(substitute("bwv253", model, 5, choice="random", seed=3).score, tmp_path / "b.musicxml")
    assert (tmp_path / "a.musicxml").read_bytes() == (tmp_path / "b.musicxml").read_bytes()


def test_ties_and_percussion_stay_whole(model: MusicWord2Vec, tmp_path: Path) -> None:
    score = music21.stream.Score()
    melody, drums = music21.stream.Part(), music21.stream.Part()
    for root in (60, 67, 65, 60, 62, 67, 60, 65):
        melody.append(music21.chord.Chord([root, root + 4, root + 7], quarterLength=1.5))
    drums.append(music21.instrument.UnpitchedPercussion())
    drums.append(music21.note.Unpitched(quarterLength=12))
    score.insert(0, melody.makeNotation())
    score.insert(0, drums)
    varied = substitute(score, model, 20, choice="random", seed=1)
    assert len(varied.score.parts) == 2
    assert len(varied.score.recurse().getElementsByClass("Unpitched")) == 1
    now = piece_from_stream(varied.score)
    assert now.duration.tolist() == [1.5] * 24  # half of the notes are tied over a beat or a bar line
    assert now.pitch.tolist() != piece_from_stream(score).pitch.tolist()
    assert piece_from_stream(score).pitch[:3].tolist() == [60, 64, 67]  # the original stays
    for name in ("a.mid", "a.musicxml"):  # the drums have no bar lines, the melody has
        write_score(varied.score, tmp_path / name)
        assert SliceEncoder().encode(read_score(tmp_path / name))[0] == varied.after


def test_a_midi_file_is_varied_and_its_drums_stay(model: MusicWord2Vec, tmp_path: Path) -> None:
    drums = [(0, on(36, 9)), (480, off(36, 9))]
    path = save(tmp_path, "in.mid", midi(TUNE * 4, drums * 4))
    varied = substitute(path, model, 20, choice="random", seed=1)
    write_score(varied.score, tmp_path / "out.mid")
    assert SliceEncoder().encode(read_score(tmp_path / "out.mid"))[0] == varied.after
    assert len(read_score(tmp_path / "out.mid")) == 12
    assert len(read_score(tmp_path / "out.mid", drop_percussion=False)) == 16


def test_spelling() -> None:
    assert spelling(0) == ["C", "C#", "D", "E-", "E", "F", "F#", "G", "G#", "A", "B-", "B"]
    assert spelling(-4)[8] == "A-"
    for fifths in range(-7, 8):
        assert [music21.pitch.Pitch(name).pitchClass for name in spelling(fifths)] == list(range(12))


@pytest.mark.parametrize("name", ["nowhere.xml", "bwv0", "../bwv253"])
def test_a_score_to_vary_that_is_none(model: MusicWord2Vec, name: str) -> None:
    with pytest.raises(InputError, match="vary"):
        substitute(name, model, 5)


def test_a_score_that_the_model_does_not_know(model: MusicWord2Vec) -> None:
    cluster = music21.chord.Chord(list(range(60, 71)), quarterLength=4)
    with pytest.raises(InputError, match="no slice that the model knows"):
        substitute(music21.stream.Stream([cluster]), model, 5)


# -- the recipe --------------------------------------------------------------------------------------------------


def test_the_recipe_on_a_folder_with_all_formats(tmp_path: Path) -> None:
    folder = tmp_path / "scores"
    folder.mkdir()
    save(folder, "a.mid", midi([*TUNE, *TUNE, (960, on(60)), (480, off(60))]))  # with a rest
    save(folder, "drums.mid", BAD["drums.mid"][0])
    save(folder, "one.mid", midi([(0, on(60)), (480, off(60))]))
    notes = "".join(note(step, 2) for step in "CEGFAC")
    vary = save(folder, "b.musicxml", XML.format(instrument="", attributes="", notes=notes))
    recipe = load_recipe("music-word2vec", "paperworks.papers.music_word2vec.recipe")
    options = {"scores": str(folder), "vary": str(vary), "steps": 50, "vector_size": 4, "neighbours": 50}
    run = Run(tmp_path / "run")
    report = recipe.function(build_config(recipe.config, options), run)
    left_out = {row[0]: row[1] for row in report.tables[-1].rows}
    assert set(left_out) == {"drums.mid", "one.mid"}
    assert all((run.files / f.path).is_file() for f in report.files)
    assert (run.files / "variation.mid").read_bytes().startswith(b"MThd")
    assert any("no more" in n for n in report.notes)
    heard = {*SliceEncoder().transform(folder / "a.mid")[0], *SliceEncoder().transform(vary)[0]} - {0}
    assert report.metrics["distinct slices"] == len(heard)


def test_files_of_one_name_in_two_folders_are_two_scores(tmp_path: Path) -> None:
    from paperworks.papers.music_word2vec.recipe import Config, read_corpus

    tunes = {"one": TUNE * 2, "two": [(0, on(65)), (480, off(65)), *TUNE]}
    for name, tune in tunes.items():
        (tmp_path / "scores" / name).mkdir(parents=True)
        save(tmp_path / "scores" / name, "a.mid", midi(tune))
        save(tmp_path / "scores" / name, "b.mid", b"broken")
    corpus = read_corpus(Config(scores=str(tmp_path / "scores")), Run(tmp_path / "run"), SliceEncoder())
    assert [p.name for p in corpus.pieces] == ["one/a.mid", "two/a.mid"]
    assert [name for name, _ in corpus.skipped] == ["one/b.mid", "two/b.mid"]
    for piece in corpus.pieces:
        assert rows(read_score(corpus.files[piece.name])) == rows(piece)


def test_the_recipe_on_words_of_88_keys(tmp_path: Path) -> None:
    recipe = load_recipe("music-word2vec", "paperworks.papers.music_word2vec.recipe")
    options = {"representation": "88", "steps": 20, "vector_size": 4, "vocab_size": 50}
    report = recipe.function(build_config(recipe.config, options), Run(tmp_path / "run"))
    assert "49 slices got vectors" in report.headline
    for beat in ("0", "bar", "nan"):
        with pytest.raises(InputError, match="beat"):
            build_config(recipe.config, {"beat": beat})


def test_every_bundled_work_has_its_score_in_the_corpus() -> None:
    from paperworks.papers.music_word2vec.chorales import load_chorales
    from paperworks.papers.music_word2vec.variation import corpus_file

    for piece in load_chorales()[::7]:
        file = corpus_file(piece.name)
        assert file is not None, piece.name
        assert file.stem == piece.name
    for name in ("bwv112.5", "bwv277"):  # of these the corpus has two files
        file = corpus_file(name)
        assert file is not None
        assert file.stem == name
    assert corpus_file("bwv-none") is None
