"""Exact values: chunk length, time chunks, scene scores, similarity, medians, distances."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.inputs.video import decode_frames, write_video
from paperworks.papers.quilt1m.chunks import Chunk, chunk_length, fixed_windows, text_window, time_chunks
from paperworks.papers.quilt1m.correction import edit_distance, sounds_like
from paperworks.papers.quilt1m.likeness import embed, patch_similarities, perceptual_hash, ssim
from paperworks.papers.quilt1m.narrative import narrative_test
from paperworks.papers.quilt1m.scenes import SceneScorer, mean_difference
from paperworks.papers.quilt1m.scoring import alignment, retrieval, stratified_rows, zero_shot
from paperworks.papers.quilt1m.stable import StableSettings, StableTracker, median_picture, sorting_network


@pytest.mark.parametrize(
    ("duration", "words", "expected"), [(92.5258, 38, 48.69778947368421), (142.0, 258, 11.007751937984496)]
)
def test_chunk_length_of_public_rows(duration: float, words: int, expected: float) -> None:
    assert chunk_length(words, duration) == pytest.approx(expected, rel=1e-12)


def test_chunk_length_needs_words() -> None:
    for words, duration in ((0, 10.0), (5, 0.0), (5, math.nan)):
        with pytest.raises(InputError):
            chunk_length(words, duration)


EXAMPLES = [
    (
        [0, 2, 5, 9, 14, 20, 21, 30, 44, 46, 60],
        [0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0],
        [(0, 14, (1, 2, 3, 4)), (4, 21, (5,)), (34, 60, (8, 9))],
    ),
    ([1, 4, 8, 12, 16, 20, 24, 28], [1] * 8, [(0, 12, (0, 1, 2, 3)), (2, 24, (4, 5, 6))]),
    ([3, 6, 30, 33, 50, 52], [1, 1, 1, 1, 0, 1], [(0, 30, (0, 1)), (20, 50, (2, 3))]),
]


@pytest.mark.parametrize(("times", "positive", "expected"), EXAMPLES)
def test_windows_of_the_released_code(
    times: list[float], positive: list[bool], expected: list[tuple[float, float, tuple[int, ...]]]
) -> None:
    assert time_chunks(times, positive, 10, flush_tail=False) == [Chunk(*row) for row in expected]


def test_the_tail() -> None:
    times, positive, expected = EXAMPLES[1]
    assert time_chunks(times, positive, 10) == [*(Chunk(*row) for row in expected), Chunk(14, 28, (7,))]
    assert time_chunks(times, positive, 10, end=40.0)[-1] == Chunk(14, 40.0, (7,))
    assert time_chunks([3.0], [True], 10, end=9.0) == [Chunk(0, 9.0, (0,))]


def test_what_is_shown_until_the_end_is_a_chunk_though_no_key_frame_is_left_for_it() -> None:
    times, shown = [1, 4, 8, 12, 16, 20, 24], [True] * 7
    until_24 = [Chunk(0, 12, (0, 1, 2, 3)), Chunk(2, 24, (4, 5, 6))]
    assert time_chunks(times, shown, 10) == until_24
    assert time_chunks(times, shown, 10, end=100.0) == [*until_24, Chunk(14, 100.0, (6,))]
    assert time_chunks(times, shown, 10, flush_tail=False, end=100.0) == until_24
    assert time_chunks([0], [True], 10, end=60.0) == [Chunk(0, 60.0, (0,))]  # one slide from beginning to end
    assert time_chunks([0], [False], 10, end=60.0) == []


def test_a_key_frame_at_zero_only_sets_the_state() -> None:
    assert time_chunks([0, 4], [1, 0], 10) == [Chunk(0, 4, (0,))]
    assert time_chunks([0, 4, 9], [1, 1, 0], 10) == [Chunk(0, 9, (1,))]
    assert time_chunks([], [], 10) == []


def reference_chunks(times: list[float], positive: list[bool], T: float) -> list[tuple[float, float, tuple[int, ...]]]:
    """The specification's pseudocode, line by line."""
    out, prev_t, prev_p, acc, s, cur = [], 0.0, False, 0.0, 0.0, []
    for k, (t, p) in enumerate(zip(times, positive, strict=True)):
        if t == 0:
            prev_t, prev_p = t, p
            continue
        if p and not prev_p:
            s = max(prev_t, t - T)
            cur.append(k)
        elif p and prev_p:
            gap = t - prev_t
            if gap > T:
                out.append((s, t, tuple(cur or [k])))
                cur, acc, s = [k], 0.0, t - T
            else:
                acc += gap
                cur.append(k)
                if acc > T:
                    out.append((s, t, tuple(cur)))
                    cur, acc, s = [], 0.0, t - T
        elif not p and prev_p:
            out.append((s, t, tuple(cur or [k - 1])))
            cur, acc = [], 0.0
        prev_t, prev_p = t, p
    return out


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=20, unique_by=lambda r: r[0]), st.integers(1, 15)
)
def test_windows_are_those_of_the_pseudocode(rows: list[tuple[int, bool]], length: int) -> None:
    rows = sorted(rows)
    times, positive = [float(t) for t, _ in rows], [p for _, p in rows]
    found = time_chunks(times, positive, length, flush_tail=False)
    assert [(c.start, c.end, c.frames) for c in found] == reference_chunks(times, positive, length)
    with_tail = time_chunks(times, positive, length)
    assert with_tail[: len(found)] == found
    assert all(c.start < c.end and c.frames for c in with_tail)


def test_chunks_refuse_what_they_cannot_use() -> None:
    for times, positive, length in [
        ([1, 1], [1, 1], 5),
        ([2, 1], [0, 0], 5),
        ([1], [1, 0], 5),
        ([1], [1], 0),
        ([-1], [1], 5),
    ]:
        with pytest.raises(InputError):
            time_chunks(times, positive, length)


def test_windows() -> None:
    assert text_window(Chunk(2, 10, ()), 8, 12) == (0, 12)
    assert text_window(Chunk(10, 20, ()), 8, 100) == (6, 24)
    assert fixed_windows(25) == [(0, 10), (10, 20), (20, 25)]
    assert fixed_windows(20) == [(0, 10), (10, 20)]


def test_scene_scores_are_those_of_ffmpeg(tmp_path: Path) -> None:
    import av

    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(3)]
    frames = [pictures[i // 8] // (1 + (i % 8 == 5)) for i in range(24)]
    write_video(tmp_path / "a.mp4", frames, fps=10)
    scorer = SceneScorer()
    ours = [scorer(frame.luma()) for frame in decode_frames(tmp_path / "a.mp4")]
    theirs = []
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream)
        select = graph.add("select", "gte(scene,0)")
        sink = graph.add("buffersink")
        source.link_to(select)
        select.link_to(sink)
        graph.configure()
        for frame in container.decode(stream):
            graph.push(frame)
            theirs.append(float(graph.pull().metadata["lavfi.scene_score"]))
    assert ours == pytest.approx(theirs, abs=2e-6)
    assert max(ours) > 0.1


def test_ssim_by_hand_and_its_bounds() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 255, (2, 20, 24)).astype(np.uint8)
    scores = []
    for y in range(20 - 6):
        for x in range(24 - 6):
            p, q = a[y : y + 7, x : x + 7].astype(float).ravel(), b[y : y + 7, x : x + 7].astype(float).ravel()
            cov = np.cov(p, q)
            c1, c2 = 2.55**2, 7.65**2
            top = (2 * p.mean() * q.mean() + c1) * (2 * cov[0, 1] + c2)
            scores.append(top / ((p.mean() ** 2 + q.mean() ** 2 + c1) * (cov[0, 0] + cov[1, 1] + c2)))
    assert ssim(a, b) == pytest.approx(np.mean(scores), abs=1e-9)
    assert ssim(a, a) == pytest.approx(1, abs=1e-12)
    colours = np.stack([a, b, a], axis=2)
    assert ssim(colours, colours[..., [1, 1, 0]]) == pytest.approx((ssim(a, b) + 2) / 3)


def test_a_cursor_changes_one_patch() -> None:
    rng = np.random.default_rng(2)
    a = rng.integers(0, 255, (64, 96)).astype(np.uint8)
    b = a.copy()
    b[20:28, 40:46] = 0
    found = patch_similarities(a, b, 16)
    assert found.shape == (4, 6)
    assert (found < 0.98).sum() == 1
    assert patch_similarities(a, a, 16) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 33), st.integers(0, 2**31))
def test_median_is_numpys(count: int, seed: int) -> None:
    pictures = list(np.random.default_rng(seed).integers(0, 256, (count, 5, 7, 3)).astype(np.uint8))
    kept = [picture.copy() for picture in pictures]
    expected = np.floor(np.median(np.stack(pictures), axis=0) + 0.5)
    assert (median_picture(pictures) == expected).all()
    assert all((a == b).all() for a, b in zip(kept, pictures, strict=True))


@pytest.mark.parametrize("count", [2, 3, 5, 8, 11])
def test_the_network_sorts(count: int) -> None:
    """By the 0-1 principle: a network that sorts all sequences of zeros and ones sorts everything."""
    values = ((np.arange(2**count)[:, None] >> np.arange(count)) & 1).astype(np.uint8)
    for first, second in sorting_network(count):
        pair = np.sort(values[:, [first, second]], axis=1)
        values[:, first], values[:, second] = pair[:, 0], pair[:, 1]
    assert (np.diff(values.astype(int), axis=1) >= 0).all()


def test_mean_difference() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 33, 47)).astype(np.uint8)
    assert mean_difference(a, b) == np.abs(a.astype(int) - b).mean()
    assert mean_difference(np.zeros((40, 40), np.uint8), np.full((40, 40), 255, np.uint8)) == 255


def feed(tracker: StableTracker, rows: list[tuple[float, np.ndarray]], end: float) -> list[tuple[float, float]]:
    found = [tracker.add(t, picture[..., 0], picture) for t, picture in rows] + [tracker.finish(end)]
    return [(s.start, s.end) for s in found if s is not None]


def test_still_segments_and_bounded_memory() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 255, (2, 48, 64, 3)).astype(np.uint8)
    tracker = StableTracker(StableSettings(frames=8, longest=100))
    rows = [(i / 4, a) for i in range(16)] + [(4 + i / 4, b) for i in range(8)] + [(6 + i / 4, a) for i in range(40)]
    most = 0
    for time, picture in rows:
        tracker.add(time, picture[..., 0], picture)
        most = max(most, len(tracker._open.kept))  # type: ignore[union-attr]
    assert most <= 9
    assert feed(StableTracker(StableSettings(longest=100)), rows, 16.0) == [(0, 4), (6, 16)]
    assert feed(StableTracker(StableSettings(longest=5)), rows, 16.0)[1:] == [(6.0, 11.25), (11.25, 16)]


def test_a_slow_pan_is_not_still() -> None:
    wide = np.random.default_rng(4).integers(0, 255, (48, 40)).astype(np.float64)
    wide = np.repeat(np.kron(wide, np.ones((1, 8)))[:, :, None], 3, axis=2).astype(np.uint8)
    rows = [(i / 4, wide[:, i : i + 64]) for i in range(60)]
    assert feed(StableTracker(StableSettings(still=0.9)), rows, 15.0) == []


def test_narrative() -> None:
    rng = np.random.default_rng(5)
    apart = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    together = np.repeat(apart[:1], 30, axis=0)
    yes = np.ones(30, bool)
    assert narrative_test(apart, yes).share == 0
    assert narrative_test(together, yes).share == 1
    mixed = apart.copy()
    mixed[10:14] = apart[10]
    result = narrative_test(mixed, yes)
    assert (result.share, result.sampled, result.narrative) == (1 / 27, 27, False)
    assert narrative_test(together, ~yes) == narrative_test(together[:2], yes[:2])


def test_vectors_of_pictures() -> None:
    rng = np.random.default_rng(6)
    a = np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    assert embed(a).shape == (64,)
    assert np.linalg.norm(embed(a)) == pytest.approx(1)
    assert embed(a) @ embed(np.clip(a.astype(int) + 3, 0, 255).astype(np.uint8)) > 0.99
    assert (perceptual_hash(a) ^ perceptual_hash(a[::-1, ::-1])).bit_count() > 10
    assert (perceptual_hash(a) ^ perceptual_hash(np.clip(a.astype(int) + 4, 0, 255).astype(np.uint8))).bit_count() <= 4
    assert embed(np.full((20, 20, 3), 127, np.uint8)).shape == (64,)


@settings(max_examples=100, deadline=None)
@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance(a: str, b: str) -> None:
    found = edit_distance(a, b, 6)
    assert found == edit_distance(b, a, 6)
    assert (found == 0) == (a == b)
    assert abs(len(a) - len(b)) <= found <= max(len(a), len(b))
    assert edit_distance(a, b, 1) == min(found, 2)


def test_distances_and_sounds() -> None:
    assert [edit_distance(a, b, 3) for a, b in [("kitten", "sitting"), ("ab", "ba"), ("x", "x")]] == [3, 1, 0]
    assert [sounds_like(w) for w in ("robert", "rupert", "tymczak", "honeyman", "pfister")] == [
        *("R163", "R163", "T522", "H555", "P236")
    ]


def test_retrieval_by_hand() -> None:
    images = np.eye(3)
    texts = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1.0]])
    found = retrieval(images, texts, [[0], [1], [2]], ks=(1, 2, 50))
    assert [one.k for one in found] == [1, 2]
    # the second text is nearest to the first picture, but the second picture's nearest text is the second
    assert found[0].to_text.estimate == 1
    assert found[0].to_image.estimate == pytest.approx(2 / 3)
    assert found[1].to_image.estimate == 1
    assert found[0].chance_to_text == pytest.approx(1 / 3)
    assert retrieval(np.ones((4, 2)), np.ones((4, 2)), [[0], [1], [2], [3]], ks=(1, 3))[0].to_text.estimate == 0
    assert retrieval(images, texts, [[0, 1], [1], [2]], ks=(2,))[0].chance_to_text == pytest.approx(
        (1 + 2 / 3 + 2 / 3) / 3
    )


def test_own_texts_against_others() -> None:
    own, others = alignment(np.eye(2), np.array([[1.0, 0], [0.6, 0.8]]), [[0], [1]])
    assert (own, others) == (pytest.approx(0.9), pytest.approx(0.3))
    assert math.isnan(alignment(np.ones((1, 1)), np.ones((1, 1)), [[0]])[1])


def test_zero_shot_by_hand() -> None:
    vectors = np.array([[[1.0, 0], [0, 1]], [[0, 1.0], [1, 0]], [[1.0, 0], [0, 1]]])
    found = zero_shot(np.array([[1.0, 0.1], [0.1, 1.0]]), np.array([0, 1]), vectors, ("a", "b", "c"), ("x", "y"))
    assert found.by_template == (1.0, 0.0, 1.0)
    assert found.accuracy.estimate == 1.0


def test_shares_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [100, 40, 3])
    rows = stratified_rows(labels, 0.1, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [10, 4, 1]
