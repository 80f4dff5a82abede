"""A language model behind an OpenAI-compatible server (OpenAI, vLLM, TGI, llama.cpp, Ollama, ...)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paperworks.language.generation import CachedGenerator, EndpointGenerator, GenerationSettings, Generator
from paperworks.papers.icl_discrete.prompts import Answer, TextPrompt, majority, parse_answer


@dataclass
class Endpoint:
    """Asks a server each question; the answers are kept in a file, so that none is paid for twice.

    Attributes
    ----------
    url : the API's base, such as ``http://localhost:8000/v1``.
    model : the model's name at the server.
    api : "chat" (``/chat/completions``) or "completions" (``/completions``).
    samples : answers per question; with several, temperature 1 and the majority counts.
    last_number : for step-by-step instructions: the last number of the answer counts, and it may be long.
    parallel : requests at the same time.
    kept : SQLite file of answers; None keeps nothing.
    key_variable : environment variable with the key; no key is sent where it is not set.
    """

    url: str
    model: str
    api: Literal["chat", "completions"] = "chat"
    samples: int = 1
    last_number: bool = False
    parallel: int = 4
    kept: Path | None = None
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._settings = GenerationSettings(
            max_new_tokens=1024 if self.last_number else 2,
            temperature=0.0 if self.samples == 1 else 1.0,
            n=self.samples,
            stop=() if self.last_number else ("\n", "Input"),
        )
        self._server = EndpointGenerator(
            self.url,
            self.model,
            api=self.api,
            parallel=self.parallel,
            timeout=self.timeout,
            key_variable=self.key_variable,
            sleep=self.sleep,
        )
        self._cache = None if self.kept is None else CachedGenerator(self._server, self.kept)

    def answers(self, prompt: TextPrompt) -> list[Answer]:
        """One answer per question."""
        generator: Generator = self._cache or self._server
        found = generator.generate(prompt.questions, self._settings)
        return [majority([parse_answer(t, last_number=self.last_number) for t in several]) for several in found]

    def close(self) -> None:
        """Close the connections and the file."""
        self._server.close()
        if self._cache is not None:
            self._cache.close()
