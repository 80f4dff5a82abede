"""How a program makes a text obey each verifiable instruction; most of the text stays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from paperworks.papers.spar.instructions import Instruction
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.units import count_sentences, tokens, words

Edit = Callable[[str, dict[str, Any], InstructionPrompt], str]
FILLER = ("and", "so", "it", "goes", "on")
PAUSE = "More can be said."


def edit(instruction: Instruction, text: str, prompt: InstructionPrompt, rng: np.random.Generator) -> str:
    """The text, changed so that it obeys the instruction, as far as a program can; the language stays."""
    function = EDITS.get(instruction.id)
    return text if function is None else function(text.strip() or "Yes", dict(instruction.kwargs), prompt)


def spoil(text: str, rng: np.random.Generator) -> str:
    """The text with a fault: capital letters and a comma at a random place, or without its last words."""
    parts = text.split()
    if len(parts) < 2:
        return f"Well, {text}"
    if rng.random() < 0.5:
        return " ".join(parts[: max(1, len(parts) - 2)])
    place = int(rng.integers(len(parts)))
    return " ".join([*parts[:place], "Well,", *parts[place:]])


def _plain(text: str) -> str:
    """Blanks that were doubled, and blanks before signs, taken out."""
    return re.sub(r"[ \t]+([.,;:!?])", r"\1", re.sub(r"[ \t]{2,}", " ", text)).strip()


def _without(text: str, pattern: str) -> str:
    return _plain(re.sub(pattern, "", text, flags=re.IGNORECASE)) or "Yes"


def _keywords(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    missing = [word for word in k["keywords"] if word.lower() not in text.lower()]
    return f"{text} {' '.join(missing)}"


def _frequency(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    word, wanted = k["keyword"].strip(), k["frequency"]
    count = text.lower().count(word.lower())
    if k["relation"] == "at least":
        return f"{text} {' '.join([word] * (wanted - count))}"
    for _repeat in range(max(0, count - wanted + 1)):
        place = text.lower().rfind(word.lower())
        text = text[:place] + text[place + len(word) :]
    return _plain(text)


def _letters(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    letter, wanted = k["letter"].lower(), k["let_frequency"]
    count = text.lower().count(letter)
    if k["let_relation"] == "at least":
        return f"{text} {letter * max(0, wanted - count)}"
    for word in reversed(text.split()):
        if text.lower().count(letter) < wanted:
            break
        if letter in word.lower():
            text = _plain(text.replace(word, "", 1))
    return text


def _sentences(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    wanted = k["num_sentences"]
    if k["relation"] == "at least":
        text = text if text.rstrip().endswith((".", "!", "?")) else f"{text}."
        return " ".join([text] + [PAUSE] * max(0, wanted - count_sentences(text)))
    while count_sentences(text) >= max(wanted, 2):
        ends = list(re.finditer(r"[.!?]+[\"')]*\s+", text))
        if not ends:
            break
        text = text[: ends[-1].end()].rstrip()
    return text


def _paragraphs(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    parts = [part.strip() for part in text.split("***") if part.strip()]
    parts += [PAUSE] * (k["num_paragraphs"] - len(parts))
    head, rest = parts[: k["num_paragraphs"] - 1], parts[k["num_paragraphs"] - 1 :]
    return "\n***\n".join([*head, " ".join(rest)])


def _word_count(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    wanted = k["num_words"]
    count = len(words(text))
    if k["relation"] == "at least":
        extra = [FILLER[i % len(FILLER)] for i in range(max(0, wanted - count))]
        return f"{text.rstrip('.')} {' '.join(extra)}".strip() if extra else text
    matches = list(re.finditer(r"\w+", text))
    if count >= wanted > 1:
        text = text[: matches[wanted - 2].end()]
    return text


def _first_word(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    parts += [PAUSE] * (k["num_paragraphs"] - len(parts))
    last = k["num_paragraphs"] - 1
    parts = [*parts[:last], " ".join(parts[last:])]
    place = k["nth_paragraph"] - 1
    if place < len(parts):
        parts[place] = f"{k['first_word']} {parts[place]}"
    return "\n\n".join(parts)


def _placeholders(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    missing = k["num_placeholders"] - len(re.findall(r"\[.*?\]", text))
    return f"{text} {' '.join(f'[item {i + 1}]' for i in range(missing))}"


def _bullets(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    lines = [re.sub(r"^\s*[*-]+\s*", "", line) for line in text.split("\n") if line.strip(" *-")]
    wanted = k["num_bullets"]
    if not wanted:
        return "\n".join(lines)
    lines += [PAUSE] * (wanted - len(lines))
    return "\n".join(f"* {line}" for line in [*lines[: wanted - 1], " ".join(lines[wanted - 1 :])])


def _highlights(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    bare = text.replace("*", "").strip() or "Yes"
    parts = bare.split(" ")
    wanted = k["num_highlights"]
    parts += list(FILLER) * max(0, -(-(wanted - len(parts)) // len(FILLER)))
    done = 0
    for i, part in enumerate(parts):
        if part.strip() and "\n" not in part and done < wanted:
            parts[i], done = f"*{part}*", done + 1
    return " ".join(parts)


def _sections(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    name, wanted = k["section_spliter"].strip(), k["num_sections"]
    return "\n".join([f"{name} 1\n{text}"] + [f"{name} {n}\n{PAUSE}" for n in range(2, wanted + 1)])


def _two(text: str, _k: dict[str, Any], _: InstructionPrompt) -> str:
    parts = [part.strip() for part in text.split("******") if part.strip()] or ["Yes"]
    second = parts[1] if len(parts) > 1 and parts[1] != parts[0] else f"{PAUSE} {parts[0]}"
    return f"{parts[0]}\n******\n{second}"


def _capitals(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    wanted = k["capital_frequency"]
    if k["capital_relation"] == "less than":
        upper = [t for t in tokens(text) if t.isupper()]
        for token in upper[max(wanted - 1, 0) :]:
            text = re.sub(rf"\b{re.escape(token)}\b", token.lower(), text, count=1)
        return text
    for match in re.finditer(r"[A-Za-z]+", text):
        if sum(t.isupper() for t in tokens(text)) >= wanted:
            return text
        text = text[: match.start()] + match.group().upper() + text[match.end() :]
    missing = wanted - sum(t.isupper() for t in tokens(text))
    return f"{text} {' '.join(['AND'] * max(0, missing))}".strip()


def _end(text: str, k: dict[str, Any], _: InstructionPrompt) -> str:
    return f"{text} {k['end_phrase']}"


EDITS: dict[str, Edit] = {
    "keywords:existence": _keywords,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": lambda text, k, _: _without(
        text, "|".join(rf"\b{re.escape(word)}\b" for word in k["forbidden_words"])
    ),
    "keywords:letter_frequency": _letters,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _word_count,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": lambda text, k, _: f"{text}\n{k['postscript_marker']} Thank you.",
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda _text, _k, _: "My answer is maybe.",
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": lambda text, _k, _: json.dumps({"answer": text}, ensure_ascii=False),
    "detectable_format:title": lambda text, _k, _: f"<<Answer>>\n{text}",
    "combination:two_responses": _two,
    "combination:repeat_prompt": lambda text, k, _: f"{k['prompt_to_repeat']}\n{text}",
    "startend:end_checker": _end,
    "startend:quotation": lambda text, _k, _: '"' + text.strip('"') + '"',
    "change_case:capital_word_frequency": _capitals,
    "change_case:english_capital": lambda text, _k, _: text.upper(),
    "change_case:english_lowercase": lambda text, _k, _: text.lower(),
    "punctuation:no_comma": lambda text, _k, _: text.replace(",", ""),
}
"""All but the language of a response."""
