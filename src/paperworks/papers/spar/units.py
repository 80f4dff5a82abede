"""What a text is made of: words, tokens, sentences; and which language it is in."""

from __future__ import annotations

import re
from collections import Counter

ABBREVIATIONS = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "sr",
        "jr",
        "st",
        "mt",
        "vs",
        "etc",
        "e.g",
        "i.e",
        "cf",
        "al",
        "fig",
        "no",
        "vol",
        "pp",
        "inc",
        "ltd",
        "co",
        "corp",
        "gen",
        "col",
        "capt",
        "lt",
        "sgt",
        "rev",
        "hon",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "mon",
        "tue",
        "wed",
        "thu",
        "fri",
        "sat",
        "sun",
        "u.s",
        "u.k",
        "u.n",
        "a.m",
        "p.m",
        "ph.d",
        "approx",
        "dept",
        "est",
        "ave",
        "blvd",
        "rd",
    ]
)
"""After one of these a full stop ends no sentence."""
_END = re.compile(r"([.!?\u2026]+)([\"'\u201d\u2019)\]*_]*)(?=\s|$)|([\u3002\uff01\uff1f]+)")
_TOKEN = re.compile(
    r"[A-Za-z](?:\.[A-Za-z])+\.?|\d+(?:[.,:]\d+)*|\w+(?:[-/&@.]\w+)*(?=n['\u2019]t\b)|n['\u2019]t\b|['\u2019]\w+|\w+(?:[-/&@.]\w+)*|[^\w\s]"
)


def words(text: str) -> list[str]:
    """Maximal runs of letters, digits and underscores: ``don't`` is two."""
    return re.findall(r"\w+", text)


def tokens(text: str) -> list[str]:
    """Words with their inner hyphens and full stops, the ends of contractions, and signs, as in the Penn Treebank."""
    return _TOKEN.findall(text)


def count_sentences(text: str) -> int:
    """Sentences: what ends with a full stop, an exclamation or question mark, and what is left at the end.

    A full stop after an abbreviation or an initial ends none; dots of an ellipsis do where a capital letter follows.
    """
    count, begin = 0, 0
    for match in _END.finditer(text):
        mark = match.group(1) or match.group(3)
        if mark.startswith((".", "\u2026")) and set(mark) <= {".", "\u2026"}:
            rest = text[match.end() :].lstrip()
            before = re.search(r"\S*$", text[: match.start()])
            word = (before.group() if before else "").lstrip("\"'(*[_")
            if len(mark) > 1 or mark == "\u2026":
                if rest and not rest[0].isupper():
                    continue
            elif rest and _goes_on(word, text[begin : match.start()].strip()):
                continue
        if re.search(r"\w", text[begin : match.end()]):
            count += 1
        begin = match.end()
    return count + bool(re.search(r"\w", text[begin:]))


def _goes_on(word: str, sentence: str) -> bool:
    """Whether a sentence goes on after a word with a full stop: an abbreviation, an initial, the number of a list."""
    if re.fullmatch(r"\d{1,3}", word):
        return sentence == word
    return word.lower() in ABBREVIATIONS or re.fullmatch(r"[A-Z]", word) is not None


SCRIPTS = {
    "ja": r"\u3040-\u30ff",
    "ko": r"\uac00-\ud7af\u1100-\u11ff",
    "zh": r"\u4e00-\u9fff",
    "th": r"\u0e00-\u0e7f",
    "he": r"\u0590-\u05ff",
    "el": r"\u0370-\u03ff",
    "bn": r"\u0980-\u09ff",
    "pa": r"\u0a00-\u0a7f",
    "gu": r"\u0a80-\u0aff",
    "ta": r"\u0b80-\u0bff",
    "te": r"\u0c00-\u0c7f",
    "kn": r"\u0c80-\u0cff",
    "ml": r"\u0d00-\u0d7f",
    "arabic": r"\u0600-\u06ff\u0750-\u077f",
    "cyrillic": r"\u0400-\u04ff",
    "devanagari": r"\u0900-\u097f",
    "latin": r"A-Za-z\u00c0-\u024f\u1e00-\u1eff",
}
FREQUENT = {
    "latin": {
        "en": "the of and to in is that it was for on are with as be this by not you have from or at which but they an "
        "we he she his her their has had will can if there what all my your i a do does who when would",
        "es": "de la que el en y los se del las por un para con no una su al lo como más pero sus le ya o este sí "
        "porque esta entre cuando muy sin sobre también me hasta hay donde es son está fue",
        "pt": "de que e o a do da em um para com não uma os no se na por mais as dos como mas ao ele das à seu sua ou "
        "quando muito nos já eu também só pelo pela até isso ela entre é são está foi você",
        "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec son "
        "ou mais comme nous vous je tout fait sa cette ses aux être c'est était elle très",
        "it": "di che e la il un a è per in una sono mi si ho non lo ma le con ti se da del i al dei della nel alla "
        "anche come più questo questa gli delle hai ha era molto perché",
        "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus "
        "er hat dass sie nach wird bei einer um am sind noch wie einem über ich wir war",
        "nl": "de het een en van in is dat op te zijn voor met die niet aan er om ook als dan maar bij uit nog wel "
        "naar heeft wordt door over ik je we deze kan",
        "pl": "w i na się z do nie to że jest o jak po co ale za od tym przez dla są tak był już być może czy jego "
        "oraz które który ten ta te ich",
        "fi": "ja on ei se että oli ovat hän mutta joka kun tai niin myös kuin olla ole mitä sen minä ne jos voi tämä "
        "siitä vain nyt hyvin kanssa",
        "sw": "ya na wa kwa ni katika la cha za kuwa hii kama au lakini hiyo yake watu sana pia huo hilo bila kwamba "
        "yao wao mimi wewe sisi hapa",
        "vi": "và của là có không được cho một trong các người với này đã những để khi đến về như tôi cũng ra làm bạn "
        "ở rất nhiều thì",
        "tr": "ve bir bu da de için ile çok ne gibi daha en o ben ama olarak var mi mı değil kadar olan sonra her",
    },
    "arabic": {
        "ar": "في من على أن إلى هذا التي الذي كان عن هذه ما لا مع كل هو هي بعد قد أو ذلك بين لم إن",
        "fa": "در به از که این را با است برای آن یک می خود تا کرد بر هم نیز شود شده ما اما یا باید های",
        "ur": "کے کی میں ہے سے اور کا کو یہ پر نے ہیں بھی ایک کہ تھا اس وہ نہیں ہو کر تھی",
    },
    "cyrillic": {
        "ru": "и в не на я что он с как это по но они мы за вы из у от так же его для бы только был если или ещё быть",
        "uk": "і в не на що я з як це до та він у за але вони ми ви від так його для тільки був якщо або ще бути є",
        "bg": "и на да се в от за не е с че по са това като до ще но си при които а беше има може след или този са",
    },
    "devanagari": {
        "hi": "है के में की से को और का हैं यह पर कि ने एक भी नहीं था तो इस हो ही कर लिए",
        "mr": "आहे आणि या व ते की ही हे तर मध्ये नाही आहेत होते एक मी त्या होता असे साठी पण",
        "ne": "छ र को का मा ले यो पनि छन् भने हो गर्न लागि हुन्छ गरेको थियो तर एक उनी",
    },
}
_FREQUENT = {script: {code: frozenset(w.split()) for code, w in sets.items()} for script, sets in FREQUENT.items()}
_LETTERS = {"ur": "ٹڈڑےںھ", "fa": "پچژگ", "uk": "іїєґ", "bg": "ъ", "ru": "ыэё", "pl": "łąęśżźćń", "de": "ßäöü"}
_LETTERS |= {
    "vi": "ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữự",
    "pt": "ãõ",
    "es": "ñ¿¡",
    "tr": "ğış",
    "fr": "œùûêèç",
}


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's language by script and frequent words; None where nothing tells it."""
    counts = {code: len(re.findall(f"[{span}]", text)) for code, span in SCRIPTS.items()}
    if not any(counts.values()):
        return None
    if counts["ja"] and counts["ja"] + counts["zh"] >= max(counts.values()):
        return "ja"
    script = max(counts, key=lambda code: counts[code])
    if script not in _FREQUENT:
        return script
    lower = text.lower()
    found = Counter(
        re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?" if script == "latin" else r"[^\s\d.,;:!?()]+", lower)
    )
    scores = {
        code: sum(n for word, n in found.items() if word in frequent)
        + 0.5 * sum(lower.count(letter) for letter in _LETTERS.get(code, ""))
        for code, frequent in _FREQUENT[script].items()
    }
    best = max(scores, key=lambda code: scores[code])
    return best if scores[best] > 0 else None
