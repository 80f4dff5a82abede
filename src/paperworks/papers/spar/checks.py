"""Whether a response obeys one of the 25 verifiable instructions of IFEval (Zhou et al. 2023, arXiv 2311.07911).

A function per instruction: the response, and the instruction's arguments under the names that IFEval's files give them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Literal

from paperworks.papers.spar.units import count_sentences, language_of, tokens, words

Relation = Literal["less than", "at least"]
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def _compare(count: int, relation: str, bound: int) -> bool:
    return count < bound if relation == "less than" else count >= bound


def keywords_existence(text: str, *, keywords: tuple[str, ...]) -> bool:
    """Every keyword is in the text, in any case, also inside words."""
    return all(word.lower() in text.lower() for word in keywords)


def keywords_frequency(text: str, *, keyword: str, frequency: int, relation: Relation) -> bool:
    """A keyword is in the text so often, in any case, also inside words."""
    return _compare(text.lower().count(keyword.strip().lower()), relation, frequency)


def keywords_forbidden_words(text: str, *, forbidden_words: tuple[str, ...]) -> bool:
    """None of the words is in the text as a word of its own."""
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words)


def keywords_letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: Relation) -> bool:
    """A letter is in the text so often, in any case."""
    return _compare(Counter(text.lower())[letter.lower()], let_relation, let_frequency)


def language_response_language(text: str, *, language: str) -> bool:
    """The text is in a language (ISO 639-1). A text without letters passes; one that nothing tells is English."""
    found = language_of(text)
    if found is None:
        return language == "en" or not any(c.isalpha() for c in text)
    return found == language.lower().split("-")[0]


def length_constraints_number_sentences(text: str, *, num_sentences: int, relation: Relation) -> bool:
    """So many sentences."""
    return _compare(count_sentences(text), relation, num_sentences)


def length_constraints_number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """So many paragraphs, set apart by ``***``; only the first and the last may be empty, and do not count then."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    if any(not part.strip() for part in parts[1:-1]):
        return False
    empty_ends = sum(not parts[i].strip() for i in {0, len(parts) - 1})
    return len(parts) - empty_ends == num_paragraphs


def length_constraints_number_words(text: str, *, num_words: int, relation: Relation) -> bool:
    """So many words."""
    return _compare(len(words(text)), relation, num_words)


def length_constraints_nth_paragraph_first_word(
    text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """So many paragraphs, set apart by an empty line, and the n-th begins with a word."""
    parts = text.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    if nth_paragraph > count or not parts[nth_paragraph - 1].strip():
        return False
    first = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return count == num_paragraphs and re.split(r"[.,?!'\"]", first)[0].lower() == first_word.lower()


def detectable_content_number_placeholders(text: str, *, num_placeholders: int) -> bool:
    """At least so many placeholders in square brackets, such as [address]."""
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def detectable_content_postscript(text: str, *, postscript_marker: str) -> bool:
    """A postscript after a marker such as P.S. or P.P.S"""
    marker = postscript_marker.strip().lower()
    letters = {"p.p.s": r"p\.\s?p\.\s?s", "p.s.": r"p\.\s?s\."}.get(marker, re.escape(marker))
    return re.search(letters, text.lower()) is not None


def detectable_format_number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that begin with ``*`` (not ``**``) or ``-``."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE)) == num_bullets


def detectable_format_constrained_response(text: str) -> bool:
    """One of the three answers: My answer is yes., no., maybe."""
    return any(answer in text for answer in ANSWERS)


def detectable_format_number_highlighted_sections(text: str, *, num_highlights: int) -> bool:
    """At least so many highlights between stars, single or double."""
    single = [part for part in re.findall(r"\*[^\n\*]*\*", text) if part.strip("*").strip()]
    double = [part for part in re.findall(r"\*\*[^\n\*]*\*\*", text) if part[2:-2].strip()]
    return len(single) + len(double) >= num_highlights


def detectable_format_multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections that begin with a word and a number, such as SECTION 1."""
    return len(re.split(rf"\s?{re.escape(section_spliter.strip())}\s?\d+\s?", text)) - 1 >= num_sections


def detectable_format_json_format(text: str) -> bool:
    """The text is JSON, in a fence of Markdown or without."""
    bare = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        bare = bare.removeprefix(fence)
    try:
        json.loads(bare.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def detectable_format_title(text: str) -> bool:
    """A title in double angular brackets, such as <<poem of joy>>."""
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def combination_two_responses(text: str) -> bool:
    """Two different answers with six stars between them."""
    parts = text.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    answers = [part.strip() for part in parts if part.strip()]
    return len(answers) == 2 and answers[0] != answers[1]


def combination_repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """The text begins with the request, word for word, in any case."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def startend_end_checker(text: str, *, end_phrase: str) -> bool:
    """The text ends with a phrase, in any case; quotation marks after it do not count."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def startend_quotation(text: str) -> bool:
    """The text stands in double quotation marks."""
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def change_case_capital_word_frequency(text: str, *, capital_frequency: int, capital_relation: Relation) -> bool:
    """So many words in capital letters."""
    return _compare(sum(token.isupper() for token in tokens(text)), capital_relation, capital_frequency)


def change_case_english_capital(text: str) -> bool:
    """English in capital letters only."""
    return text.isupper() and language_of(text) in ("en", None)


def change_case_english_lowercase(text: str) -> bool:
    """English in small letters only."""
    return text.islower() and language_of(text) in ("en", None)


def punctuation_no_comma(text: str) -> bool:
    """No comma."""
    return "," not in text
