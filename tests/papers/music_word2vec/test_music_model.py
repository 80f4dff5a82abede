"""The model: gradients, pairs, noise, nearest words, files, resuming; what is measured on vectors that are known."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from paperworks.errors import InputError
from paperworks.papers.music_word2vec import (
    MusicWord2Vec,
    SliceEncoder,
    Substitutes,
    chord_distances,
    chord_word,
    estimate_key,
    fifths_correlation,
    key_consistency,
    key_matrix,
    load_chorales,
    piece_from_array,
    substitute_words,
    tonal_report,
)
from paperworks.papers.music_word2vec import skipgram as sg
from paperworks.papers.music_word2vec.baselines import overlap_model, shuffle_all, shuffle_within
from paperworks.papers.music_word2vec.slices import pitch_classes
from paperworks.papers.music_word2vec.substitution import moves
from paperworks.papers.music_word2vec.tonal import by_fifths, pair_angles, pair_cosines, triad_vectors
from paperworks.papers.music_word2vec.vocabulary import Vocabulary

SMALL = {"vector_size": 16, "negatives": 8, "steps": 3000, "vocab_size": 120}


@pytest.fixture(scope="module")
def words() -> list[list[int]]:
    return SliceEncoder().transform(load_chorales()[:120])  # type: ignore[return-value]


@pytest.fixture(scope="module")
def model(words: list[list[int]]) -> MusicWord2Vec:
    return MusicWord2Vec(**SMALL).fit(words)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["nce", "ns"])
def test_a_step_is_the_gradient_of_the_loss(loss: sg.Loss) -> None:
    rng = np.random.default_rng(0)
    counts = np.array([3, 9, 7, 5, 2, 1])
    text = sg.Text.join([np.array([1, 2, 3, 1, 5], np.int32), np.array([4, 2, 0], np.int32)])
    start = sg.Parameters(*(rng.normal(size=s) for s in ((6, 4), (6, 4), (6,))))
    shift = sg.correction(loss, sg.noise_distribution(loss, counts), 3)
    centres, noise = np.array([[0, 2, 5, 2]]), np.array([[1, 1, 4]])
    pairs = []
    for at in centres[0]:
        low, high = max(text.begin[at], at - 2), min(text.end[at], at + 3)
        pairs += [(text.ids[at], text.ids[i]) for i in range(low, high) if i != at]
    after = sg.Parameters(start.e.copy(), start.o.copy(), start.b.copy())
    arguments = [after.e, after.o, after.b, text.ids, text.begin, text.end, centres, noise, shift, np.ones(1), 2]
    total, counted = sg._descend(*arguments)
    assert total / counted == pytest.approx(sg.batch_loss(start, shift, np.array(pairs), noise[0]), rel=1e-12)
    for name in ("e", "o", "b"):
        before, step = getattr(start, name), getattr(start, name) - getattr(after, name)
        for place in np.ndindex(before.shape):
            ends = []
            for change in (1e-6, -1e-6):
                moved = {n: getattr(start, n).copy() for n in ("e", "o", "b")}
                moved[name][place] += change
                ends.append(sg.batch_loss(sg.Parameters(**moved), shift, np.array(pairs), noise[0]))
            assert step[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_the_compiled_step_is_the_step_in_python() -> None:
    rng = np.random.default_rng(1)
    text = sg.Text.join([rng.integers(0, 9, 40).astype(np.int32), rng.integers(0, 9, 30).astype(np.int32)])
    start = sg.Parameters.start(9, 8, rng)
    shift = sg.correction("nce", sg.noise_distribution("nce", np.ones(9)), 5).astype(np.float32)
    centres, noise = rng.integers(0, 70, (20, 4)), rng.integers(0, 9, (20, 5))
    a, b = (sg.Parameters(start.e.copy(), start.o.copy(), start.b.copy()) for _ in range(2))
    rates = np.full(20, 0.5, np.float32)
    sg._descend(a.e, a.o, a.b, text.ids, text.begin, text.end, centres, noise, shift, rates, 4)
    sg.train_steps(b, text, centres, noise, shift, rates, 4)
    for name in ("e", "o", "b"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=2e-5)


def test_windows_do_not_cross_pieces() -> None:
    a, b = np.arange(1, 8, dtype=np.int32), np.arange(11, 15, dtype=np.int32)
    both = sg.Text.join([a, b])
    found = sorted(map(tuple, both.pairs(3).tolist()))
    by_hand = [(x[i], x[j]) for x in (a, b) for i in range(len(x)) for j in range(len(x)) if 0 < abs(i - j) <= 3]
    assert found == sorted((int(u), int(v)) for u, v in by_hand)
    assert both.pair_count(3) == len(found)


def test_noise_distributions() -> None:
    q = sg.noise_distribution("nce", np.ones(500))
    assert q.sum() == pytest.approx(1)
    assert q[0] == pytest.approx(np.log(2) / np.log(501))
    counts = np.array([1, 16, 81])
    assert sg.noise_distribution("ns", counts) == pytest.approx(np.array([1, 8, 27]) / 36)
    assert sg.correction("ns", q, 64).tolist() == [0.0] * 500


def test_vocabulary_is_sorted_by_frequency() -> None:
    found = Vocabulary.from_sequences([[5, 5, 5, 1, 1, 7, 9], [7, 2]], 4)
    assert found.words == (5, 1, 7)
    assert found.counts.tolist() == [2, 3, 2, 2]
    assert found.encode([[9, 5, 7]])[0].tolist() == [0, 1, 3]
    with pytest.raises(InputError, match="distinct words"):
        Vocabulary.from_sequences([[3, 3]], 10)
    with pytest.raises(InputError, match="one representation"):
        Vocabulary.from_sequences([[3], ["0-0-0-0-1-0-0-0-0"]], 10)


def test_nearest_words_leave_out_silence_and_the_word(model: MusicWord2Vec) -> None:
    near = [w for w, _ in model.most_similar("C", topn=1000)]
    assert len(near) == len(model.vocab_.words) - 1 - (0 in model.vocab_.words)
    assert 0 not in near
    assert chord_word("C") not in near
    assert model.distance("C", 145) == pytest.approx(0, abs=1e-6)
    assert model.distance("C", {7, 11, 2}) == pytest.approx(model.distance("G", "C"))
    assert chord_word("D") not in [w for w, _ in model.analogy("C", "G", "D", topn=50)]


def test_a_word_outside_the_vocabulary_is_not_replaced_by_unk(model: MusicWord2Vec) -> None:
    with pytest.warns(UserWarning, match="is not among"):
        assert np.isnan(model.distance("C", 4095))
    with pytest.raises(InputError, match="outside the vocabulary"):
        model.most_similar(4095)
    assert model.transform([[145, 4095]])[0][1] == pytest.approx(model.vectors_[0])


def test_files_give_the_same_model(model: MusicWord2Vec, tmp_path: Path) -> None:
    model.save(tmp_path / "model.npz")
    loaded = MusicWord2Vec.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.vectors_, model.vectors_)
    assert loaded.vocab_.words == model.vocab_.words
    with pytest.raises(InputError, match="something that exists"):
        model.save(tmp_path / "model.npz")
    (tmp_path / "other.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="a file written by"):
        MusicWord2Vec.load(tmp_path / "other.npz")
    model.save_word2vec_text(tmp_path / "vectors.txt")
    keyed = pytest.importorskip("gensim.models").KeyedVectors
    peer = keyed.load_word2vec_format(tmp_path / "vectors.txt")
    assert peer.similarity("145", "2180") == pytest.approx(1 - model.distance("C", "G"), abs=1e-5)
    (ours, similarity), (theirs, peers_similarity) = (
        keyed_vectors.most_similar("145", topn=1)[0] for keyed_vectors in (model.to_keyed_vectors(), peer)
    )
    assert ours == theirs
    assert similarity == pytest.approx(peers_similarity, abs=1e-6)


def test_the_seed_decides_and_a_stopped_fit_goes_on(words: list[list[int]], tmp_path: Path) -> None:
    options = {**SMALL, "steps": 4500, "random_state": 3}
    whole = MusicWord2Vec(**options).fit(words)  # type: ignore[arg-type]

    class Stop(Exception):
        pass

    def stop_after_one(items: object, description: str, total: int | None = None) -> object:
        for number, item in enumerate(items):  # type: ignore[call-overload]
            if number:
                raise Stop
            yield item

    with pytest.raises(Stop):
        MusicWord2Vec(**options).fit(words, progress=stop_after_one, checkpoint=tmp_path / "c")  # type: ignore[arg-type]
    again = MusicWord2Vec(**options).fit(words, checkpoint=tmp_path / "c")  # type: ignore[arg-type]
    np.testing.assert_array_equal(whole.vectors_, again.vectors_)
    np.testing.assert_array_equal(whole.loss_curve_, again.loss_curve_)
    other = clone(whole).set_params(random_state=4).fit(words, checkpoint=tmp_path / "c")
    assert not np.array_equal(other.vectors_, whole.vectors_)  # the checkpoint of another seed is not taken


def test_training_lowers_the_loss_with_threads_too(words: list[list[int]]) -> None:
    for options in ({}, {"workers": 2}, {"loss": "ns", "lr": 1.6, "decay": True}):
        curve = MusicWord2Vec(**SMALL | {"steps": 6000} | options).fit(words).loss_curve_  # type: ignore[arg-type]
        assert curve[-1] < 0.95 * curve[0]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"vector_size": 0}, "vector_size"),
        ({"lr": 0.0}, "lr"),
        ({"loss": "x"}, "loss"),
        ({"vocab_size": 2}, "vocab_size"),
        ({"lr": 1e6}, "lr"),
        ({"window": 1.5}, "window"),
        ({"random_state": -1}, "random_state"),
        ({"random_state": np.random.default_rng(0)}, "random_state"),
    ],
)
def test_bad_parameters_are_refused(words: list[list[int]], options: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        MusicWord2Vec(**SMALL | options).fit(words)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="two slices"):
        MusicWord2Vec(**SMALL).fit([[1], [2]])  # type: ignore[arg-type]


def test_augmentation_learns_all_transpositions() -> None:
    found = MusicWord2Vec(**SMALL | {"transpose_augment": True, "steps": 0}).fit([[145, 2180, 145]])  # type: ignore[arg-type]
    assert len(found.vocab_.words) == 12
    assert set(found.vocab_.counts[1:]) == {3}


# -- harmony -----------------------------------------------------------------------------------------------------


def circular(model: MusicWord2Vec) -> MusicWord2Vec:
    """Major triads on a circle in fifths order, for which all measures are known."""
    for tonic in range(12):
        angle = 2 * np.pi * (7 * tonic % 12) / 12
        row = np.zeros(model.vectors_.shape[1], np.float32)
        row[:2] = np.cos(angle), np.sin(angle)
        found = model.index(chord_word("C") if tonic == 0 else {(tonic + s) % 12 for s in (0, 4, 7)})
        if found is not None:
            model.vectors_[found] = row
    return model


def test_measures_of_a_perfect_circle(words: list[list[int]]) -> None:
    model = circular(MusicWord2Vec(**SMALL | {"vocab_size": 2000, "steps": 0}).fit(words))  # type: ignore[arg-type]
    here = np.isfinite(triad_vectors(model)).all(axis=1)
    assert here.all()
    assert fifths_correlation(model) == pytest.approx(1)
    steps = by_fifths(np.asarray(pair_angles(model, "V")))
    assert steps == pytest.approx([30, 60, 90, 120, 150, 180], abs=0.1)
    table = chord_distances(model)
    assert table["V"].to_numpy() == pytest.approx(1 - np.cos(np.pi / 6), abs=1e-5)
    assert table["bII"].to_numpy() == pytest.approx(1 - np.cos(5 * np.pi / 6), abs=1e-5)


def test_independent_vectors_give_minus_a_half(words: list[list[int]]) -> None:
    big = MusicWord2Vec(**SMALL | {"vector_size": 2000, "vocab_size": 2000, "steps": 0}).fit(words)  # type: ignore[arg-type]
    assert by_fifths(pair_cosines(big))[0] == pytest.approx(-0.5, abs=0.03)


def test_distances_of_keys_of_shared_notes(words: list[list[int]]) -> None:
    """With the bits as vectors the centroids can be computed by hand."""
    model = overlap_model(MusicWord2Vec(**SMALL | {"vocab_size": 4000, "steps": 0}).fit([[*range(1, 4096)]] * 2))  # type: ignore[arg-type]
    piece = [145, 2180, 545, 2180 | 32, 145]
    matrix = key_matrix(model, [piece])
    members = [np.array([w >> pc & 1 for pc in range(12)]) for w in piece]
    mean = np.mean([m / np.linalg.norm(m) for m in members], axis=0)
    other = np.roll(mean, 7)
    expected = 1 - mean @ other / (np.linalg.norm(mean) * np.linalg.norm(other))
    assert matrix[0, 1] == pytest.approx(expected, abs=1e-5)
    assert np.diag(matrix) == pytest.approx(np.zeros(12), abs=1e-6)
    assert matrix == pytest.approx(matrix.T)
    assert key_matrix(model, [piece], clusters=2).shape == (12, 12)
    with pytest.raises(InputError, match="88 keys"):
        key_matrix(model, [["0-0-0-0-1-0-0-0-0"]])


def test_the_report_marks_what_is_missing(words: list[list[int]]) -> None:
    few = MusicWord2Vec(**SMALL | {"vocab_size": 12, "steps": 0}).fit(words)  # type: ignore[arg-type]
    report = tonal_report(few, [[4095, 4094]])
    assert report.columns.tolist() == ["measure", "item", "value"]
    assert report["value"].isna().any()
    assert "distance of keys" not in set(report["measure"])


# -- substitution ------------------------------------------------------------------------------------------------


def test_substitutes_are_the_best_by_brute_force(model: MusicWord2Vec, words: list[list[int]]) -> None:
    piece, m = words[0], 7
    unit = model.vectors_.astype(np.float64)
    near, h = {}, np.zeros(12)
    for code in piece:
        if code in model.ids_ and code != 0:
            order = sorted(
                (w for w in model.vocab_.words if w not in (0, code)),
                key=lambda w, c=code: -float(unit[model.ids_[w]] @ unit[model.ids_[c]]),
            )
            near[code] = order[:m]
            for w in near[code]:
                h[pitch_classes(int(w))] += float(unit[model.ids_[w]] @ unit[model.ids_[code]])
    h /= h.sum()
    found = substitute_words(model, piece, m)
    assert found.profile == pytest.approx(h, abs=1e-5)
    for code, new in zip(piece, found.words, strict=True):
        if code in near:
            fits = [np.mean(h[pitch_classes(int(w))]) for w in near[code]]
            assert np.mean(h[pitch_classes(new)]) == pytest.approx(max(fits), abs=1e-6)
        else:
            assert new == code


def test_random_substitutes_and_bounds(model: MusicWord2Vec, words: list[list[int]]) -> None:
    a, b = (substitute_words(model, words[0], 5, choice="random", seed=s).words for s in (0, 0))
    assert a == b
    assert a != substitute_words(model, words[0], 5, choice="random", seed=1).words
    assert substitute_words(model, words[0], 1).words == substitute_words(model, words[0], 1, choice="random").words
    assert substitute_words(model, [0, 4095, 0]).words == [0, 4095, 0]
    for m in (0, 120):
        with pytest.raises(InputError, match="m: found"):
            Substitutes(model, m)
    with pytest.raises(InputError, match="fit or random"):
        substitute_words(model, words[0], 5, choice="best")  # type: ignore[arg-type]


def test_moves_reach_the_new_slice() -> None:
    rng = np.random.default_rng(0)
    for old, new in rng.integers(1, 4096, (200, 2)).tolist():
        found = moves(old, new)
        reached = {(pc + step) % 12 for pc, step in found.items()}
        assert set(found) == set(pitch_classes(old))
        assert reached <= set(pitch_classes(new))
        assert len(reached) == min(len(pitch_classes(old)), len(pitch_classes(new)))
        assert all(abs(step) <= 6 for step in found.values())
    assert moves(145, 145) == {0: 0, 4: 0, 7: 0}
    assert moves(0, 145) == {}


def test_key_consistency() -> None:
    assert key_consistency([145, 2180], "C") == 1
    assert key_consistency([145, 1 << 1], "C") == pytest.approx(3 / 4)
    notes = np.array([[0, 1, 60], [0, 1, 64], [1, 1, 67], [2, 1, 61]])
    assert key_consistency(notes, "C") == key_consistency(piece_from_array(notes), "C") == pytest.approx(3 / 4)
    assert key_consistency([580], "C") == pytest.approx(2 / 3)
    assert np.isnan(key_consistency([0]))
    with pytest.raises(InputError, match="key"):
        key_consistency([145], "C7")
    assert key_consistency(["C", "G"]) == 1
    for of_words in (key_consistency, estimate_key):
        with pytest.raises(InputError, match="12 bits"):
            of_words(["0-0-0-0-17-0-0-0-0"])


def test_shuffles_keep_what_they_should(words: list[list[int]]) -> None:
    rng = np.random.default_rng(0)
    within, everywhere = shuffle_within(words, rng), shuffle_all(words, rng)
    assert [sorted(w) for w in within] == [sorted(w) for w in words]
    assert [len(w) for w in everywhere] == [len(w) for w in words]
    assert sorted(chain(*everywhere)) == sorted(chain(*words))
