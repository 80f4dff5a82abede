"""Span corruption and its inverse: invariants, bad input, use as a collator; packing; the objectives beside it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from paperworks.errors import InputError
from paperworks.papers.codegen2 import (
    RELEASED,
    UL2,
    InfillTokens,
    PrefixLMMask,
    SpanCorruption,
    deduplicate,
    fim_transform,
    pack,
    ul2_denoisers,
)

TOKENS = InfillTokens(256, 257, 258, tuple(range(259, 291)), vocabulary=291)
END, SEP, EOM, MASKS = TOKENS.end, TOKENS.sep, TOKENS.eom, TOKENS.masks


def document(rng: np.random.Generator, most: int = 200) -> np.ndarray:
    return rng.integers(0, 256, size=int(rng.integers(2, most)))


@given(
    ids=st.lists(st.integers(0, 255), max_size=120),
    ratio=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda r: (min(r), max(r))),
    longest=st.none() | st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_restore_is_the_inverse(ids: list[int], ratio: tuple[float, float], longest: int | None, seed: int) -> None:
    corruption = SpanCorruption(TOKENS, 0.0, ratio, (1, longest), seed=seed)
    for ended in (False, True):
        whole = [*ids, END] if ended else ids
        made = corruption(whole)["input_ids"]
        assert corruption.restore(made, ended=ended and len(ids) > 1) == whole


def test_what_a_corrupted_file_looks_like() -> None:
    rng = np.random.default_rng(0)
    corruption = SpanCorruption(TOKENS, 0.0, (0.05, 1.0), (1, 12))
    for number in range(400):
        text = document(rng)
        made = corruption(text.tolist(), index=number)["input_ids"]
        border = made.index(END)
        body, tail = made[:border], made[border + 2 :]
        holes = [t for t in body if t in MASKS]
        k = len(holes)
        assert made[border + 1] == SEP
        assert holes == list(MASKS[:k]) == [t for t in tail if t in MASKS]
        assert tail.count(EOM) == k
        assert tail[-1] == EOM
        assert len(made) == len(text) + 3 * k + 2
        assert sorted(t for t in made if t < 256) == sorted(text.tolist())
        assert not any(a in MASKS and b in MASKS for a, b in pairwise(body))
        assert made.count(END) == 1
        spans = len(tail) - 2 * k
        draw = corruption.generator(number)
        draw.random()
        assert spans == min(max(1, round(draw.uniform(0.05, 1.0) * len(text))), len(text) - 1)


def test_half_of_the_sequences_stay_as_they_are() -> None:
    rng, corruption = np.random.default_rng(1), SpanCorruption(TOKENS, seed=3)
    rows = [document(rng, 30).tolist() for _ in range(2000)]
    same = sum(corruption(row, index=i)["input_ids"] == row for i, row in enumerate(rows))
    assert abs(same / 2000 - 0.5) < 4 * np.sqrt(0.25 / 2000)


def test_two_files_are_corrupted_as_each_alone() -> None:
    rng, corruption = np.random.default_rng(2), SpanCorruption(TOKENS, 0.0)
    for seed in range(200):
        first, second = np.append(document(rng), END), document(rng)
        both = corruption.corrupt_files(np.concatenate([first, second]), np.random.default_rng(seed))
        stream = np.random.default_rng(seed)
        alone = [corruption.corrupt_file(first, stream), corruption.corrupt_file(second, stream)]
        assert both.tolist() == np.concatenate(alone).tolist()
        assert corruption.restore(both) == [*first.tolist(), *second.tolist()]


def test_span_lengths_and_places_are_uniform() -> None:
    corruption = SpanCorruption(TOKENS, 0.0, (0.25, 0.25), (1, 4))
    rng = np.random.default_rng(0)
    drawn = [corruption.draw_spans(40, rng) for _ in range(3000)]
    first = np.bincount([lengths[0] for _, lengths in drawn if len(lengths) > 1], minlength=5)[1:]
    assert (abs(first / first.sum() - 0.25) < 4 * np.sqrt(0.1875 / first.sum())).all()
    covered = np.zeros(40)
    for starts, lengths in drawn:
        for start, length in zip(starts, lengths, strict=True):
            covered[start : start + length] += 1
        assert (starts[1:] > (starts + lengths)[:-1]).all()
    assert covered.sum() == 3000 * 10
    # every place in the middle is equally likely; those within a span's length of the ends differ a little
    assert (abs(covered[4:-4] / 3000 - 0.25) < 0.05).all()


def test_more_spans_than_masks_are_merged() -> None:
    few = InfillTokens(256, 257, 258, (259, 260, 261), vocabulary=291)
    corruption = SpanCorruption(few, 0.0, (0.5, 0.5), (1, 1))
    made = corruption(list(range(100)), index=0)["input_ids"]
    assert [t for t in made if t > 258] == [259, 260, 261] * 2
    assert corruption.restore(made) == list(range(100))
    everything = SpanCorruption(TOKENS, 0.0, (1.0, 1.0), (1, 1))
    made = everything([1, 2, 3], index=0)["input_ids"]
    assert sum(t < 256 for t in made[: made.index(END)]) == 1


def test_results_fit_and_no_span_is_cut() -> None:
    rng = np.random.default_rng(5)
    corruption = SpanCorruption(TOKENS, 0.0, (0.05, 0.9), (1, 3), max_len=64)
    for number in range(300):
        text = np.concatenate([np.append(document(rng, 50), END), document(rng, 50)]).tolist()
        made = corruption(text, index=number)["input_ids"]
        assert len(made) <= 64
        restored = corruption.restore(made, ended=True)  # the sequence was shortened at its end: nothing else is lost
        assert restored[:-1] == text[: len(restored) - 1]


def test_truncation_drops_spans_that_are_not_whole() -> None:
    corruption = SpanCorruption(TOKENS, 0.0, (0.4, 0.4), (1, 3))
    rng = np.random.default_rng(0)
    files = [np.append(document(rng, 30), END), document(rng, 30)]
    made = corruption.corrupt_files(np.concatenate(files), rng)
    for length in range(2, len(made) + 1):
        cut = corruption.truncate(made, length)
        assert len(cut) <= length
        assert cut.tolist() == made[: len(cut)].tolist()
        assert cut[-1] != SEP
        opened = [i for i in range(1, len(cut)) if cut[i] in MASKS and (cut[i - 1] in (SEP, EOM))]
        inside = opened and EOM not in cut[opened[-1] :] and SEP in cut[: opened[-1]]
        if inside:  # what looks like an open span is the body of the second file, which began with a mask
            assert list(cut[: opened[-1]]).count(EOM) == sum(t in MASKS for t in cut[: list(cut).index(END)])


@pytest.mark.parametrize("ended", [False, True])
def test_short_files_stay(ended: bool) -> None:
    corruption = SpanCorruption(TOKENS, 0.0)
    for ids in ([], [7]):
        whole = [*ids, END] if ended else ids
        assert corruption(whole)["input_ids"] == whole


def test_what_cannot_hold_a_corruption_stays_as_it_is() -> None:
    rng = np.random.default_rng(0)
    for length in range(2, 8):
        corruption = SpanCorruption(TOKENS, 0.0, max_len=length)
        for index in range(20):
            ids = document(rng, 20).tolist()
            made = corruption(ids, index)["input_ids"]
            assert len(made) <= length
            restored = corruption.restore(made)  # raises where a mask has no span
            assert restored == ids[: len(restored)]


def test_batches_and_the_loader() -> None:
    rng = np.random.default_rng(0)
    rows = [{"input_ids": document(rng, 60).tolist(), "index": i} for i in range(12)]
    corruption = SpanCorruption(TOKENS, 0.5, seed=1, max_len=64)
    batches = list(DataLoader(rows, batch_size=4, collate_fn=corruption))  # type: ignore[arg-type]
    assert [set(b) for b in batches] == [{"input_ids", "labels", "attention_mask"}] * 3
    again = [corruption([row])["input_ids"][0] for row in rows]
    for number, ids in enumerate(again):
        row = batches[number // 4]
        length = int(row["attention_mask"][number % 4].sum())
        assert row["input_ids"][number % 4, :length].tolist() == ids.tolist()
        assert row["labels"][number % 4, :length].tolist() == ids.tolist()
        assert (row["labels"][number % 4, length:] == -100).all()
    corruption.set_epoch(1)
    changed = [corruption([row])["input_ids"][0].tolist() for row in rows]
    assert sum(a.tolist() != b for a, b in zip(again, changed, strict=True)) > 6
    padded = corruption(torch.full((2, 20), 5))["input_ids"]
    assert padded.shape[0] == 2
    masked = {"input_ids": [[1, 2, 3, 0]], "attention_mask": [[1, 1, 1, 0]]}
    assert SpanCorruption(TOKENS, 1.0)(masked)["input_ids"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: SpanCorruption(TOKENS)([1, 291]), "ids"),
        (lambda: SpanCorruption(TOKENS)([1, -1]), "ids"),
        (lambda: SpanCorruption(TOKENS)([1, SEP, 2]), "ids"),
        (lambda: SpanCorruption(TOKENS)([0.5, 0.5]), "ids"),
        (lambda: SpanCorruption(TOKENS, 1.5), "p_causal"),
        (lambda: SpanCorruption(TOKENS, ratio=(0.5, 0.1)), "ratio"),
        (lambda: SpanCorruption(TOKENS, span=(0, 3)), "span"),
        (lambda: SpanCorruption(TOKENS, max_len=1), "max_len"),
        (lambda: SpanCorruption(TOKENS, seed=-1), "seed"),
        (lambda: SpanCorruption(eos_id=1, sep_id=2), "tokens"),
        (lambda: SpanCorruption(eos_id=1, sep_id=2, eom_id=3, mask_ids=[]), "masks"),
        (lambda: SpanCorruption(eos_id=1, sep_id=1, eom_id=3, mask_ids=[4]), "tokens"),
        (lambda: SpanCorruption(TOKENS)({"text": ["a"]}), "input_ids"),
        (lambda: SpanCorruption(TOKENS).restore([1, 260, 2, END, SEP]), "ids"),
        (lambda: SpanCorruption(TOKENS).restore([1, 259, 2, END]), "ids"),
        (lambda: SpanCorruption(TOKENS).restore([1, 259, 2, END, SEP, 259, 5]), "ids"),
    ],
)
def test_bad_input_names_the_field(call: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.field == field


def test_the_released_tokens() -> None:
    assert RELEASED.masks[0] == 51199
    assert RELEASED.masks[-1] == 50301
    assert (RELEASED.end, RELEASED.sep, RELEASED.eom, len(RELEASED.masks)) == (50256, 50299, 50300, 899)
    by_ids = SpanCorruption(eos_id=50256, sep_id=50299, eom_id=50300, mask_ids=RELEASED.masks, p_causal=0, seed=4)
    assert by_ids([5] * 9, index=2) == SpanCorruption(RELEASED, 0, seed=4)([5] * 9, index=2)


def test_packing_by_hand() -> None:
    documents = [list(range(9)), [20, 21], list(range(30, 36)), [], [40]]
    packed = pack(documents, 4, eos_id=99, least=2, buffer=0)
    assert [s.tolist() for s in packed.sequences] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [30, 31, 32, 33],
        [8, 99, 20, 21],
        [99, 34, 35, 99],
        [40, 99],
    ]
    assert (packed.documents, packed.tokens, packed.dropped) == (4, 22, 0)
    packed = pack(documents, 4, eos_id=99, least=3, buffer=0)
    assert [s.tolist() for s in packed.sequences][3:] == [[20, 21, 99, 34]]
    assert packed.dropped == 2 + 2 + 2
    shuffled = pack([[i] * 7 for i in range(50)], 8, eos_id=99, seed=1)
    assert sorted(s[0] for s in shuffled.sequences) == list(range(50)) != [s[0] for s in shuffled.sequences]
    assert deduplicate(["a", "b", "a", "", "b"]) == [0, 1, 3]
    with pytest.raises(InputError, match="documents"):
        pack([[], []], 4, eos_id=99)


def test_prefix_mask_by_enumeration() -> None:
    mask = PrefixLMMask([0, 3, 9])(5)
    for row, prefix in enumerate((0, 3, 9)):
        for i in range(5):
            for j in range(5):
                assert bool(mask[row, 0, i, j]) == (j <= i or (i < prefix and j < prefix))
    labels = PrefixLMMask([0, 3]).labels(torch.arange(10).reshape(2, 5))
    assert labels.tolist() == [[0, 1, 2, 3, 4], [-100, -100, -100, 8, 9]]
    with pytest.raises(InputError, match="prefix_len"):
        PrefixLMMask(-1)


def test_reordering_for_infilling() -> None:
    ids = {"prefix_id": 101, "suffix_id": 102, "middle_id": 103, "eos_id": 99}
    assert fim_transform([1, 2, 3, 4, 99], "psm", cuts=(1, 3), **ids) == [101, 1, 102, 4, 103, 2, 3, 99]
    assert fim_transform([1, 2, 3, 4], "spm", cuts=(1, 3), **ids) == [101, 102, 4, 103, 1, 2, 3, 99]
    rng = np.random.default_rng(0)
    starts = [fim_transform(range(9), rng=rng, **ids).index(102) - 1 for _ in range(2000)]
    # the lower of two uniform points on 0..9
    assert abs(np.mean(starts) - 2.85) < 4 * np.std(starts) / np.sqrt(2000)
    with pytest.raises(InputError, match="mode"):
        fim_transform([1], "pms", rng=rng, **ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("denoiser", UL2)
def test_denoisers_of_ul2(denoiser: Any) -> None:
    rng = np.random.default_rng(0)
    text = list(range(100))
    made, prefix = ul2_denoisers(
        text, rng, mode_ids=(200, 201, 202), mask_ids=range(300, 400), eos_id=99_999, denoiser=denoiser
    )
    assert made[0] == 200 + "RSX".index(denoiser.mode)
    assert made[-1] == 99_999
    hidden = [t for t in made[prefix:-1] if t < 200]
    assert len(hidden) == round(denoiser.share * 100)
    assert sorted(t for t in made if t < 200) == text
    spans = sum(300 <= t < 400 for t in made[:prefix])
    assert spans == (0 if denoiser.mean_span is None else max(1, round(len(hidden) / denoiser.mean_span)))
