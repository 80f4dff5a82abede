"""Written procedures, candidates, block-wise similarity, the sieve and the swap, alignment."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.sieve_swap.alignment import align, align_matrix
from paperworks.papers.sieve_swap.candidates import ProcedureIndex
from paperworks.papers.sieve_swap.procedures import KnowledgeBase, Procedure, read_procedures
from paperworks.papers.sieve_swap.sentences import VideoTranscript, read_transcripts
from paperworks.papers.sieve_swap.sieve import SieveSwap, VideoMatch, bundled_irrelevant
from paperworks.papers.sieve_swap.similarity import DenseIndex, LexicalIndex, make_index, top_steps
from paperworks.papers.sieve_swap.thresholds import mixture_threshold, parse_tau, percentile_threshold
from paperworks.papers.sieve_swap.words import content_words, stem, tokens

STEPS = (
    "Chop the onion and carrots into small cubes.",
    "Pour the hot stock over the vegetables.",
    "Simmer the soup until the potatoes are tender.",
    "Season the soup with salt and pepper.",
)
SOUP = Procedure("soup", "Vegetable soup", STEPS, ("onion", "carrots", "potatoes", "stock"))
BREAD = Procedure("bread", "White bread", ("Knead the dough for ten minutes.", "Bake the loaf in a hot oven."))
MARKDOWN = """# Tea

## Ingredients

- leaves

## Steps

1. **Boil** the water.
2. Pour it over
   the leaves.
"""
TALK = [
    (0.0, 3.0, "Hello and welcome to my channel everybody."),
    (4.0, 8.0, "First you chop the onion and carrots into cubes."),
    (9.0, 12.0, "My neighbor is mowing his lawn again today."),
    (13.0, 17.0, "Then simmer the soup until the potatoes are tender."),
    (19.0, 22.0, "Simmer until the potatoes are tender, you know."),
]


class Words:
    """A bag of hashed words as an encoder."""

    def __init__(self, width: int = 256) -> None:
        self.width = width

    def encode(self, items: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(items), self.width), np.float32)
        for row, text in enumerate(items):
            for word in content_words(text):
                out[row, zlib.crc32(word.encode()) % self.width] += 1
        out[:, 0] += 1e-3
        return out


def soup(**options: object) -> SieveSwap:
    return SieveSwap(Words(), 0.5, **options).fit([SOUP, BREAD])  # type: ignore[arg-type]


def test_too_few_irrelevant_sentences_are_refused_before_the_steps_are_indexed() -> None:
    class Untouched(Words):
        def encode(self, items: Sequence[str]) -> np.ndarray:
            raise AssertionError("indexed")

    with pytest.raises(InputError, match="irrelevant: found 5 sentences; expected 20 or more"):
        SieveSwap(Untouched(), "auto", irrelevant=["a"] * 5).fit([SOUP, BREAD])


def test_stems_are_those_of_snowballs_porter() -> None:
    stemmer = pytest.importorskip("Stemmer").Stemmer("porter")
    text = " ".join([*bundled_irrelevant(), *STEPS])
    text += " relational conditional valency hesitancy digitizer conformably radically generalization electrical "
    text += "hopefulness goodness revival allowance inference adjustable replacement adoption communism activate "
    text += (
        "angularity bowdlerize probate rate cease controlling rolling hopping tanned falling hissing fizzed failing "
    )
    text += "filing happy sky agreed feed plastered bled motoring sing conflated troubled sized caresses ponies ties"
    words = sorted({w for w in tokens(text) if w.isalpha() and len(w) > 2})  # Porter's own program leaves those
    assert {w: stem(w) for w in words} == {w: stemmer.stemWord(w) for w in words}


def test_content_words_leave_out_speech_and_numbers() -> None:
    assert content_words("Okay guys, we are just adding 3 Onions to the pan!") == {"ad", "onion", "pan"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("kb.jsonl", '{"id": "a", "title": "Tea", "steps": ["Boil the water.", "Pour it over the leaves."]}\n'),
        ("kb.json", '{"a": {"title": "Tea", "directions": "Boil the water.\\nPour it over the leaves."}}'),
        ("kb.csv", 'id,title,steps\na,Tea,"[""Boil the water."", ""Pour it over the leaves.""]"\n'),
        ("kb.tsv", 'ID\tTitle\tSteps\na\tTea\t"Boil the water.\nPour it over the leaves."\n'),
        (
            "a.md",
            MARKDOWN,
        ),
        ("a.txt", "Tea\n\nBoil the water.\n\nPour it over the leaves.\n"),
    ],
)
def test_procedures_of_every_form_read_the_same(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    (found,) = read_procedures(tmp_path / name)
    assert (found.id, found.title, found.steps) == ("a", "Tea", ("Boil the water.", "Pour it over the leaves."))
    if name == "a.md":
        assert found.ingredients == ("leaves",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("kb.jsonl", '{"id": 1, "title": "x", "steps": []}', "steps that are empty"),
        ("kb.jsonl", '{"id": 1, "steps": ["ok then go"]}\n{oops', "line 2"),
        ("kb.json", "[1]", "int"),
        ("kb.json", '[{"title": "x"}]', "a key steps"),
        ("kb.json", '[{"steps": [1]}]', "a step of type int"),
        ("kb.csv", "a,b\n1,2\n", "a column steps"),
        ("kb.xml", "<a/>", "unknown kind"),
        ("kb.md", "# Only a title\n", "without a step"),
    ],
)
def test_a_knowledge_base_that_is_none_is_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        read_procedures(tmp_path / name)


def test_boilerplate_and_excluded_procedures_are_left_out() -> None:
    many = [
        Procedure(str(n), f"Dish {n}", (f"Fry the dish number {n} slowly.", "Serve it with white rice."))
        for n in range(9)
    ]
    noisy = Procedure(
        "x", "X", ("Enjoy!", "Note: keep it cold for a day.", "For the sauce of the day:", "Mix all of it well.")
    )
    kb = KnowledgeBase.of([*many, noisy], exclude=["dish 3"])
    assert len(kb) == 9
    assert set(kb.steps) == {f"Fry the dish number {n} slowly." for n in range(9) if n != 3} | {"Mix all of it well."}
    assert kb.left_out["in too many procedures"] == 8
    with pytest.raises(InputError, match="without a usable step"):
        KnowledgeBase.of([Procedure("x", "X", ("Enjoy!",))])
    with pytest.raises(InputError, match="ids that differ"):
        KnowledgeBase.of([SOUP, SOUP])
    with pytest.raises(InputError, match="at least one procedure"):
        KnowledgeBase.of([])


def test_candidates_follow_their_definition() -> None:
    procedures = [SOUP, BREAD]
    text = " ".join(words for _, _, words in TALK)
    found = ProcedureIndex(procedures).lookup(text, min_iou=0.0, min_recall=0.0)
    a = content_words(text)
    for number, iou, recall in zip(found.procedures, found.iou, found.recall, strict=True):
        b = procedures[number].words()
        assert iou == pytest.approx(len(a & b) / len(a | b))
        assert recall == pytest.approx(len(a & b) / len(b))
    assert list(ProcedureIndex(procedures).lookup(text).procedures) == [0]
    assert len(ProcedureIndex(procedures).lookup("nothing of the kind").procedures) == 0


def test_titles_are_matched_with_the_videos_title() -> None:
    index = ProcedureIndex([SOUP, BREAD], "title")
    assert list(index.lookup("whatever", title="how to bake white bread").procedures) == [1]
    assert list(index.lookup("a vegetable soup today").procedures) == [0]


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 9), st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_block_wise_search_equals_the_whole_matrix(queries: int, steps: int, k: int, block: int) -> None:
    rng = np.random.default_rng([queries, steps, k])
    vectors = rng.integers(-2, 3, (steps, 3)).astype(np.float32)  # many ties
    index = DenseIndex(Words(3), ["x"])
    index.vectors, index.count = vectors, steps
    asked = rng.integers(-2, 3, (queries, 3)).astype(np.float32)
    values, found = top_steps(index, asked, k, block=block)
    whole = index.similarity(asked, slice(None))
    order = np.argsort(-whole, axis=1, kind="stable")[:, :k]
    assert np.allclose(values, np.take_along_axis(whole, order, 1), atol=1e-6)
    assert np.allclose(np.take_along_axis(whole, found, 1), values, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in found.tolist())


def test_a_cache_is_mapped_and_belongs_to_its_steps(tmp_path: Path) -> None:
    index = DenseIndex(Words(), STEPS, cache=tmp_path / "v.npy")
    assert isinstance(index.vectors, np.memmap)
    with pytest.raises(InputError, match="one for each step"):
        DenseIndex(Words(), STEPS[:2], cache=tmp_path / "v.npy")
    index.encoder = Words(7)
    with pytest.raises(InputError, match="as the steps were encoded with"):
        index.queries(["a"])


@pytest.mark.parametrize("kind", ["tfidf", "bm25", "svd"])
def test_word_indices_find_the_step_that_shares_words(kind: str) -> None:
    index, _ = make_index(kind, [*STEPS, *BREAD.steps])
    assert isinstance(index, LexicalIndex)
    values, found = top_steps(index, index.queries(["simmer soup potatoes tender", "knead dough ten minutes"]), 1)
    assert found[:, 0].tolist() == [2, 4]
    assert (values <= 1 + 1e-5).all()
    assert np.allclose(np.diag(index.between(np.arange(4))), 1, atol=1e-5)


def test_sieve_and_swap_keep_what_matches() -> None:
    result = soup().transform([VideoTranscript.of("v", TALK, 30.0)])
    assert [row.kept for row in result.audit] == [False, True, False, True, True]
    assert result.audit[2].reason == "below tau"
    found = result.swapped["v"]
    assert found.timestamps == ((4.0, 8.0), (13.0, 22.0))  # two sentences on one step, 2 s apart
    assert [texts[0] for texts in found.sentences] == [STEPS[0], STEPS[2]]
    assert result.raw["v"].timestamps == found.timestamps
    assert result.raw["v"].sentences[0] == (TALK[1][2],)
    assert result.summary()["segments"] == 2


@pytest.mark.parametrize(
    ("options", "segments"),
    [
        ({"max_gap": 1.0}, 3),
        ({"min_seconds": 4.5}, 1),
        ({"most_segments": 1}, 1),
        ({"margin": 0.3}, 2),
        ({"variant": "swap-only"}, 4),
    ],
)
def test_options_of_the_sieve(options: dict[str, object], segments: int) -> None:
    result = soup(**options).transform([VideoTranscript.of("v", TALK, 30.0)])
    assert len(result.swapped["v"]) == segments
    assert sum(row.kept for row in result.audit) == len(result.audit) - sum(result.reasons().values())


def test_variants_change_the_texts_only() -> None:
    transcripts = [VideoTranscript.of("v", TALK, 30.0)]
    method = soup().transform(transcripts)
    raw, random = (soup(variant=v).transform(transcripts) for v in ("sieve-only", "random-swap"))
    assert raw.swapped["v"] == raw.raw["v"] == method.raw["v"]
    assert random.swapped["v"].timestamps == method.swapped["v"].timestamps
    assert random.swapped["v"].sentences == soup(variant="random-swap").transform(transcripts).swapped["v"].sentences
    ordered = soup(variant="aligned").transform(transcripts).swapped["v"]
    assert [texts[0] for texts in ordered.sentences] == [STEPS[0], STEPS[2]]


def test_alternatives_come_from_other_procedures_and_differ() -> None:
    twin = Procedure("twin", "Soup again", (STEPS[2], "Simmer potatoes in the soup until they are really tender."))
    result = SieveSwap(Words(), 0.3, 3, "global").fit([SOUP, twin]).transform([VideoTranscript.of("v", TALK[3:4])])
    (texts,) = result.swapped["v"].sentences
    assert len(texts) == len(set(texts)) <= 2


def test_videos_without_a_procedure_say_how_near_they_came() -> None:
    match = soup().match_video(VideoTranscript.of("v", [(0, 5, "We watched football the whole evening and the soup.")]))
    assert match.reason.startswith("no procedure; the nearest has recall 0.")
    assert VideoMatch.from_dict(json.loads(json.dumps(match.to_dict()))) == match
    result = soup().decide([match])
    assert result.dropped["v"] == match.reason
    left_out = soup(exclude=["v"]).match_video(VideoTranscript.of("v", TALK))
    assert left_out.reason == "excluded"


@pytest.mark.parametrize(
    ("cues", "duration", "words"),
    [
        ([], 10.0, "no speech"),
        ([(3, 2, "a b c")], None, "not before it"),
        ([(-1, 2, "a b c")], None, "a start of 0 or more"),
        ([(0, 20, "a b c")], 10.0, "none after the end of the video"),
        ([(0, 2, "a b c")], -1.0, "more than 0 seconds"),
    ],
)
def test_times_that_cannot_be_are_refused(cues: list[tuple[float, float, str]], duration: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        soup().match_video(VideoTranscript.of("v", cues, duration))


def test_two_transcripts_of_a_video_and_unknown_options_are_refused() -> None:
    with pytest.raises(InputError, match="one for each video"):
        soup().transform([VideoTranscript.of("v", TALK)] * 2)
    for options in ({"match": "x"}, {"variant": "swap"}, {"tau": "x"}, {"k": 0}):
        with pytest.raises(InputError):
            SieveSwap(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="auto, mixture"):
        parse_tau("2")


def test_sounds_and_repeats_are_no_speech() -> None:
    cues = [
        (0, 1, "[Music]"),
        (1, 4, "Chop the onion now."),
        (4, 7, "Chop the onion now."),
        (9, 12, "\u266a Stir (applause) the pot well."),
    ]
    sentences = VideoTranscript.of("v", cues).sentences()
    assert [s.text for s in sentences] == ["Chop the onion now.", "Stir the pot well."]


def test_captions_without_punctuation_are_cut_to_pieces() -> None:
    words = " ".join(f"w{n}" for n in range(60))
    sentences = VideoTranscript.of("v", [(0.0, 30.0, words)]).sentences()
    assert max(len(s.text.split()) for s in sentences) <= 16
    assert " ".join(s.text for s in sentences) == words


def test_transcripts_of_a_folder_get_the_names_of_their_videos(tmp_path: Path) -> None:
    (tmp_path / "make tea.en.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:02.000\nBoil some water\n")
    (tmp_path / "x.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nBoil some water\n")
    found = read_transcripts(tmp_path, durations={"x": 9.0})
    assert [(t.id, t.title, t.duration) for t in found] == [("make tea", "make tea", None), ("x", "", 9.0)]
    (tmp_path / "x.json").write_text('{"segments": [{"start": 0, "end": 1, "text": "hi there"}]}')
    with pytest.raises(InputError, match="two of the video 'x'"):
        read_transcripts(tmp_path)


def test_thresholds() -> None:
    assert percentile_threshold(np.arange(101) / 100) == pytest.approx(0.99)
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.1, 0.05, 200), rng.normal(0.7, 0.05, 100)])
    assert 0.25 < mixture_threshold(values) < 0.6
    with pytest.raises(InputError, match="20 or more"):
        percentile_threshold([0.1])
    with pytest.raises(InputError, match="20 or more that differ"):
        mixture_threshold([0.5] * 30)


def brute_force_alignment(gain: np.ndarray) -> float:
    best = 0.0
    for choice in itertools.product(range(-1, gain.shape[1]), repeat=len(gain)):
        used = [j for j in choice if j >= 0]
        if used == sorted(used):
            best = max(best, sum(gain[i, j] for i, j in enumerate(choice) if j >= 0))
    return best


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_alignment_is_the_best_of_all(sentences: int, steps: int, seed: int) -> None:
    similarity = np.random.default_rng(seed).random((sentences, steps))
    total, chosen = align_matrix(similarity, 0.4)
    assert total == pytest.approx(brute_force_alignment(similarity - 0.4))
    assert (np.diff(chosen[chosen >= 0]) >= 0).all()
    assert total == pytest.approx(sum(similarity[i, j] - 0.4 for i, j in enumerate(chosen) if j >= 0))


def test_align_gives_steps_with_times() -> None:
    found = align(VideoTranscript.of("v", TALK), SOUP, Words(), tau=0.4)
    assert [(s.step, s.start, s.end) for s in found] == [(0, 4.0, 8.0), (2, 13.0, 22.0)]
    with pytest.raises(InputError, match="one step or more"):
        align(VideoTranscript.of("v", TALK), [], Words())
