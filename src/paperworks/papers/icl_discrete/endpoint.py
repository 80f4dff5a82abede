"""A language model behind an OpenAI-compatible server (OpenAI, vLLM, TGI, llama.cpp, Ollama, ...)."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from paperworks.errors import InputError
from paperworks.papers.icl_discrete.prompts import Answer, TextPrompt, majority, parse_answer

RETRIED = (408, 409, 429, 500, 502, 503, 504)
ATTEMPTS = 5


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
    kept : JSON lines of answers, read at the start and added to; None keeps nothing.
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
    _known: dict[str, list[str]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError("endpoint", repr(self.url), "an address such as http://localhost:8000/v1")
        if not self.model:
            raise InputError("endpoint_model", "nothing", "the model's name at the server")
        for name in ("samples", "parallel"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        import httpx

        key = os.environ.get(self.key_variable, "")
        self._client = httpx.Client(timeout=self.timeout, headers={"Authorization": f"Bearer {key}"} if key else {})
        self._lock = Lock()
        if self.kept is not None and self.kept.exists():
            for line in self.kept.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                    self._known[record["key"]] = record["texts"]
                except (ValueError, KeyError):  # a line that a kill cut short
                    continue

    def answers(self, prompt: TextPrompt) -> list[Answer]:
        """One answer per question."""
        with ThreadPoolExecutor(self.parallel) as pool:
            texts = list(pool.map(self._texts, prompt.questions))
        return [majority([parse_answer(t, last_number=self.last_number) for t in several]) for several in texts]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _texts(self, question: str) -> list[str]:
        tokens = 1024 if self.last_number else 2
        body: dict[str, Any] = {"model": self.model, "max_tokens": tokens}
        body["temperature"] = 0.0 if self.samples == 1 else 1.0
        if not self.last_number:
            body["stop"] = ["\n", "Input"]
        if self.api == "chat":
            body["messages"] = [{"role": "user", "content": question}]
        else:
            body["prompt"] = question
        key = hashlib.sha256(json.dumps([self.url, self.samples, body], sort_keys=True).encode()).hexdigest()
        if key in self._known:
            return self._known[key]
        texts = [self._ask(body) for _ in range(self.samples)]
        with self._lock:
            self._known[key] = texts
            if self.kept is not None:
                with self.kept.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({"key": key, "texts": texts}) + "\n")
        return texts

    def _ask(self, body: dict[str, Any]) -> str:
        import httpx

        address = self.url.rstrip("/") + ("/chat/completions" if self.api == "chat" else "/completions")
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self.sleep(0.5 * 2**attempt)
            try:
                response = self._client.post(address, json=body)
            except httpx.HTTPError as error:
                problem = f"{address}, no answer ({type(error).__name__}: {error})"
                continue
            if response.status_code in RETRIED:
                problem = f"{address}, status {response.status_code}: {response.text[:200]}"
                continue
            if response.status_code != 200:
                raise InputError(
                    "endpoint", f"{address}, status {response.status_code}: {response.text[:200]}", "status 200"
                )
            return self._content(response.text, address)
        raise InputError("endpoint", problem, f"an answer within {ATTEMPTS} attempts")

    def _content(self, text: str, address: str) -> str:
        try:
            choice = json.loads(text)["choices"][0]
            content = choice["message"]["content"] if self.api == "chat" else choice["text"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise InputError(
                "endpoint", f"{address}, an answer of another form: {text[:200]!r}", "choices as in OpenAI's API"
            ) from None
        return content or ""
