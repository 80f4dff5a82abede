"""The 25 instructions, IFEval's scores, and the editor, against values by hand."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.spar import (
    Instruction,
    InstructionPrompt,
    InstructionResult,
    check_response,
    ifeval_scores,
    instruction_ids,
    loose_variants,
)
from paperworks.papers.spar.edits import EDITS, edit
from paperworks.papers.spar.units import count_sentences, language_of, tokens

CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["Cat", "c++"]}, ["a concatenation in C++"], ["cat only", ""]),
    (
        "keywords:frequency",
        {"keyword": "go", "frequency": 2, "relation": "at least"},
        ["Go, gone"],
        ["go", "run"],
    ),
    ("keywords:frequency", {"keyword": "go", "frequency": 2, "relation": "less than"}, ["go"], ["go go"]),
    ("keywords:forbidden_words", {"forbidden_words": ["an", "is"]}, ["This man"], ["It Is so", "an egg"]),
    (
        "keywords:letter_frequency",
        {"letter": "e", "let_frequency": 3, "let_relation": "at least"},
        ["Eee"],
        ["ee"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"},
        ["# one"],
        ["## two"],
    ),
    (
        "language:response_language",
        {"language": "de"},
        ["Das ist nicht der Hund, der in dem Haus war."],
        ["This is not the dog that was in the house."],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        ["Dr. Smith came. He left!", "One e.g. this"],
        ["A b. C d? E f."],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "***\na\n***\nb", "a *** b"],
        ["a", "a\n***\n\n***\nb", "a\n\nb"],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, ["don't go"], ["well-known"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Well"},
        ['a\n\n"Well, b', "a\n\nwell b\n\n"],
        ["a\n\nb", "a\n\nwell b\n\nc", "well a"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] and [b c]"], ["[a] b"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["a\nP. S. b", "a p.s. b"], ["a PS b"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["a\nP.P.S b"], ["a\nP.S. b"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "x\n - a\n* b"],
        ["* a", "* a\n* b\n- c", "**a**\n* b"],
    ),
    ("detectable_format:constrained_response", {}, ["Well. My answer is no."], ["my answer is no.", "No."]),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and *b c*", "**a** and **b**"],
        ["*a* b", "* * **"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\na\nSection 2\nb"],
        ["Section 1\na", "section 1\nsection 2"],
    ),
    ("detectable_format:json_format", {}, ['{"a": 1}', "```json\n[1]\n```", "```\n3\n```"], ["{a: 1}", "a"]),
    ("detectable_format:title", {}, ["<<A title>>\nb"], ["<A>", "<<>>", "<<\n>>"]),
    (
        "combination:two_responses",
        {},
        ["a\n******\nb", "******a******b******"],
        ["a", "a******a", "a******b******c", "a************b"],
    ),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, ["say IT. Yes"], ["Yes. Say it."]),
    ("startend:end_checker", {"end_phrase": "The end."}, ['so. the END."  '], ["The end. So"]),
    (
        "startend:quotation",
        {},
        ['"a" and "b"', ' "a" '],
        ['"', "a", '"a'],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["I AM here", "U.S. and UK"],
        ["I am", "Am Here"],
    ),
    ("change_case:english_capital", {}, ["THIS IS THE END, OF 3."], ["THIS Is", "123", "DAS IST NICHT DER HUND"]),
    ("change_case:english_lowercase", {}, ["this is the end."], ["This is", "das ist nicht der hund"]),
    ("punctuation:no_comma", {}, ["a; b"], ["a, b"]),
]


def test_every_type_is_here() -> None:
    assert len(instruction_ids()) == 25
    assert {name for name, *_ in CASES} == set(instruction_ids())


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_checks(name: str, kwargs: dict[str, Any], good: list[str], bad: list[str]) -> None:
    one = Instruction(name, {**kwargs, "num_sections" if "num_sections" not in kwargs else "keyword": None})
    assert [text for text in good if not one.follows(text)] == []
    assert [text for text in bad if one.follows(text)] == []
    assert not one.follows("  ")
    assert "{" not in one.describe().replace(str(kwargs), "")
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == hash(Instruction(name, kwargs))


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_the_editor_repairs(name: str, kwargs: dict[str, Any], good: list[str], bad: list[str]) -> None:
    one = Instruction(name, kwargs)
    prompt = InstructionPrompt("1", ({"role": "user", "content": "x"},), (one,))
    texts = [t for t in bad if name != "change_case:english_lowercase" or "das" not in t]
    texts = [t for t in texts if "DAS" not in t and t != "123"]
    if name not in EDITS:
        assert name == "language:response_language"
        return
    long = "It was the best of times. It was the worst of times, and GO it went AGAIN for an hour! Is it so?"
    for text in [*texts, long]:
        repaired = edit(one, text, prompt, np.random.default_rng(0))
        assert one.follows(repaired), (text, repaired)


@pytest.mark.parametrize(
    ("name", "kwargs", "match"),
    [
        ("punctuation:no_coma", {}, r"instruction_id_list.*did you mean 'punctuation:no_comma'"),
        ("keywords:existence", {}, "without keywords"),
        ("keywords:existence", {"keywords": "cat"}, "a list of words"),
        ("keywords:existence", {"keywords": ["a"], "keywrds": 1}, "'keywrds' for keywords:existence"),
        ("length_constraints:number_words", {"num_words": -1, "relation": "at least"}, "num_words"),
        ("length_constraints:number_words", {"num_words": 1.5, "relation": "at least"}, "num_words"),
        ("length_constraints:number_words", {"num_words": True, "relation": "at least"}, "num_words"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "around"}, "relation"),
        ("startend:end_checker", {"end_phrase": 3}, "end_phrase"),
    ],
)
def test_bad_instructions_are_named(name: str, kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Instruction(name, kwargs)


def test_numbers_with_a_point_are_whole() -> None:
    assert Instruction("detectable_format:number_bullet_lists", {"num_bullets": 2.0}).kwargs["num_bullets"] == 2


def test_loose_variants_are_eight_and_scores_add_up() -> None:
    assert loose_variants("*a*\nb\nc") == ["*a*\nb\nc", "b\nc", "*a*\nb", "b", "a\nb\nc", "b\nc", "a\nb", "b"]
    quote = Instruction("startend:quotation")
    comma = Instruction("punctuation:no_comma")
    turns = ({"role": "user", "content": "x"},)
    both = InstructionPrompt("1", turns, (quote, comma))
    one = InstructionPrompt("2", turns, (comma,))
    result = check_response(both, 'Sure, here:\n*"yes"*\nBye')
    assert (result.strict, result.loose) == ((False, False), (True, True))
    # P strict 1/2, I strict 1/3 + ...: by hand
    scores = ifeval_scores([(both, 'Sure, here:\n*"yes"*\nBye'), (one, "fine")])
    assert scores == pytest.approx({"P_L": 1, "I_L": 1, "P_S": 1 / 2, "I_S": 1 / 3, "avg": (1 + 1 + 1 / 2 + 1 / 3) / 4})
    assert ifeval_scores([InstructionResult("a", (True, False), (True, True))])["I_S"] == 0.5
    with pytest.raises(InputError, match="verifiable"):
        ifeval_scores([(InstructionPrompt("3", turns), "x")])
    with pytest.raises(InputError, match="response to prompt '2'"):
        ifeval_scores([(one, None)])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One", 1),
        ("One. Two.", 2),
        ("Mr. Brown met Mrs. Green at 5 p.m. yesterday.", 1),
        ("It cost 3.50 dollars. Really?! Yes", 3),
        ('He said "Stop." Then he left.', 2),
        ("Wait... what? No", 2),
        ("Wait... What? No", 3),
        ("J. R. Ewing came.", 1),
        ("1. One thing.\n2. Another thing.", 2),
        ("See www.a.org for more.", 1),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "The quick fox jumps over the lazy dog and it is not what you have seen."),
        ("fr", "Le chat est sur la table et il ne veut pas de lait pour le moment."),
        ("es", "El gato está en la mesa y no quiere leche por el momento, pero es muy feliz."),
        ("pt", "O gato está na mesa e não quer leite agora, mas é muito feliz com isso."),
        ("it", "Il gatto è sul tavolo e non vuole il latte, ma è molto felice di questo."),
        ("de", "Die Katze ist auf dem Tisch und will keine Milch, aber sie ist sehr froh."),
        ("pl", "Kot jest na stole i nie chce mleka, ale jest bardzo szczęśliwy."),
        ("fi", "Kissa on pöydällä ja se ei halua maitoa, mutta se on hyvin iloinen."),
        ("sw", "Paka yuko juu ya meza na hataki maziwa kwa sasa, lakini ni mwenye furaha."),
        ("vi", "Con mèo ở trên bàn và nó không muốn sữa, nhưng nó rất vui."),
        ("ru", "Кошка на столе и не хочет молока, но она очень счастлива, это так."),
        ("uk", "Кішка на столі і не хоче молока, але вона дуже щаслива, це так."),
        ("bg", "Котката е на масата и не иска мляко, но тя е много щастлива от това."),
        ("ar", "القطة على الطاولة ولا تريد الحليب في هذا الوقت من اليوم"),
        ("fa", "گربه روی میز است و شیر نمی خواهد اما این را می داند"),
        ("ur", "بلی میز پر ہے اور دودھ نہیں چاہتی لیکن وہ خوش ہے"),
        ("hi", "बिल्ली मेज पर है और दूध नहीं चाहती लेकिन यह खुश है"),
        ("mr", "मांजर टेबलावर आहे आणि दूध नको आहे पण ती आनंदी आहे"),
        ("ne", "बिरालो टेबुलमा छ र दूध चाहँदैन तर यो खुसी छ भने"),
        ("ja", "猫はテーブルの上にいて、牛乳を欲しがりません。"),
        ("zh", "猫在桌子上，不想喝牛奶。"),
        ("ko", "고양이는 탁자 위에 있고 우유를 원하지 않습니다."),
        ("th", "แมวอยู่บนโต๊ะและไม่ต้องการนม"),
        ("bn", "বিড়াল টেবিলের উপর আছে"),
        ("ta", "பூனை மேசையில் உள்ளது"),
        ("te", "పిల్లి బల్ల మీద ఉంది"),
        ("kn", "ಬೆಕ್ಕು ಮೇಜಿನ ಮೇಲೆ ಇದೆ"),
        ("ml", "പൂച്ച മേശപ്പുറത്താണ്"),
        ("gu", "બિલાડી ટેબલ પર છે"),
        ("pa", "ਬਿੱਲੀ ਮੇਜ਼ ਉੱਤੇ ਹੈ"),
        ("he", "החתול על השולחן ולא רוצה חלב"),
        (None, "1234 -- 5"),
    ],
)
def test_languages_of_ifeval(code: str | None, text: str) -> None:
    assert language_of(text) == code


def test_tokens_split_contractions_and_keep_abbreviations() -> None:
    assert tokens("I'M in the U.S. and don't") == ["I", "'M", "in", "the", "U.S.", "and", "do", "n't"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_no_text_breaks_a_check(text: str) -> None:
    for name, kwargs, _, _ in CASES:
        one = Instruction(name, kwargs)
        strict = one.follows(text)
        assert isinstance(strict, bool)
        if strict:
            assert any(one.follows(variant) for variant in loose_variants(text))
    json.dumps(InstructionPrompt("1", ({"role": "user", "content": text or "x"},), (one,)).to_dict())
