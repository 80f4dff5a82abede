"""Where a language model or a recogniser takes the place of a default: correction, choice of sentences, speech."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.transcripts import Transcript, make_transcript, parse_json
from paperworks.inputs.video import read_audio
from paperworks.papers.quilt1m.correction import Correction, VocabularyCorrector, suspicious_phrases
from paperworks.papers.quilt1m.vocabulary import SplitText, Vocabulary, split_text, tokens

Ask = Callable[[str], str]
SUPPORTED = 0.8
"""A sentence of a model is kept if so much of it, in order, is in the transcript."""
CORRECT_PROMPT = """Speech recognition made mistakes in this text about a special field.
Text: {text}
Suspicious: {suspicious}
Answer with a JSON object that maps each wrong word or phrase to the right one. Leave out what is right. JSON:"""
SPLIT_PROMPT = """A teacher explains a picture. Copy sentences from the text, word by word.
"medical": sentences that state a fact of the field. "roi": those that describe what the teacher points at.
Text: Good morning everyone. This is a biopsy with a layer of keratin. Notice the arrow at these cells.
JSON: {{"medical": ["This is a biopsy with a layer of keratin."], "roi": ["Notice the arrow at these cells."]}}
Text: {text}
JSON:"""


def json_answer(ask: Ask, prompt: str, check: Callable[[Any], bool]) -> Any | None:
    """The first JSON value of an answer that passes ``check``; asked twice at most, then None."""
    for attempt in range(2):
        answer = ask(prompt if not attempt else f"{prompt}\nOnly valid JSON, nothing else:")
        found = re.search(r"[\[{]", answer)
        if found is None:
            continue
        try:
            value, _ = json.JSONDecoder().raw_decode(answer[found.start() :])
        except (ValueError, RecursionError):
            continue
        if check(value):
            return value
    return None


class ModelCorrector:
    """Correction by a language model that gets the text and its suspicious phrases.

    A replacement counts only if what it replaces is suspicious and in the text. Where the answer is no JSON twice, the
    text stays and ``failures`` goes up.
    """

    def __init__(self, ask: Ask, corrector: VocabularyCorrector) -> None:
        self.ask, self.corrector = ask, corrector
        self.failures = 0

    def __call__(self, text: str) -> Correction:
        suspicious = suspicious_phrases(text, self.corrector)
        if not suspicious:
            return Correction(text, ())
        prompt = CORRECT_PROMPT.format(text=text, suspicious="; ".join(suspicious))
        answer = json_answer(self.ask, prompt, _is_replacements)
        if answer is None:
            self.failures += 1
            return Correction(text, ())
        changes = []
        words = {word for phrase in suspicious for word in phrase.split()}
        for wrong, right in answer.items():
            pattern = re.compile(rf"(?<!\w){re.escape(wrong)}(?!\w)", re.IGNORECASE)
            if right.strip() and wrong != right and words & set(tokens(wrong)) and pattern.search(text):
                text = pattern.sub(_writes(right), text)
                changes.append((wrong, right))
        return Correction(text, tuple(changes))


def _writes(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _match: text


def _is_replacements(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and k and isinstance(v, str) for k, v in value.items())


class ModelSplit:
    """Domain and region sentences by a language model; what the transcript does not support is refused and counted."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.failures = 0
        self.refused = 0

    def __call__(self, sentences: Sequence[str], vocabulary: Vocabulary | None) -> SplitText:
        text = " ".join(sentences)
        answer = json_answer(self.ask, SPLIT_PROMPT.format(text=text), _is_split)
        if answer is None:
            self.failures += 1
            return split_text(sentences, vocabulary)
        lists = {}
        for name in ("medical", "roi"):
            given = [" ".join(sentence.split()) for sentence in answer.get(name, []) if sentence.strip()]
            lists[name] = [sentence for sentence in dict.fromkeys(given) if support(sentence, text) >= SUPPORTED]
            self.refused += len(given) - len(lists[name])
        medical, found = [], []
        for sentence in lists["medical"]:
            entities = vocabulary.entities(sentence) if vocabulary is not None else []
            if vocabulary is None or entities:
                medical.append(sentence)
                found.append(entities)
        return SplitText(medical, lists["roi"], found)


def _is_split(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name, []), list) and all(isinstance(s, str) for s in value.get(name, []))
        for name in ("medical", "roi")
    )


def support(sentence: str, text: str) -> float:
    """Share of a sentence's words that stand, in this order, in the text."""
    words = tokens(sentence)
    matcher = SequenceMatcher(None, words, tokens(text), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / len(words) if words else 0.0


def generator_ask(source: Any, max_new_tokens: int = 400) -> Ask:
    """Ask a local model (folder), a function or a server, without randomness."""
    from paperworks.language.generation import GenerationSettings, load_generator

    generator = load_generator(source)
    settings = GenerationSettings(max_new_tokens=max_new_tokens)
    return lambda prompt: generator.generate([prompt], settings)[0][0]


class WhisperRecogniser:
    """Speech recognition by a Whisper model of transformers, in blocks of 30 seconds: bounded memory."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        from transformers import AutoProcessor, WhisperForConditionalGeneration

        from paperworks.nn import resolve_device
        from paperworks.nn.loading import check_model_folder, load_beside, load_strict

        check_model_folder(folder)
        self.model = load_strict(WhisperForConditionalGeneration, folder).to(resolve_device(device))
        self.processor = load_beside(AutoProcessor, folder, "asr", "a folder of Whisper with its processor")
        self.identity = f"whisper {folder.resolve()}"

    def __call__(self, video: Path) -> Transcript:
        """The transcript of a video's sound; silent blocks are passed over, since Whisper invents text there."""
        import torch

        segments: list[dict[str, Any]] = []
        for start, block in read_audio(video, rate=16_000, seconds=30.0):
            if float(np.sqrt(np.mean(np.square(block)))) < 1e-3:
                continue
            inputs = self.processor(block, sampling_rate=16_000, return_tensors="pt")
            with torch.inference_mode():
                ids = self.model.generate(
                    inputs.input_features.to(self.model.device, self.model.dtype), return_timestamps=True
                )
            decoded = self.processor.batch_decode(ids, decode_with_timestamps=True)[0]
            segments += timestamped_segments(decoded, start, start + len(block) / 16_000)
        if not segments:
            raise InputError(str(video), "sound without speech", "narration, or a transcript beside the video")
        return make_transcript(parse_json({"segments": segments}).cues, video.name, "asr")


def timestamped_segments(decoded: str, start: float, end: float) -> list[dict[str, Any]]:
    """Segments out of Whisper's text with marks such as ``<|0.00|> Hello <|1.20|>``, later by ``start``."""
    parts = re.split(r"<\|(\d+(?:\.\d+)?)\|>", decoded)
    segments = []
    for place in range(1, len(parts), 2):
        text = re.sub(r"<\|[^|]*\|>", "", parts[place + 1]).strip()
        if text:
            stop = start + float(parts[place + 2]) if place + 2 < len(parts) else end
            begin = start + float(parts[place])
            segments.append({"start": begin, "end": max(stop, begin + 0.02), "text": text})
    return segments
